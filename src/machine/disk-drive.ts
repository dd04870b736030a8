// A drive that the BIOS counts from 80h on, or an emulated one of a CD: an image that is only read, and what the guest has written over it.

import { type DiskImage, diskView, readDisk, SECTOR_SIZE } from '../image/disk-image.ts';
import { DiskOwners } from '../image/disk-owners.ts';

export interface DiskGeometry {
  readonly cylinders: number;
  readonly heads: number;
  readonly sectorsPerTrack: number;
}

export interface DriveOptions {
  readonly sectorSize?: number;
  /** Where it begins in the image, in bytes. */
  readonly start?: number;
  /** As CHS addresses count; null for a drive that is not addressed so. */
  readonly geometry: DiskGeometry | null;
  /** As the drive itself tells. */
  readonly physical?: DiskGeometry;
  readonly readOnly?: boolean;
  readonly sectors?: number;
}

export class DiskDrive {
  readonly image: DiskImage;
  readonly sectorSize: number;
  /** Of the whole drive; a piece at the end counts as one. */
  readonly sectors: number;
  readonly geometry: DiskGeometry | null;
  readonly physical: DiskGeometry | null;
  readonly readOnly: boolean;
  /** What its bytes belong to, before anybody writes. */
  readonly owners: DiskOwners;
  readonly #start: number;
  /** By sector. */
  readonly #written = new Map<number, Uint8Array>();

  constructor(image: DiskImage, options: DriveOptions) {
    const { sectorSize = SECTOR_SIZE, start = 0, geometry, physical, readOnly = false } = options;
    this.image = image;
    this.sectorSize = sectorSize;
    this.#start = start;
    this.owners = new DiskOwners(diskView(image, start), sectorSize === SECTOR_SIZE);
    this.sectors = options.sectors ?? Math.ceil((image.size - start) / sectorSize);
    this.geometry = geometry;
    this.physical = physical ?? geometry;
    this.readOnly = readOnly;
  }

  /** Fills `target`, whole sectors. */
  read(sector: number, target: Uint8Array): void {
    const size = this.sectorSize;
    this.image.read(this.#start + sector * size, target);
    if (this.#written.size === 0) return;
    for (let at = 0; at < target.length; at += size) {
      const written = this.#written.get(sector + at / size);
      if (written !== undefined) target.set(written, at);
    }
  }

  /** Whole sectors, kept in memory. */
  write(sector: number, bytes: Uint8Array): void {
    const size = this.sectorSize;
    for (let at = 0; at < bytes.length; at += size) {
      this.#written.set(sector + at / size, bytes.slice(at, at + size));
    }
  }

  /** Number of the sector from the start of the drive, or null where the address is not on it. Sectors count from 1. */
  sectorAt(cylinder: number, head: number, sector: number): number | null {
    if (this.geometry === null) return null;
    const { cylinders, heads, sectorsPerTrack } = this.geometry;
    if (cylinder >= cylinders || head >= heads || sector < 1 || sector > sectorsPerTrack) return null;
    return (cylinder * heads + head) * sectorsPerTrack + sector - 1;
  }
}

const PHYSICAL_HEADS = 16;
const PHYSICAL_SECTORS = 63;
const MOST_CYLINDERS = 16383;
/** Of an address in INT 13h. */
const MOST_CHS_CYLINDERS = 1024;
const MOST_CHS_HEADS = 255;
/** Cylinders times heads up to which a BIOS doubles heads and halves cylinders. */
const MOST_TRACKS_LARGE = 131072;

/** A hard disk with the geometry that QEMU's IDE disk and SeaBIOS give it. */
export function hardDisk(image: DiskImage): DiskDrive {
  const sectors = Math.ceil(image.size / SECTOR_SIZE);
  const { physical, logical } = geometryOf(sectors, readDisk(image, 0, SECTOR_SIZE));
  return new DiskDrive(image, { geometry: logical, physical });
}

/**
 * QEMU looks at where the partitions end to know how the disk was partitioned, and tells the BIOS by the CMOS how to translate.
 *
 * @param first - the disk's first sector
 */
export function geometryOf(
  sectors: number,
  first: Uint8Array,
): { readonly physical: DiskGeometry; readonly logical: DiskGeometry } {
  const cylinders = Math.min(
    Math.max(Math.floor(sectors / (PHYSICAL_HEADS * PHYSICAL_SECTORS)), 2),
    MOST_CYLINDERS,
  );
  const standard = { cylinders, heads: PHYSICAL_HEADS, sectorsPerTrack: PHYSICAL_SECTORS };
  const guess = partitionedGeometry(sectors, first);
  if (guess === null) {
    return {
      physical: standard,
      logical: cylinders <= MOST_CHS_CYLINDERS ? standard : translateByLba(sectors),
    };
  }
  if (guess.heads <= PHYSICAL_HEADS) {
    return {
      physical: guess,
      logical: { ...guess, cylinders: Math.min(guess.cylinders, MOST_CHS_CYLINDERS) },
    };
  }
  const isLarge = cylinders * PHYSICAL_HEADS <= MOST_TRACKS_LARGE;
  return { physical: standard, logical: isLarge ? translateLarge(standard) : translateByLba(sectors) };
}

/** By the end of the first partition that has one, which is taken for the end of a cylinder. */
function partitionedGeometry(sectors: number, first: Uint8Array): DiskGeometry | null {
  if (first[510] !== 0x55 || first[511] !== 0xaa) return null;
  const view = new DataView(first.buffer, first.byteOffset, first.length);
  for (let at = 446; at < 510; at += 16) {
    const [lastHead, sectorsPerTrack] = [view.getUint8(at + 5), view.getUint8(at + 6) & 0x3f];
    if (view.getUint32(at + 12, true) === 0 || lastHead === 0 || sectorsPerTrack === 0) continue;
    const heads = lastHead + 1;
    const cylinders = Math.floor(sectors / (heads * sectorsPerTrack));
    if (cylinders >= 1 && cylinders <= MOST_CYLINDERS) return { cylinders, heads, sectorsPerTrack };
  }
  return null;
}

function translateByLba(sectors: number): DiskGeometry {
  const sectorsPerTrack = PHYSICAL_SECTORS;
  if (sectors > PHYSICAL_SECTORS * MOST_CHS_HEADS * MOST_CHS_CYLINDERS) {
    return { cylinders: MOST_CHS_CYLINDERS, heads: MOST_CHS_HEADS, sectorsPerTrack };
  }
  const tracks = Math.floor(sectors / PHYSICAL_SECTORS);
  const least = Math.floor(tracks / MOST_CHS_CYLINDERS);
  const heads = least > 128 ? MOST_CHS_HEADS : ([16, 32, 64, 128].find((each) => least <= each) ?? 128);
  return {
    cylinders: Math.min(Math.floor(tracks / heads), MOST_CHS_CYLINDERS),
    heads,
    sectorsPerTrack,
  };
}

function translateLarge({ cylinders, heads, sectorsPerTrack }: DiskGeometry): DiskGeometry {
  let [fewer, more] = [cylinders, heads];
  while (fewer > MOST_CHS_CYLINDERS && more <= 127) {
    fewer >>= 1;
    more <<= 1;
  }
  return { cylinders: Math.min(fewer, MOST_CHS_CYLINDERS), heads: more, sectorsPerTrack };
}
