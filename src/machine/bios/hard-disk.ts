// INT 13h for hard disks, CDs and what a CD stands for: CHS, and the extensions of EDD 3.0 (INCITS 347, "BIOS Enhanced Disk Drive
// Services"), answered as SeaBIOS answers.

import { hex } from '../../hex.ts';
import { ownersText } from '../../image/disk-owners.ts';
import type { PhysicalMemory } from '../../x86/physical-memory.ts';
import type { DiskDrive } from '../disk-drive.ts';
import { CDROM_DRIVE, type Drives, FIRST_HARD_DISK } from '../drives.ts';
import {
  STATUS_BAD_PARAMETER,
  STATUS_OK,
  STATUS_SECTOR_NOT_FOUND,
  STATUS_WRITE_PROTECTED,
} from './disk-status.ts';
import { type BiosRegisters, linear } from './service.ts';

const EDD_VERSION_3_0 = 0x30;
/** Fixed disk access, drive locking and ejecting, enhanced disk drive support. */
const EDD_SUBSETS = 0x07;
const PACKET_SIZE = 16;
const FIXED_DISK = 0x03;
const MOST_SECTORS_CHS = 128;
const NOT_EJECTABLE = 0xb2;
const GEOMETRY_VALID = 0x02;
/** Removable, tells of a change, can be locked, and geometry as large as can be. */
const CD_INFORMATION = 0x74;
const LARGEST_CYLINDERS = 0x3fff;
const PARAMETERS_1 = 26;
const PARAMETERS_2 = 30;
const PARAMETERS_3 = 66;
const PARAMETERS_T13 = 74;
/** No table of configuration parameters. */
const NO_TABLE = 0xffff_ffff;
const PATH_KEY = 0xbedd;
/** QEMU's IDE controller is function 1 of device 1 on bus 0. */
const PIIX_DEVICE = 1;
const PIIX_FUNCTION = 1;

/** By function: what AH has where it did what was asked; 0 for the others. */
export const SUCCESS: ReadonlyMap<number, number> = new Map([
  [0x15, FIXED_DISK],
  [0x41, EDD_VERSION_3_0],
]);

export interface HardDiskParts {
  readonly memory: PhysicalMemory;
  readonly drives: Drives;
}

export type DriveService = (r: BiosRegisters, drive: DiskDrive) => number;

