// Which bytes of which region were lost to what was written in a phase.

import type { MemoryRegion, MemoryWrite, Overwrite, RegionKind } from './boot-trace.ts';

/** Memory that is there to be written, or that nobody reads. */
const EXPENDABLE: ReadonlySet<RegionKind> = new Set([
  'buffer',
  'bss',
  'heap',
  'stack',
  'kernel',
  'reserved',
  'video',
]);

interface Piece {
  readonly start: bigint;
  readonly end: bigint;
}

/**
 * @param before - the regions as they were when the phase began
 * @param writes - what was written in the phase, in time's order
 * @param lost - what the phases before it overwrote already: not told again
 * @returns by region, bytes told once; a region with parts is told by its parts
 */
export function findOverwrites(
  before: readonly MemoryRegion[],
  writes: readonly MemoryWrite[],
  lost: readonly Overwrite[] = [],
): readonly Overwrite[] {
  const parents = new Set(before.map(({ parent }) => parent));
  const found: Overwrite[] = [];
  for (const region of before) {
    if (EXPENDABLE.has(region.kind) || parents.has(region.name)) continue;
    for (const write of writes) {
      const start = maximum(region.start, BigInt(write.start));
      const end = minimum(region.end, BigInt(write.end));
      const known = [...lost, ...found].filter((each) => each.region === region.name);
      for (const piece of without({ start, end }, known)) {
        const { name, role } = region;
        found.push({ region: name, role, by: write.what, writer: write.role, ...piece });
      }
    }
  }
  return found;
}

export function maximum(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

export function minimum(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

function without(whole: Piece, others: readonly Piece[]): Piece[] {
  let left: Piece[] = [whole];
  for (const other of others) {
    left = left
      .flatMap((piece) => [
        { start: piece.start, end: minimum(piece.end, other.start) },
        { start: maximum(piece.start, other.end), end: piece.end },
      ])
      .filter(({ start, end }) => start < end);
  }
  return left.filter(({ start, end }) => start < end);
}
