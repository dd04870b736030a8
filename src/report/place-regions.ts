// Where each region is drawn: regions that share addresses stand side by side in lanes, so that an overlap is seen as one;
// and where their labels go, so that no two labels touch.

import type { AddressScale } from './address-scale.ts';
import type { ModelRange, ModelRegion } from './report-model.ts';

/** The part of a scale that is seen, in units of [0, 1]. */
export interface ScaleView {
  readonly from: number;
  readonly to: number;
}

export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export interface PlacedRegion extends Box {
  readonly region: ModelRegion;
}

/** Drawn at least this high, in pixels, however small. */
const THINNEST = 2;

export function yOf(address: number, scale: AddressScale, view: ScaleView, area: Box): number {
  return area.y + ((scale.toUnit(address) - view.from) / (view.to - view.from)) * area.height;
}

/** The part of a range that is in view, at least 2 pixels high; null where it is out of view. */
export function extentOf(
  range: ModelRange,
  scale: AddressScale,
  view: ScaleView,
  area: Box,
): { readonly y: number; readonly height: number } | null {
  const top = yOf(range.start, scale, view, area);
  const bottom = yOf(range.end, scale, view, area);
  const end = area.y + area.height;
  if (bottom < area.y || top > end || range.end <= range.start) return null;
  const y = Math.min(Math.max(top, area.y), end - THINNEST);
  return { y, height: Math.max(THINNEST, Math.min(bottom, end) - y) };
}

/** Boxes of the regions in view, inside `area`; parts too thin to be seen are left out. */
export function placeRegions(
  regions: readonly ModelRegion[],
  scale: AddressScale,
  view: ScaleView,
  area: Box,
): readonly PlacedRegion[] {
  const placed: PlacedRegion[] = [];
  for (const cluster of clusters(regions)) {
    const lanes = assignLanes(cluster);
    const count = Math.max(...lanes.values()) + 1;
    const edges = laneEdges(cluster, lanes, count, area);
    for (const region of cluster) {
      const extent = extentOf(region, scale, view, area);
      if (extent === null) continue;
      const exact =
        ((scale.toUnit(region.end) - scale.toUnit(region.start)) / (view.to - view.from)) * area.height;
      if (exact < 0.4 && region.parent !== null && region.change === 'same') continue;
      const lane = lanes.get(region)!;
      const span = freeLanes(region, lane, count, cluster, lanes);
      placed.push({ region, x: edges[lane]!, width: edges[lane + span]! - edges[lane]!, ...extent });
    }
  }
  return placed;
}

function overlaps(a: ModelRange, b: ModelRange): boolean {
  return a.start < b.end && b.start < a.end;
}

/** Groups of regions that are joined by overlaps, directly or through others. */
function clusters(regions: readonly ModelRegion[]): ModelRegion[][] {
  const groups: ModelRegion[][] = [];
  let end = -1;
  for (const region of sorted(regions)) {
    if (region.start >= end) groups.push([]);
    groups.at(-1)!.push(region);
    end = Math.max(end, region.end);
  }
  return groups;
}

/** By start, larger first: what holds another comes before it. */
function sorted(regions: readonly ModelRegion[]): ModelRegion[] {
  return regions
    .filter((region) => region.end > region.start)
    .sort((a, b) => a.start - b.start || b.end - a.end);
}

function assignLanes(cluster: readonly ModelRegion[]): Map<ModelRegion, number> {
  const lanes = new Map<ModelRegion, number>();
  const ends: number[] = [];
  const laneOf = new Map<string, number>();
  for (const region of cluster) {
    const first = region.parent === null ? 0 : (laneOf.get(region.parent) ?? -1) + 1;
    let lane = first;
    while ((ends[lane] ?? 0) > region.start) lane++;
    for (let skipped = ends.length; skipped < lane; skipped++) ends[skipped] = 0;
    ends[lane] = region.end;
    lanes.set(region, lane);
    laneOf.set(region.name, lane);
  }
  return lanes;
}

/** A lane that holds nothing but buffers, which other regions fill, is narrow. */
const BUFFER_LANE = 0.3;

/** Left edges of the lanes, and behind them the right edge of the last. */
function laneEdges(
  cluster: readonly ModelRegion[],
  lanes: ReadonlyMap<ModelRegion, number>,
  count: number,
  area: Box,
): readonly number[] {
  const weights = Array.from({ length: count }, (_, lane) =>
    cluster.every((region) => lanes.get(region) !== lane || region.kind === 'buffer') && count > 1
      ? BUFFER_LANE
      : 1,
  );
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const edges = [area.x];
  for (const weight of weights) edges.push(edges.at(-1)! + (weight / total) * area.width);
  return edges;
}

/** How many lanes to the right, its own included, a region may take without covering another. */
function freeLanes(
  region: ModelRegion,
  lane: number,
  count: number,
  cluster: readonly ModelRegion[],
  lanes: ReadonlyMap<ModelRegion, number>,
): number {
  let limit = count;
  for (const other of cluster) {
    const at = lanes.get(other)!;
    if (at > lane && at < limit && overlaps(region, other)) limit = at;
  }
  return limit - lane;
}

export interface LabelWish<T> {
  readonly item: T;
  /** Where its middle would like to be. */
  readonly y: number;
  /** Higher ones stay when there is no room for all. */
  readonly rank: number;
}

export interface PlacedLabel<T> {
  readonly item: T;
  readonly wished: number;
  /** Middle of the label. */
  readonly y: number;
}

/**
 * Puts labels of one height below each other in [top, bottom], each as near to its wish as the others allow. What does not
 * fit is left out, by rank.
 */
export function placeLabels<T>(
  wishes: readonly LabelWish<T>[],
  top: number,
  bottom: number,
  height: number,
): readonly PlacedLabel<T>[] {
  const room = Math.max(0, Math.floor((bottom - top) / height));
  const kept = [...wishes]
    .sort((a, b) => b.rank - a.rank)
    .slice(0, room)
    .sort((a, b) => a.y - b.y);
  // Neighbours that would touch join into a block whose middle is the mean of what its members wish.
  const blocks: { items: LabelWish<T>[]; start: number }[] = [];
  const settle = (items: readonly LabelWish<T>[]): number => {
    const mean = items.reduce((sum, wish, index) => sum + wish.y - (index + 0.5) * height, 0) / items.length;
    return Math.min(Math.max(mean, top), bottom - items.length * height);
  };
  for (const wish of kept) {
    let block = { items: [wish], start: settle([wish]) };
    for (
      let last = blocks.at(-1);
      last !== undefined && last.start + last.items.length * height > block.start;
      last = blocks.at(-1)
    ) {
      blocks.pop();
      const items = [...last.items, ...block.items];
      block = { items, start: settle(items) };
    }
    blocks.push(block);
  }
  return blocks.flatMap((block) =>
    block.items.map((wish, index) => ({
      item: wish.item,
      wished: wish.y,
      y: block.start + (index + 0.5) * height,
    })),
  );
}
