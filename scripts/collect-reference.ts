// Boots an image in QEMU and writes what its CPU and memory held at each phase, in the JSON of `bootscope boot`.
//
// Two runs: the first lets QEMU log which code it translates, and so where the phases begin; the second
// stops at these places. Nothing of src/ decides a value here: QEMU is a witness of its own.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command, InvalidArgumentError } from 'commander';
import type { CpuMode, PhaseName } from '../src/trace/boot-trace.ts';
import { type BootAddresses, BootFollower } from './reference/boot-addresses.ts';
import {
  describeBootParams,
  findEntry,
  kernelOf,
  kernelPlace,
  ovmfArguments,
  ovmfVersion,
  readPeFields,
  recordServices,
  recordStart,
  timeStampReads,
  writeWaitingImage,
} from './reference/efi-recorder.ts';
import { handOver, loaderImage } from './reference/handover-loader.ts';
import { type ImageFields, readImageFields } from './reference/image-fields.ts';
import { decompressPayload, type ElfFile, type Kernel, readElf } from './reference/payload-elf.ts';
import { QemuMachine, type QemuOptions } from './reference/qemu-machine.ts';
import type { QemuRegisters } from './reference/qemu-registers.ts';
import { BlockReader, logArguments } from './reference/translated-blocks.ts';

/** What follows from QEMU's own loader and BIOS: `bootscope check` leaves it out, as it does what is null, unknown to QEMU. */
const NOT_COMPARABLE: readonly string[] = [
  ...['machine', 'console', 'registers', 'gdtr', 'idtr'],
  ...['kernel.bootParams', 'phases.setup', 'phases.boot-sector'],
  ...['phases.decompressed', 'phases.parse_elf', 'phases.handle_relocations'],
];

interface Options {
  readonly start: 'kernel' | 'floppy';
  readonly cmdline: string;
  readonly machine: string;
  readonly memory: number;
  readonly initrd?: string;
  readonly cpu: string;
  readonly kaslr?: true;
  readonly efi?: true;
  readonly efiHandover?: true;
  readonly efiMap?: true;
  readonly rng?: true;
  readonly timeout: number;
  readonly output?: string;
}

interface ReferencePhase {
  readonly name: PhaseName;
  readonly address: string;
  readonly mode: CpuMode;
  readonly registers: Readonly<Record<string, string>>;
  readonly gdtr: { readonly base: string; readonly limit: number };
  readonly idtr: { readonly base: string; readonly limit: number };
  readonly instructions: null;
  readonly regions: null;
}

const BOOT_SECTOR = 0x7c00n;
const SECTOR = 512;
// Unused memory below 1 MiB: behind the BIOS data area, before everything that old boot code writes to.
const CATCHER = 0x600n;
const EXIT_STEPS = 200;
const EXIT_REACH = 0x1000n;
const POLL_MILLISECONDS = 20;
// After so many polls what stands at the log's end is taken for a whole block: QEMU writes each at once.
const IDLE_POLLS = 10;

function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}

function describePhase(name: PhaseName, registers: QemuRegisters): ReferencePhase {
  const entries = Object.entries(registers.values).map(([key, value]) => [key, hex(value)] as const);
  return {
    name,
    address: hex(registers.values.rip + (registers.mode === 'long64' ? 0n : registers.codeBase)),
    mode: registers.mode,
    registers: Object.fromEntries(entries),
    gdtr: { base: hex(registers.gdtr.base), limit: registers.gdtr.limit },
    idtr: { base: hex(registers.idtr.base), limit: registers.idtr.limit },
    instructions: null,
    regions: null,
  };
}

/** The first run: follows QEMU's translation log until the kernel's first block. */
async function findAddresses(qemu: QemuOptions, image: ImageFields): Promise<BootAddresses> {
  const logName = 'blocks';
  const machine = await QemuMachine.start(qemu, false, (folder) => {
    closeSync(openSync(join(folder, logName), 'w'));
    return logArguments(join(folder, logName), qemu.memoryMegabytes);
  });
  const log = openSync(join(machine.folder, logName), 'r');
  try {
    const reader = new BlockReader(log);
    const follower = new BootFollower(image.protectedModeCode, image.code32Start);
    const follow = (all: boolean): BootAddresses | null => {
      for (const block of reader.read(all)) {
        const addresses = follower.take(block);
        if (addresses !== null) return addresses;
      }
      return null;
    };
    // A kernel may reset the machine soon after its entry; the log then tells more than QEMU's end.
    let ended: Error | null = null;
    machine.gone.catch((error: Error) => {
      ended = error;
    });
    for (let idle = 0; ; idle++) {
      const final: Error | null = ended;
      const addresses = follow(final !== null || idle % IDLE_POLLS === IDLE_POLLS - 1);
      if (addresses !== null) return addresses;
      if (final !== null) {
        const last = follower.lastBlocks.map((block) => hex(block.start)).join(' ');
        const reason = (final as Error).message;
        throw new Error(`${reason}; the kernel was not reached, the last code ran at: ${last || 'BIOS'}`);
      }
      await sleep(POLL_MILLISECONDS);
    }
  } finally {
    closeSync(log);
    await machine.close();
  }
}

