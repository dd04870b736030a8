// The parts of ZO by the sections and symbols of its own ELF file (arch/x86/boot/compressed/vmlinux), where somebody has it:
// exact where the image alone leaves bounds to be deduced.

import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import { type ElfFile, type ElfSection, readElfSymbols, SHF_ALLOC, SHT_NOBITS } from '../image/elf.ts';
import type { BootTrace, MemoryRegion, Phase, RegionKind, RegionRole } from './boot-trace.ts';

/** Section names of all generations, and what the regions are called. */
const PARTS: ReadonlyMap<string, readonly [name: string, kind: RegionKind]> = new Map([
  ['.head.text', ['head', 'stub']],
  ['.text.head', ['head', 'stub']],
  ['.rodata..compressed', ['payload', 'payload']],
  ['.rodata.compressed', ['payload', 'payload']],
  ['.data.compressed', ['payload', 'payload']],
  ['.text', ['text', 'stub']],
  ['.rodata', ['rodata', 'stub']],
  ['.data', ['data', 'stub']],
]);
/** What the stub has set up behind its bytes. */
const RUNNING: ReadonlySet<RegionRole> = new Set(['zo-bss', 'boot-heap', 'boot-stack', 'boot-page-tables']);

/**
 * The same trace with the regions of ZO as its ELF file has them.
 *
 * @param zo - arch/x86/boot/compressed/vmlinux of the image that was booted
 * @throws BootscopeError `trace-zo-vmlinux` where the file is of another image
 */
export function nameStubSections(trace: BootTrace, zo: ElfFile): BootTrace {
  const sections = sectionsInMemory(zo);
  const base = stubBase(zo);
  const extent = ({ address, size }: ElfSection, at: bigint) => ({
    start: at + address - base,
    end: at + address - base + size,
  });
  checkPayload(trace, sections, base);
  const running = runningParts(zo, sections, base);
  const phases = trace.phases.map((phase): Phase => {
    const wholes = phase.regions.filter(({ role }) => role === 'zo');
    // What runs is the copy once there is one.
    const runs = wholes.find(({ zo }) => zo === 'copy') ?? wholes[0];
    if (runs === undefined) return phase;
    const shown = phase.regions.filter(({ role }) => RUNNING.has(role));
    const copied = runs.zo === 'copy';
    const names = new Set(wholes.map(({ name }) => name));
    const kept = phase.regions.filter(
      ({ role, parent }) => !(parent !== undefined && names.has(parent)) && !RUNNING.has(role),
    );
    const parts = wholes.flatMap((whole) =>
      sections
        .filter(({ type }) => type !== SHT_NOBITS)
        .map((section): MemoryRegion => {
          const [name, kind] = PARTS.get(section.name) ?? [section.name, 'stub'];
          const source = `ELF section ${section.name} of the stub`;
          return {
            name: `${whole.name} ${name}`,
            ...extent(section, whole.start),
            kind,
            role: kind === 'payload' ? 'payload' : 'stub',
            ...(whole.by === undefined ? {} : { by: whole.by }),
            ...(whole.zo === undefined ? {} : { zo: whole.zo }),
            source,
            parent: whole.name,
          };
        }),
    );
    const exact = shown.flatMap((region): MemoryRegion[] => {
      const part = running.get(region.role);
      if (part === undefined) return [region];
      const { inferred: _, ...rest } = region;
      // startup_32 builds page tables at the place of the copy before that is made.
      const elsewhere = region.role === 'boot-page-tables' && !copied;
      const at = elsewhere ? region.start - part.start : runs.start;
      return [{ ...rest, start: at + part.start, end: at + part.end, source: part.source }];
    });
    return { ...phase, regions: sorted([...kept, ...parts, ...exact]) };
  });
  return { ...trace, phases };
}

function sectionsInMemory(zo: ElfFile): readonly ElfSection[] {
  return zo.sections.filter(({ flags, size }) => (flags & BigInt(SHF_ALLOC)) !== 0n && size > 0n);
}

/**
 * The address that the beginning of the protected-mode code is linked at: 0, in older kernels where they are loaded.
 * @param zo - arch/x86/boot/compressed/vmlinux
 */
export function stubBase(zo: ElfFile): bigint {
  const first = sectionsInMemory(zo)[0];
  if (first === undefined) {
    throw new BootscopeError('trace-zo-vmlinux', "the stub's ELF file has no sections");
  }
  return first.address;
}

function sorted(regions: readonly MemoryRegion[]): readonly MemoryRegion[] {
  return regions.toSorted((a, b) => {
    if (a.start !== b.start) return a.start < b.start ? -1 : 1;
    return a.end === b.end ? 0 : a.end > b.end ? -1 : 1;
  });
}

/** The file must put the payload where the image has it. */
function checkPayload(trace: BootTrace, sections: readonly ElfSection[], base: bigint): void {
  const payload = sections.find(({ name }) => PARTS.get(name)?.[0] === 'payload');
  for (const { regions } of trace.phases) {
    const whole = regions.find(({ role }) => role === 'zo');
    const inImage = regions.find(({ role, parent }) => role === 'payload' && parent === whole?.name);
    if (whole === undefined || inImage === undefined) continue;
    const expected = inImage.start - whole.start;
    const length = inImage.end - inImage.start;
    if (payload !== undefined && payload.address - base === expected && payload.size === length) return;
    const has =
      payload === undefined
        ? 'none'
        : `${hex(payload.size)} bytes at 0x${(payload.address - base).toString(16)}`;
    throw new BootscopeError(
      'trace-zo-vmlinux',
      `the stub's ELF file is of another image: its payload is ${has}, the image's ${hex(length)} bytes at ` +
        `${hex(expected)}`,
    );
  }
}

interface RunningPart {
  /** Offsets from the start of ZO. */
  readonly start: bigint;
  readonly end: bigint;
  readonly source: string;
}

/** bss and page tables by section, heap and stack by symbol. */
function runningParts(
  zo: ElfFile,
  sections: readonly ElfSection[],
  base: bigint,
): ReadonlyMap<RegionRole, RunningPart> {
  const parts = new Map<RegionRole, RunningPart>();
  for (const [role, section] of [
    ['zo-bss', '.bss'],
    ['boot-page-tables', '.pgtable'],
  ] as const) {
    const found = sections.find((each) => each.name === section);
    if (found === undefined) continue;
    const start = found.address - base;
    parts.set(role, { start, end: start + found.size, source: `ELF section ${section} of the stub` });
  }
  const symbols = new Map(readElfSymbols(zo).map((symbol) => [symbol.name, symbol]));
  const heap = symbols.get('boot_heap');
  const stack = symbols.get('boot_stack');
  const stackEnd = symbols.get('boot_stack_end');
  // In assembly the labels have no size; the stack follows the heap there.
  const heapEnd = heap === undefined ? undefined : heap.size > 0n ? heap.value + heap.size : stack?.value;
  if (heap !== undefined && heapEnd !== undefined) {
    parts.set('boot-heap', { start: heap.value - base, end: heapEnd - base, source: 'symbol boot_heap' });
  }
  if (stack !== undefined && stackEnd !== undefined) {
    parts.set('boot-stack', {
      start: stack.value - base,
      end: stackEnd.value - base,
      source: 'symbols boot_stack and boot_stack_end',
    });
  }
  return parts;
}
