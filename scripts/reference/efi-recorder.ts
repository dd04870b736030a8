// Follows an EFI boot in QEMU with OVMF: the image's first instruction, every boot and runtime service it calls with OVMF's answers,
// and the kernel's first instruction. What a service's arguments mean is read here from the specification, not from src/.

import { createHash } from 'node:crypto';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { EFI_MEMORY_TYPES } from '../../src/protocol/efi-tables.ts';
import type { ImageFields } from './image-fields.ts';
import type { ElfFile } from './payload-elf.ts';
import type { QemuMachine } from './qemu-machine.ts';
import type { QemuRegisters } from './qemu-registers.ts';

const OVMF_CODE = '/usr/share/OVMF/OVMF_CODE.fd';
const OVMF_VARS = '/usr/share/OVMF/OVMF_VARS.fd';

/** QEMU's arguments for OVMF, with a copy in `folder` of its variables: those that it comes with, or others' flash. */
export function ovmfArguments(folder: string, flash = OVMF_VARS): string[] {
  const variables = join(folder, 'vars');
  copyFileSync(flash, variables);
  return [
    ...['-drive', `if=pflash,format=raw,unit=0,readonly=on,file=${OVMF_CODE}`],
    ...['-drive', `if=pflash,format=raw,unit=1,file=${variables}`],
  ];
}

/** The few fields of a PE header that are needed. */
export interface PeFields {
  readonly entry: number;
  readonly entryOffset: number;
  readonly sizeOfImage: number;
}

export function readPeFields(file: Buffer): PeFields {
  const pe = file.readUInt32LE(0x3c);
  const entry = file.readUInt32LE(pe + 24 + 16);
  const sections = pe + 24 + file.readUInt16LE(pe + 20);
  let entryOffset = entry;
  for (let index = 0; index < file.readUInt16LE(pe + 6); index++) {
    const at = sections + index * 40;
    const address = file.readUInt32LE(at + 12);
    if (entry >= address && entry < address + file.readUInt32LE(at + 16)) {
      entryOffset = entry - address + file.readUInt32LE(at + 20);
    }
  }
  return { entry, entryOffset, sizeOfImage: file.readUInt32LE(pe + 24 + 56) };
}

/** The kernel in a Unified Kernel Image; the file itself where it is none. */
export function kernelOf(file: Buffer): Buffer {
  const pe = file.readUInt32LE(0x3c);
  const sections = pe + 24 + file.readUInt16LE(pe + 20);
  for (let index = 0; index < file.readUInt16LE(pe + 6); index++) {
    const at = sections + index * 40;
    if (file.toString('latin1', at, at + 8).replace(/\0+$/, '') !== '.linux') continue;
    const offset = file.readUInt32LE(at + 20);
    return file.subarray(offset, offset + file.readUInt32LE(at + 8));
  }
  return file;
}

/** Offsets in a kernel's file, without its payload, of the bytes of RDTSC: where the stub may read the time stamp counter. */
export function timeStampReads({ setupSize, protectedModeCode, payload }: ImageFields): readonly number[] {
  const found: number[] = [];
  for (let at = protectedModeCode.indexOf(RDTSC); at >= 0; at = protectedModeCode.indexOf(RDTSC, at + 1)) {
    const inPayload = payload !== null && at >= payload.offset && at < payload.offset + payload.length;
    if (!inPayload) found.push(at + setupSize);
  }
  return found;
}

const RDTSC = Buffer.from([0x0f, 0x31]);

/** jmp to itself: the image waits at its entry until it is found there. */
const WAIT = [0xeb, 0xfe];

/** Writes a copy of the image that waits at its first instruction. */
export function writeWaitingImage(file: Buffer, pe: PeFields, path: string): void {
  const copy = Buffer.from(file);
  copy.set(WAIT, pe.entryOffset);
  writeFileSync(path, copy);
}

const MASK_32 = 0xffff_ffffn;
const SUCCESS = 0n;

