import { describe, expect, it } from 'vitest';
import type { MemoryRegion, RegionKind } from '../trace/boot-trace.ts';
import { coverage, memoryAxis } from './memory-axis.ts';

const MIB = 2 ** 20;
const region = (start: number, end: number, kind: RegionKind = 'kernel'): MemoryRegion => ({
  name: 'region',
  start: BigInt(start),
  end: BigInt(end),
  kind,
  role: 'unknown',
  source: 'test',
});

describe('memoryAxis', () => {
  it('never takes more columns than there are', () => {
    for (const columns of [18, 38, 60]) {
      for (const regions of [
        [],
        [region(0, 0x400)],
        [region(MIB, 2 * MIB), region(16 * MIB, 80 * MIB), region(500 * MIB, 512 * MIB, 'reserved')],
        [region(0x10000, 0x20000, 'compressed-kernel'), region(MIB, MIB + 100)],
      ]) {
        expect(memoryAxis(regions, columns).columns).toBeLessThanOrEqual(columns);
      }
    }
  });

  it('folds long stretches without regions, and keeps the order of addresses', () => {
    const { pieces } = memoryAxis([region(500 * MIB, 510 * MIB), region(MIB, 11 * MIB)], 38);
    expect(pieces.map(({ start, end }) => [start / MIB, end / MIB])).toEqual([
      [0, 1],
      [1, 11],
      [500, 510],
    ]);
    for (const [index, piece] of pieces.slice(1).entries()) {
      expect(piece.column).toBe(pieces[index]!.column + pieces[index]!.columns + 1);
    }
  });

  it('draws what lies close together to one scale', () => {
    const { pieces } = memoryAxis([region(MIB, 10 * MIB), region(10.5 * MIB, 20 * MIB)], 38);
    expect(pieces).toHaveLength(2);
  });

  it('gives reserved memory far away no more than the least room', () => {
    const { pieces } = memoryAxis([region(MIB, MIB + 4096), region(511 * MIB, 512 * MIB, 'reserved')], 38);
    expect(pieces.at(-1)!.columns).toBe(2);
  });
});

describe('coverage', () => {
  it('says how much of each column the bytes cover', () => {
    // 8 columns for low memory, a fold, and 32 columns of 32 KiB.
    const axis = memoryAxis([region(MIB, 2 * MIB)], 8 + 1 + 32);
    expect(coverage(axis, MIB, 2 * MIB).slice(9)).toEqual(new Array(32).fill(1));
    expect(coverage(axis, MIB, MIB + 0xc000).slice(9, 12)).toEqual([1, 0.5, 0]);
    expect(coverage(axis, 0, MIB).slice(0, 10)).toEqual([1, 1, 1, 1, 1, 1, 1, 1, -1, 0]);
  });
});
