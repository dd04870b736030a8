// Walks the page tables under CR3 in guest memory, in every paging mode a boot passes through
// (Intel SDM 3A chapter 4): none, 32-bit, PAE, 4-level and 5-level.

import { CR0_PG, CR4_LA57, CR4_PAE, CR4_PSE, EFER_LMA } from './control-registers.ts';
import type { PhysicalMemory } from './physical-memory.ts';

export type PagingMode = 'off' | '32-bit' | 'pae' | '4-level' | '5-level';

/** The registers that decide how linear addresses are translated. */
export interface PagingState {
  readonly cr0: bigint;
  readonly cr3: bigint;
  readonly cr4: bigint;
  readonly efer: bigint;
}

/** A run of linear addresses that is mapped in one piece with the same rights. */
export interface MappedRange {
  /** Linear [start, end). */
  readonly start: bigint;
  readonly end: bigint;
  /** Physical address that `start` translates to. */
  readonly physical: bigint;
  readonly writable: boolean;
  readonly user: boolean;
  /** False where the execute-disable bit is set. */
  readonly executable: boolean;
  /** Size of the pages it is made of, in bytes; the smallest where they differ. */
  readonly pageSize: number;
}

/** One table of a page table walk. */
export interface PageTable {
  /** Physical address and length in bytes. */
  readonly address: bigint;
  readonly size: number;
  /** 5 for a PML5 down to 1 for a page table. */
  readonly level: number;
}

/** All that one CR3 leads to. */
export interface PageTableWalk {
  readonly mode: PagingMode;
  /** Physical address of the root table; meaningless with paging off. */
  readonly root: bigint;
  /** 2 to 5; 0 with paging off. */
  readonly levels: number;
  /** What is mapped, by linear address; empty with paging off, where every address is its own. */
  readonly ranges: readonly MappedRange[];
  /** The tables themselves, by physical address, each once. */
  readonly tables: readonly PageTable[];
  /** True when every mapped address leads to itself, and with paging off. */
  readonly identity: boolean;
  /** True when the walk ended at its limit of tables or ranges, and there is more. */
  readonly truncated: boolean;
}

/** Where page tables lie. */
export type TableMemory = Pick<PhysicalMemory, 'contains' | 'read32' | 'read64' | 'write32' | 'write64'>;

const PRESENT = 1n;
const WRITABLE = 2n;
const USER = 4n;
const ACCESSED = 0x20n;
const DIRTY = 0x40n;
const LARGE = 0x80n;
const ADDRESS_MASK = 0x000f_ffff_ffff_f000n;

export function pagingMode(state: PagingState): PagingMode {
  if ((state.cr0 & CR0_PG) === 0n) return 'off';
  if ((state.cr4 & CR4_PAE) === 0n) return '32-bit';
  if ((state.efer & EFER_LMA) === 0n) return 'pae';
  return (state.cr4 & CR4_LA57) !== 0n ? '5-level' : '4-level';
}

interface Level {
  readonly level: number;
  /** Lowest linear address bit that this level's index is taken from. */
  readonly shift: bigint;
  readonly indexBits: bigint;
  readonly largePages: boolean;
}

interface Geometry {
  readonly levels: readonly Level[];
  readonly entrySize: 4 | 8;
  readonly linearBits: bigint;
  readonly rootMask: bigint;
}

const nine = (level: number, largePages: boolean): Level => ({
  level,
  shift: 12n + 9n * BigInt(level - 1),
  indexBits: 9n,
  largePages,
});

const PAGE_TABLE_32: Level = { level: 1, shift: 12n, indexBits: 10n, largePages: false };
const PAE_LEVELS: readonly Level[] = [
  { level: 3, shift: 30n, indexBits: 2n, largePages: false },
  nine(2, true),
  nine(1, false),
];
const FOUR_LEVELS: readonly Level[] = [nine(4, false), nine(3, true), nine(2, true), nine(1, false)];