/** Names at their places in the tables (UEFI 2.10, 4.4 and 4.5), after 24 bytes of header; only those that get a breakpoint. */
const BOOT_SERVICES: Readonly<Record<number, string>> = {
  40: 'AllocatePages',
  48: 'FreePages',
  56: 'GetMemoryMap',
  64: 'AllocatePool',
  72: 'FreePool',
  80: 'CreateEvent',
  112: 'CloseEvent',
  128: 'InstallProtocolInterface',
  144: 'UninstallProtocolInterface',
  152: 'HandleProtocol',
  176: 'LocateHandle',
  184: 'LocateDevicePath',
  192: 'InstallConfigurationTable',
  200: 'LoadImage',
  208: 'StartImage',
  216: 'Exit',
  232: 'ExitBootServices',
  280: 'OpenProtocol',
  288: 'CloseProtocol',
  312: 'LocateHandleBuffer',
  320: 'LocateProtocol',
  328: 'InstallMultipleProtocolInterfaces',
  336: 'UninstallMultipleProtocolInterfaces',
};
const RUNTIME_SERVICES: Readonly<Record<number, string>> = {
  24: 'GetTime',
  56: 'SetVirtualAddressMap',
  72: 'GetVariable',
  80: 'GetNextVariableName',
  88: 'SetVariable',
  104: 'ResetSystem',
};
/** Arguments by service; those in brackets are pointers to what comes back. */
const ARGUMENTS: Readonly<Record<string, readonly string[]>> = {
  AllocatePages: ['Type', 'MemoryType', 'Pages', '[Memory]'],
  FreePages: ['Memory', 'Pages'],
  GetMemoryMap: ['[MemoryMapSize]', 'MemoryMap', '[MapKey]', '[DescriptorSize]'],
  AllocatePool: ['PoolType', 'Size', '[Buffer]'],
  FreePool: ['Buffer'],
  HandleProtocol: ['Handle', 'Protocol{guid}', '[Interface]'],
  OpenProtocol: ['Handle', 'Protocol{guid}', '[Interface]'],
  LocateProtocol: ['Protocol{guid}', 'Registration', '[Interface]'],
  LocateHandle: ['SearchType', 'Protocol{guid}', 'SearchKey', '[BufferSize]'],
  LocateHandleBuffer: ['SearchType', 'Protocol{guid}', 'SearchKey', '[NoHandles]'],
  LocateDevicePath: ['Protocol{guid}', '[DevicePath]', '[Device]'],
  InstallConfigurationTable: ['Guid{guid}', 'Table'],
  ExitBootServices: ['ImageHandle', 'MapKey'],
  Exit: ['ImageHandle', 'ExitStatus'],
  LoadImage: ['BootPolicy', 'ParentImageHandle', 'DevicePath', 'SourceBuffer'],
  StartImage: ['ImageHandle'],
  'Rng.GetRNG': ['This', 'RNGAlgorithm{guid}', 'RNGValueLength', 'RNGValue'],
  GetVariable: ['VariableName{text}', 'VendorGuid{guid}', 'Attributes', '[DataSize]'],
  SetVariable: ['VariableName{text}', 'VendorGuid{guid}', 'Attributes', 'DataSize'],
};
const REGISTERS = ['rcx', 'rdx', 'r8', 'r9'] as const;

export interface RecordedCall {
  readonly service: string;
  /** Numbers in hex, GUIDs and names as text; pointers to results hold what was there before the call. */
  readonly arguments: Readonly<Record<string, string>>;
  readonly status: string;
  /** What the pointers to results hold afterwards. */
  readonly results: Readonly<Record<string, string>>;
  /** RVA of the instruction behind the call, and which of the images it is in, the first being 0. */
  readonly from: string;
  readonly image: number;
}

export interface EfiServiceRecord {
  readonly systemTable: string;
  readonly configurationTables: Readonly<Record<string, string>>;
  readonly calls: readonly RecordedCall[];
  /** What RDTSC gave in the image, in the order of the boot. */
  readonly timeStamps: readonly string[];
}

const hex = (value: bigint): string => `0x${value.toString(16)}`;

