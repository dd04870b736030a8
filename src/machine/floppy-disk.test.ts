// Floppy images and their geometries.

import { describe, expect, it } from 'vitest';
import { FloppyDisk, floppyGeometry } from './floppy-disk.ts';

describe('floppyGeometry', () => {
  it.each([
    [160, 40, 1, 8],
    [180, 40, 1, 9],
    [320, 40, 2, 8],
    [360, 40, 2, 9],
    [720, 80, 2, 9],
    [1200, 80, 2, 15],
    [1440, 80, 2, 18],
    [1680, 80, 2, 21],
    [2880, 80, 2, 36],
  ])(
    'takes %i KiB for %i cylinders, %i heads, %i sectors',
    (kilobytes, cylinders, heads, sectorsPerTrack) => {
      expect(floppyGeometry(kilobytes * 1024)).toMatchObject({ cylinders, heads, sectorsPerTrack });
    },
  );

  it('takes any other size for the start of a 1.44M disk, or of a 2.88M one', () => {
    expect(floppyGeometry(1).sectorsPerTrack).toBe(18);
    expect(floppyGeometry(500_000).sectorsPerTrack).toBe(18);
    expect(floppyGeometry(1_474_561).sectorsPerTrack).toBe(36);
  });

  it('refuses what no drive holds, with both sizes', () => {
    expect(() => floppyGeometry(2_949_121)).toThrow(
      '2949121 bytes fits no drive: the largest disk holds 2949120 bytes',
    );
    expect(() => floppyGeometry(0)).toThrow('0 bytes');
  });
});

describe('FloppyDisk', () => {
  it('pads a short image with zeroes and keeps the original untouched', () => {
    const image = new Uint8Array([1, 2, 3]);
    const disk = new FloppyDisk(image);
    disk.bytes[0] = 9;
    expect(disk.bytes.length).toBe(1_474_560);
    expect([image[0], disk.bytes[2], disk.bytes[3]]).toEqual([1, 3, 0]);
  });

  it('numbers sectors head by head, and knows which are not there', () => {
    const disk = new FloppyDisk(new Uint8Array(1));
    expect(disk.sectorAt(0, 0, 1)).toBe(0);
    expect(disk.sectorAt(0, 1, 1)).toBe(18);
    expect(disk.sectorAt(79, 1, 18)).toBe(2879);
    expect([
      disk.sectorAt(0, 0, 19),
      disk.sectorAt(0, 0, 0),
      disk.sectorAt(80, 0, 1),
      disk.sectorAt(0, 2, 1),
    ]).toEqual([null, null, null, null]);
  });
});
