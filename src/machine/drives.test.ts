// Hard disks as QEMU's BIOS counts them, what a machine boots from, and disks that make no sense.

import { describe, expect, it } from 'vitest';
import { diskOfBytes, SECTOR_SIZE } from '../image/disk-image.ts';
import { geometryOf, hardDisk } from './disk-drive.ts';
import { Drives } from './drives.ts';
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
});