/** Waits until the image stands at its entry, and lets its own code stand there again. */
export async function findEntry(machine: QemuMachine, file: Buffer, pe: PeFields): Promise<QemuRegisters> {
  const running = machine.resume();
  for (;;) {
    await Promise.race([sleep(200), machine.gone]);
    const { values } = await machine.registers();
    if ((values.rip & 0xfffn) !== BigInt(pe.entry & 0xfff) || values.rip < 0x100000n) continue;
    const bytes = await machine.readPhysical(values.rip, 2);
    if (bytes[0] === WAIT[0] && bytes[1] === WAIT[1]) break;
  }
  await machine.pause(running);
  const registers = await machine.registers();
  await machine.writePhysical(registers.values.rip, file.subarray(pe.entryOffset, pe.entryOffset + 2));
  return registers;
}

/** A call on behalf of the image. */
interface Injected {
  readonly status: bigint;
  /** The bytes behind the arguments, after the call. */
  readonly data: Buffer;
}

/**
 * Calls a service on behalf of an image that stands still, on its stack far below what is in use, and puts everything back.
 *
 * @param data - bytes that arguments may point to
 * @param args - of them, those that are functions get the address of `data`
 */
async function inject(
  machine: QemuMachine,
  at: QemuRegisters,
  service: bigint,
  args: readonly (bigint | ((data: bigint) => bigint))[],
  data: Buffer,
): Promise<Injected> {
  const room = 0x5000;
  const bottom = at.values.rsp - 0xc000n - BigInt(room);
  const saved = await machine.readPhysical(bottom, room + data.length);
  const address = bottom + BigInt(room);
  const stack = address - 0x808n;
  const values = args.map((value) => (typeof value === 'bigint' ? value : value(address)));
  const frame = Buffer.alloc(0x28 + Math.max(0, values.length - 4) * 8);
  // Return address, shadow space, what does not fit into registers.
  frame.writeBigUInt64LE(at.values.rip, 0);
  for (const [index, value] of values.slice(4).entries()) frame.writeBigUInt64LE(value, 0x28 + index * 8);
  await machine.writePhysical(stack, frame);
  await machine.writePhysical(address, data);
  const registers = Object.fromEntries(REGISTERS.map((name, index) => [name, values[index] ?? 0n]));
  await machine.writeRegisters({ ...registers, rip: service, rsp: stack });
  await machine.runTo([at.values.rip]);
  const { rax } = (await machine.registers()).values;
  const result = await machine.readPhysical(address, data.length);
  await machine.writePhysical(bottom, saved);
  await machine.writeRegisters({ ...at.values });
  return { status: rax, data: result };
}

async function bootService(machine: QemuMachine, at: QemuRegisters, name: string): Promise<bigint> {
  const bootServices = (await machine.readPhysical(at.values.rdx + 96n, 8)).readBigUInt64LE();
  const offset = Object.entries(BOOT_SERVICES).find(([, each]) => each === name)![0];
  return (await machine.readPhysical(bootServices + BigInt(offset), 8)).readBigUInt64LE();
}

async function injectGetMemoryMap(machine: QemuMachine, at: QemuRegisters): Promise<string[]> {
  const room = 0x6000;
  const data = Buffer.alloc(0x20 + room);
  data.writeBigUInt64LE(BigInt(room), 0);
  const { status, data: after } = await inject(
    machine,
    at,
    await bootService(machine, at, 'GetMemoryMap'),
    [
      (size) => size,
      (size) => size + 0x20n,
      (size) => size + 8n,
      (size) => size + 0x10n,
      (size) => size + 0x18n,
    ],
    data,
  );
  if (status !== SUCCESS) throw new Error(`GetMemoryMap answered ${hex(status)}`);
  const length = Number(after.readBigUInt64LE(0));
  const descriptor = Number(after.readBigUInt64LE(0x10));
  const map = after.subarray(0x20, 0x20 + length);
  const lines: string[] = [];
  for (let offset = 0; offset + descriptor <= length; offset += descriptor) {
    const start = map.readBigUInt64LE(offset + 8);
    const end = start + map.readBigUInt64LE(offset + 24) * 0x1000n;
    const type = map.readUInt32LE(offset);
    lines.push(
      `${hex(start)} ${hex(end)} ${EFI_MEMORY_TYPES[type] ?? type} ${hex(map.readBigUInt64LE(offset + 32))}`,
    );
  }
  return lines;
}