/** The functions by AH; each returns the status for AH. */
export function hardDiskServices(parts: HardDiskParts): ReadonlyMap<number, DriveService> {
  const { memory, drives } = parts;
  type Move = 'read' | 'write' | 'verify';

  /** Moves whole sectors between drive and memory, up to the end of the drive. */
  function move(
    r: BiosRegisters,
    drive: DiskDrive,
    what: Move,
    first: number,
    count: number,
    to: number,
  ): number {
    const available = Math.max(0, Math.min(count, drive.sectors - first));
    const length = available * drive.sectorSize;
    if (what === 'write' && drive.readOnly) return STATUS_WRITE_PROTECTED;
    if (available > 0 && what !== 'verify' && !memory.contains(to, length)) return STATUS_BAD_PARAMETER;
    let owners = '';
    if (available > 0 && what === 'read') {
      const bytes = new Uint8Array(length);
      drive.read(first, bytes);
      owners = drives.noteRead(drive, first, bytes, to, drive.sectorSize);
      memory.copyIn(to, bytes);
    } else if (available > 0 && what === 'write') {
      drive.write(first, memory.copyOut(to, length));
    }
    if (available > 0 && what !== 'read') {
      const start = first * drive.sectorSize;
      owners = ownersText(drive.owners.of(start, start + length), drive.sectorSize);
    }
    if (available < count) drives.doubtful.addMissing(drive.image.path, first, count, drive.sectors);
    const where = what === 'verify' ? '' : `, ${hex(to)}..${hex(to + length)}`;
    r.result =
      available === 0
        ? `sector ${first} is not on the disk, which has ${drive.sectors}`
        : `sectors ${first} to ${first + available - 1}${owners}${where}`;
    return available < count ? STATUS_SECTOR_NOT_FOUND : STATUS_OK;
  }

  function chs(what: Move): DriveService {
    return (r, drive) => {
      const [count, cylinder, sector] = [r.al, r.ch | ((r.cl & 0xc0) << 2), r.cl & 0x3f];
      const first = drive.sectorAt(cylinder, r.dh, sector);
      if (first === null || count === 0 || count > MOST_SECTORS_CHS) return STATUS_BAD_PARAMETER;
      const status = move(r, drive, what, first, count, linear(r.es, r.bx));
      if (status !== STATUS_OK) r.al = 0;
      return status;
    };
  }

  function extended(what: Move): DriveService {
    return (r, drive) => {
      const packet = linear(r.ds, r.si);
      if (memory.read8(packet) < PACKET_SIZE) return STATUS_BAD_PARAMETER;
      const count = memory.read16(packet + 2);
      const to = linear(memory.read16(packet + 6), memory.read16(packet + 4));
      const first = Number(memory.read64(packet + 8));
      if (first >= drive.sectors) {
        drives.doubtful.addMissing(drive.image.path, first, count, drive.sectors);
        r.result = `sector ${first} is not on the disk, which has ${drive.sectors}`;
        return STATUS_BAD_PARAMETER;
      }
      if (count === 0) return STATUS_OK;
      const status = move(r, drive, what, first, count, to);
      if (status !== STATUS_OK)
        memory.write16(packet + 2, Math.max(0, Math.min(count, drive.sectors - first)));
      return status;
    };
  }

  function parameters(r: BiosRegisters, drive: DiskDrive): number {
    if (drive.geometry === null) return STATUS_BAD_PARAMETER;
    const { cylinders, heads, sectorsPerTrack } = drive.geometry;
    // The last one is kept for tests of the drive.
    const last = cylinders - (r.dl < FIRST_HARD_DISK ? 1 : 2);
    r.al = 0;
    r.ch = last & 0xff;
    r.cl = ((last >>> 2) & 0xc0) | sectorsPerTrack;
    r.dh = heads - 1;
    r.dl = r.dl < FIRST_HARD_DISK ? 1 : drives.hardDisks;
    return STATUS_OK;
  }

  function kind(r: BiosRegisters, drive: DiskDrive): number {
    if (drive.geometry === null) return STATUS_BAD_PARAMETER;
    const { cylinders, heads, sectorsPerTrack } = drive.geometry;
    const sectors = (cylinders - 1) * heads * sectorsPerTrack;
    r.cx = sectors >>> 16;
    r.dx = sectors & 0xffff;
    return STATUS_OK;
  }

  function extensions(r: BiosRegisters): number {
    r.bx = 0xaa55;
    r.cx = EDD_SUBSETS;
    return STATUS_OK;
  }

  function extendedParameters(r: BiosRegisters, drive: DiskDrive): number {
    const at = linear(r.ds, r.si);
    const room = memory.read16(at);
    if (room < PARAMETERS_1) return STATUS_BAD_PARAMETER;
    const isCd = drive.physical === null;
    const { cylinders, heads, sectorsPerTrack } = drive.physical ?? {
      ...{ cylinders: 0xffffffff, heads: 0xffffffff, sectorsPerTrack: 0xffffffff },
    };
    const tooLarge = !isCd && drive.sectors > sectorsPerTrack * heads * LARGEST_CYLINDERS;
    memory.write16(at, PARAMETERS_1);
    memory.write16(at + 2, isCd ? CD_INFORMATION : tooLarge ? 0 : GEOMETRY_VALID);
    memory.write32(at + 4, tooLarge ? LARGEST_CYLINDERS : cylinders);
    memory.write32(at + 8, heads);
    memory.write32(at + 12, sectorsPerTrack);
    memory.write64(at + 16, isCd ? 0xffff_ffff_ffff_ffffn : BigInt(drive.sectors));
    memory.write16(at + 24, drive.sectorSize);
    if (room < PARAMETERS_2) return STATUS_OK;
    memory.write16(at, PARAMETERS_2);
    memory.write32(at + 26, NO_TABLE);
    if (room < PARAMETERS_3) return STATUS_OK;
    writeDevicePath(at, room === PARAMETERS_T13, r.dl);
    return STATUS_OK;
  }

  /** Of an IDE disk. */
  function writeDevicePath(at: number, isT13: boolean, drive: number): void {
    const size = isT13 ? PARAMETERS_T13 : PARAMETERS_3;
    const unit = drive >= CDROM_DRIVE ? 2 : drive - FIRST_HARD_DISK;
    // SeaBIOS leaves the size at that of what comes before.
    memory.write16(at + 30, PATH_KEY);
    memory.write8(at + 32, isT13 ? 44 : 36);
    memory.fill(at + 33, 3, 0);
    memory.copyIn(at + 36, new TextEncoder().encode('PCI ATA     '));
    const bus = memory.view(at + 48, size - 48 - 1);
    bus.fill(0);
    bus.set([0, PIIX_DEVICE, PIIX_FUNCTION, unit >> 1]);
    bus[8] = unit & 1;
    const sum = memory.view(at + 30, size - 30 - 1).reduce((all, byte) => all + byte, 0);
    memory.write8(at + size - 1, -sum & 0xff);
  }

  /** Drive emulation of a CD: 4B00h ends it, 4B01h only tells of it. */
  function emulation(r: BiosRegisters): number {
    const boot = drives.cdBoot;
    if (r.al > 1) return STATUS_BAD_PARAMETER;
    const number = drives.emulatedDrive;
    const drive = number === null ? null : drives.drive(number);
    const at = linear(r.ds, r.si);
    const geometry = drive?.geometry ?? null;
    memory.fill(at, 0x13, 0);
    memory.write8(at, 0x13);
    if (boot === null) return STATUS_OK;
    memory.write8(at + 1, boot.mediaType);
    memory.write8(at + 2, number ?? CDROM_DRIVE);
    memory.write32(at + 4, boot.start);
    memory.write16(at + 12, boot.segment);
    memory.write16(at + 14, boot.loadSectors);
    if (geometry !== null) {
      const last = geometry.cylinders - 1;
      memory.write8(at + 16, last & 0xff);
      memory.write8(at + 17, ((last >>> 2) & 0xc0) | geometry.sectorsPerTrack);
      memory.write8(at + 18, geometry.heads - 1);
    }
    if (r.al === 0) drives.endEmulation();
    return STATUS_OK;
  }

  const ok: DriveService = () => STATUS_OK;
  const hardDiskOnly =
    (service: DriveService): DriveService =>
    (r, drive) =>
      r.dl < FIRST_HARD_DISK ? STATUS_BAD_PARAMETER : service(r, drive);
  return new Map<number, DriveService>([
    [0x00, ok],
    [0x02, chs('read')],
    [0x03, chs('write')],
    [0x04, chs('verify')],
    [0x05, ok],
    [0x08, parameters],
    [0x09, ok],
    [0x0c, ok],
    [0x0d, ok],
    [0x10, ok],
    [0x11, ok],
    [0x14, ok],
    [0x15, kind],
    [0x41, hardDiskOnly(extensions)],
    [0x42, hardDiskOnly(extended('read'))],
    [0x43, hardDiskOnly(extended('write'))],
    [0x44, hardDiskOnly(extended('verify'))],
    [0x45, hardDiskOnly(ok)],
    [0x46, hardDiskOnly(() => NOT_EJECTABLE)],
    [0x47, hardDiskOnly(extended('verify'))],
    [0x48, hardDiskOnly(extendedParameters)],
    [0x49, hardDiskOnly(ok)],
    [0x4b, emulation],
    [0x4e, hardDiskOnly(ok)],
  ]);
}
