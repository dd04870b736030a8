// Boots an image both ways, with extract_kernel done in TypeScript and with the guest's own code on the CPU, and compares
// memory and registers at the jump into the kernel.

import { findStub, findStubDetails } from '../decompressor/find-stub.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import type {
  BootTrace,
  KernelSegment,
  MemoryRegion,
  Phase,
  PhaseName,
  RegisterSnapshot,
} from '../trace/boot-trace.ts';
import type { PhysicalMemory } from '../x86/physical-memory.ts';
import { boot, type FinishedBoot, finishedBoot } from './boot.ts';
import { differingChunks } from './differing-memory.ts';
import { goOnTrapped } from './go-on-trapped.ts';
import { cmdlineForGuest } from './kaslr-request.ts';
import { entropyFor } from './kaslr-slots.ts';
import { type BootOptions, DEFAULT_BOOT_OPTIONS } from './options.ts';
import { HeldBoot } from './session.ts';

/** What differs in one region, from the first differing byte to the last, [start, end). */
export interface MemoryDifference {
  readonly start: number;
  readonly end: number;
  /** Bytes that really differ. */
  readonly bytes: number;
  /** The smallest region that `start` lies in. */
  readonly region: string;
  /** Why it must differ; null: it must not. */
  readonly expected: string | null;
}

export interface RegisterDifference {
  readonly name: string;
  readonly hooked: bigint;
  readonly emulated: bigint;
  readonly expected: string | null;
}

/** How two boots of an image compare, one with `extract_kernel` done in TypeScript, one with the guest's own. */
export interface Verification {
  readonly hooked: BootTrace;
  readonly emulated: BootTrace;
  readonly memory: readonly MemoryDifference[];
  readonly registers: readonly RegisterDifference[];
  /** What else must be equal and is not, one sentence each: stops, phases, entry, segments. */
  readonly problems: readonly string[];
  /** No problem, and no difference without a reason. */
  readonly equal: boolean;
}

/** Both memories from physical address 0, and what is known of the jump. */
interface Jump {
  readonly hooked: PhysicalMemory;
  readonly emulated: PhysicalMemory;
  readonly phase: Phase;
  readonly segments: readonly KernelSegment[];
  /** Start of the heap that the stub passes on, where its code shows it. */
  readonly heap: number | null;
}

/** Bits 5 and 6 of an entry (Intel SDM 3A 4.8). */
const PAGE_ACCESSED_DIRTY = 0x60;
/** How far below the stack pointer the guest's functions may have written. */
const STACK_REACH = 0x10000;
const LARGEST_HEAP = 0x10000;
/** Differing bytes closer together than this are told as one range. */
const MERGE_DISTANCE = 64;

/** What only the trap shows of its work. */
const INSIDE_THE_TRAP: readonly PhaseName[] = ['decompressed', 'parse_elf', 'handle_relocations'];

/** The System V ABI lets a function change these; extract_kernel's own values are never used again. */
const CALLER_SAVED: readonly string[] = ['rcx', 'rdx', 'rdi', 'r8', 'r9', 'r10', 'r11', 'rflags', 'cr2'];
const SCRATCH_REGIONS: Readonly<Record<string, string>> = {
  heap: "the decompressor's heap, scratch of the guest's code",
  stack: "below the stack pointer, scratch of the guest's code",
  bss: "the stub's own variables, written by the guest's code",
  stub: "the stub's own variables, written by the guest's code",
};

/**
 * Boots both ways and compares memory and registers at the jump into the kernel.
 *
 * @throws {@link BootscopeError} as `boot`
 * @example
 * ```ts
 * import { readKernelImage, verify } from 'bootscope';
 *
 * const { equal, problems, memory } = await verify(await readKernelImage('demo-lz4.bzImage'));
 * console.assert(equal, problems.join('; '));
 * console.log(memory.map(({ start, end, region, expected }) => `${start}..${end} ${region}: ${expected}`));
 * ```
 */
export async function verify(image: KernelImage, asked: Partial<BootOptions> = {}): Promise<Verification> {
  const options = { ...DEFAULT_BOOT_OPTIONS, ...asked };
  const shared = {
    ...options,
    kaslr: await drawable(image, options),
    cmdline: cmdlineForGuest(image, options),
  };
  // The long one first: how fast the engine runs depends on where its memory lies, and in a fresh process it lies well.
  const guest = await HeldBoot.open(image, { ...shared, decompress: 'emulated', snapshotMemory: 0 });
  let hooked: FinishedBoot | null = null;
  try {
    await guest.run({ until: 'extract_kernel' });
    hooked = await goOnTrapped(guest);
    await guest.run();
    options.signal?.throwIfAborted();
    hooked ??= await boot(image, { ...shared, decompress: 'hooked' });
    return compareBoots(image, hooked, finishedBoot(guest));
  } finally {
    hooked?.close();
    guest.close();
  }
}

