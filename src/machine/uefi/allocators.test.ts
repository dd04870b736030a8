import { describe, expect, it } from 'vitest';
import type { EfiMemoryType } from '../../protocol/efi-tables.ts';
import { ovmfMemoryMap } from './ovmf-map.ts';
import { type AllocatorState, findBins, PageAllocator } from './page-allocator.ts';
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
      expect(map.filter(({ start, end }) => start >= end)).toEqual([]);
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

describe('a map of one’s own', () => {
  const RUNTIME = 1n << 63n;
  const at = (start: number, end: number, type: EfiMemoryType, attributes = 15n) => ({
    ...{ start, end, type, attributes },
  });
  const MAP = [
    at(0x0, 0x8000, 'Conventional'),
    at(0x10000, 0x1f000, 'Conventional'),
    at(0x20000, 0x24000, 'RuntimeServicesData', 15n | RUNTIME),
    at(0x24000, 0x28000, 'AcpiReclaim'),
    at(0x28000, 0x30000, 'Conventional'),
  ];
  /** Two pages of each bin are free, and there is room for many entries in the list. */
  const STATE = {
    ...{ mapKey: 5, surplusEntries: 2, spareEntries: 100 },
    bins: [
      { type: 'RuntimeServicesData', start: 0x20000, end: 0x24000, used: 0x22000 },
      { type: 'AcpiReclaim', start: 0x24000, end: 0x28000, used: 0x26000 },
    ],
  } as const;
  const make = (state: AllocatorState = STATE) => new PageAllocator(MAP, state);

  it('finds the longest run of types that have a bin, ACPI’s among them', () => {
    expect(findBins(MAP).map(({ type, start, end }) => [type, start, end])).toEqual([
      ['RuntimeServicesData', 0x20000, 0x24000],
      ['AcpiReclaim', 0x24000, 0x28000],
    ]);
    expect(findBins(MAP.slice(0, 3))).toEqual([]);
    // A gap begins another run.
    expect(findBins([...MAP.slice(0, 3), at(0x25000, 0x28000, 'AcpiReclaim')])).toEqual([]);
    expect(findBins([])).toEqual([]);
    // Pages in use are counted from the end.
    expect(findBins([at(0, 0x10000, 'AcpiReclaim')])[0]!.used).toBe(0x10000 - 9 * 0x1000);
    expect(findBins([at(0, 0x4000, 'AcpiReclaim')])[0]!.used).toBe(0);
  });

  it('has no type where it says nothing, and shows bins as theirs', () => {
    const pages = make();
    expect([0, 0x7fff, 0x8000, 0xffff, 0x10000, 0x30000].map((address) => pages.typeAt(address))).toEqual([
      ...['Conventional', 'Conventional', null, null, 'Conventional', null],
    ]);
    expect([pages.typeAt(0x20000), pages.typeAt(0x22000)]).toEqual(['Conventional', 'RuntimeServicesData']);
    expect(pages.describe()).toEqual(MAP);
    expect([pages.statedEntries, pages.mapKey]).toEqual([MAP.length + 2, 5]);
  });

  it('takes pages from the bin of their type, then below all bins, then anywhere', () => {
    const pages = make();
    const take = (type: EfiMemoryType, count: number) => pages.allocate({ kind: 'AnyPages' }, type, count);
    expect([take('RuntimeServicesData', 1), take('RuntimeServicesData', 1)]).toEqual([0x21000, 0x20000]);
    expect(take('RuntimeServicesData', 1)).toBe(0x1e000);
    expect(pages.describe().find(({ start }) => start === 0x1e000)!.attributes & RUNTIME).toBe(RUNTIME);
    expect(take('LoaderData', 14)).toBe(0x10000);
    expect(take('LoaderData', 8)).toBe(0x0);
    expect(take('LoaderData', 8)).toBe(0x28000);
    // What is left lies in a bin.
    expect(take('LoaderData', 2)).toBe(0x24000);
    expect(take('LoaderData', 1)).toBeNull();
  });

  it('keeps to a limit, within bins, too', () => {
    const pages = make();
    const below = (address: number, type: EfiMemoryType = 'LoaderData') =>
      pages.allocate({ kind: 'MaxAddress', address }, type, 1);
    expect([below(0x15fff), below(0x15ffe), below(0xfff), below(0xffe)]).toEqual([
      0x15000,
      0x14000,
      0x0,
      null,
    ]);
    expect(below(0x20fff, 'RuntimeServicesData')).toBe(0x20000);
    expect(below(0x20fff, 'RuntimeServicesData')).toBe(0x1e000);
  });

  it('counts each change in its key, merges neighbours, and gives back only what is taken', () => {
    const pages = make();
    const take = (address: number, count: number, type: EfiMemoryType = 'LoaderData') =>
      pages.allocate({ kind: 'Address', address }, type, count);
    expect([take(0x10000, 2), take(0x12000, 1), pages.mapKey]).toEqual([0x10000, 0x12000, 7]);
    expect(pages.describe()[1]).toEqual(at(0x10000, 0x13000, 'LoaderData'));
    expect([take(0x7000, 2), take(0x8000, 1), take(0x12000, 1), take(0x1d000, 2)]).toEqual([
      ...[null, null, null, 0x1d000],
    ]);
    expect([pages.free(0xf000, 2), pages.free(0x12000, 2), pages.free(0x7000, 1)]).toEqual([
      false,
      false,
      false,
    ]);
    expect([pages.free(0x11000, 1), pages.typeAt(0x11000)]).toEqual([true, 'Conventional']);
    expect([pages.typeAt(0x10000), pages.typeAt(0x12000)]).toEqual(['LoaderData', 'LoaderData']);
    expect(pages.describe()[2]).toEqual(at(0x11000, 0x12000, 'Conventional'));
  });

  it('gives back pages of several types at once', () => {
    const pages = make();
    pages.allocate({ kind: 'Address', address: 0x11000 }, 'LoaderData', 1);
    pages.allocate({ kind: 'Address', address: 0x12000 }, 'LoaderCode', 2);
    pages.allocate({ kind: 'Address', address: 0x14000 }, 'LoaderData', 2);
    expect(pages.free(0x11000, 4)).toBe(true);
    expect(pages.describe().slice(1, 4)).toEqual([
      at(0x10000, 0x15000, 'Conventional'),
      at(0x15000, 0x16000, 'LoaderData'),
      at(0x16000, 0x1f000, 'Conventional'),
    ]);
  });

  it('finds the largest free range, from an aligned address on', () => {
    const pages = make();
    expect(pages.largestFree()).toEqual({ start: 0x10000, size: 0xf000 });
    pages.allocate({ kind: 'Address', address: 0x10000 }, 'LoaderData', 8);
    // 0x0..0x8000, 0x18000..0x1f000, 0x20000..0x22000, 0x24000..0x26000, 0x28000..0x30000.
    expect(pages.largestFree()).toEqual({ start: 0x0, size: 0x8000 });
    pages.allocate({ kind: 'Address', address: 0x0 }, 'LoaderData', 1);
    expect(pages.largestFree()).toEqual({ start: 0x28000, size: 0x8000 });
    expect(pages.largestFree(0x10000)).toEqual({ start: 0x20000, size: 0x2000 });
    expect(pages.largestFree(0x100000)).toEqual({ start: 0, size: 0 });
  });

  it('takes a page for its list when that is full, once', () => {
    const pages = make({ ...STATE, spareEntries: 1 });
    const take = (address: number) => pages.allocate({ kind: 'Address', address }, 'LoaderData', 1);
    take(0x10000);
    expect(pages.describe()).toHaveLength(MAP.length + 1);
    expect(pages.describe().some(({ type }) => type === 'BootServicesData')).toBe(false);
    take(0x12000);
    expect(pages.describe().filter(({ type }) => type === 'BootServicesData')).toEqual([
      at(0x1e000, 0x1f000, 'BootServicesData'),
    ]);
    expect(pages.mapKey).toBe(8);
    for (const address of [0x14000, 0x16000, 0x18000]) take(address);
    expect(pages.describe().filter(({ type }) => type === 'BootServicesData')).toHaveLength(1);
    expect(pages.mapKey).toBe(11);
  });
});

