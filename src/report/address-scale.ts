// Maps physical addresses to positions in a picture and back. Every scale is a list of knots with straight lines between
// them, so that zoom, axis and drawing need not know which one they are on.

import type { ModelRange, ModelRegion } from './report-model.ts';

export const SCALE_MODES = ['folded', 'even', 'log', 'linear'] as const;
/**
 * `folded`: each occupied stretch to its own scale, what no phase uses folded away. `even`: every piece between two
 * boundaries gets room for its name. `log`: the same height for each doubling of the
 * address above 64 KiB. `linear`: true to scale.
 */
export type ScaleMode = (typeof SCALE_MODES)[number];

interface Knot {
  readonly address: number;
  /** 0 at the first knot, 1 at the last. */
  readonly unit: number;
}

export interface AddressScale {
  readonly mode: ScaleMode;
  readonly end: number;
  /** Unused stretches that are drawn as a fold. */
  readonly folds: readonly ModelRange[];
  toUnit(address: number): number;
  fromUnit(unit: number): number;
  /** The part of [0, 1] that a view begins with: for `log` and `linear` without the far reserved ranges. */
  readonly initialEnd: number;
}

const MIB = 2 ** 20;
/** Gaps at least as long as a page are folded. */
const SMALLEST_FOLD = 4096;
const FOLD_WEIGHT = 1.4;
/** Kinds that say what the machine is, not what the boot does. */
const BACKGROUND = new Set(['reserved', 'firmware', 'video']);

/** A scale for all phases at once, so that what stays in place stays in place. */
export function addressScale(mode: ScaleMode, regions: readonly ModelRegion[]): AddressScale {
  const end = Math.max(MIB, ...regions.map((region) => region.end));
  switch (mode) {
    case 'linear':
      return fromWeights(mode, [{ start: 0, end, weight: 1 }], [], interestingEnd(regions));
    case 'log':
      return fromWeights(mode, octaves(end), [], interestingEnd(regions));
    case 'folded':
      return folded(regions);
    case 'even':
      return even(regions);
  }
}

/** Behind this address there is nothing but what the machine reserves. */
function interestingEnd(regions: readonly ModelRegion[]): number {
  return Math.max(
    MIB,
    ...regions.filter((region) => !BACKGROUND.has(region.kind)).map((region) => region.end * 1.03),
  );
}

interface Piece extends ModelRange {
  readonly weight: number;
}

function fromWeights(
  mode: ScaleMode,
  pieces: readonly Piece[],
  folds: readonly ModelRange[],
  initialAddress = Number.POSITIVE_INFINITY,
): AddressScale {
  const total = pieces.reduce((sum, piece) => sum + piece.weight, 0);
  const knots: Knot[] = [{ address: pieces[0]?.start ?? 0, unit: 0 }];
  let sum = 0;
  for (const piece of pieces) {
    sum += piece.weight;
    knots.push({ address: piece.end, unit: sum / total });
  }
  return {
    mode,
    end: knots.at(-1)!.address,
    folds,
    initialEnd: interpolate(knots, initialAddress, 'address', 'unit'),
    toUnit: (address) => interpolate(knots, address, 'address', 'unit'),
    fromUnit: (unit) => interpolate(knots, unit, 'unit', 'address'),
  };
}

function interpolate(knots: readonly Knot[], value: number, from: keyof Knot, to: keyof Knot): number {
  const last = knots.length - 1;
  if (value <= knots[0]![from]) return knots[0]![to];
  if (value >= knots[last]![from]) return knots[last]![to];
  let low = 0;
  let high = last;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (knots[middle]![from] <= value) low = middle;
    else high = middle;
  }
  const a = knots[low]!;
  const b = knots[high]!;
  return a[to] + ((value - a[from]) / (b[from] - a[from])) * (b[to] - a[to]);
}

/** Below it a boot uses little: it gets the room of one doubling. */
const FIRST_OCTAVE = 0x10000;

/** The first 64 KiB, then each doubling, all of the same weight. */
function octaves(end: number): readonly Piece[] {
  const pieces: Piece[] = [{ start: 0, end: FIRST_OCTAVE, weight: 1 }];
  for (let start = FIRST_OCTAVE; start < end; start *= 2) {
    const to = Math.min(start * 2, end);
    pieces.push({ start, end: to, weight: Math.log2(to / start) });
  }
  return pieces;
}

/** Ranges in order, empty ones left out; those that overlap or are at most `gap` bytes apart become one. */
export function mergeRanges(ranges: readonly ModelRange[], gap: number): ModelRange[] {
  const merged: { start: number; end: number }[] = [];
  for (const { start, end } of ranges.toSorted((a, b) => a.start - b.start)) {
    if (end <= start) continue;
    const last = merged.at(-1);
    if (last !== undefined && start - last.end <= gap) last.end = Math.max(last.end, end);
    else merged.push({ start, end });
  }
  return merged;
}

/** What any phase uses, as stretches without holes, parted at 1 MiB where real mode's memory ends. */
function occupied(regions: readonly ModelRegion[]): ModelRange[] {
  return mergeRanges(regions, SMALLEST_FOLD - 1).flatMap((stretch) =>
    stretch.start < MIB && stretch.end > MIB
      ? [
          { start: stretch.start, end: MIB },
          { start: MIB, end: stretch.end },
        ]
      : [stretch],
  );
}

function folded(regions: readonly ModelRegion[]): AddressScale {
  const pieces: Piece[] = [];
  const folds: ModelRange[] = [];
  let at = 0;
  for (const stretch of occupied(regions)) {
    if (stretch.start > at) {
      pieces.push({ start: at, end: stretch.start, weight: FOLD_WEIGHT });
      folds.push({ start: at, end: stretch.start });
    }
    const inside = regions.filter((region) => region.start < stretch.end && region.end > stretch.start);
    const boundaries = new Set(
      inside.filter((region) => !isSection(region)).flatMap((region) => [region.start, region.end]),
    ).size;
    const background = inside.every((region) => BACKGROUND.has(region.kind));
    const size = Math.log2((stretch.end - stretch.start) / 4096 + 1);
    pieces.push({
      ...stretch,
      weight: (2 + size + 0.7 * Math.min(40, boundaries)) * (background ? 0.35 : 1),
    });
    at = stretch.end;
  }
  return fromWeights('folded', pieces, folds);
}

/** A section of the kernel's ELF, as a part of its segment: there are dozens, and no picture of the whole memory names them. */
export function isSection(region: { readonly parent?: string | null }): boolean {
  return region.parent?.startsWith('kernel segment') === true;
}

function even(regions: readonly ModelRegion[]): AddressScale {
  const drawn = regions.filter((region) => !isSection(region) && region.end > region.start);
  const boundaries = [...new Set(drawn.flatMap((region) => [region.start, region.end]))].sort(
    (a, b) => a - b,
  );
  const stretches = occupied(drawn);
  const pieces: Piece[] = [];
  const folds: ModelRange[] = [];
  let at = 0;
  for (const boundary of boundaries) {
    if (boundary <= at) continue;
    const piece = { start: at, end: boundary };
    const used = stretches.some((stretch) => stretch.start < piece.end && stretch.end > piece.start);
    if (!used && boundary - at >= SMALLEST_FOLD) folds.push(piece);
    const size = Math.log2(1 + (boundary - at) / 64);
    pieces.push({ ...piece, weight: used ? 1 + 0.22 * size : 1 });
    at = boundary;
  }
  return fromWeights('even', pieces.length > 0 ? pieces : [{ start: 0, end: MIB, weight: 1 }], folds);
}
