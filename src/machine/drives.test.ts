// Hard disks as QEMU's BIOS counts them, what a machine boots from, and disks that make no sense.

import { describe, expect, it } from 'vitest';
import { diskOfBytes, SECTOR_SIZE } from '../image/disk-image.ts';
import { DiskDrive, geometryOf, hardDisk } from './disk-drive.ts';
import { bootCodeEntry, Drives } from './drives.ts';
import { CD_SECTOR, iso } from './test-cd.ts';

function bootable(size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  bytes.set([0x55, 0xaa], 510);
  return bytes;
}

describe('geometryOf', () => {
  const none = new Uint8Array(512);

  it.each([
    [81_920, { cylinders: 81, heads: 16, sectorsPerTrack: 63 }],
    [8_388_608, { cylinders: 522, heads: 255, sectorsPerTrack: 63 }],
    [2_097_152, { cylinders: 1024, heads: 32, sectorsPerTrack: 63 }],
    [41_943_040, { cylinders: 1024, heads: 255, sectorsPerTrack: 63 }],
  ])('gives %i sectors what a BIOS can count', (sectors, logical) => {
    expect(geometryOf(sectors, none).logical).toEqual(logical);
  });

  it('takes over how the disk was partitioned', () => {
    const sector = bootable(512);
    sector.set([0, 0, 1, 0, 6, 7, 32, 9, 32, 0, 0, 0, 0, 1, 0, 0], 446);
    expect(geometryOf(40_960, sector).logical).toEqual({ cylinders: 160, heads: 8, sectorsPerTrack: 32 });
  });
});

describe('geometryOf, as QEMU and its BIOS', () => {
  /** Partition entries: last head, its sector (and two bits of the cylinder), sectors in all. */
  const table = (
    ...entries: readonly (readonly [head: number, sector: number, sectors: number])[]
  ): Uint8Array => {
    const bytes = bootable(512);
    const view = new DataView(bytes.buffer);
    for (const [index, [head, sector, sectors]] of entries.entries()) {
      bytes.set([head, sector], 446 + index * 16 + 5);
      view.setUint32(446 + index * 16 + 12, sectors, true);
    }
    return bytes;
  };
  const STANDARD = { cylinders: 40, heads: 16, sectorsPerTrack: 63 };

  it.each([
    ['16 heads', [15, 0x3f, 1], { cylinders: 40, heads: 16, sectorsPerTrack: 63 }],
    [
      '8 heads and 32 sectors, with bits of the cylinder',
      [7, 0xe0, 1],
      { cylinders: 160, heads: 8, sectorsPerTrack: 32 },
    ],
  ] as const)('takes over %s for the disk itself, too', (_, entry, geometry) => {
    const found = geometryOf(40_960, table(entry));
    expect(found).toEqual({ physical: geometry, logical: geometry });
  });

  it.each([
    ['an entry without sectors', [7, 32, 0]],
    ['one that ends on head 0', [0, 32, 1]],
    ['one that ends on sector 0', [7, 0, 1]],
    ['more heads and sectors than the disk has', [254, 63, 1]],
  ] as const)('passes over %s', (_, entry) => {
    const sectors = entry[0] === 254 ? 16_000 : 40_960;
    const first = geometryOf(sectors, table(entry)).logical;
    expect(first).toEqual({ ...STANDARD, cylinders: Math.floor(sectors / 1008) });
    expect(geometryOf(40_960, table(entry, [7, 32, 1])).logical.heads).toBe(entry[0] === 254 ? 16 : 8);
    const unmarked = table([7, 32, 1]);
    unmarked[511] = 0;
    expect(geometryOf(40_960, unmarked).logical).toEqual(STANDARD);
  });

  it('counts at most 1024 cylinders of what it takes over', () => {
    const found = geometryOf(8 * 32 * 2000, table([7, 32, 1]));
    expect([found.physical.cylinders, found.logical.cylinders]).toEqual([2000, 1024]);
  });

  it('doubles heads and halves cylinders of a disk that was partitioned with more heads', () => {
    const found = geometryOf(2_097_152, table([31, 63, 1]));
    expect(found.physical).toEqual({ cylinders: 2080, heads: 16, sectorsPerTrack: 63 });
    expect(found.logical).toEqual({ cylinders: 520, heads: 64, sectorsPerTrack: 63 });
    // Beyond 131072 tracks it counts by sectors.
    const large = geometryOf(8260 * 16 * 63, table([254, 63, 1])).logical;
    expect(large).toEqual({ cylinders: 518, heads: 255, sectorsPerTrack: 63 });
    expect(geometryOf(8192 * 16 * 63, table([254, 63, 1])).logical).toEqual({
      ...{ cylinders: 1024, heads: 128, sectorsPerTrack: 63 },
    });
  });

  it.each([
    [1024 * 1008, 1024, 16],
    [1025 * 1008, 1024, 16],
    [1024 * 63 * 17, 544, 32],
    [1024 * 63 * 33, 528, 64],
    [1024 * 63 * 65, 520, 128],
    [1024 * 63 * 129, 518, 255],
    [63 * 255 * 1024, 1024, 255],
    [63 * 255 * 1024 + 1, 1024, 255],
    [1000, 2, 16],
  ])('gives a disk of %i sectors %i cylinders of %i heads', (sectors, cylinders, heads) => {
    const { logical, physical } = geometryOf(sectors, new Uint8Array(512));
    expect(logical).toEqual({ cylinders, heads, sectorsPerTrack: 63 });
    expect([physical.heads, physical.sectorsPerTrack]).toEqual([16, 63]);
    expect(physical.cylinders).toBe(Math.min(Math.max(Math.floor(sectors / 1008), 2), 16383));
  });
});