function geometry32(largePages: boolean): Geometry {
  return {
    levels: [{ level: 2, shift: 22n, indexBits: 10n, largePages }, PAGE_TABLE_32],
    entrySize: 4,
    linearBits: 32n,
    rootMask: 0xffff_f000n,
  };
}

const GEOMETRY_32: Geometry = geometry32(false);
const GEOMETRY_32_PSE: Geometry = geometry32(true);
const GEOMETRIES: Readonly<Record<Exclude<PagingMode, 'off' | '32-bit'>, Geometry>> = {
  pae: { levels: PAE_LEVELS, entrySize: 8, linearBits: 32n, rootMask: 0xffff_ffe0n },
  '4-level': { levels: FOUR_LEVELS, entrySize: 8, linearBits: 48n, rootMask: ADDRESS_MASK },
  '5-level': {
    levels: [nine(5, false), ...FOUR_LEVELS],
    entrySize: 8,
    linearBits: 57n,
    rootMask: ADDRESS_MASK,
  },
};

function geometry(state: PagingState): Geometry | null {
  const mode = pagingMode(state);
  if (mode === 'off') return null;
  if (mode === '32-bit') return (state.cr4 & CR4_PSE) !== 0n ? GEOMETRY_32_PSE : GEOMETRY_32;
  return GEOMETRIES[mode];
}

function readEntry(memory: TableMemory, address: number, size: 4 | 8): bigint {
  if (!memory.contains(address, size)) return 0n;
  return size === 8 ? memory.read64(address) : BigInt(memory.read32(address));
}

function largeFrame(entry: bigint, level: Level, entrySize: 4 | 8): bigint {
  const pageMask = (1n << level.shift) - 1n;
  if (entrySize === 8) return entry & ADDRESS_MASK & ~pageMask;
  // PSE-36 puts address bits 32..39 into entry bits 13..20 (SDM 3A table 4-4).
  return (entry & 0xffc0_0000n) | (((entry >> 13n) & 0xffn) << 32n);
}

/** Where a linear address leads: its physical address and the size of the page it lies in, in bytes. */
interface Translation {
  readonly physical: bigint;
  readonly pageSize: bigint;
}

function lookUp(memory: TableMemory, shape: Geometry, cr3: bigint, linear: bigint): Translation | null {
  let table = cr3 & shape.rootMask;
  for (const level of shape.levels) {
    const index = (linear >> level.shift) & ((1n << level.indexBits) - 1n);
    const entry = readEntry(memory, Number(table + index * BigInt(shape.entrySize)), shape.entrySize);
    if ((entry & PRESENT) === 0n) return null;
    const pageSize = 1n << level.shift;
    const offset = linear & (pageSize - 1n);
    if (level.level === 1) return { physical: (entry & ADDRESS_MASK) + offset, pageSize };
    if (level.largePages && (entry & LARGE) !== 0n) {
      return { physical: largeFrame(entry, level, shape.entrySize) + offset, pageSize };
    }
    table = entry & ADDRESS_MASK;
  }
  return null;
}

/**
 * Translates one linear address; of those that lie outside the mode's width the upper bits do not count. Tables outside RAM
 * read as not present.
 *
 * @returns the physical address, or null where nothing is mapped
 */
export function translate(memory: PhysicalMemory, state: PagingState, linear: bigint): bigint | null {
  const shape = geometry(state);
  if (shape === null) return linear & 0xffff_ffffn;
  return lookUp(memory, shape, state.cr3, linear)?.physical ?? null;
}

/**
 * Sets what the processor sets in page tables for an access to each byte of linear [start, end), all of it mapped: accessed in
 * every entry that is used, and dirty in those of pages that are written (Intel SDM 3A 4.8).
 */
