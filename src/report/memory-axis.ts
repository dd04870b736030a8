// A line of physical addresses with its empty stretches folded: to scale within each piece, so that a few columns show a
// kilobyte below 1 MiB and a kernel of 60 MB alike. The scales of address-scale.ts give room to names and boundaries, which
// stand in the picture there; here names stand beside the bars, and the few columns go to sizes alone.

import type { MemoryRegion } from '../trace/boot-trace.ts';
import { mergeRanges } from './address-scale.ts';
import type { ModelRange } from './report-model.ts';

/** A stretch of memory drawn to one scale, over columns [column, column + columns). */
export interface AxisPiece {
  readonly start: number;
  readonly end: number;
  readonly column: number;
  readonly columns: number;
}

export interface MemoryAxis {
  readonly pieces: readonly AxisPiece[];
  /** All columns, with one between pieces for the fold. */
  readonly columns: number;
}

const MIB = 2 ** 20;
/** Low memory has a scale of its own; where the kernel is loaded there, a larger one. */
const LOW_COLUMNS = 8;
const LOW_KERNEL_COLUMNS = 16;
const MIN_COLUMNS = 2;
/** A stretch without regions is folded when it is longer than this part of what is drawn. */
const FOLDED_PART = 1 / 8;

/** The axis that all phases share, so that what moves is seen to move. */
export function memoryAxis(regions: readonly MemoryRegion[], columns: number): MemoryAxis {
  const high = mergeRanges(
    regions
      .map(({ start, end }) => ({ start: Math.max(Number(start), MIB), end: Number(end) }))
      .filter(({ start, end }) => start < end),
    0,
  );
  const low = regions.some(({ kind, start }) => kind === 'compressed-kernel' && start < MIB)
    ? Math.min(LOW_KERNEL_COLUMNS, Math.floor(columns / 2))
    : Math.min(LOW_COLUMNS, Math.floor(columns / 4));
  const reserved = regions
    .filter(({ kind }) => kind === 'reserved')
    .map(({ start, end }) => ({ start: Number(start), end: Number(end) }));
  const isReserved = (stretch: ModelRange): boolean =>
    reserved.some(({ start, end }) => start <= stretch.start && end >= stretch.end);
  const sizeOf = (stretch: ModelRange): number => (isReserved(stretch) ? 0 : stretch.end - stretch.start);
  const drawn = high.reduce((sum, stretch) => sum + sizeOf(stretch), 0);
  const stretches = mergeRanges(high, drawn * FOLDED_PART);
  const folds = stretches.length;
  const room = columns - low - folds;
  const total = stretches.reduce((sum, stretch) => sum + sizeOf(stretch), 0);
  const widths = stretches.map((stretch) =>
    Math.max(MIN_COLUMNS, Math.floor((sizeOf(stretch) / Math.max(1, total)) * room)),
  );
  // What rounding leaves, or what the narrow ones took, the widest makes up for.
  const widest = widths.indexOf(Math.max(...widths));
  const rest = room - widths.reduce((sum, width) => sum + width, 0);
  if (widest >= 0) widths[widest] = Math.max(MIN_COLUMNS, widths[widest]! + rest);
  const pieces: AxisPiece[] = [{ start: 0, end: MIB, column: 0, columns: low }];
  let column = low;
  for (const [index, { start, end }] of stretches.entries()) {
    // Memory that goes on from 1 MiB is not folded, but has another scale: that needs the mark as well.
    column += 1;
    pieces.push({ start, end, column, columns: widths[index]! });
    column += widths[index]!;
  }
  return { pieces, columns: column };
}

/**
 * How much of each column the bytes [start, end) cover, 0 to 1; -1 for the columns of folds.
 */
export function coverage(axis: MemoryAxis, start: number, end: number): number[] {
  const cover = new Array<number>(axis.columns).fill(-1);
  for (const piece of axis.pieces) {
    const bytes = (piece.end - piece.start) / piece.columns;
    for (let index = 0; index < piece.columns; index++) {
      const from = piece.start + index * bytes;
      const covered = Math.min(end, from + bytes) - Math.max(start, from);
      cover[piece.column + index] = Math.max(0, covered / bytes);
    }
  }
  return cover;
}
