import { describe, expect, it } from 'vitest';
import type { MemoryRegion } from './boot-trace.ts';
import { compareRegions } from './layout-changes.ts';

const region = (name: string, start: bigint, end: bigint): MemoryRegion => ({
  name,
  start,
  end,
  kind: 'stub',
  role: 'unknown',
  source: 'test',
});

describe('compareRegions', () => {
  it('tells what was added, moved, resized, kept and dropped', () => {
    const before = [
      region('kept', 0n, 1n),
      region('moved', 2n, 3n),
      region('grown', 4n, 5n),
      region('both', 4n, 5n),
      region('gone', 6n, 7n),
    ];
    const after = [
      region('kept', 0n, 1n),
      region('moved', 3n, 4n),
      region('grown', 4n, 9n),
      region('both', 5n, 9n),
      region('new', 8n, 9n),
    ];
    const { changes, removed } = compareRegions(before, after);
    expect(Object.fromEntries(changes)).toEqual({
      kept: 'same',
      moved: 'moved',
      grown: 'resized',
      both: 'resized',
      new: 'added',
    });
    expect(removed.map(({ name }) => name)).toEqual(['gone']);
  });
});