export function markUsed(
  memory: TableMemory,
  state: PagingState,
  { start, end }: { readonly start: bigint; readonly end: bigint },
  access: 'read' | 'write',
): void {
  const shape = geometry(state);
  if (shape === null) return;
  for (let linear = start; linear < end; ) {
    let table = state.cr3 & shape.rootMask;
    for (const level of shape.levels) {
      const index = (linear >> level.shift) & ((1n << level.indexBits) - 1n);
      const address = Number(table + index * BigInt(shape.entrySize));
      const entry = readEntry(memory, address, shape.entrySize);
      const isPage = level.level === 1 || (level.largePages && (entry & LARGE) !== 0n);
      // PDPTEs of PAE paging are registers (SDM 3A 4.4.1).
      if (level.indexBits !== 2n) {
        const used = entry | ACCESSED | (isPage && access === 'write' ? DIRTY : 0n);
        if (used === entry) {
          // As it is.
        } else if (shape.entrySize === 8) memory.write64(address, used);
        else memory.write32(address, Number(used));
      }
      if (isPage) {
        linear = (linear & ~((1n << level.shift) - 1n)) + (1n << level.shift);
        break;
      }
      table = entry & ADDRESS_MASK;
    }
  }
}

/** Whether every byte of linear [start, end) maps to the same physical address. */
export function isIdentityMapped(
  memory: TableMemory,
  state: PagingState,
  start: bigint,
  end: bigint,
): boolean {
  const shape = geometry(state);
  if (shape === null) return true;
  for (let linear = start; linear < end; ) {
    const found = lookUp(memory, shape, state.cr3, linear);
    if (found === null || found.physical !== linear) return false;
    linear = (linear & ~(found.pageSize - 1n)) + found.pageSize;
  }
  return true;
}

/** Tables that one walk reads, and ranges that it lists, at most: tables that point at themselves would never end. */
const MAX_TABLES = 4096;
const MAX_RANGES = 4096;

const TWO_32 = 2 ** 32;
/** Bits of the upper half of a 64-bit entry. */
const HIGH_ADDRESS_MASK = 0x000f_ffff;
const HIGH_EXECUTE_DISABLE = 0x8000_0000;

type MutableRange = { -readonly [K in keyof OpenRange]: OpenRange[K] };
/** A range while it grows. Multiples of 4096 below 2^57 are exact in a double, which makes the walk many times faster. */
interface OpenRange {
  readonly start: number;
  readonly end: number;
  readonly physical: number;
  readonly rights: number;
  readonly executable: boolean;
  readonly pageSize: number;
}

/** A level as numbers. */
interface WalkedLevel {
  readonly level: number;
  readonly largePages: boolean;
  readonly pageSize: number;
  readonly entries: number;
  readonly hasRights: boolean;
}

/** One walk. A class, since V8 would compile functions inside of a function anew for each walk. */
class Walk {
  readonly ranges: MutableRange[] = [];
  readonly tables = new Map<number, PageTable>();
  truncated = false;
  #visited = 0;
  readonly #memory: PhysicalMemory;
  readonly #levels: readonly WalkedLevel[];
  readonly #entrySize: 4 | 8;

