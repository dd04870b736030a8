// The named regions of physical memory at one phase, from what is known of image, loader, stub and registers then.

import type { MemoryRegion, PhaseName, RegionKind } from './boot-trace.ts';
import { PHASE_NAMES } from './boot-trace.ts';

/** Physical [start, end) in bytes. */
export interface Extent {
  readonly start: number;
  readonly end: number;
}

/** Offsets from the start of the protected-mode code, in bytes; null where the stub's code does not show them. */
export interface StubExtents {
  readonly bss: Extent | null;
  readonly heap: number | null;
  readonly stackEnd: number | null;
  readonly pageTable: number | null;
  /** End of the stub with everything it reserves for itself. */
  readonly end: number | null;
}

/** A part of the kernel proper at its place, by ELF section or program header. */
export interface KernelPart extends Extent {
  readonly name: string;
  readonly source: string;
}

/** Everything that the regions of a phase follow from. Addresses are physical, null means not known (yet). */
export interface LayoutFacts {
  readonly ram: number;
  readonly ebda: Extent;
  /** E820 entries that are not usable RAM. */
  readonly reserved: readonly (Extent & { readonly type: number })[];
  readonly bootSector: Extent | null;
  /** Boot sector and setup code as loaded. */
  readonly setup: Extent | null;
  /** Initial stack pointer of setup. */
  readonly setupStackEnd: number | null;
  readonly commandLine: Extent | null;
  readonly initrd: Extent | null;
  readonly bootParams: Extent | null;
  /** setup_data nodes. */
  readonly setupData: readonly Extent[];
  /** The protected-mode code as loaded, and the copy it made of itself. */
  readonly loaded: Extent | null;
  readonly copy: Extent | null;
  /** Offsets of the payload in the protected-mode code. */
  readonly payload: Extent | null;
  readonly stub: StubExtents | null;
  /** The memory the kernel needs from its run address: init_size of the header, 2.10 and later. */
  readonly initSize: number | null;
  readonly output: number | null;
  /** What was decompressed, ELF file and relocation lists; the lists alone. */
  readonly decompressed: Extent | null;
  readonly relocations: Extent | null;
  readonly kernelParts: readonly KernelPart[];
}

/** CPU registers that name memory. */
export interface LayoutRegisters {
  readonly mode: string;
  readonly ss: bigint;
  readonly rsp: bigint;
  readonly gdtr: { readonly base: bigint; readonly limit: number };
  readonly idtr: { readonly base: bigint; readonly limit: number };
}

const E820_TYPES: Readonly<Record<number, string>> = {
  2: 'reserved',
  3: 'ACPI tables',
  4: 'ACPI NVS',
  5: 'unusable',
  7: 'persistent memory',
};

function reached(phase: PhaseName, milestone: PhaseName): boolean {
  return PHASE_NAMES.indexOf(phase) >= PHASE_NAMES.indexOf(milestone);
}

/** All regions of the phase, by start address, larger ones first; overlaps are shown as they are. */
export function regionsAt(phase: PhaseName, facts: LayoutFacts, registers: LayoutRegisters): MemoryRegion[] {
  const regions: MemoryRegion[] = [];
  const add = (
    name: string,
    kind: RegionKind,
    extent: Extent | null,
    source: string,
    inferred = false,
  ): void => {
    if (extent === null || extent.end <= extent.start) return;
    regions.push({
      name,
      start: BigInt(extent.start),
      end: BigInt(extent.end),
      kind,
      source,
      ...(inferred ? { inferred } : {}),
    });
  };

  addFirmware(facts, add);
  addRealMode(phase, facts, add);
  add('command line', 'command-line', facts.commandLine, 'where the loader put it');
  add('initrd', 'initrd', facts.initrd, 'where the loader put it, ramdisk_image and ramdisk_size');
  add('boot_params', 'boot-params', facts.bootParams, 'RSI at startup_32; zero-page.rst');
  for (const node of facts.setupData)
    add('setup_data', 'setup-data', node, 'the list from the setup_data field');
  addRegisters(registers, add);
  addStack(registers, facts, add);
  addCompressedKernel(phase, facts, add);
  addKernel(phase, facts, add);
  return regions.sort((a, b) => compare(a.start, b.start) || compare(b.end, a.end));
}

type Add = (
  name: string,
  kind: RegionKind,
  extent: Extent | null,
  source: string,
  inferred?: boolean,
) => void;

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
    add(
      `E820 ${E820_TYPES[entry.type] ?? `type ${entry.type}`}`,
      'reserved',
      entry,
      `E820 entry of type ${entry.type}`,
    );
  }
}

