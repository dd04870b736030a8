// Going on from what another loader has left: its memory and registers are put into the machine as they are, and everything that an
// entry of ours would know is read from there.

import type { Cpu } from '../../cpu/cpu.ts';
import { enterLongMode, enterProtectedMode, enterRealMode } from '../../cpu/enter-mode.ts';
import { BootscopeError } from '../../error.ts';
import { hex } from '../../hex.ts';
import { equalBytes } from '../../host/host.ts';
import { readElf } from '../../image/elf.ts';
import type { KernelImage } from '../../image/kernel-image.ts';
import type { LoaderState } from '../../image/loader-state.ts';
import { readXenNotes } from '../../image/vmlinux.ts';
import type { Machine } from '../../machine/machine.ts';
import { EBDA_ADDRESS, ramOfMap } from '../../machine/memory-map.ts';
import { BOOT_PARAMS_SIZE, BootParams } from '../../protocol/boot-params.ts';
import type { E820Entry } from '../../protocol/e820.ts';
import { CR0_PE, EFER_LMA } from '../../x86/control-registers.ts';
import { PhysicalMemory } from '../../x86/physical-memory.ts';
import { type HandoverEntry, HandoverView } from '../handover-rules.ts';
import type { BootOptions } from '../options.ts';
import type { Entry } from './entry.ts';
import type { LoadedImage } from './loaded-image.ts';
import { describeKernelSegments } from './vmlinux.ts';

const MIB = 0x100000;
const PAGE = 0x1000;
const FOUR_GIB = 2 ** 32;
const ADDRESSABLE = 2n ** 52n;
const CHUNK = 4 * MIB;
const LONGEST_COMMAND_LINE = 0x10000;
/** Where the descriptors lie that bring the CPU into its mode; put back afterwards. */
const SCRATCH = 0x500;
const SCRATCH_SIZE = 0x40;
/** Vectors and data of the BIOS, and from its EBDA to its ROM: in real mode the machine's own stays there. */
const BIOS_MEMORY = [
  { start: 0, end: 0x500 },
  { start: EBDA_ADDRESS, end: MIB },
] as const;
const HANDOVER_ENTRIES: readonly string[] = ['real16', 'prot32', 'long64', 'pvh'] satisfies HandoverEntry[];

/**
 * By which entry a state goes on: as its registers say.
 *
 * @throws BootscopeError `boot-state` where they do not, or where another one is asked for
 */
export function entryOfState(
  { path, registers }: LoaderState,
  image: KernelImage,
  wanted: BootOptions['entry'],
): HandoverEntry {
  if (wanted !== null) {
    if (HANDOVER_ENTRIES.includes(wanted)) return wanted as HandoverEntry;
    throw new BootscopeError(
      'boot-state',
      `a state is gone on from by ${HANDOVER_ENTRIES.join(', ')}, not ${wanted}`,
    );
  }
  const { cr0, efer, rip } = registers;
  if (rip === undefined) throw new BootscopeError('boot-state', `${path} does not tell RIP`);
  if (efer !== undefined && (efer & EFER_LMA) !== 0n) return 'long64';
  if (cr0 === undefined) {
    throw new BootscopeError(
      'boot-state',
      `${path} tells neither CR0 nor a long mode in EFER: name the entry`,
    );
  }
  if ((cr0 & CR0_PE) === 0n) return 'real16';
  const isPvh = image.kind === 'vmlinux' && readXenNotes(readElf(image.bytes)).pvhEntry === rip;
  return isPvh ? 'pvh' : 'prot32';
}

