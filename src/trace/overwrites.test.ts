import { describe, expect, it } from 'vitest';
import type { MemoryRegion } from './boot-trace.ts';
import { findOverwrites } from './overwrites.ts';

function region(name: string, start: number, end: number, rest: Partial<MemoryRegion> = {}): MemoryRegion {
  return {
    name,
    start: BigInt(start),
    end: BigInt(end),
    kind: 'payload',
    role: 'payload',
    source: 'test',
    ...rest,
  };
}

const write = (start: number, end: number, what = 'the kernel') =>
  ({ start, end, role: 'decompressed', what, during: 0 }) as const;

describe('findOverwrites', () => {
  it('tells the bytes that region and write share', () => {
    expect(findOverwrites([region('payload', 0x100, 0x200)], [write(0x80, 0x180)])).toEqual([
      {
        ...{ region: 'payload', role: 'payload', by: 'the kernel', writer: 'decompressed' },
        ...{ start: 0x100n, end: 0x180n },
      },
    ]);
  });

  it('tells nothing of regions that end where a write begins', () => {
    expect(findOverwrites([region('payload', 0x100, 0x200)], [write(0x200, 0x300)])).toEqual([]);
  });

  it('tells each byte once, of the first that wrote it', () => {
    const lost = findOverwrites([region('a', 0, 0x100)], [write(0x20, 0x40, 'x'), write(0x10, 0x60, 'y')]);
    expect(lost.map(({ by, start, end }) => [by, start, end])).toEqual([
      ['x', 0x20n, 0x40n],
      ['y', 0x10n, 0x20n],
      ['y', 0x40n, 0x60n],
    ]);
  });

  it('leaves out what an earlier phase has overwritten', () => {
    const before = [
      { region: 'a', role: 'payload', by: 'x', writer: 'segment', start: 0n, end: 0x80n },
    ] as const;
    expect(findOverwrites([region('a', 0, 0x100)], [write(0, 0x100)], before)).toMatchObject([
      { start: 0x80n, end: 0x100n },
    ]);
  });

  it('tells of the parts of a region instead of the whole', () => {
    const regions = [region('ZO', 0, 0x100), region('head', 0, 0x10, { parent: 'ZO' })];
    expect(findOverwrites(regions, [write(0, 0x100)]).map(({ region: name }) => name)).toEqual(['head']);
  });

  it('does not mourn memory that is there to be written', () => {
    const regions = [region('run area', 0, 0x100, { kind: 'buffer' }), region('bss', 0, 9, { kind: 'bss' })];
    expect(findOverwrites(regions, [write(0, 0x100)])).toEqual([]);
  });
});