/** Has pages allocated as an image that stands at its entry would. @returns their address; null where there is no room */
export async function injectAllocatePages(
  machine: QemuMachine,
  at: QemuRegisters,
  kind: 'MaxAddress' | 'Address',
  type: 'LoaderCode' | 'LoaderData',
  size: number,
  address: bigint,
): Promise<bigint | null> {
  const data = Buffer.alloc(8);
  data.writeBigUInt64LE(address);
  const { status, data: after } = await inject(
    machine,
    at,
    await bootService(machine, at, 'AllocatePages'),
    [
      kind === 'MaxAddress' ? 1n : 2n,
      BigInt(EFI_MEMORY_TYPES.indexOf(type as (typeof EFI_MEMORY_TYPES)[number])),
      BigInt(Math.ceil(size / 0x1000)),
      (pointer) => pointer,
    ],
    data,
  );
  return status === SUCCESS ? after.readBigUInt64LE() : null;
}

function guidText(bytes: Buffer): string {
  const part = (from: number, to: number, reverse: boolean): string => {
    const piece = Buffer.from(bytes.subarray(from, to));
    return (reverse ? piece.reverse() : piece).toString('hex');
  };
  return [part(0, 4, true), part(4, 6, true), part(6, 8, true), part(8, 10, false), part(10, 16, false)].join(
    '-',
  );
}

async function text(machine: QemuMachine, address: bigint): Promise<string> {
  const bytes = await machine.readPhysical(address, 128);
  const whole = bytes.toString('utf16le');
  return whole.slice(0, Math.max(0, whole.indexOf('\0')));
}

/** EFI_RNG_PROTOCOL: its second member is GetRNG. */
const RNG_PROTOCOL = '3152bca5-eade-433d-862e-c01cdc291f44';
const GET_RNG = 'Rng.GetRNG';

/** Code that is followed: `base` is what addresses in it count from. */
export interface FollowedImage {
  readonly base: bigint;
  readonly size: number;
  /** Offsets from `base` where the bytes of RDTSC stand. */
  readonly timeStampReads: readonly number[];
}

/** Gives each RDTSC of an image that the CPU comes to, and goes on behind it. */
class TimeStampReads {
  readonly values: string[] = [];
  readonly addresses: readonly bigint[];
  readonly #machine: QemuMachine;

  constructor(machine: QemuMachine, images: readonly FollowedImage[]) {
    this.#machine = machine;
    this.addresses = images.flatMap(({ base, timeStampReads }) =>
      timeStampReads.map((offset) => base + BigInt(offset)),
    );
  }

