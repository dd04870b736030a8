// What lies in memory, recorded as it comes and goes: who put what where, from when on, until when. The layout of a moment is what
// lies there then, with what the CPU's registers name.

import type { PageTable } from '../x86/page-tables.ts';
import type { MemoryRegion } from './boot-trace.ts';

/** Physical [start, end) in bytes. */
export interface Extent {
  readonly start: number;
  readonly end: number;
}

/** What is said of something that is put into memory; as `MemoryRegion` says it. */
export type PlacedThing = Extent &
  Omit<MemoryRegion, 'start' | 'end' | 'since'> & {
    /** For `end`: things of one group go together. */
    readonly group?: string;
  };

/** A moment in the order of a boot: how many phases had begun, and how many instructions were executed. */
export interface Moment {
  readonly phases: number;
  readonly instructions: number | null;
}

interface Placement {
  readonly thing: PlacedThing;
  readonly from: Moment;
  until: Moment | null;
}

export class Placements {
  readonly #now: () => Moment;
  readonly #all: Placement[] = [];

  /** @param now - when something is placed or goes */
  constructor(now: () => Moment) {
    this.#now = now;
  }

  /** What lies and lay in another one, in place of what does here. */
  copyFrom(other: Placements): void {
    this.#all.splice(0, this.#all.length, ...other.#all.map((placement) => ({ ...placement })));
  }

  /** Something lies there from now on; nothing does where it is empty or not known. */
  add(extent: Extent | null, thing: Omit<PlacedThing, 'start' | 'end'>): void {
    if (extent === null || extent.end <= extent.start) return;
    const { start, end } = extent;
    this.#all.push({ thing: { ...thing, start, end }, from: this.#now(), until: null });
  }

  /** What `gone` tells is there no more from now on: overwritten, freed, or of no use. */
  end(gone: (thing: PlacedThing) => boolean): void {
    for (const placement of this.#all) {
      if (placement.until === null && gone(placement.thing)) placement.until = this.#now();
    }
  }

  /** What lies there now. */
  get present(): readonly PlacedThing[] {
    return this.#all.filter(({ until }) => until === null).map(({ thing }) => thing);
  }

  /**
   * What lay there as the phase began, as regions in the order in which they came.
   * @param phase - its place among the phases; their number for what lies there now
   */
  at(phase: number): MemoryRegion[] {
    return this.#all
      .filter(({ from, until }) => from.phases <= phase && (until === null || until.phases > phase))
      .map(({ thing, from }) => {
        const { start, end, group: _, ...rest } = thing;
        return { ...rest, start: BigInt(start), end: BigInt(end), since: from.instructions };
      });
  }
}

/**
 * All regions of a moment, by start address, larger ones first; overlaps are shown as they are, names are made unique.
 * @param ofFirmware - what firmware keeps a log of itself
 */
export function layoutAt(
  placements: Placements,
  phase: number,
  registers: LayoutRegisters,
  stacks: StackTops,
  ofFirmware: readonly MemoryRegion[] = [],
): MemoryRegion[] {
  const names = new Set<string>();
  return [...ofFirmware, ...placements.at(phase), ...registerRegions(registers, stacks)]
    .map((region) => {
      let { name } = region;
      for (let number = 2; names.has(name); number++) name = `${region.name} ${number}`;
      names.add(name);
      return { ...region, name };
    })
    .sort((a, b) => compare(a.start, b.start) || compare(b.end, a.end));
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** CPU registers that name memory, and the page tables that they lead to. */
export interface LayoutRegisters {
  readonly mode: string;
  readonly ss: bigint;
  readonly rsp: bigint;
  readonly gdtr: { readonly base: bigint; readonly limit: number };
  readonly idtr: { readonly base: bigint; readonly limit: number };
  readonly tables: readonly PageTable[];
}

/** Where the stacks of a boot begin, upper ends, and where RAM does. */
export interface StackTops {
  readonly tops: readonly number[];
  readonly ram: number;
}

function registerRegions(registers: LayoutRegisters, stacks: StackTops): MemoryRegion[] {
  const { gdtr, idtr, mode } = registers;
  const regions: MemoryRegion[] = [];
  const add = (
    extent: Extent,
    name: string,
    rest: Pick<MemoryRegion, 'kind' | 'role' | 'source'> & Partial<MemoryRegion>,
  ): void => {
    if (extent.end > extent.start) {
      regions.push({ name, start: BigInt(extent.start), end: BigInt(extent.end), by: 'cpu', ...rest });
    }
  };
  // Real mode uses no GDT, and its IDT is the IVT.
  if (mode !== 'real16') {
    for (const [name, role, { base, limit }] of [
      ['GDT', 'gdt', gdtr],
      ['IDT', 'idt', idtr],
    ] as const) {
      if (limit === 0) continue;
      const extent = { start: Number(base), end: Number(base) + limit + 1 };
      add(extent, `${name} in force`, { kind: 'descriptor-table', role, source: `${name}R` });
    }
  }
  for (const run of tableRuns(registers.tables)) {
    add(run, 'page tables in force', {
      ...{ kind: 'page-table', role: 'page-tables', source: 'walked from CR3' },
    });
  }
  const stack = stackInUse(registers, stacks);
  if (stack !== null) {
    const { known, ...extent } = stack;
    add(extent, 'stack in use', {
      ...{ kind: 'stack', role: 'stack' },
      source: `from the stack pointer to ${known ? 'where it began' : 'the end of its page'}`,
      ...(known ? {} : { inferred: true }),
    });
  }
  return regions;
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

const PAGE = 0x1000;
/** The longest stack a boot has: setup's, which may reach down through its segment. */
const MAX_STACK = 0x10000;
const MAX_POPPED = 64;

/** From the stack pointer up to where the stack began; to the end of the page where that is not known. */
function stackInUse(
  registers: LayoutRegisters,
  { tops, ram }: StackTops,
): (Extent & { known: boolean }) | null {
  // Behind the last descriptor there is none to load: SS still is what real mode left.
  const real = registers.mode === 'real16' || Number(registers.ss & 0xfff8n) + 7 > registers.gdtr.limit;
  const start = Number(real ? (registers.ss << 4n) + (registers.rsp & 0xffffn) : registers.rsp);
  // Arguments popped off an empty stack leave the pointer a little above where it began.
  if (tops.some((top) => start >= top && start - top <= MAX_POPPED)) return null;
  const end = tops.find((top) => start < top && top - start <= MAX_STACK);
  if (end !== undefined) return { start, end, known: true };
  return start < ram ? { start, end: Math.ceil(start / PAGE) * PAGE, known: false } : null;
}