/** What a boot from there has in place of what its options say: RAM, the memory map and the command line. */
export function optionsOfState(
  state: LoaderState,
  image: KernelImage,
  options: BootOptions,
  entry: HandoverEntry,
): BootOptions {
  const nothing = PhysicalMemory.of(new Uint8Array(0));
  const { bootParams } = new HandoverView(image, { ...state, entry, memory: nothing });
  let map: readonly E820Entry[] | null = null;
  let cmdline = '';
  const page = bootParams === null ? null : bytesOf(state, bootParams, BOOT_PARAMS_SIZE);
  if (page !== null && page.length === BOOT_PARAMS_SIZE) {
    const params = new BootParams(page);
    if (entry !== 'real16') map = params.memoryMap;
    cmdline = textOf(state, entry === 'real16' ? params.get('cmd_line_ptr') : params.commandLine);
  } else if (entry === 'pvh') {
    const seen = new HandoverView(image, {
      ...state,
      entry,
      memory: PhysicalMemory.of(bytesOf(state, 0, MIB)),
    });
    map = seen.memoryMap;
    const { commandLine } = seen;
    cmdline = commandLine === null ? '' : new TextDecoder().decode(commandLine.text);
  }
  const sane = map?.filter(({ address, size }) => size > 0n && address + size <= ADDRESSABLE) ?? null;
  return {
    ...options,
    entry,
    memory: ramOfState(state, sane, options.memory),
    memoryMap: options.memoryMap ?? (sane?.length === 0 ? null : sane),
    cmdline,
  };
}

/**
 * RAM in one piece from 1 MiB on, and from 4 GiB on; what else was dumped is a device's. Of dumps that are not of all memory the
 * map says more, and where there is none the options do.
 */
function ramOfState(
  { pieces, complete }: LoaderState,
  map: readonly E820Entry[] | null,
  given: number,
): number {
  const endFrom = (start: number): number => {
    let end = start;
    for (const { address, size } of pieces) if (address <= end) end = Math.max(end, address + size);
    return end;
  };
  const low = Math.min(endFrom(MIB), FOUR_GIB);
  const dumped = Math.ceil(low / PAGE) * PAGE + endFrom(FOUR_GIB) - FOUR_GIB;
  if (complete) return dumped;
  if (map === null || map.length === 0) return Math.max(dumped, given);
  const told = ramOfMap(map);
  return Math.max(dumped, told.low + told.high);
}

/** What was dumped of [address, address + length), from `address` on. */
function bytesOf({ pieces }: LoaderState, address: number, length: number): Uint8Array {
  const parts: Uint8Array[] = [];
  let at = address;
  for (const piece of pieces) {
    if (piece.address > at || piece.address + piece.size <= at || at >= address + length) continue;
    const bytes = piece.read(at - piece.address, address + length - at);
    parts.push(bytes);
    at += bytes.length;
  }
  const all = new Uint8Array(at - address);
  let done = 0;
  for (const part of parts) {
    all.set(part, done);
    done += part.length;
  }
  return all;
}

function textOf(state: LoaderState, address: number): string {
  if (address === 0) return '';
  const bytes = bytesOf(state, address, LONGEST_COMMAND_LINE);
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes.subarray(0, 0) : bytes.subarray(0, end));
}

/** An entry that loads nothing: `base` watches for what comes. */
export function fromState(base: Entry, state: LoaderState): Entry {
  return {
    ...base,
    load: (machine, image) => loadState(machine, image, state, base.name as HandoverEntry),
    enter: (machine, loaded) => enterState(machine, state, loaded),
  };
}

/** The state as it is in the machine. */
export function handoverOf(state: LoaderState, entry: HandoverEntry, memory: PhysicalMemory) {
  return { entry, registers: state.registers, gdtr: state.gdtr, memory };
}

function loadState(
  machine: Machine,
  image: KernelImage,
  state: LoaderState,
  entry: HandoverEntry,
): LoadedImage {
  const { memory } = machine;
  const needs: readonly (keyof LoaderState['registers'])[] =
    entry === 'real16'
      ? ['cs', 'rip', 'ss', 'rsp']
      : entry === 'pvh'
        ? ['rip', 'rbx']
        : entry === 'prot32'
          ? ['rip', 'rsi']
          : ['rip', 'rsi', 'cr3'];
  const missing = needs.filter((name) => state.registers[name] === undefined);
  if (missing.length > 0) {
    throw new BootscopeError(
      'boot-state',
      `${state.path} does not tell ${missing.join(', ')}, which ${entry} goes by`,
    );
  }
  for (const piece of state.pieces) copyPiece(memory, piece, entry === 'real16' ? BIOS_MEMORY : []);
  const seen = new HandoverView(image, handoverOf(state, entry, memory));
  const { start, bootParams, code, commandLine } = seen;
  const isSetup = entry === 'real16';
  const size = image.protectedModeCode.length;
  const heapEnd = isSetup ? Number(state.registers.rsp! & 0xffffn) || 0x10000 : null;
  return {
    entry,
    setup: isSetup ? { address: bootParams!, size: image.setupSize } : null,
    heapEnd: heapEnd === null ? null : bootParams! + heapEnd,
    protectedModeCode: code === null ? null : { address: code, size },
    startup32: code ?? 0,
    commandLine:
      commandLine === null ? null : { address: commandLine.address, size: commandLine.text.length + 1 },
    initrd: seen.initrd,
    bootParams: isSetup ? null : bootParams,
    loaderMemory: null,
    kernel: image.kind === 'vmlinux' ? describeKernelSegments(image).kernel : null,
    start,
  };
}