  async record(): Promise<void> {
    await this.#machine.step();
    const { rax, rdx } = (await this.#machine.registers()).values;
    this.values.push(hex(((rdx & MASK_32) << 32n) | (rax & MASK_32)));
  }
}

/** What can be asked before the image has begun. */
export async function recordStart(machine: QemuMachine, pe: PeFields, at: QemuRegisters) {
  return {
    imageBase: hex(at.values.rip - BigInt(pe.entry)),
    registers: Object.fromEntries(Object.entries(at.values).map(([key, value]) => [key, hex(value)])),
    gdtr: { base: hex(at.gdtr.base), limit: at.gdtr.limit },
    idtr: { base: hex(at.idtr.base), limit: at.idtr.limit },
    memoryMap: await injectGetMemoryMap(machine, at),
  };
}

/**
 * Follows an image from where it stands up to a successful ExitBootServices, and stops behind that call.
 *
 * @param systemTable - of the firmware
 */
export async function recordServices(
  machine: QemuMachine,
  systemTable: bigint,
  memoryMap: readonly string[],
  images: readonly FollowedImage[],
): Promise<EfiServiceRecord> {
  const table = await machine.readPhysical(systemTable, 120);
  const bootServices = table.readBigUInt64LE(96);
  const runtimeServices = table.readBigUInt64LE(88);
  const configurationTables: Record<string, string> = {};
  const entries = await machine.readPhysical(
    table.readBigUInt64LE(112),
    Number(table.readBigUInt64LE(104)) * 24,
  );
  for (let offset = 0; offset < entries.length; offset += 24) {
    configurationTables[guidText(entries.subarray(offset, offset + 16))] = hex(
      entries.readBigUInt64LE(offset + 16),
    );
  }
  const services = new Map<bigint, string>();
  for (const [start, names] of [
    [bootServices, BOOT_SERVICES],
    [runtimeServices, RUNTIME_SERVICES],
  ] as const) {
    const pointers = await machine.readPhysical(start, 0x178);
    for (const [offset, name] of Object.entries(names))
      services.set(pointers.readBigUInt64LE(Number(offset)), name);
  }
  const calls: RecordedCall[] = [];
  const firmware = memoryMap
    .filter((line) => /ServicesCode/.test(line))
    .map((line) => line.split(' ').slice(0, 2).map(BigInt));
  const bases = new ImageBases(machine, images);
  const timeStamps = new TimeStampReads(machine, images);
  for (;;) {
    const address = await machine.runTo([...services.keys(), ...timeStamps.addresses]);
    if (!services.has(address)) {
      await timeStamps.record();
      continue;
    }
    const name = services.get(address)!;
    const before = await machine.registers();
    const back = (await machine.readPhysical(before.values.rsp, 8)).readBigUInt64LE();
    if (firmware.some(([start, end]) => back >= start! && back < end!)) {
      // The firmware calls its own services; a breakpoint under the CPU would hold it for ever.
      await machine.step();
      continue;
    }
    const given = await readArguments(machine, name, before);
    if (name === 'StartImage') {
      // It returns when the image does, if ever.
      calls.push({
        service: name,
        arguments: given.values,
        status: 'started',
        results: {},
        ...(await bases.place(back)),
      });
      await machine.step();
      continue;
    }
    await machine.runTo([back]);
    const { rax } = (await machine.registers()).values;
    const results = await readResults(machine, name, before, given.pointers);
    if (name === 'LocateProtocol' && rax === SUCCESS && given.values.Protocol === RNG_PROTOCOL) {
      const getRng = await machine.readPhysical(BigInt(results.Interface!) + 8n, 8);
      services.set(getRng.readBigUInt64LE(), GET_RNG);
    }
    calls.push({
      service: name,
      arguments: given.values,
      status: hex(rax),
      results,
      ...(await bases.place(back)),
    });
    if (name === 'ExitBootServices' && rax === SUCCESS) break;
    if (name === 'Exit') throw new Error(`the image gave up with Exit(${given.values.ExitStatus})`);
  }
  return {
    systemTable: hex(systemTable),
    configurationTables,
    calls,
    timeStamps: timeStamps.values,
  };
}

/** Which image an address is in: those that were loaded later begin with their headers. */
class ImageBases {
  readonly #machine: QemuMachine;
  readonly #bases: { readonly start: bigint; readonly end: bigint }[];

  constructor(machine: QemuMachine, images: readonly FollowedImage[]) {
    this.#machine = machine;
    this.#bases = images.map(({ base, size }) => ({ start: base, end: base + BigInt(size) }));
  }

