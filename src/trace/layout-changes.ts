// What a phase adds, moves, resizes and drops, compared with the regions of the phase before it.

import type { MemoryRegion } from './boot-trace.ts';

export type RegionChange = 'added' | 'moved' | 'resized' | 'same';

/** What has changed between two layouts. */
export interface LayoutChanges {
  /** By name of the later phase's regions, all of them. */
  readonly changes: ReadonlyMap<string, RegionChange>;
  /** Regions of the earlier phase that are there no more. */
  readonly removed: readonly MemoryRegion[];
}

/** Regions are the same where their names are; a resized one has another size, a moved one only another start. */
export function compareRegions(
  before: readonly MemoryRegion[],
  after: readonly MemoryRegion[],
): LayoutChanges {
  const earlier = new Map(before.map((region) => [region.name, region]));
  const changes = new Map<string, RegionChange>();
  for (const { name, start, end } of after) {
    const old = earlier.get(name);
    earlier.delete(name);
    changes.set(
      name,
      old === undefined
        ? 'added'
        : old.end - old.start !== end - start
          ? 'resized'
          : old.start !== start
            ? 'moved'
            : 'same',
    );
  }
  return { changes, removed: [...earlier.values()] };
}
