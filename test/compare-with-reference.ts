// What Bootscope and QEMU must agree on after booting the same image, and what they may differ in because their
// loaders put the real-mode part elsewhere.

import { REGISTER_NAMES, type RegisterName } from '../src/cpu/cpu.ts';
import type { BootTrace, Phase } from '../src/index.ts';

/** What `scripts/collect-reference` writes, as far as it is compared. */
export interface Reference {
  readonly image: { readonly path: string; readonly sha256: string };
  readonly machine: {
    readonly ram: number;
    /** QEMU's machine, and what its firmware told of memory; missing in older references. */
    readonly model?: 'pc' | 'q35' | 'microvm';
    readonly memoryMap?: readonly string[];
    readonly entry: 'real16' | 'boot-sector';
    readonly cmdline: string;
  };
  readonly phases: readonly {
    readonly name: string;
    readonly address: string;
    readonly mode: string;
    readonly registers: Readonly<Record<RegisterName, string>>;
    readonly gdtr: { readonly base: string; readonly limit: number };
    readonly idtr: { readonly base: string; readonly limit: number };
  }[];
  readonly kernel: {
    readonly entry: string;
    readonly physicalBase: string;
    readonly virtualBase: string;
    readonly bootParams: string;
    readonly entryMode: string;
    readonly segments: readonly Readonly<Record<string, string>>[];
  };
}

/**
 * Registers whose values at a phase are not the stub's doing: leftovers of the real-mode code, which gets other
 * addresses from its loader and other answers from another BIOS.
 */
const LEFT_OVER: Readonly<Record<string, readonly RegisterName[]>> = {
  setup: [
    'rax',
    'rbx',
    'rcx',
    'rdx',
    'rsi',
    'rdi',
    'rbp',
    'rsp',
    'rflags',
    'cs',
    'ds',
    'es',
    'fs',
    'gs',
    'ss',
    'cr0',
  ],
  'boot-sector': ['rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rbp', 'rsp', 'rflags', 'cr0', 'ds', 'es', 'ss'],
  startup_32: ['rax', 'rbx', 'rcx', 'rdx', 'rdi', 'rbp', 'rsp', 'rflags', 'ds', 'es', 'ss'],
  startup_64: ['rdx', 'rflags'],
  // Late stubs compute with the command line's address here.
  relocated: ['rdx', 'r8', 'r9', 'r10', 'rflags'],
  extract_kernel: ['rdx', 'r8', 'r9', 'r10', 'rflags'],
};

/** What the decompressor's own code leaves in registers that the calling convention lets it change. */
const CHANGED_BY_A_CALL: readonly RegisterName[] = [
  ...(['rax', 'rcx', 'rdx', 'rsi', 'rdi', 'r8', 'r9', 'r10', 'r11'] as const),
  'rflags',
];

function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}

/** One sentence per difference; empty when the two agree. */
export function differences(trace: BootTrace, reference: Reference): string[] {
  if (trace.kernel === null) return [`the boot stopped: ${trace.stopped}`];
  const found: string[] = [];
  const expect = (what: string, ours: string, theirs: string) => {
    if (ours !== theirs) found.push(`${what} is ${ours}, ${theirs} in QEMU`);
  };
  const shift = trace.kernel.bootParams - BigInt(reference.kernel.bootParams);
  for (const theirs of reference.phases) {
    const ours = trace.phases.find(({ name }) => name === theirs.name);
    if (ours === undefined) {
      found.push(`the phase ${theirs.name} is missing`);
      continue;
    }
    // Loaders choose where setup goes.
    if (theirs.name !== 'setup') expect(`${theirs.name}: address`, hex(ours.address), theirs.address);
    expect(`${theirs.name}: mode`, ours.mode, theirs.mode);
    found.push(...registerDifferences(ours, theirs, shift), ...tableDifferences(ours, theirs, shift));
  }
  const { kernel } = trace;
  expect('the kernel entry', hex(kernel.entry), reference.kernel.entry);
  expect('the physical base', hex(kernel.physicalBase), reference.kernel.physicalBase);
  expect('the virtual base', hex(kernel.virtualBase), reference.kernel.virtualBase);
  expect('the entry mode', kernel.entryMode, reference.kernel.entryMode);
  expect('segments: number', String(kernel.segments.length), String(reference.kernel.segments.length));
  reference.kernel.segments.forEach((theirs, index) => {
    const ours = kernel.segments[index];
    if (ours === undefined) return;
    for (const field of ['paddr', 'vaddr', 'filesz', 'memsz'] as const)
      expect(`segment ${index}: ${field}`, hex(ours[field]), theirs[field]!);
    expect(`segment ${index}: sha256`, String(ours.sha256), theirs.sha256!);
  });
  return found;
}

function registerDifferences(ours: Phase, theirs: Reference['phases'][number], shift: bigint): string[] {
  const ignored =
    ours.name === 'kernel' ? CHANGED_BY_A_CALL.filter((name) => name !== 'rsi') : LEFT_OVER[ours.name];
  return REGISTER_NAMES.flatMap((name) => {
    const value = ours.registers[name];
    const expected = BigInt(theirs.registers[name]);
    if (ignored?.includes(name) || value === expected || value - expected === shift) return [];
    return [`${ours.name}: ${name} is ${hex(value)}, ${hex(expected)} in QEMU`];
  });
}

/** Setup's loader has tables of its own, and those of setup lie where it put setup. */
function tableDifferences(ours: Phase, theirs: Reference['phases'][number], shift: bigint): string[] {
  if (ours.name === 'setup' || ours.name === 'boot-sector') return [];
  return (['gdtr', 'idtr'] as const).flatMap((name) => {
    const { base, limit } = theirs[name];
    const moved = ours[name].base - BigInt(base);
    if ((moved === 0n || moved === shift) && ours[name].limit === limit) return [];
    const { base: ourBase, limit: ourLimit } = ours[name];
    return [`${ours.name}: ${name} is ${hex(ourBase)}, limit ${ourLimit}; ${base}, limit ${limit} in QEMU`];
  });
}
