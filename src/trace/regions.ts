// The named regions of physical memory at one phase, from what is known of image, loader, stub and registers then.

import type { PageTable } from '../x86/page-tables.ts';
import type { MemoryRegion, PhaseName, RegionKind } from './boot-trace.ts';
import { PHASE_NAMES } from './boot-trace.ts';
import { type EfiFacts, efiRegions } from './efi-regions.ts';

/** Physical [start, end) in bytes. */
export interface Extent {
  readonly start: number;
  readonly end: number;
}

/** Setup's own memory as it runs: physical addresses. */
export interface SetupMemory {
  readonly bss: Extent;
  readonly heap: Extent;
  readonly stack: Extent;
}

/** A part of ZO: offsets in bytes from the start of the protected-mode code. */
export interface ZoPart extends Extent {
  readonly name: string;
  /** False for what is there only once the stub has set it up: bss, heap, stack, page tables. */
  readonly inFile: boolean;
  readonly source: string;
  readonly inferred: boolean;
}

/** A segment or section of the kernel proper at its place. */
export interface KernelPart extends Extent {
  readonly name: string;
  readonly source: string;
  /** False for .bss and .brk. */
  readonly hasBytes: boolean;
  /** Name of the segment that a section is a part of. */
  readonly parent?: string;
}

/** Bytes that were written in a phase, and what they are. */
export interface MemoryWrite extends Extent {
  readonly phase: PhaseName;
  readonly what: string;
}

/** Everything that the regions of a phase follow from. Addresses are physical, null means not known (yet). */
export interface LayoutFacts {
  /** Behind the highest byte of RAM; holes are what no entry of the memory map tells of. */
  readonly ram: number;
  readonly ebda: Extent;
  /** E820 entries of usable RAM, and all others. */
  readonly usable: readonly Extent[];
  readonly reserved: readonly (Extent & { readonly type: number })[];
  /** Where the BIOS put the first sector; null unless the image boots as a floppy. */
  readonly bootSector: Extent | null;
  /** Boot sector and setup code as loaded. */
  readonly setup: Extent | null;
  readonly setupMemory: SetupMemory | null;
  /** Initial stack pointer of setup. */
  readonly setupStackEnd: number | null;
  readonly commandLine: Extent | null;
  readonly initrd: Extent | null;
  readonly bootParams: Extent | null;
  /** Whether the loader made boot_params; setup makes them otherwise. */
  readonly bootParamsByLoader: boolean;
  /** What a loader of the 32- or 64-bit protocol keeps for itself: GDT, stack, page tables. */
  readonly loaderMemory: Extent | null;
  /** setup_data nodes. */
  readonly setupData: readonly Extent[];
  /** The protected-mode code as the loader left it. */
  readonly loaded: Extent | null;
  /** Where it runs first: as loaded, but for a zImage, which setup moves down. */
  readonly started: Extent | null;
  /** The copy it made of itself. */
  readonly copy: Extent | null;
  readonly zo: readonly ZoPart[];
  /** Where the stub stores variables outside itself. */
  readonly strayVariables: readonly Extent[];
  /** What init_size must hold at least: bytes, and what takes them. */
  readonly initSizeNeeds: readonly { readonly bytes: number; readonly what: string }[];
  /** What init_size asks to be free, from where the stub puts itself without KASLR; null before protocol 2.10. */
  readonly runArea: Extent | null;
  readonly output: number | null;
  /** What was decompressed as it was written, in one piece or more. */
  readonly decompressed: readonly (Extent & { readonly name: string })[];
  /** The relocation lists behind the ELF file. */
  readonly relocations: Extent | null;
  /** Bytes that decompression yields, as the image tells; null where it does not. */
  readonly outputLength: number | null;
  readonly kernelParts: readonly KernelPart[];
  /** What was seen to be written, in time's order. */
  readonly writes: readonly MemoryWrite[];
  /** What UEFI firmware says of memory; null without one. */
  readonly efi: EfiFacts | null;
}

/** CPU registers that name memory, and the page tables that they lead to. */
export interface LayoutRegisters {
  readonly mode: string;
  readonly ss: bigint;
  readonly rsp: bigint;
  readonly gdtr: { readonly base: bigint; readonly limit: number };
  readonly idtr: { readonly base: bigint; readonly limit: number };
  readonly tables: readonly PageTable[];
  /** EFI services that had been called. */
  readonly efiCalls: number;
}