  constructor(memory: PhysicalMemory, { levels, entrySize }: Geometry) {
    this.#memory = memory;
    this.#entrySize = entrySize;
    this.#levels = levels.map(({ level, shift, indexBits, largePages }) => ({
      level,
      largePages,
      pageSize: 2 ** Number(shift),
      entries: 2 ** Number(indexBits),
      // PDPTEs of PAE paging carry no rights of their own (SDM 3A 4.4.1).
      hasRights: !(level === 3 && indexBits === 2n),
    }));
  }

  visit(table: number, depth: number, base: number, rights: number, executable: boolean): void {
    if (this.truncated || this.#visited++ >= MAX_TABLES) {
      this.truncated = true;
      return;
    }
    const entrySize = this.#entrySize;
    const level = this.#levels[depth]!;
    const size = level.entries * entrySize;
    this.tables.set(table, { address: BigInt(table), size, level: level.level });
    const { pageSize } = level;
    const mapsPages = depth === this.#levels.length - 1;
    const available = Math.min(size, this.#memory.bytesFrom(table));
    if (available < entrySize) return;
    const view = this.#memory.dataView(table, available);
    for (let at = 0, linear = base; at + entrySize <= available; at += entrySize, linear += pageSize) {
      const low = view.getUint32(at, true);
      if ((low & 1) === 0) continue;
      const high = entrySize === 8 ? view.getUint32(at + 4, true) : 0;
      const ownRights = level.hasRights ? rights & low : rights;
      const ownExecutable = executable && (high & HIGH_EXECUTE_DISABLE) === 0;
      const address = (high & HIGH_ADDRESS_MASK) * TWO_32 + ((low & 0xffff_f000) >>> 0);
      if (mapsPages) {
        this.#add(linear, address, ownRights, ownExecutable, pageSize);
      } else if (level.largePages && (low & 0x80) !== 0) {
        // PSE-36 puts address bits 32..39 into entry bits 13..20 (SDM 3A table 4-4).
        const frame =
          entrySize === 8
            ? address - (address % pageSize)
            : ((low & 0xffc0_0000) >>> 0) + ((low >>> 13) & 0xff) * TWO_32;
        this.#add(linear, frame, ownRights, ownExecutable, pageSize);
      } else {
        this.visit(address, depth + 1, linear, ownRights, ownExecutable);
      }
    }
  }

  #add(start: number, physical: number, rights: number, executable: boolean, size: number): void {
    const { ranges } = this;
    const last = ranges.at(-1);
    if (
      last !== undefined &&
      last.end === start &&
      last.physical + (last.end - last.start) === physical &&
      last.rights === rights &&
      last.executable === executable
    ) {
      last.end = start + size;
      if (size < last.pageSize) last.pageSize = size;
    } else if (ranges.length < MAX_RANGES) {
      ranges.push({ start, end: start + size, physical, rights, executable, pageSize: size });
    } else {
      this.truncated = true;
    }
  }
}

/**
 * Everything the tables map, merged into ranges, and the tables themselves. A table that several entries share is listed
 * once; the walk ends after 4096 tables or ranges. Tables outside RAM read as empty. Upper-half linear addresses are given
 * in canonical form.
 */
export function walkPageTables(memory: PhysicalMemory, state: PagingState): PageTableWalk {
  const mode = pagingMode(state);
  const shape = geometry(state);
  if (shape === null) {
    return { mode, root: state.cr3, levels: 0, ranges: [], tables: [], identity: true, truncated: false };
  }
  const walk = new Walk(memory, shape);
  const root = state.cr3 & shape.rootMask;
  walk.visit(Number(root), 0, 0, Number(WRITABLE | USER), true);

  const canonical = (linear: number): bigint =>
    shape.linearBits > 32n && linear >= 2 ** (Number(shape.linearBits) - 1)
      ? BigInt.asUintN(64, BigInt.asIntN(Number(shape.linearBits), BigInt(linear)))
      : BigInt(linear);
  const found = splitAtHalf(walk.ranges, shape.linearBits).map(
    (range): MappedRange => ({
      start: canonical(range.start),
      end: canonical(range.start) + BigInt(range.end - range.start),
      physical: BigInt(range.physical),
      writable: (range.rights & Number(WRITABLE)) !== 0,
      user: (range.rights & Number(USER)) !== 0,
      executable: range.executable,
      pageSize: range.pageSize,
    }),
  );
  return {
    mode,
    root,
    levels: shape.levels.length,
    ranges: found,
    tables: [...walk.tables.values()].sort((a, b) => (a.address < b.address ? -1 : 1)),
    identity: found.every((range) => range.start === range.physical),
    truncated: walk.truncated,
  };
}

/** A range that crosses into the upper half is two in canonical form. */
function splitAtHalf(ranges: readonly OpenRange[], linearBits: bigint): readonly OpenRange[] {
  if (linearBits <= 32n) return ranges;
  const half = 2 ** (Number(linearBits) - 1);
  return ranges.flatMap((range) =>
    range.start < half && range.end > half
      ? [
          { ...range, end: half },
          { ...range, start: half, physical: range.physical + (half - range.start) },
        ]
      : [range],
  );
}