interface EntropyRead {
  readonly instruction: 'rdtsc' | 'rdrand';
  readonly address: string;
  readonly value: string;
}

interface Choice {
  /** Each RDTSC and RDRAND of the stub, in the order of the boot. */
  readonly entropy: EntropyRead[];
  /** The 4096 bytes of boot_params at the first of them, base64: the kernel hashes them with what it read. */
  readonly bootParams: string | null;
}

const BOOT_PARAMS_SIZE = 4096;

/** The second run: stops at each phase. Leaves the machine at the kernel's first instruction. */
async function visitPhases(
  machine: QemuMachine,
  addresses: BootAddresses,
  options: Options,
): Promise<{ phases: ReferencePhase[]; atKernel: QemuRegisters; choice: Choice | null }> {
  const phases: ReferencePhase[] = [];
  const visit = async (name: PhaseName, candidates: readonly bigint[]) => {
    await machine.runTo(candidates);
    const registers = await machine.registers();
    phases.push(describePhase(name, registers));
    return registers;
  };
  if (options.start === 'floppy') await visit('boot-sector', [BOOT_SECTOR]);
  // QEMU's option ROM puts setup at 0x10000, or at 0x90000 below protocol 2.02 and for a zImage.
  await visit('setup', [0x90200n, 0x10200n]);
  await visit('startup_32', [addresses.startup32]);
  if (addresses.startup64 !== null) await visit('startup_64', [addresses.startup64]);
  if (addresses.relocated !== null) await visit('relocated', [addresses.relocated]);
  if (addresses.extractKernel !== null) {
    const atCall = await visit('extract_kernel', [addresses.extractKernel]);
    if (options.kaslr) {
      const startup = phases.find(({ name }) => name === 'startup_32')!;
      const choice = await runThroughChoice(machine, addresses, atCall, BigInt(startup.registers.rsi!));
      const atKernel = await machine.registers();
      phases.push(describePhase('kernel', atKernel));
      return { phases, atKernel, choice };
    }
  }
  const atKernel = await visit('kernel', [addresses.kernel]);
  return { phases, atKernel, choice: null };
}

/**
 * Runs extract_kernel where nobody knows the entry before: lets it return to a byte of ours, so that no
 * breakpoint lies in a page where the decompressor works, then goes on as if nothing had been.
 */
async function runThroughChoice(
  machine: QemuMachine,
  addresses: BootAddresses,
  atCall: QemuRegisters,
  bootParamsAddress: bigint,
): Promise<Choice> {
  const entropy: EntropyRead[] = [];
  let bootParams: string | null = null;
  const width = atCall.mode === 'long64' ? 8 : 4;
  const stack = atCall.values.rsp;
  const saved = await machine.readPhysical(stack, width);
  const caught = Buffer.alloc(width);
  caught.writeUInt32LE(Number(CATCHER));
  await machine.writePhysical(stack, caught);
  const reads = addresses.entropyReads;
  for (;;) {
    const stop = await machine.runTo([CATCHER, ...reads.map(({ address }) => address)]);
    if (stop === CATCHER) break;
    const read = reads.find(({ address }) => address === stop)!;
    const before = await machine.registers();
    bootParams ??= (await machine.readPhysical(bootParamsAddress, BOOT_PARAMS_SIZE)).toString('base64');
    await machine.step();
    entropy.push({
      instruction: read.instruction,
      address: hex(stop),
      value: hex(readValue(read.instruction, before, await machine.registers())),
    });
  }
  await machine.writePhysical(stack, saved);
  await machine.writeRip(addresses.returnSite!);
  // The exit jump stands a few instructions behind the call, in every stub that has KASLR.
  for (let steps = 0; steps < EXIT_STEPS; steps++) {
    await machine.step();
    const { rip } = (await machine.registers()).values;
    if (rip < addresses.returnSite! || rip > addresses.returnSite! + EXIT_REACH)
      return { entropy, bootParams };
  }
  throw new Error(`${EXIT_STEPS} steps behind extract_kernel the stub had not left for the kernel`);
}