const PAGE = 0x1000;
const E820_TYPES: Readonly<Record<number, string>> = {
  2: 'reserved',
  3: 'ACPI tables',
  4: 'ACPI NVS',
  5: 'unusable',
  7: 'persistent memory',
};

const ZO_KINDS: Readonly<Record<string, RegionKind>> = {
  payload: 'payload',
  bss: 'bss',
  heap: 'heap',
  stack: 'stack',
  'page tables': 'page-table',
};

function reached(phase: PhaseName, milestone: PhaseName): boolean {
  return PHASE_NAMES.indexOf(phase) >= PHASE_NAMES.indexOf(milestone);
}

interface Details {
  readonly inferred?: boolean;
  readonly parent?: string;
}

type Add = (name: string, kind: RegionKind, extent: Extent | null, source: string, details?: Details) => void;

/** All regions of the phase, by start address, larger ones first; overlaps are shown as they are. */
export function regionsAt(phase: PhaseName, facts: LayoutFacts, registers: LayoutRegisters): MemoryRegion[] {
  const regions: MemoryRegion[] = [];
  const names = new Set<string>();
  const add: Add = (name, kind, extent, source, { inferred = false, parent } = {}) => {
    if (extent === null || extent.end <= extent.start) return;
    let unique = name;
    for (let number = 2; names.has(unique); number++) unique = `${name} ${number}`;
    names.add(unique);
    regions.push({
      name: unique,
      start: BigInt(extent.start),
      end: BigInt(extent.end),
      kind,
      source,
      ...(inferred ? { inferred } : {}),
      ...(parent === undefined ? {} : { parent }),
    });
  };
  if (facts.efi === null) addFirmware(facts, add);
  else addEfi(facts.efi, registers.efiCalls, add);
  addSetup(phase, facts, add);
  addLoaderData(phase, facts, registers.efiCalls, add);
  addCompressedKernel(phase, facts, registers.tables, add);
  addKernel(phase, facts, add);
  addRegisters(registers, facts, add);
  return regions.sort((a, b) => compare(a.start, b.start) || compare(b.end, a.end));
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function addFirmware(facts: LayoutFacts, add: Add): void {
  add('IVT', 'firmware', { start: 0, end: 0x400 }, 'the interrupt vectors of real mode');
  add('BDA', 'firmware', { start: 0x400, end: 0x500 }, 'the BIOS data area of a PC');
  add('EBDA', 'firmware', facts.ebda, 'the segment at 0040:000e');
  add('VGA memory', 'video', { start: 0xa0000, end: 0xc0000 }, 'the memory map of a PC');
  add('BIOS ROM', 'firmware', { start: 0xf0000, end: 0x100000 }, 'the memory map of a PC');
  for (const entry of facts.reserved) {
    const type = E820_TYPES[entry.type] ?? `type ${entry.type}`;
    add(`E820 ${type}`, 'reserved', entry, `E820 entry of type ${entry.type}`);
  }
}

function addEfi(facts: EfiFacts, calls: number, add: Add): void {
  for (const region of efiRegions(facts, calls)) add(region.name, region.kind, region, region.source);
}

function addSetup(phase: PhaseName, facts: LayoutFacts, add: Add): void {
  const { setup, setupMemory, setupStackEnd } = facts;
  add('boot sector', 'boot-sector', facts.bootSector, 'the BIOS loads the first sector here');
  if (phase === 'boot-sector' || setup === null) return;
  add('setup', 'setup', setup, 'setup_sects');
  const code = setup.start + 0x200;
  const parent = 'setup';
  add('setup header', 'boot-sector', { start: setup.start, end: code }, 'the first sector', { parent });
  const codeEnd = Math.min(setupMemory?.bss.start ?? setup.end, setup.end);
  add(
    'setup code and data',
    'setup',
    { start: code, end: codeEnd },
    'behind the first sector, up to the bss',
    {
      parent,
    },
  );
  if (setupMemory !== null) {
    add('setup bss', 'bss', setupMemory.bss, "__bss_start and _end in setup's first instructions");
  }
  if (phase !== 'setup') return;
  if (setupMemory !== null) {
    add('setup heap', 'heap', setupMemory.heap, 'from the end of setup to its stack, heap_end_ptr');
    add('setup stack', 'stack', setupMemory.stack, 'STACK_SIZE below the initial stack pointer');
  } else if (setupStackEnd !== null) {
    add(
      'setup heap and stack',
      'heap',
      { start: setup.end, end: setupStackEnd },
      'from the end of setup to its initial stack pointer, heap_end_ptr',
      { inferred: true },
    );
  }
}

function addLoaderData(phase: PhaseName, facts: LayoutFacts, efiCalls: number, add: Add): void {
  add('command line', 'command-line', facts.commandLine, 'where the loader put it');
  add('initrd', 'initrd', facts.initrd, 'where the loader put it, ramdisk_image and ramdisk_size');
  if (!facts.bootParamsByLoader && !reached(phase, 'startup_32')) return;
  const source = facts.bootParamsByLoader ? 'where the loader put it' : 'RSI at startup_32; zero-page.rst';
  add('boot_params', 'boot-params', facts.bootParams, source);
  // An EFI stub makes them just before boot services go.
  const exit = facts.efi?.exitCall ?? null;
  if (exit !== null && efiCalls < exit) return;
  for (const node of facts.setupData) {
    add('setup_data', 'setup-data', node, 'the list from the setup_data field');
  }
}

function addCompressedKernel(
  phase: PhaseName,
  facts: LayoutFacts,
  inForce: readonly PageTable[],
  add: Add,
): void {
  const { loaded, started, copy, runArea } = facts;
  if (loaded === null || phase === 'boot-sector') return;
  const moved = started !== null && started.start !== loaded.start && reached(phase, 'startup_32');
  const first = moved ? started : loaded;
  const label = moved ? 'ZO moved down' : 'ZO as loaded';
  add(label, 'compressed-kernel', first, moved ? 'setup moves a zImage down' : 'where the loader put it');
  addZoParts(facts, first, label, true, add);
  const copied = copy !== null && reached(phase, 'relocated');
  if (copied) {
    add('ZO copy', 'compressed-kernel', copy, 'observed copy of the stub');
    addZoParts(facts, copy, 'ZO copy', true, add);
  }
  // bss, heap, stack and page tables belong to the ZO that runs; startup_32 builds the tables at the copy's place already,
  // where it has run.
  if (copied || (copy === null && reached(phase, 'startup_32'))) {
    addZoParts(facts, copied ? copy : first, 'ZO', false, add);
  } else if (copy !== null && reached(phase, 'startup_64')) {
    const tables = facts.zo.filter(({ name }) => name === 'page tables');
    const built = tables.some(({ start, end }) =>
      inForce.some(({ address }) => address >= copy.start + start && address < copy.start + end),
    );
    if (built) addZoParts({ ...facts, zo: tables }, copy, 'ZO', false, add);
  }
  if (runArea !== null && reached(phase, 'startup_32')) {
    const chosen = facts.output !== null && facts.output !== runArea.start && reached(phase, 'decompressed');
    add(
      chosen ? 'buffer of the stub' : 'run area',
      'buffer',
      runArea,
      'init_size bytes from the address that the kernel runs at without KASLR',
    );
  }
  if (copied && !reached(phase, 'parse_elf')) addGap(facts, copy, add);
}

/** The parts in the file are children of their ZO; the others lie behind it, with the stack and heap inside the bss. */
function addZoParts(facts: LayoutFacts, at: Extent, label: string, inFile: boolean, add: Add): void {
  const bss = facts.zo.find(({ name }) => name === 'bss');
  for (const part of facts.zo) {
    if (part.inFile !== inFile) continue;
    const inBss = bss !== undefined && part !== bss && part.start >= bss.start && part.end <= bss.end;
    const parent = inFile ? label : inBss ? 'ZO bss' : undefined;
    const name = inFile || part.name === 'bss' ? `${label} ${part.name}` : `boot ${part.name}`;
    add(
      name,
      ZO_KINDS[part.name] ?? 'stub',
      { start: at.start + part.start, end: at.start + part.end },
      part.source,
      { inferred: part.inferred, ...(parent === undefined ? {} : { parent }) },
    );
  }
}

/** How far the payload ends behind the output when it is decompressed in place: what keeps the writer behind the reader. */
function addGap(facts: LayoutFacts, copy: Extent, add: Add): void {
  const { output, outputLength } = facts;
  const payload = facts.zo.find(({ name }) => name === 'payload');
  if (output === null || outputLength === null || payload === undefined) return;
  const outputEnd = output + outputLength;
  const inPlace = output <= copy.start + payload.start && outputEnd > copy.start + payload.start;
  if (!inPlace) return;
  add(
    'in-place gap',
    'buffer',
    { start: outputEnd, end: copy.start + payload.end },
    "kept for decompressing in place: from the output's end to the payload's end",
  );
}

function addKernel(phase: PhaseName, facts: LayoutFacts, add: Add): void {
  if (reached(phase, 'decompressed') && !reached(phase, 'parse_elf')) {
    for (const piece of facts.decompressed) add(piece.name, 'kernel', piece, 'the output of the codec');
  }
  if (reached(phase, 'decompressed')) {
    add('relocation lists', 'relocations', facts.relocations, 'behind the ELF file in the output');
  }
  // A flat kernel has no parse_elf and is in its place at the jump.
  if (!reached(phase, 'parse_elf')) return;
  for (const { parent, ...part } of facts.kernelParts) {
    const kind = part.hasBytes ? 'kernel' : 'bss';
    add(part.name, kind, part, part.source, parent === undefined ? {} : { parent });
  }
}

function addRegisters(registers: LayoutRegisters, facts: LayoutFacts, add: Add): void {
  const { gdtr, idtr, mode } = registers;
  // Real mode uses no GDT, and its IDT is the IVT.
  if (mode !== 'real16') {
    const table = (name: string, base: bigint, limit: number): void =>
      add(
        `${name} in force`,
        'descriptor-table',
        { start: Number(base), end: Number(base) + limit + 1 },
        `${name}R`,
      );
    if (gdtr.limit > 0) table('GDT', gdtr.base, gdtr.limit);
    if (idtr.limit > 0) table('IDT', idtr.base, idtr.limit);
  }
  for (const run of tableRuns(registers.tables)) {
    add('page tables in force', 'page-table', run, 'walked from CR3');
  }
  addStack(registers, facts, add);
}

/** Tables that follow each other as one extent. */
function tableRuns(tables: readonly PageTable[]): readonly Extent[] {
  const runs: { start: number; end: number }[] = [];
  for (const { address, size } of tables) {
    const start = Number(address);
    const last = runs.at(-1);
    if (last !== undefined && start <= last.end) last.end = Math.max(last.end, start + size);
    else runs.push({ start, end: start + size });
  }
  return runs;
}

/** The longest stack a boot has: setup's, which may reach down through its segment. */
const MAX_STACK = 0x10000;
const MAX_POPPED = 64;

/** From the stack pointer up to where the stack began; to the end of the page where that is not known. */
function addStack(registers: LayoutRegisters, facts: LayoutFacts, add: Add): void {
  // Behind the last descriptor there is none to load: SS still is what real mode left.
  const real = registers.mode === 'real16' || Number(registers.ss & 0xfff8n) + 7 > registers.gdtr.limit;
  const start = Number(real ? (registers.ss << 4n) + (registers.rsp & 0xffffn) : registers.rsp);
  const stack = facts.zo.find(({ name }) => name === 'stack');
  const tops = [facts.started, facts.copy].map((base) =>
    base === null || stack === undefined ? null : base.start + stack.end,
  );
  const known = [facts.bootSector?.start ?? null, facts.setupStackEnd, ...tops].filter((top) => top !== null);
  // Arguments popped off an empty stack leave the pointer a little above where it began.
  if (known.some((top) => start >= top && start - top <= MAX_POPPED)) return;
  const end = known.find((top) => start < top && top - start <= MAX_STACK);
  if (end !== undefined) {
    add('stack in use', 'stack', { start, end }, 'from the stack pointer to where it began');
  } else if (start < facts.ram) {
    const page = Math.ceil(start / PAGE) * PAGE;
    add('stack in use', 'stack', { start, end: page }, 'from the stack pointer to the end of its page', {
      inferred: true,
    });
  }
}