function addRealMode(phase: PhaseName, facts: LayoutFacts, add: Add): void {
  add('boot sector', 'boot-sector', facts.bootSector, 'the BIOS loads the first sector here');
  if (phase === 'boot-sector' || facts.setup === null) return;
  add('setup', 'setup', facts.setup, 'setup_sects');
  if (phase === 'setup' && facts.setupStackEnd !== null) {
    add(
      'setup heap and stack',
      'heap',
      { start: facts.setup.end, end: facts.setupStackEnd },
      'from the end of setup to its initial stack pointer, heap_end_ptr',
    );
  }
}

function addRegisters(registers: LayoutRegisters, add: Add): void {
  const { gdtr, idtr } = registers;
  const table = (name: string, base: bigint, limit: number): void =>
    add(name, 'descriptor-table', { start: Number(base), end: Number(base) + limit + 1 }, `${name}R`);
  if (gdtr.limit > 0 && gdtr.base !== 0n) table('GDT', gdtr.base, gdtr.limit);
  if (idtr.limit > 0 && idtr.base !== 0n) table('IDT', idtr.base, idtr.limit);
}

/** From the stack pointer up to where the stack began; one page where that is not known. */
function addStack(registers: LayoutRegisters, facts: LayoutFacts, add: Add): void {
  const real = registers.mode === 'real16';
  const start = Number(real ? (registers.ss << 4n) + (registers.rsp & 0xffffn) : registers.rsp);
  const base = facts.copy?.start ?? facts.loaded?.start ?? 0;
  const ends = [facts.setupStackEnd, facts.stub?.stackEnd == null ? null : base + facts.stub.stackEnd];
  const end = ends.find(
    (candidate) => candidate !== null && start <= candidate && candidate - start <= 0x10000,
  );
  if (end !== undefined && end !== null) {
    add('stack in use', 'stack', { start, end }, 'from the stack pointer to where it began');
  } else if (start < facts.ram) {
    add(
      'stack in use',
      'stack',
      { start, end: (Math.floor(start / 0x1000) + 1) * 0x1000 },
      'the stack pointer',
      true,
    );
  }
}

function addCompressedKernel(phase: PhaseName, facts: LayoutFacts, add: Add): void {
  const { loaded, copy, payload, stub } = facts;
  if (loaded === null) return;
  const parts = (at: Extent, label: string, source: string): void => {
    add(`ZO ${label}`, 'compressed-kernel', at, source);
    if (payload === null) return;
    add(`ZO ${label} head`, 'stub', { start: at.start, end: at.start + payload.start }, 'before the payload');
    add(
      `ZO ${label} payload`,
      'payload',
      { start: at.start + payload.start, end: at.start + payload.end },
      'payload_offset and payload_length',
    );
    add(
      `ZO ${label} text and data`,
      'stub',
      { start: at.start + payload.end, end: at.end },
      'behind the payload, up to the bss',
    );
  };
  parts(loaded, 'as loaded', 'where the loader put the protected-mode code');
  if (copy !== null && reached(phase, 'relocated')) parts(copy, 'copy', 'observed copy of the stub');
  if (stub === null) return;
  const base = copy?.start ?? loaded.start;
  const from = (start: number | null, end: number | null): Extent | null =>
    start === null || end === null ? null : { start: base + start, end: base + end };
  if (stub.bss !== null && (copy === null || reached(phase, 'relocated'))) {
    add('ZO bss', 'stub', from(stub.bss.start, stub.bss.end), 'the range the stub clears');
    if (stub.heap !== null && stub.stackEnd !== null && stub.heap < stub.stackEnd) {
      add(
        'boot heap and stack',
        'heap',
        from(stub.heap, stub.stackEnd),
        'heap argument, initial stack pointer',
      );
    }
  }
  add('boot page tables', 'page-table', from(stub.pageTable, stub.end), 'what startup_32 builds, up to _end');
}

function addKernel(phase: PhaseName, facts: LayoutFacts, add: Add): void {
  const { output, initSize } = facts;
  if (output !== null && initSize !== null && reached(phase, 'startup_64')) {
    add(
      'run area',
      'buffer',
      { start: output, end: output + initSize },
      'init_size from the output: kept for decompressing in place',
    );
  }
  if (reached(phase, 'decompressed') && !reached(phase, 'parse_elf')) {
    add('decompressed ELF file', 'buffer', facts.decompressed, 'the output of the codec');
  }
  if (reached(phase, 'decompressed')) {
    add('relocation lists', 'relocations', facts.relocations, 'behind the ELF file in the output');
  }
  if (reached(phase, 'parse_elf')) {
    for (const part of facts.kernelParts) add(part.name, 'kernel', part, part.source);
  }
}
