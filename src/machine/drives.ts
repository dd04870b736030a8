// The drives of a PC as its BIOS counts them, and which of them it boots from.

import { BootscopeError } from '../error.ts';
import type { DiskImage } from '../image/disk-image.ts';
import { readDisk, SECTOR_SIZE } from '../image/disk-image.ts';
import { IN_NO_PARTITION, ownerName } from '../image/disk-owners.ts';
import { CD_SECTOR_SIZE, type CdBootImage, readCdBootImage } from '../image/el-torito.ts';
import { DiskDrive, hardDisk } from './disk-drive.ts';
import { DoubtfulSectors } from './doubtful-sectors.ts';
import { FloppyDisk } from './floppy-disk.ts';
import { type OwnedDisk, SectorLoads } from './sector-loads.ts';

export const FIRST_HARD_DISK = 0x80;
export const CDROM_DRIVE = 0xe0;

export const BOOT_DEVICES = ['disk', 'floppy', 'cdrom', 'network'] as const;
export type BootDevice = (typeof BOOT_DEVICES)[number];
/** As QEMU's BIOS has it. */
export const DEFAULT_BOOT_ORDER: readonly BootDevice[] = ['disk', 'floppy', 'cdrom'];

export interface DriveImages {
  /** The disk in drive A:; without it there is no drive. */
  readonly floppy?: Uint8Array;
  /** From 80h on. */
  readonly disks?: readonly DiskImage[];
  readonly cdrom?: DiskImage;
}

/** What the BIOS loads before it jumps there. */
export interface BootCode {
  /** Drive number, in DL. */
  readonly drive: number;
  readonly address: number;
  readonly bytes: Uint8Array;
}

/** As a BIOS jumps to it: in segment 0 where that can be. */
export function bootCodeEntry(address: number): { readonly cs: number; readonly ip: number } {
  const cs = (address >>> 4) & 0xf000;
  return { cs, ip: address - cs * 16 };
}

const BOOT_SECTOR_ADDRESS = 0x7c00;
const BOOT_FLAG = 510;
/** Larger files are no part of a loader. */
const LARGEST_PROGRAM = 2 ** 21;

/** What is in the drives. A CD that is booted with emulation takes the number of what it stands for, and others move up. */
export class Drives {
  readonly floppy: FloppyDisk | null;
  readonly cdrom: DiskDrive | null;
  readonly doubtful = new DoubtfulSectors();
  /** What INT 13h, and the BIOS before it, has read. */
  readonly loads = new SectorLoads();
  /** The running emulation; null without one. */
  #emulated: { readonly boot: CdBootImage; readonly drive: DiskDrive; readonly number: number } | null = null;
  readonly #disks: readonly DiskDrive[];
  #cdBoot: CdBootImage | null = null;
  /** Devices behind the one that was booted. */
  #untried: BootDevice[] = [];

  constructor(images: DriveImages) {
    this.floppy = images.floppy === undefined ? null : new FloppyDisk(images.floppy);
    this.#disks = (images.disks ?? []).map(hardDisk);
    this.cdrom =
      images.cdrom === undefined
        ? null
        : new DiskDrive(images.cdrom, { sectorSize: CD_SECTOR_SIZE, geometry: null, readOnly: true });
  }

  /** How many hard disks the BIOS tells of. */
  get hardDisks(): number {
    return this.#disks.length + (this.#emulated?.number === FIRST_HARD_DISK ? 1 : 0);
  }

  /** What the CD was booted by; null where it was not. */
  get cdBoot(): CdBootImage | null {
    return this.#cdBoot;
  }

  /** The drive that a CD stands for; null where none does. */
  get emulatedDrive(): number | null {
    return this.#emulated?.number ?? null;
  }

  /** Ends the emulation. */
  endEmulation(): void {
    this.#emulated = null;
  }

  /** The drive with this number, but for floppies of their own; null where there is none. */
  drive(number: number): DiskDrive | null {
    const emulated = this.#emulated;
    if (emulated?.number === number) return emulated.drive;
    if (number === CDROM_DRIVE) return this.cdrom;
    const moved = emulated?.number === FIRST_HARD_DISK ? 1 : 0;
    return this.#disks[number - FIRST_HARD_DISK - moved] ?? null;
  }

  /** The floppy drive with this number. */
  floppyDrive(number: number): FloppyDisk | null {
    const moved = this.#emulated?.number === 0 ? 1 : 0;
    return number === moved ? this.floppy : null;
  }

  /**
   * Finds what can be booted, as INT 19h does.
   *
   * @throws BootscopeError `machine-boot` where nothing can, with what is wrong with each
   */
  boot(order: readonly BootDevice[]): BootCode {
    this.#untried = [...order];
    const reasons: string[] = [];
    const found = this.#bootFromUntried(reasons);
    if (found !== null) return found;
    throw new BootscopeError('machine-boot', `nothing to boot from: ${reasons.join('; ')}`);
  }

  /** What comes behind what was booted, as INT 18h has it; null where nothing does. */
  bootNext(): BootCode | null {
    return this.#bootFromUntried([]);
  }