describe('DiskDrive', () => {
  it('keeps what is written to itself', () => {
    const bytes = new Uint8Array(4 * SECTOR_SIZE);
    const drive = hardDisk(diskOfBytes('disk', bytes));
    drive.write(1, new Uint8Array(2 * SECTOR_SIZE).fill(7));
    const read = new Uint8Array(4 * SECTOR_SIZE);
    drive.read(0, read);
    expect([read[511], read[512], read[1535], read[1536], bytes.indexOf(7)]).toEqual([0, 7, 7, 0, -1]);
  });

  it('reads zeroes behind the end of a file that ends within a sector', () => {
    const drive = hardDisk(diskOfBytes('disk', new Uint8Array(700).fill(1)));
    const read = new Uint8Array(SECTOR_SIZE);
    drive.read(1, read);
    expect([drive.sectors, read[187], read[188]]).toEqual([2, 1, 0]);
  });
});

describe('a drive that begins within an image', () => {
  const bytes = Uint8Array.from({ length: 5 * SECTOR_SIZE + 10 }, (_, at) => at >> 9);
  const image = diskOfBytes('disk', bytes);
  const geometry = { cylinders: 2, heads: 3, sectorsPerTrack: 4 };

  it('has what is behind its beginning', () => {
    const drive = new DiskDrive(image, { start: 2 * SECTOR_SIZE, geometry });
    const read = new Uint8Array(SECTOR_SIZE);
    drive.read(1, read);
    expect([drive.sectors, read[0], drive.physical, drive.readOnly]).toEqual([4, 3, geometry, false]);
    expect(new DiskDrive(image, { geometry, sectors: 2 }).sectors).toBe(2);
    expect(new DiskDrive(image, { geometry: null, sectorSize: 2048 }).sectors).toBe(2);
  });

  it('counts sectors from 1, heads and cylinders from 0', () => {
    const drive = new DiskDrive(image, { geometry });
    expect([drive.sectorAt(0, 0, 1), drive.sectorAt(0, 1, 1), drive.sectorAt(1, 2, 4)]).toEqual([0, 4, 23]);
    expect([
      drive.sectorAt(2, 0, 1),
      drive.sectorAt(0, 3, 1),
      drive.sectorAt(0, 0, 0),
      drive.sectorAt(0, 0, 5),
      new DiskDrive(image, { geometry: null }).sectorAt(0, 0, 1),
    ]).toEqual([null, null, null, null, null]);
  });
});

