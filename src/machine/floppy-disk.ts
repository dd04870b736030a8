// A floppy disk image and its geometry.

import { BootscopeError } from '../error.ts';
import { type DiskImage, diskOfBytes } from '../image/disk-image.ts';
import { DiskOwners } from '../image/disk-owners.ts';

export const SECTOR_SIZE = 512;

export interface FloppyGeometry {
  readonly cylinders: number;
  readonly heads: number;
  readonly sectorsPerTrack: number;
  /** Drive type as in CMOS and INT 13h AH=08h: 1 360K, 2 1.2M, 3 720K, 4 1.44M, 5 2.88M. */
  readonly driveType: number;
}

/** The formats of PC drives, and the 1.6 to 1.7M ones that people formatted 1.44M disks to. */
const GEOMETRIES: readonly FloppyGeometry[] = [
  { cylinders: 40, heads: 1, sectorsPerTrack: 8, driveType: 1 },
  { cylinders: 40, heads: 1, sectorsPerTrack: 9, driveType: 1 },
  { cylinders: 40, heads: 2, sectorsPerTrack: 8, driveType: 1 },
  { cylinders: 40, heads: 2, sectorsPerTrack: 9, driveType: 1 },
  { cylinders: 80, heads: 2, sectorsPerTrack: 9, driveType: 3 },
  { cylinders: 80, heads: 2, sectorsPerTrack: 15, driveType: 2 },
  { cylinders: 80, heads: 2, sectorsPerTrack: 18, driveType: 4 },
  { cylinders: 80, heads: 2, sectorsPerTrack: 20, driveType: 4 },
  { cylinders: 80, heads: 2, sectorsPerTrack: 21, driveType: 4 },
  { cylinders: 82, heads: 2, sectorsPerTrack: 21, driveType: 4 },
  { cylinders: 83, heads: 2, sectorsPerTrack: 21, driveType: 4 },
  { cylinders: 80, heads: 2, sectorsPerTrack: 36, driveType: 5 },
];
const COMMON = GEOMETRIES.filter(({ sectorsPerTrack }) => sectorsPerTrack === 18 || sectorsPerTrack === 36);

/** Bytes of a disk with this geometry. */
export function floppySize(geometry: FloppyGeometry): number {
  return geometry.cylinders * geometry.heads * geometry.sectorsPerTrack * SECTOR_SIZE;
}

/**
 * The geometry of an image of `size` bytes: the format with exactly this size, else the smaller of 1.44M
 * and 2.88M that holds it.
 * @throws BootscopeError `machine-floppy-size` for an empty image and for one above 2.88M
 */
export function floppyGeometry(size: number): FloppyGeometry {
  const geometry =
    GEOMETRIES.find((each) => floppySize(each) === size) ?? COMMON.find((each) => floppySize(each) >= size);
  if (size === 0 || geometry === undefined) {
    throw new BootscopeError(
      'machine-floppy-size',
      `a floppy image of ${size} bytes fits no drive: the largest disk holds ${floppySize(GEOMETRIES.at(-1)!)} bytes`,
    );
  }
  return geometry;
}

/** A disk in the drive: the image, padded with zeroes to the size of its format. */
export class FloppyDisk {
  readonly geometry: FloppyGeometry;
  readonly bytes: Uint8Array;
  readonly image: DiskImage;
  /** What its bytes belong to. */
  readonly owners: DiskOwners;

  /** @param image - copied, so that the guest's writes stay in the machine */
  constructor(image: Uint8Array) {
    this.geometry = floppyGeometry(image.length);
    this.bytes = new Uint8Array(floppySize(this.geometry));
    this.bytes.set(image);
    this.image = diskOfBytes('the floppy', image);
    this.owners = new DiskOwners(this.image, false);
  }

  get sectors(): number {
    return this.bytes.length / SECTOR_SIZE;
  }

  /** Number of the sector from the start of the disk, or null where the address is not on it. Sectors count from 1. */
  sectorAt(cylinder: number, head: number, sector: number): number | null {
    const { cylinders, heads, sectorsPerTrack } = this.geometry;
    if (cylinder >= cylinders || head >= heads || sector < 1 || sector > sectorsPerTrack) {
      return null;
    }
    return (cylinder * heads + head) * sectorsPerTrack + sector - 1;
  }
}