  /** @param reasons - gets a sentence for each that cannot be booted from */
  #bootFromUntried(reasons: string[]): BootCode | null {
    for (let device = this.#untried.shift(); device !== undefined; device = this.#untried.shift()) {
      const found = this.#bootFrom(device);
      if (typeof found !== 'string') {
        this.#noteLoad(found);
        return found;
      }
      if (found !== '') reasons.push(found);
    }
    return null;
  }

  /**
   * Notes what INT 13h has read.
   *
   * @returns whose the sectors are, as text to follow their numbers
   */
  noteRead(disk: OwnedDisk, first: number, bytes: Uint8Array, address: number, sectorSize: number): string {
    const offset = first * sectorSize;
    for (const { start, end, file, owner, partition } of disk.owners.of(offset, offset + bytes.length)) {
      const name = file === null ? null : ownerName({ owner, partition });
      // The tables of partitions and file systems may well be empty.
      if (file === null ? !IN_NO_PARTITION.has(owner) : file.size > LARGEST_PROGRAM) continue;
      const part = bytes.subarray(start - offset, end - offset);
      this.doubtful.addRead(disk.image.path, start / sectorSize, part, sectorSize, name);
    }
    return this.loads.add(disk, offset, bytes.length, address, sectorSize);
  }

  #noteLoad({ drive, address, bytes }: BootCode): void {
    const start = drive === CDROM_DRIVE ? (this.#cdBoot?.start ?? 0) * CD_SECTOR_SIZE : 0;
    const disk = this.drive(drive) ?? this.floppyDrive(drive);
    if (disk !== null) this.loads.add(disk, start, bytes.length, address, SECTOR_SIZE);
  }

  /** Why it cannot be booted from where it cannot; an empty text where there is no such drive. */
  #bootFrom(device: BootDevice): BootCode | string {
    switch (device) {
      case 'network':
        return 'there is no network card here to boot from by PXE';
      case 'floppy': {
        if (this.floppy === null) return '';
        return sectorOf(0, this.floppy.bytes.slice(0, SECTOR_SIZE)) ?? 'the floppy has no boot sector';
      }
      case 'disk': {
        const first = this.#disks[0];
        if (first === undefined) return '';
        const { image } = first;
        return (
          sectorOf(FIRST_HARD_DISK, readDisk(image, 0, SECTOR_SIZE)) ??
          `${image.path} has no boot sector: its first sector does not have 55 aa at offset ${BOOT_FLAG}`
        );
      }
      case 'cdrom':
        return this.cdrom === null ? '' : this.#bootFromCd(this.cdrom);
    }
  }

  #bootFromCd(cdrom: DiskDrive): BootCode | string {
    try {
      const boot = readCdBootImage(cdrom.image);
      this.#cdBoot = boot;
      const start = boot.start * CD_SECTOR_SIZE;
      const drive = this.#emulate(boot, cdrom.image, start);
      return {
        drive,
        address: boot.segment * 16,
        bytes: readDisk(cdrom.image, start, loadedSectors(boot) * SECTOR_SIZE),
      };
    } catch (error) {
      if (!(error instanceof BootscopeError)) throw error;
      return error.message;
    }
  }

  #emulate(boot: CdBootImage, image: DiskImage, start: number): number {
    if (boot.emulation === 'none') return CDROM_DRIVE;
    const number = boot.emulation === 'hard-disk' ? FIRST_HARD_DISK : 0;
    const geometry =
      boot.emulation === 'hard-disk'
        ? endOfFirstPartition(readDisk(image, start, SECTOR_SIZE))
        : { cylinders: 80, heads: 2, sectorsPerTrack: FLOPPY_SECTORS[boot.emulation] };
    const sectors = geometry.cylinders * geometry.heads * geometry.sectorsPerTrack;
    const drive = new DiskDrive(image, { start, geometry, sectors, readOnly: true });
    this.#emulated = { boot, drive, number };
    return number;
  }
}

const FLOPPY_SECTORS = { '1.2M': 15, '1.44M': 18, '2.88M': 36 } as const;

/** Without emulation whole sectors of the CD are read. */
function loadedSectors({ emulation, loadSectors }: CdBootImage): number {
  return emulation === 'none' ? Math.ceil(loadSectors / 4) * 4 : Math.max(loadSectors, 1);
}

function endOfFirstPartition(sector: Uint8Array): {
  cylinders: number;
  heads: number;
  sectorsPerTrack: number;
} {
  const at = 446;
  return {
    heads: sector[at + 5]! + 1,
    sectorsPerTrack: sector[at + 6]! & 0x3f,
    cylinders: ((sector[at + 6]! & 0xc0) << 2) + sector[at + 7]! + 1,
  };
}

function sectorOf(drive: number, bytes: Uint8Array): BootCode | null {
  if (bytes[BOOT_FLAG] !== 0x55 || bytes[BOOT_FLAG + 1] !== 0xaa) return null;
  return { drive, address: BOOT_SECTOR_ADDRESS, bytes };
}