/** Given addresses as the entropy with which the guest's own code draws them. */
async function drawable(image: KernelImage, options: BootOptions): Promise<BootOptions['kaslr']> {
  const { kaslr } = options;
  if (kaslr.kind !== 'forced') return kaslr;
  return { kind: 'entropy', rdtsc: await entropyFor(image, options, kaslr) };
}

/** Compares two boots of an image that have come to their ends. */
export function compareBoots(image: KernelImage, hooked: FinishedBoot, emulated: FinishedBoot): Verification {
  const returnsEntry = findStub(image)?.exitRegister === 'rax';
  const problems = compareTraces(hooked.trace, emulated.trace);
  const atJump = hooked.trace.phases.at(-1)!;
  const memory = compareMemory({
    hooked: hooked.machine.memory,
    emulated: emulated.machine.memory,
    phase: atJump,
    segments: hooked.trace.kernel?.segments ?? [],
    heap: heapOf(image, atJump),
  });
  const registers = compareRegisters(atJump, emulated.trace.phases.at(-1)!, returnsEntry);
  const unexplained = [...memory, ...registers].filter((difference) => difference.expected === null);
  return {
    hooked: hooked.trace,
    emulated: emulated.trace,
    memory,
    registers,
    problems,
    equal: problems.length === 0 && unexplained.length === 0,
  };
}

function compareTraces(hooked: BootTrace, emulated: BootTrace): string[] {
  const problems: string[] = [];
  if (hooked.machine.decompress !== 'hooked') {
    problems.push('the stub was not recognised: both boots let the guest decompress, nothing was compared');
  }
  for (const [name, trace] of Object.entries({ hooked, emulated })) {
    if (trace.kernel === null) problems.push(`${name}: no kernel was reached: ${trace.stopped}`);
  }
  if (hooked.kernel === null || emulated.kernel === null) return problems;
  for (const name of ['entry', 'physicalBase', 'virtualBase', 'bootParams', 'entryMode'] as const) {
    const [ours, theirs] = [hooked.kernel[name], emulated.kernel[name]];
    if (ours !== theirs) problems.push(`${name}: hooked ${show(ours)}, emulated ${show(theirs)}`);
  }
  const count = Math.max(hooked.kernel.segments.length, emulated.kernel.segments.length);
  for (let index = 0; index < count; index++) {
    const [ours, theirs] = [hooked.kernel.segments[index], emulated.kernel.segments[index]].map((segment) =>
      segment === undefined ? 'none' : `${show(segment.paddr)} ${segment.sha256}`,
    );
    if (ours !== theirs) problems.push(`segment ${index}: hooked ${ours}, emulated ${theirs}`);
  }
  problems.push(...comparePhases(hooked, emulated));
  if (hooked.console !== emulated.console) {
    problems.push(
      `console: hooked ${JSON.stringify(hooked.console)}, emulated ${JSON.stringify(emulated.console)}`,
    );
  }
  return problems;
}

/** All phases that both boots come to: those inside the trap are steps of its own. */
function comparePhases(hooked: BootTrace, emulated: BootTrace): string[] {
  const phasesOf = (trace: BootTrace): ReadonlyMap<PhaseName, string> =>
    new Map(
      trace.phases
        .filter(({ name }) => !INSIDE_THE_TRAP.includes(name))
        .map(({ name, address, mode }) => [name, `${show(address)} ${mode}`]),
    );
  const [ours, theirs] = [phasesOf(hooked), phasesOf(emulated)];
  return [...new Set([...ours.keys(), ...theirs.keys()])]
    .filter((name) => ours.get(name) !== theirs.get(name))
    .map(
      (name) => `phase ${name}: hooked ${ours.get(name) ?? 'none'}, emulated ${theirs.get(name) ?? 'none'}`,
    );
}

function show(value: bigint | string): string {
  return typeof value === 'bigint' ? `0x${value.toString(16)}` : value;
}