/** Pages of zeroes are left alone: memory costs what is in it. */
function copyPiece(
  memory: PhysicalMemory,
  { address, size, read }: LoaderState['pieces'][number],
  except: readonly { readonly start: number; readonly end: number }[],
): void {
  const zeroes = new Uint8Array(PAGE);
  for (let offset = 0; offset < size; offset += CHUNK) {
    const bytes = read(offset, CHUNK);
    for (let at = 0; at < bytes.length; at += zeroes.length) {
      const page = bytes.subarray(at, at + zeroes.length);
      const target = address + offset + at;
      if (!memory.contains(target, page.length) || equalBytes(page, zeroes)) continue;
      const kept = except
        .filter(({ start, end }) => start < target + page.length && end > target)
        .map(({ start, end }) => [Math.max(start, target), Math.min(end, target + page.length)] as const)
        .map(([start, end]) => [start, memory.copyOut(start, end - start)] as const);
      memory.view(target, page.length).set(page);
      for (const [start, own] of kept) memory.view(start, own.length).set(own);
    }
  }
}

function enterState(
  machine: Machine,
  { registers, gdtr, path }: LoaderState,
  { entry, start }: LoadedImage,
): void {
  const { cpu, memory } = machine;
  const { cs = 0n, ds = 0n, es = 0n, fs = 0n, gs = 0n, ss = 0n } = registers;
  if (!memory.contains(start, 1)) {
    throw new BootscopeError(
      'boot-state',
      `${path}: the first instruction at ${hex(start)} does not lie in RAM`,
    );
  }
  const { rip, rflags, cr0, cr3, cr4, efer, rsp, ...general } = registers;
  if (entry === 'real16') {
    enterRealMode(cpu, {
      ...general,
      ...{
        cs: Number(cs),
        ip: Number((rip ?? 0n) & 0xffffn),
        ss: Number(ss),
        sp: Number((rsp ?? 0n) & 0xffffn),
      },
      ...{ ds: Number(ds), es: Number(es), fs: Number(fs), gs: Number(gs) },
      flags: Number((rflags ?? 0n) & 0xffffn),
    });
    return;
  }
  const kept = memory.copyOut(SCRATCH, SCRATCH_SIZE);
  const flags = Number((rflags ?? 0n) & 0xffff_ffffn);
  if (entry === 'long64') {
    const control = { ...(cr0 === undefined ? {} : { cr0 }), ...(cr4 === undefined ? {} : { cr4 }) };
    enterLongMode(cpu, {
      ...general,
      ...control,
      ...(efer === undefined ? {} : { efer }),
      ...{ rip: rip!, cr3: cr3!, gdtAddress: SCRATCH, rsp: rsp ?? 0n, flags },
    });
  } else {
    enterProtectedMode(cpu, { ...general, eip: start, gdtAddress: SCRATCH, rsp: rsp ?? 0n, flags });
  }
  memory.copyIn(SCRATCH, kept);
  if (gdtr !== null) cpu.writeDescriptorTable('gdtr', gdtr);
  for (const [name, value] of Object.entries({ cs, ds, es, fs, gs, ss })) {
    const register = name as 'cs' | 'ds' | 'es' | 'fs' | 'gs' | 'ss';
    if (registers[register] !== undefined && cpu.readRegister(register) !== value) {
      writeSelector(cpu, register, value);
    }
  }
}

/** A selector that the engine refuses, since there is no such descriptor, has been named among the hazards: the flat one stays. */
function writeSelector(cpu: Cpu, name: 'cs' | 'ds' | 'es' | 'fs' | 'gs' | 'ss', value: bigint): void {
  try {
    cpu.writeRegister(name, value);
  } catch (error) {
    if (!(error instanceof BootscopeError)) throw error;
  }
}