describe('what a machine boots from', () => {
  const disk = diskOfBytes('disk.img', bootable(1024));
  const empty = diskOfBytes('empty.img', new Uint8Array(1024));

  it('is the first in order that has a boot sector', () => {
    const drives = new Drives({ disks: [empty], floppy: bootable(512) });
    expect(drives.boot(['disk', 'floppy'])).toMatchObject({ drive: 0, address: 0x7c00 });
    expect(new Drives({ disks: [disk], floppy: bootable(512) }).boot(['disk', 'floppy']).drive).toBe(0x80);
  });

  it('is the CD by its catalog, without emulation at the segment it names', () => {
    const drives = new Drives({
      cdrom: diskOfBytes('cd.iso', iso([0x88, 0, 0, 0x10, 0, 0, 4, 0, 30, 0, 0, 0])),
    });
    const code = drives.boot(['cdrom']);
    expect([code.drive, code.address, code.bytes.length, code.bytes[0]]).toEqual([0xe0, 0x10000, 2048, 0xf4]);
    expect([drives.emulatedDrive, drives.drive(0xe0)?.sectorSize]).toEqual([null, 2048]);
  });

  it('may be a floppy that a CD stands for, until its loader ends that', () => {
    const images = {
      cdrom: diskOfBytes('cd.iso', iso([0x88, 2, 0, 0, 0, 0, 1, 0, 30, 0, 0, 0])),
      floppy: bootable(512),
    };
    const drives = new Drives(images);
    expect(drives.boot(['cdrom'])).toMatchObject({ drive: 0, address: 0x7c00 });
    expect(drives.drive(0)?.geometry).toEqual({ cylinders: 80, heads: 2, sectorsPerTrack: 18 });
    expect([drives.floppyDrive(0), drives.floppyDrive(1) !== null]).toEqual([null, true]);
    drives.endEmulation();
    expect([drives.drive(0), drives.floppyDrive(0) !== null]).toEqual([null, true]);
  });

  it('may be a hard disk that a CD stands for, before the others', () => {
    const bytes = iso([0x88, 4, 0, 0, 0, 0, 1, 0, 30, 0, 0, 0]);
    bytes.set([0x80, 1, 1, 0, 6, 3, 17, 9], 30 * CD_SECTOR + 446);
    const drives = new Drives({ cdrom: diskOfBytes('cd.iso', bytes), disks: [disk] });
    expect(drives.boot(['cdrom']).drive).toBe(0x80);
    expect([drives.hardDisks, drives.drive(0x80)?.geometry, drives.drive(0x81)?.image.path]).toEqual([
      ...[2, { cylinders: 10, heads: 4, sectorsPerTrack: 17 }, 'disk.img'],
    ]);
  });

  it.each([
    ['an empty disk', { disks: [empty] }, 'empty.img has no boot sector'],
    [
      'a CD without a catalog',
      { cdrom: diskOfBytes('cd.iso', new Uint8Array(90_000)) },
      'no ISO 9660 volume',
    ],
    [
      'a catalog that names a sector beyond the end',
      { cdrom: diskOfBytes('cd.iso', iso([0x88, 0, 0, 0, 0, 0, 4, 0, 0, 1, 0, 0])) },
      'begins at sector 256, the file has 40 sectors',
    ],
    [
      'a boot image that is cut off',
      { cdrom: diskOfBytes('cd.iso', iso([0x88, 0, 0, 0, 0, 0, 0xff, 0xff, 30, 0, 0, 0])) },
      "its boot image of 65535 sectors of 512 bytes at sector 30 ends behind the file's 81920 bytes, at 33615360",
    ],
    [
      'a catalog that is cut off',
      { cdrom: diskOfBytes('cd.iso', iso([0x88]).subarray(0, 18 * CD_SECTOR)) },
      'lies at sector 20, the file has 18',
    ],
    [
      'a catalog without a bootable entry',
      { cdrom: diskOfBytes('cd.iso', iso([0, 0])) },
      'is marked 0x0, not 0x88',
    ],
  ])('is not %s', (_, images, text) => {
    expect(() => new Drives(images).boot(['disk', 'floppy', 'cdrom'])).toThrow(text);
  });

  it('is no network', () => {
    expect(() => new Drives({ disks: [empty] }).boot(['network', 'disk'])).toThrow(
      'there is no network card here to boot from by PXE; empty.img has no boot sector',
    );
  });

  it('is entered in segment 0 where that can be', () => {
    expect([0x7c00, 0xffff, 0x10000, 0x12340].map(bootCodeEntry)).toEqual([
      { cs: 0, ip: 0x7c00 },
      { cs: 0, ip: 0xffff },
      { cs: 0x1000, ip: 0 },
      { cs: 0x1000, ip: 0x2340 },
    ]);
  });

  it('is followed by what is next in order', () => {
    const drives = new Drives({ disks: [disk], floppy: bootable(512) });
    expect(drives.boot(['disk', 'cdrom', 'floppy']).drive).toBe(0x80);
    expect(drives.loads.at(0x7c00)).toMatchObject({ start: 0x7c00, end: 0x7e00, offset: 0 });
    expect([drives.bootNext()?.drive, drives.bootNext()]).toEqual([0, null]);
    expect(() => new Drives({}).boot(['disk', 'floppy', 'cdrom'])).toThrow(/^nothing to boot from: $/);
    expect(() => new Drives({ floppy: new Uint8Array(512) }).boot(['floppy'])).toThrow(
      'the floppy has no boot sector',
    );
  });

  it('notes where what was read lies', () => {
    const drives = new Drives({ disks: [disk] });
    const drive = drives.drive(0x80)!;
    drives.noteRead(drive, 0, new Uint8Array(2 * SECTOR_SIZE), 0x20000, SECTOR_SIZE);
    expect(drives.loads.at(0x20000)).toMatchObject({ end: 0x20200, offset: 0 });
    expect(drives.loads.at(0x20200)).toMatchObject({ end: 0x20400, offset: SECTOR_SIZE });
    expect(drives.loads.at(0x20400)).toBeNull();
  });
});