  async place(address: bigint): Promise<{ readonly from: string; readonly image: number }> {
    let image = this.#bases.findIndex(({ start, end }) => address >= start && address < end);
    if (image < 0) {
      this.#bases.push(await this.#find(address));
      image = this.#bases.length - 1;
    }
    return { from: hex(address - this.#bases[image]!.start), image };
  }

  /** The nearest page below that begins with the headers of a PE file which reaches to the address. */
  async #find(address: bigint): Promise<{ readonly start: bigint; readonly end: bigint }> {
    const reach = 0x400_0000n;
    const low = address > reach ? (address - reach) & ~0xfffn : 0n;
    const bytes = await this.#machine.readPhysical(low, Number(address - low));
    for (let at = bytes.length - (bytes.length % 0x1000); at >= 0; at -= 0x1000) {
      if (bytes[at] !== 0x4d || bytes[at + 1] !== 0x5a || at + 0x40 > bytes.length) continue;
      const header = at + bytes.readUInt32LE(at + 0x3c);
      if (header + 84 > bytes.length || bytes.readUInt32LE(header) !== 0x4550) continue;
      const start = low + BigInt(at);
      const end = start + BigInt(bytes.readUInt32LE(header + 24 + 56));
      if (end > address) return { start, end };
    }
    throw new Error(`a service was called from ${hex(address)}, where no image lies`);
  }
}

async function readArguments(
  machine: QemuMachine,
  name: string,
  { values }: QemuRegisters,
): Promise<{ values: Record<string, string>; pointers: Readonly<Record<string, bigint>> }> {
  const given: Record<string, string> = {};
  const pointers: Record<string, bigint> = {};
  for (const [index, argument] of (ARGUMENTS[name] ?? []).entries()) {
    const value = values[REGISTERS[index]!];
    const [, label, kind] = /^(\w+)(?:\{(\w+)\})?$/.exec(argument.replace(/[[\]]/g, ''))!;
    if (argument.startsWith('[')) {
      if (value === 0n) continue;
      pointers[label!] = value;
      given[label!] = hex((await machine.readPhysical(value, 8)).readBigUInt64LE());
    } else if (kind === 'guid')
      given[label!] = value === 0n ? '0x0' : guidText(await machine.readPhysical(value, 16));
    else if (kind === 'text') given[label!] = await text(machine, value);
    else given[label!] = hex(/Type$/.test(label!) || label === 'Attributes' ? value & MASK_32 : value);
  }
  return { values: given, pointers };
}

async function readResults(
  machine: QemuMachine,
  name: string,
  before: QemuRegisters,
  pointers: Readonly<Record<string, bigint>>,
): Promise<Record<string, string>> {
  const results: Record<string, string> = {};
  for (const [label, pointer] of Object.entries(pointers)) {
    results[label] = hex((await machine.readPhysical(pointer, 8)).readBigUInt64LE());
  }
  if (name === GET_RNG) {
    const bytes = await machine.readPhysical(before.values.r9, Number(before.values.r8));
    results.RNGValue = bytes.toString('hex');
  }
  return results;
}

/** Where the stub has put the kernel: the last successful AllocatePages at an address, or, in stubs that leave it to startup_64, behind it. */
export function kernelPlace(
  record: EfiServiceRecord,
  elf: ElfFile,
  legacy: { readonly startup32: bigint; readonly alignment: bigint },
): bigint {
  const allocated = record.calls.findLast(
    (call) => call.service === 'AllocatePages' && call.arguments.Type === '0x2' && call.status === '0x0',
  );
  if (allocated !== undefined) return BigInt(allocated.results.Memory!);
  const { startup32, alignment } = legacy;
  const aligned = ((startup32 + alignment - 1n) / alignment) * alignment;
  return aligned < elf.segments[0]!.paddr ? elf.segments[0]!.paddr : aligned;
}

/** boot_params as the kernel gets it, and the chain of setup_data behind it. */
export async function describeBootParams(machine: QemuMachine, address: bigint) {
  const bytes = await machine.readPhysical(address, 4096);
  const setupData = [];
  for (let next = bytes.readBigUInt64LE(0x250); next !== 0n && setupData.length < 16; ) {
    const header = await machine.readPhysical(next, 16);
    const length = header.readUInt32LE(12);
    const data = await machine.readPhysical(next + 16n, length);
    setupData.push({
      address: hex(next),
      type: header.readUInt32LE(8),
      length,
      sha256: createHash('sha256').update(data).digest('hex'),
    });
    next = header.readBigUInt64LE(0);
  }
  return { address: hex(address), bytes: bytes.toString('base64'), setupData };
}

/** `2022.11-6+deb12u2`, as Debian's package says; null elsewhere. */
export function ovmfVersion(): string | null {
  try {
    const status = readFileSync('/var/lib/dpkg/status', 'utf8');
    return /^Package: ovmf\n(?:[^\n]+\n)*?Version: (\S+)/m.exec(status)?.[1] ?? null;
  } catch {
    return null;
  }
}