function compareMemory(jump: Jump): MemoryDifference[] {
  const { hooked, emulated } = jump;
  const found = new Map<string, MemoryDifference>();
  let open: { start: number; last: number; bytes: number } | null = null;
  const close = (): void => {
    if (open !== null) {
      const next = classify(open.start, open.last + 1, open.bytes, jump);
      const key = `${next.region} ${next.expected}`;
      const sum = found.get(key);
      found.set(key, sum === undefined ? next : { ...sum, end: next.end, bytes: sum.bytes + next.bytes });
    }
    open = null;
  };
  for (const chunk of differingChunks(hooked, emulated)) {
    const { start, ours, theirs } = chunk;
    for (let address = start; address < start + ours.length; address++) {
      if (ours[address - start] === theirs[address - start]) continue;
      if (open !== null && address - (open as { last: number }).last > MERGE_DISTANCE) close();
      open ??= { start: address, last: address, bytes: 0 };
      open.last = address;
      open.bytes++;
    }
  }
  close();
  return [...found.values()];
}

function classify(start: number, end: number, bytes: number, jump: Jump): MemoryDifference {
  const region = smallestRegion(jump.phase.regions, start);
  const difference = { start, end, bytes, region: region?.name ?? 'no region' };
  const inKernel = jump.segments.some(
    ({ paddr, filesz }) => paddr < BigInt(end) && paddr + filesz > BigInt(start),
  );
  const rsp = Number(jump.phase.registers.rsp);
  if (inKernel) return { ...difference, expected: null };
  if (end <= rsp && start >= rsp - STACK_REACH) return { ...difference, expected: SCRATCH_REGIONS.stack! };
  if (region?.kind === 'page-table' && onlyPageUse(jump, start, end)) {
    return {
      ...difference,
      expected: 'accessed and dirty bits, which the CPU sets as the guest uses the pages',
    };
  }
  if (jump.heap !== null && start >= jump.heap && end <= jump.heap + LARGEST_HEAP) {
    return { ...difference, region: 'boot heap', expected: SCRATCH_REGIONS.heap! };
  }
  return { ...difference, expected: region === null ? null : (SCRATCH_REGIONS[region.kind] ?? null) };
}

/** Old stubs have their heap behind their own end, in no region. */
function heapOf(image: KernelImage, atJump: Phase): number | null {
  const heap = findStubDetails(image)?.heap ?? null;
  const wholes = atJump.regions.filter(({ role }) => role === 'zo');
  const running = wholes.find(({ zo }) => zo === 'copy') ?? wholes.find(({ zo }) => zo === 'loaded');
  return heap === null || running === undefined ? null : Number(running.start) + heap;
}

/** Whether all that differs in [start, end) are the accessed and dirty bits of page table entries. */
function onlyPageUse(jump: Jump, start: number, end: number): boolean {
  for (let address = start; address < end; address++) {
    const changed = jump.hooked.read8(address) ^ jump.emulated.read8(address);
    if (changed !== 0 && (address % 8 !== 0 || (changed & ~PAGE_ACCESSED_DIRTY) !== 0)) return false;
  }
  return true;
}

function smallestRegion(regions: readonly MemoryRegion[], address: number): MemoryRegion | null {
  const at = BigInt(address);
  return regions
    .filter(({ start, end }) => start <= at && at < end)
    .reduce<MemoryRegion | null>(
      (smallest, region) =>
        smallest === null || region.end - region.start < smallest.end - smallest.start ? region : smallest,
      null,
    );
}

/** @param returnsEntry - whether the stub uses what extract_kernel returns in RAX */
function compareRegisters(hooked: Phase, emulated: Phase, returnsEntry: boolean): RegisterDifference[] {
  const differences: RegisterDifference[] = [];
  const add = (name: string, ours: bigint, theirs: bigint): void => {
    if (ours === theirs) return;
    const free = CALLER_SAVED.includes(name) || (name === 'rax' && !returnsEntry);
    const expected = free ? 'a register that functions may change' : null;
    differences.push({ name, hooked: ours, emulated: theirs, expected });
  };
  for (const name of Object.keys(hooked.registers) as (keyof RegisterSnapshot)[]) {
    add(name, hooked.registers[name], emulated.registers[name]);
  }
  for (const table of ['gdtr', 'idtr'] as const) {
    add(`${table} base`, hooked[table].base, emulated[table].base);
    add(`${table} limit`, BigInt(hooked[table].limit), BigInt(emulated[table].limit));
  }
  return differences;
}
