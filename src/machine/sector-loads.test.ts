// What was read from disks into memory, as far as it still lies there.

import { describe, expect, it } from 'vitest';
import type { DiskImage } from '../image/disk-image.ts';
import type { DiskOwners, OwnedRange } from '../image/disk-owners.ts';
import type { FileNode } from '../image/file-tree.ts';
import { SectorLoads } from './sector-loads.ts';

const image = { path: 'disk.img', size: 0x10000, read: () => {} } as DiskImage;
const file = (name: string): FileNode => ({
  ...{ name, isFolder: false, size: 1 },
  list: () => [],
  read: () => new Uint8Array(1),
});
const KERNEL = file('kernel');

/** A disk of which the first 1000h bytes are nobody's, the next 2000h a file's, the rest another's. */
const owners = {
  of: (start: number, end: number) =>
    (
      [
        [0, 0x1000, 'nothing', null],
        [0x1000, 0x3000, '/kernel', KERNEL],
        [0x3000, 0x10000, '/initrd', file('initrd')],
      ] as const
    )
      .filter((each) => each[0] < end && each[1] > start)
      .map(
        ([from, to, owner, of]) =>
          ({
            start: Math.max(from, start),
            end: Math.min(to, end),
            ...{ owner, partition: null, file: of },
          }) as unknown as OwnedRange,
      ),
} as unknown as DiskOwners;

const load = (loads: SectorLoads, offset: number, length: number, address: number): string =>
  loads.add({ image, owners }, offset, length, address, 512);
const show = (loads: SectorLoads, address: number) => {
  const found = loads.at(address);
  return found === null ? null : [found.start, found.end, found.offset, found.owner.owner];
};

describe('what was read', () => {
  it('is told apart by whose it is', () => {
    const loads = new SectorLoads();
    expect(load(loads, 0x800, 0x1000, 0x20000)).toBe(' (4 to 7 nothing; 8 to 11 /kernel)');
    expect([0x1ffff, 0x20000, 0x207ff, 0x20800, 0x20fff, 0x21000].map((at) => show(loads, at))).toEqual([
      null,
      [0x20000, 0x20800, 0x800, 'nothing'],
      [0x20000, 0x20800, 0x800, 'nothing'],
      [0x20800, 0x21000, 0x1000, '/kernel'],
      [0x20800, 0x21000, 0x1000, '/kernel'],
      null,
    ]);
    expect(loads.files).toEqual([{ name: '/kernel', file: KERNEL }]);
  });

  it('is one where it goes on, in memory and on the disk', () => {
    const loads = new SectorLoads();
    load(loads, 0x1000, 0x400, 0x20000);
    load(loads, 0x1400, 0x400, 0x20400);
    expect(show(loads, 0x20700)).toEqual([0x20000, 0x20800, 0x1000, '/kernel']);
    // Not where sectors were left out, nor where memory was.
    load(loads, 0x2000, 0x200, 0x20800);
    load(loads, 0x2200, 0x200, 0x21000);
    expect([show(loads, 0x20800), show(loads, 0x21000)]).toEqual([
      [0x20800, 0x20a00, 0x2000, '/kernel'],
      [0x21000, 0x21200, 0x2200, '/kernel'],
    ]);
  });

  it('is of one disk', () => {
    const loads = new SectorLoads();
    load(loads, 0x1000, 0x400, 0x20000);
    loads.add({ image: { ...image }, owners }, 0x1400, 0x400, 0x20400, 512);
    expect(show(loads, 0x20400)).toEqual([0x20400, 0x20800, 0x1400, '/kernel']);
  });

  it('is cut by what is read over it: before, behind, within', () => {
    const loads = new SectorLoads();
    load(loads, 0x1000, 0x1000, 0x20000);
    load(loads, 0x4000, 0x200, 0x20400);
    expect([show(loads, 0x20000), show(loads, 0x20400), show(loads, 0x20600)]).toEqual([
      [0x20000, 0x20400, 0x1000, '/kernel'],
      [0x20400, 0x20600, 0x4000, '/initrd'],
      [0x20600, 0x21000, 0x1600, '/kernel'],
    ]);
    load(loads, 0x5000, 0x400, 0x1fe00);
    load(loads, 0x6000, 0x400, 0x20e00);
    expect([show(loads, 0x20200), show(loads, 0x20d00)]).toEqual([
      [0x20200, 0x20400, 0x1200, '/kernel'],
      [0x20600, 0x20e00, 0x1600, '/kernel'],
    ]);
    load(loads, 0x8000, 0x2000, 0x1f000);
    expect([show(loads, 0x20400), show(loads, 0x20e00)]).toEqual([
      [0x1f000, 0x21000, 0x8000, '/initrd'],
      [0x1f000, 0x21000, 0x8000, '/initrd'],
    ]);
    expect(show(loads, 0x21100)).toEqual([0x21000, 0x21200, 0x6200, '/initrd']);
  });

  it('of one owner lies around an address as far as there is no gap', () => {
    const loads = new SectorLoads();
    load(loads, 0x2000, 0x200, 0x20200);
    load(loads, 0x1000, 0x200, 0x20000);
    load(loads, 0x2800, 0x200, 0x20400);
    load(loads, 0x4000, 0x200, 0x20600);
    load(loads, 0x1800, 0x200, 0x20800);
    const around = (address: number) => loads.around(loads.at(address)!).map(({ start }) => start);
    expect([around(0x20000), around(0x20200), around(0x20400)]).toEqual([
      [0x20000, 0x20200, 0x20400],
      [0x20000, 0x20200, 0x20400],
      [0x20000, 0x20200, 0x20400],
    ]);
    expect([around(0x20600), around(0x20800)]).toEqual([[0x20600], [0x20800]]);
  });
});