function readValue(instruction: 'rdtsc' | 'rdrand', before: QemuRegisters, after: QemuRegisters): bigint {
  if (instruction === 'rdtsc') return (after.values.rdx << 32n) | (after.values.rax & 0xffffffffn);
  const changed = (['rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'r8', 'r9', 'r10', 'r11'] as const).find(
    (name) => before.values[name] !== after.values[name],
  );
  return changed === undefined ? 0n : after.values[changed];
}

/** What the firmware told of memory, a line an entry, from boot_params: start, end, type (zero-page.rst, e820_table). */
async function readMemoryMap(machine: QemuMachine, bootParams: bigint): Promise<string[]> {
  const ENTRIES = 0x1e8;
  const TABLE = 0x2d0;
  const page = await machine.readPhysical(bootParams, BOOT_PARAMS_SIZE);
  return Array.from({ length: page[ENTRIES]! }, (_, index) => {
    const at = TABLE + index * 20;
    const start = page.readBigUInt64LE(at);
    return `${hex(start)} ${hex(start + page.readBigUInt64LE(at + 8))} ${page.readUInt32LE(at + 16)}`;
  });
}

/** The difference that KASLR's relocations added to virtual addresses, seen in the guest's memory. */
async function virtualDelta(
  machine: QemuMachine,
  kernel: Kernel,
  elf: ElfFile,
  physicalDelta: bigint,
): Promise<bigint> {
  // The relocation lists end the payload; read backwards, the first is of 32-bit words up to a zero.
  const deltas = new Map<bigint, number>();
  for (let at = kernel.bytes.length - 4, count = 0; count < 16 && at > 0; at -= 4, count++) {
    const word = BigInt(kernel.bytes.readInt32LE(at));
    if (word === 0n) break;
    const address = elf.bits === 64 ? BigInt.asUintN(64, word) : BigInt.asUintN(32, word);
    const home = elf.segments.find(({ vaddr, filesz }) => address >= vaddr && address + 4n <= vaddr + filesz);
    if (home === undefined) return 0n;
    const offset = address - home.vaddr;
    const original = kernel.bytes.readUInt32LE(home.offset + Number(offset));
    const bytes = await machine.readPhysical(home.paddr + offset + physicalDelta, 4);
    const delta = BigInt(bytes.readUInt32LE(0) - original);
    deltas.set(delta, (deltas.get(delta) ?? 0) + 1);
  }
  return [...deltas].toSorted((left, right) => right[1] - left[1])[0]?.[0] ?? 0n;
}

async function describeKernel(machine: QemuMachine, image: ImageFields, atKernel: QemuRegisters) {
  const kernel = decompressPayload(image);
  const elf = readElf(kernel.bytes);
  const entry = atKernel.values.rip;
  const flat = { offset: 0, paddr: entry, vaddr: entry, filesz: BigInt(kernel.bytes.length), flags: 'rwx' };
  const loaded = elf?.segments ?? [{ ...flat, memsz: flat.filesz }];
  const physicalDelta = elf === null ? 0n : entry - elf.entry;
  const delta = elf === null ? 0n : await virtualDelta(machine, kernel, elf, physicalDelta);
  const segments = [];
  const mapping = loaded[0]!.vaddr - loaded[0]!.paddr;
  for (const { paddr, vaddr, filesz, memsz, flags } of loaded) {
    const bytes = await machine.readPhysical(paddr + physicalDelta, Number(filesz));
    segments.push({
      paddr: hex(paddr + physicalDelta),
      // The per-CPU segment of an SMP kernel lies at virtual 0, outside the kernel's mapping.
      vaddr: hex(vaddr - paddr === mapping ? vaddr + delta : vaddr),
      filesz: hex(filesz),
      memsz: hex(memsz),
      flags,
      sha256: createHash('sha256').update(bytes).digest('hex'),
    });
  }
  return {
    codec: kernel.codec,
    atJump: {
      entry: hex(entry),
      physicalBase: segments[0]!.paddr,
      virtualBase: segments[0]!.vaddr,
      bootParams: hex(atKernel.values.rsi),
      entryMode: atKernel.mode,
      segments,
    },
  };
}

async function collect(path: string, options: Options): Promise<unknown> {
  const file = readFileSync(path);
  const image = readImageFields(file);
  const scratch = mkdtempSync(join(tmpdir(), 'bootscope-reference-'));
  const words = options.cmdline.split(/\s+/).filter((word) => word !== '');
  if (!options.kaslr && !words.includes('nokaslr')) words.unshift('nokaslr');
  const cmdline = options.start === 'floppy' ? '' : words.join(' ');
  try {
    const qemu: QemuOptions = {
      start: options.start,
      image: options.start === 'floppy' ? writeFloppy(file, scratch) : path,
      cmdline,
      initrd: options.initrd ?? null,
      extra: ['-M', options.machine],
      memoryMegabytes: options.memory,
      cpu: options.cpu,
      timeout: options.timeout * 1000,
    };
    const addresses = await findAddresses(qemu, image);
    const machine = await QemuMachine.start(qemu, true);
    try {
      const { phases, atKernel, choice } = await visitPhases(machine, addresses, options);
      const { codec, atJump } = await describeKernel(machine, image, atKernel);
      return {
        image: {
          path,
          sha256: createHash('sha256').update(file).digest('hex'),
          kind: image.loadedHigh ? 'bzImage' : 'zImage',
          bootProtocol: `${image.protocol >> 8}.${String(image.protocol & 0xff).padStart(2, '0')}`,
          kernelVersion: image.kernelVersion,
          codec,
          payload: image.payload,
        },
        machine: {
          engine: 'qemu',
          engineVersion: qemuVersion(),
          ram: options.memory * 1024 * 1024,
          model: options.machine,
          memoryMap: await readMemoryMap(machine, atKernel.values.rsi),
          cpu: options.cpu,
          entry: options.start === 'floppy' ? 'boot-sector' : 'real16',
          decompress: 'emulated',
          cmdline,
        },
        phases,
        kernel: atJump,
        ...(choice === null ? {} : { kaslr: choice }),
        console: machine.serialOutput(),
        notices: null,
        policy: { ignore: NOT_COMPARABLE },
      };
    } finally {
      await machine.close();
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** The boot by OVMF: the image as its own boot loader, through its PE header, or started by one through its handover entry. */
async function collectEfi(path: string, options: Options): Promise<unknown> {
  const file = readFileSync(path);
  const kernel = kernelOf(file);
  const image = readImageFields(kernel);
  const started = options.efiHandover ? loaderImage() : file;
  const pe = readPeFields(started);
  const scratch = mkdtempSync(join(tmpdir(), 'bootscope-reference-'));
  const words = options.cmdline.split(/\s+/).filter((word) => word !== '');
  if (!options.kaslr && !words.includes('nokaslr')) words.unshift('nokaslr');
  const cmdline = words.join(' ');
  try {
    const waiting = join(scratch, 'kernel');
    writeWaitingImage(started, pe, waiting);
    const qemu: QemuOptions = {
      start: 'kernel',
      image: waiting,
      cmdline: options.efiHandover ? '' : cmdline,
      initrd: options.initrd ?? null,
      memoryMegabytes: options.memory,
      cpu: options.cpu,
      timeout: options.timeout * 1000,
      extra: [...ovmfArguments(scratch), ...(options.rng ? ['-device', 'virtio-rng-pci'] : [])],
    };
    const machine = await QemuMachine.start(qemu, true);
    try {
      const atEntry = await findEntry(machine, started, pe);
      const start = await recordStart(machine, pe, atEntry);
      if (options.efiMap) {
        return {
          image: { path, sha256: createHash('sha256').update(file).digest('hex') },
          machine: { ...ovmfMachine(options), entry: 'efi' },
          efi: { imageBase: start.imageBase, memoryMap: start.memoryMap },
        };
      }
      const handover = options.efiHandover ? await handOver(machine, atEntry, kernel, image, cmdline) : null;
      // Addresses in the stub count from where the file's first byte would lie.
      const startup32 = handover?.code ?? BigInt(start.imageBase) + BigInt(image.setupSize);
      const base = startup32 - BigInt(image.setupSize);
      const reads = file === kernel ? timeStampReads(image) : [];
      const size = handover === null ? pe.sizeOfImage : kernel.readUInt32LE(0x260) + image.setupSize;
      const services = await recordServices(machine, atEntry.values.rdx, start.memoryMap, [
        { base, size, timeStampReads: reads },
      ]);
      const elf = readElf(decompressPayload(image).bytes);
      if (elf === null) throw new Error('the payload is no ELF file');
      const alignment = BigInt(kernel.readUInt32LE(0x230));
      const place = kernelPlace(services, elf, { startup32, alignment });
      await machine.runTo([place + elf.entry - elf.segments[0]!.paddr]);
      const atKernel = await machine.registers();
      const { codec, atJump } = await describeKernel(machine, image, atKernel);
      return {
        image: {
          path,
          sha256: createHash('sha256').update(file).digest('hex'),
          kernelVersion: image.kernelVersion,
          codec,
          fileSize: file.length,
          sizeOfImage: readPeFields(file).sizeOfImage,
        },
        machine: {
          ...ovmfMachine(options),
          entry: options.efiHandover ? 'efi-handover' : 'efi',
          cmdline,
        },
        efi: { ...start, ...services },
        ...(handover === null ? {} : { handover: mapValues(handover, hex) }),
        atKernel: describePhase('kernel', atKernel),
        kernel: atJump,
        bootParams: await describeBootParams(machine, atKernel.values.rsi),
      };
    } finally {
      await machine.close();
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function ovmfMachine(options: Options) {
  return {
    engine: 'qemu',
    engineVersion: qemuVersion(),
    firmware: `OVMF ${ovmfVersion() ?? 'unknown'}`,
    ram: options.memory * 1024 * 1024,
    cpu: options.cpu,
  };
}

function mapValues<T>(record: { readonly [name: string]: T } | object, change: (value: T) => string) {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, change(value as T)]));
}

/** A raw floppy with the image from its first sector on, as `dd` or `make zdisk` would have made it. */
function writeFloppy(file: Buffer, folder: string): string {
  const sizes = [1440, 2880].map((kilobytes) => kilobytes * 2 * SECTOR);
  const size = sizes.find((candidate) => candidate >= file.length);
  if (size === undefined)
    throw new Error(`${file.length} bytes do not fit on a floppy of ${sizes.at(-1)} bytes`);
  const path = join(folder, 'floppy');
  writeFileSync(path, Buffer.concat([file], size));
  return path;
}

function qemuVersion(): string {
  const text = spawnSync('qemu-system-x86_64', ['--version'], { encoding: 'utf8' }).stdout ?? '';
  return /version (\S+)/.exec(text)?.[1] ?? 'unknown';
}

function positiveNumber(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value <= 0) throw new InvalidArgumentError('a whole number above 0');
  return value;
}

function startKind(text: string): 'kernel' | 'floppy' {
  if (text !== 'kernel' && text !== 'floppy') throw new InvalidArgumentError('kernel or floppy');
  return text;
}

/** Megabytes, as `512`, `512M` or `1G`. */
function megabytes(text: string): number {
  const [, digits, unit] = /^(\d+)([MG]?)$/i.exec(text) ?? [];
  if (digits === undefined) throw new InvalidArgumentError('a size such as 512M');
  return positiveNumber(digits) * (unit?.toUpperCase() === 'G' ? 1024 : 1);
}

const program = new Command('collect-reference')
  .description('Boot a kernel image in QEMU and write what CPU and memory held at each phase, as JSON')
  .argument('<image>', 'a bzImage or zImage')
  .option(
    '--start <how>',
    'kernel: as -kernel; floppy: the image is a floppy, its boot sector is run',
    startKind,
    'kernel',
  )
  .option('--cmdline <text>', 'kernel command line; nokaslr is put before it unless --kaslr is given', '')
  .option('--machine <model>', "QEMU's machine: pc, q35 or microvm", 'pc')
  .option('--memory <size>', 'RAM, 512M or 16G', megabytes, 512)
  .option('--initrd <file>', 'an initial RAM disk')
  .option('--cpu <model>', "QEMU's CPU model", 'qemu64')
  .option('--kaslr', 'let the kernel choose its place, and record each RDTSC and RDRAND value it read')
  .option('--efi', 'boot it with OVMF, through its PE header, and record every service it calls')
  .option('--efi-handover', 'the same, started by a boot loader through the EFI handover entry')
  .option('--efi-map', "only the memory map that OVMF has at the image's entry, and where the image lies")
  .option(
    '--rng',
    'with --efi: give the machine a source of random numbers (virtio-rng), and record what it gave',
  )
  .option('--timeout <seconds>', 'end each of the two runs after this time', positiveNumber, 120)
  .option('-o, --output <file>', 'write the JSON there instead of to standard output')
  .action(async (image: string, options: Options) => {
    try {
      const json = `${JSON.stringify(await (options.efi || options.efiHandover || options.efiMap ? collectEfi : collect)(image, options), null, 2)}\n`;
      if (options.output === undefined) process.stdout.write(json);
      else writeFileSync(options.output, json);
    } catch (error) {
      console.error(`collect-reference: ${image}: ${error instanceof Error ? error.message : String(error)}`);
      process.exitCode = 1;
    }
  });

await program.parseAsync();