describe('a pool', () => {
  const make = () => {
    const given: (readonly [EfiMemoryType, number])[] = [];
    const returned: (readonly [number, number])[] = [];
    let next = 0x10000;
    const pool = new PoolAllocator({
      allocate: (type, pages) => {
        given.push([type, pages]);
        if (pages > 100) return null;
        next += pages * 0x1000;
        return next - pages * 0x1000;
      },
      free: (address, pages) => void returned.push([address, pages]),
    });
    return { pool, given, returned };
  };

  it.each([
    [1, 128],
    [88, 128],
    [89, 256],
    [0xd8, 256],
    [2648, 2688],
    [2649, 0x1000],
    [0x1000 - 0x28, 0x1000],
    [0x1000 - 0x27, 0x2000],
  ])('puts %i bytes into a block of %i', (size, block) => {
    const { pool } = make();
    const address = pool.allocate('LoaderData', size)!;
    expect(pool.blockOf(address)).toEqual({ address: address - 0x18, size: block });
  });

  it('gives whole pages back at once, and has none where there are none', () => {
    const { pool, given, returned } = make();
    const address = pool.allocate('LoaderCode', 0x1001)!;
    expect(given).toEqual([['LoaderCode', 2]]);
    expect([pool.free(address), pool.free(address), returned]).toEqual([true, false, [[0x10000, 2]]]);
    expect([pool.allocate('LoaderData', 2 ** 20), pool.blockOf(0x10018)]).toEqual([null, undefined]);
  });

  it('takes the block that was freed last, of its own type alone, and cuts larger ones', () => {
    const { pool, given } = make();
    const take = (size: number, type: EfiMemoryType = 'LoaderData') => pool.allocate(type, size)!;
    const [first, second] = [take(80), take(80)];
    take(80);
    pool.free(first);
    pool.free(second);
    expect([take(80), take(80)]).toEqual([second, first]);
    take(80, 'BootServicesData');
    expect(given).toEqual([
      ['LoaderData', 1],
      ['BootServicesData', 1],
    ]);
    // 4096 bytes are 128 + 2688 + 1024 + 256: a block of 640 comes out of that of 1024.
    const large = make();
    large.pool.allocate('LoaderData', 80);
    expect(large.pool.allocate('LoaderData', 600)).toBe(0x10000 + 128 + 2688 + 0x18);
    expect(large.pool.allocate('LoaderData', 300)).toBe(0x10000 + 128 + 2688 + 640 + 0x18);
    expect(large.given).toHaveLength(1);
  });

  it('gives a page back with its last block', () => {
    const { pool, returned, given } = make();
    const blocks = [80, 80, 600].map((size) => pool.allocate('LoaderData', size)!);
    for (const block of blocks.slice(1)) pool.free(block);
    expect(returned).toEqual([]);
    pool.free(blocks[0]!);
    expect(returned).toEqual([[0x10000, 1]]);
    pool.allocate('LoaderData', 80);
    expect(given).toHaveLength(2);
  });
});
