import { describe, expect, it } from 'vitest';
import type { EfiMemoryType } from '../../protocol/efi-tables.ts';
import { ovmfMemoryMap } from './ovmf-map.ts';
import { PageAllocator } from './page-allocator.ts';
import { PoolAllocator } from './pool-allocator.ts';

const MIB = 2 ** 20;

type Call =
  | ['pages', 'MaxAddress' | 'Address', EfiMemoryType, pages: number, address: number, result: number]
  | ['pool', EfiMemoryType, size: number, result: number]
  | ['free', address: number]
  | ['stated', entries: number, key: number]
  | ['map', entries: number, key: number];

/** What the stub of Debian's 6.12.117 asked for, and OVMF 2022.11 answered, at 512 MiB. */
const RECORDED_6_12: readonly Call[] = [
  ['pages', 'MaxAddress', 'LoaderData', 1, Number.MAX_SAFE_INTEGER, 0x1da67000],
  ['pool', 'LoaderData', 0x16, 0x1da66018],
  ['pool', 'LoaderData', 0x16, 0x1da66f18],
  ['free', 0x1da66f18],
  ['stated', 0x7e, 0x771],
  ['pool', 'LoaderData', 0x1dc8, 0x1da63018],
  ['map', 0x78, 0x772],
  ['pages', 'Address', 'LoaderCode', 0x3800, 0x1600000, 0x1600000],
  ['free', 0x1da63018],
  ['pool', 'LoaderData', 0x10, 0x1da66f18],
  ['free', 0x1da66f18],
  ['pool', 'LoaderData', 0x28, 0x1da66f18],
  ['pool', 'LoaderData', 0x9c40, 0x1d9b0018],
  ['free', 0x1da66f18],
  ['stated', 0x81, 0x775],
  ['pool', 'LoaderData', 0x1e58, 0x1da63018],
  // A page for the firmware's own list came with it.
  ['map', 0x7c, 0x777],
  ['pool', 'LoaderData', 0x240, 0x1da66b18],
  ['free', 0x1da63018],
  ['stated', 0x83, 0x778],
  ['pool', 'AcpiReclaim', 0x1eb8, 0x1f774018],
  ['map', 0x7c, 0x779],
];

function allocators(
  memory: number,
  fileSize: number,
  imageSize: number,
): { pages: PageAllocator; pool: PoolAllocator } {
  const pages = new PageAllocator(ovmfMemoryMap(memory, { fileSize, imageSize }).map);
  const pool = new PoolAllocator({
    allocate: (type, count) => pages.allocate({ kind: 'AnyPages' }, type, count),
    free: (address, count) => void pages.free(address, count),
  });
  return { pages, pool };
}

describe('the memory map of OVMF', () => {
  it('has the image where OVMF puts it, at several amounts of RAM', () => {
    const base = (memory: number, fileSize: number, imageSize: number): number | null =>
      ovmfMemoryMap(memory, { fileSize, imageSize }).imageBase;
    expect(base(512 * MIB, 0xb86200, 0xbec000)).toBe(0x1c23a000);
    expect(base(512 * MIB, 0x7dd200, 0x822000)).toBe(0x1cd56000);
    expect(base(256 * MIB, 0xd87200, 0xdcc000)).toBe(0xbc58000);
    expect(base(512 * MIB, 0xd87200, 0xdcc000)).toBe(0x1bc58000);
    expect(base(2048 * MIB, 0xd87200, 0xdcc000)).toBe(0x7bc58000);
    expect(base(6144 * MIB, 0xb86200, 0xbec000)).toBe(0xbc23a000);
  });

  it('puts an image that is too large for the highest free block below it', () => {
    expect(ovmfMemoryMap(512 * MIB, { fileSize: 0xb93f00, imageSize: 0x2f5e000 }).imageBase).toBe(0x18c17000);
  });

  it('covers all RAM without gaps or overlaps, but for the hole below 1 MiB', () => {
    for (const memory of [128 * MIB, 512 * MIB, 3500 * MIB, 6144 * MIB]) {
      const { map } = ovmfMemoryMap(memory, { fileSize: 0xb86200, imageSize: 0xbec000 });
      const ram = map.filter(({ type }) => type !== 'Mmio');
      expect(ram.reduce((sum, { start, end }) => sum + end - start, 0)).toBe(memory - 0x60000);
      const sorted = map.toSorted((a, b) => a.start - b.start);
      for (const [index, { start }] of sorted.entries())
        expect(start).toBeGreaterThanOrEqual(sorted[index - 1]?.end ?? 0);
    }
  });
});

describe('allocating as OVMF does', () => {
  it('answers every call of a recorded boot with the recorded address, size and key', () => {
    const { pages, pool } = allocators(512 * MIB, 0xb86200, 0xbec000);
    for (const [index, call] of RECORDED_6_12.entries()) {
      const note = `call ${index}: ${call.join(' ')}`;
      if (call[0] === 'pages') {
        const [, kind, type, count, address, result] = call;
        expect(pages.allocate({ kind, address }, type, count), note).toBe(result);
      } else if (call[0] === 'pool') expect(pool.allocate(call[1], call[2]), note).toBe(call[3]);
      else if (call[0] === 'free') expect(pool.free(call[1]), note).toBe(true);
      else if (call[0] === 'stated')
        expect([pages.statedEntries, pages.mapKey], note).toEqual([call[1], call[2]]);
      else expect([pages.describe().length, pages.mapKey], note).toEqual([call[1], call[2]]);
    }
  });

  it('shows a bin whole, however much of it is in use', () => {
    const { pages } = allocators(512 * MIB, 0xb86200, 0xbec000);
    const before = pages.describe().find(({ type }) => type === 'AcpiReclaim');
    pages.allocate({ kind: 'AnyPages' }, 'AcpiReclaim', 4);
    expect(pages.describe().find(({ type }) => type === 'AcpiReclaim')).toEqual(before);
  });

  it('refuses what does not fit, what is taken, and freeing what nobody has', () => {
    const { pages, pool } = allocators(512 * MIB, 0xb86200, 0xbec000);
    expect(pages.allocate({ kind: 'AnyPages' }, 'LoaderData', 0x20000)).toBeNull();
    expect(pages.allocate({ kind: 'Address', address: 0x900000 }, 'LoaderData', 1)).toBeNull();
    expect(pages.allocate({ kind: 'MaxAddress', address: 0xfff }, 'LoaderData', 1)).toBeNull();
    expect(pages.free(0x2000000, 1)).toBe(false);
    expect(pool.free(0x2000018)).toBe(false);
  });

  it('takes the highest page below a limit', () => {
    const { pages } = allocators(512 * MIB, 0xb86200, 0xbec000);
    expect(pages.allocate({ kind: 'MaxAddress', address: 0xffff }, 'LoaderData', 1)).toBe(0xf000);
    expect(pages.allocate({ kind: 'MaxAddress', address: 0x10000 }, 'LoaderData', 1)).toBe(0xe000);
  });

  it('gives a page back once every block of it is free', () => {
    const { pages, pool } = allocators(512 * MIB, 0xb86200, 0xbec000);
    const map = pages.describe();
    const blocks = [16, 200, 1000, 16].map((size) => pool.allocate('LoaderData', size)!);
    expect(pages.describe()).not.toEqual(map);
    for (const block of blocks) pool.free(block);
    expect(pages.describe()).toEqual(map);
  });
});
