// INT 13h: the floppy drive A:, answered as SeaBIOS answers, and which drive a call is for.

import { hex } from '../../hex.ts';
import { ownersText } from '../../image/disk-owners.ts';
import type { PhysicalMemory } from '../../x86/physical-memory.ts';
import { type Drives, FIRST_HARD_DISK } from '../drives.ts';
import type { FloppyController } from '../floppy-controller.ts';
import { type FloppyDisk, SECTOR_SIZE } from '../floppy-disk.ts';
import {
  STATUS_BAD_PARAMETER,
  STATUS_DISK_CHANGED,
  STATUS_DMA_BOUNDARY,
  STATUS_OK,
  STATUS_SECTOR_NOT_FOUND,
} from './disk-status.ts';
import { hardDiskServices, SUCCESS } from './hard-disk.ts';
import { BDA_DISK_STATUS, BDA_FLOPPY_STATUS, ROM_DISK_TABLE, ROM_SEGMENT } from './rom.ts';
import { type BiosRegisters, type BiosService, type BiosVector, linear } from './service.ts';

const FLOPPY_WITHOUT_CHANGE_LINE = 0x01;
const DMA_PAGE = 0x10000;

export interface DiskParts {
  readonly memory: PhysicalMemory;
  readonly controller: FloppyController;
  readonly drives: Drives;
}

/** The services of INT 13h. A drive that is not there and an unknown function fail with AH=01h and carry. */
export function diskVector(parts: DiskParts): BiosVector {
  const { memory, controller, drives } = parts;
  const onDrive = hardDiskServices(parts);

  /** @param success - what AH says where all went well */
  function finish(r: BiosRegisters, drive: number, status: number, success = STATUS_OK): void {
    r.ah = status === STATUS_OK ? success : status;
    r.carry = status !== STATUS_OK;
    memory.write8(drive < FIRST_HARD_DISK ? BDA_FLOPPY_STATUS : BDA_DISK_STATUS, status);
  }

  /** What a call is for: a floppy's own function, or that of any other drive. */
  function onWhich(
    ah: number,
    run: ((r: BiosRegisters, disk: FloppyDisk) => number) | null,
  ): BiosService['run'] {
    const other = onDrive.get(ah) ?? null;
    return (r) => {
      const number = r.dl;
      const floppy = drives.floppyDrive(number);
      const drive = drives.drive(number);
      let status: number | undefined;
      if (floppy !== null) status = run?.(r, floppy);
      else if (drive !== null) status = other?.(r, drive);
      finish(r, number, status ?? STATUS_BAD_PARAMETER, floppy === null ? SUCCESS.get(ah) : STATUS_OK);
    };
  }

  /**
   * Checks CHS and count, and hands the run of bytes on. It goes on over the ends of tracks and cylinders,
   * as SeaBIOS does, but not past the disk and not across a 64 KiB boundary of the DMA controller.
   */
  function transfer(
    r: BiosRegisters,
    disk: FloppyDisk,
    what: 'read' | 'write' | 'verify',
    move: (offset: number, address: number, length: number) => void,
  ): number {
    const [count, cylinder, sector] = [r.al, r.ch | ((r.cl & 0xc0) << 2), r.cl & 0x3f];
    const first = disk.sectorAt(cylinder, r.dh, sector);
    if (first === null || count === 0) {
      return STATUS_BAD_PARAMETER;
    }
    const address = linear(r.es, r.bx);
    const length = count * SECTOR_SIZE;
    if (Math.floor(address / DMA_PAGE) !== Math.floor((address + length - 1) / DMA_PAGE)) {
      r.al = 0;
      return STATUS_DMA_BOUNDARY;
    }
    controller.startMotor();
    const available = Math.min(count, disk.sectors - first);
    move(first * SECTOR_SIZE, address, available * SECTOR_SIZE);
    r.al = available;
    const [start, size] = [first * SECTOR_SIZE, available * SECTOR_SIZE];
    const owner =
      what === 'read'
        ? drives.noteRead(disk, first, disk.bytes.subarray(start, start + size), address, SECTOR_SIZE)
        : ownersText(disk.owners.of(start, start + size), SECTOR_SIZE);
    r.result = `sectors ${first} to ${first + available - 1}${owner}, ${hex(address)}..${hex(address + available * SECTOR_SIZE)}`;
    return available < count ? STATUS_SECTOR_NOT_FOUND : STATUS_OK;
  }

  function read(r: BiosRegisters, disk: FloppyDisk): number {
    return transfer(r, disk, 'read', (offset, address, length) => {
      memory.copyIn(address, disk.bytes.subarray(offset, offset + length));
    });
  }

  function write(r: BiosRegisters, disk: FloppyDisk): number {
    return transfer(r, disk, 'write', (offset, address, length) => {
      disk.bytes.set(memory.copyOut(address, length), offset);
    });
  }

  function parameters(r: BiosRegisters, disk: FloppyDisk): number {
    const { cylinders, heads, sectorsPerTrack, driveType } = disk.geometry;
    r.al = 0;
    r.bx = driveType;
    r.cx = ((cylinders - 1) & 0xff) * 0x100 + sectorsPerTrack;
    r.dx = (heads - 1) * 0x100 + 1;
    r.es = ROM_SEGMENT;
    r.di = ROM_DISK_TABLE;
    return STATUS_OK;
  }

  function lastStatus(r: BiosRegisters): void {
    const number = r.dl;
    const isFloppy = drives.floppyDrive(number) !== null;
    const isThere = isFloppy || drives.drive(number) !== null;
    const address = number < FIRST_HARD_DISK ? BDA_FLOPPY_STATUS : BDA_DISK_STATUS;
    finish(r, number, isThere ? memory.read8(address) : STATUS_BAD_PARAMETER);
  }

  const ofDrives = onWhich(0x15, null);
  function driveKind(r: BiosRegisters): void {
    if (drives.drive(r.dl) !== null) {
      ofDrives(r);
      return;
    }
    r.ax = FLOPPY_WITHOUT_CHANGE_LINE << 8;
    r.carry = drives.floppyDrive(r.dl) === null;
  }

  const services: readonly (readonly [
    ah: number,
    name: string,
    onFloppy: ((r: BiosRegisters, disk: FloppyDisk) => number) | null,
  ])[] = [
    [0x00, 'reset disk system', () => STATUS_OK],
    [0x02, 'read sectors', read],
    [0x03, 'write sectors', write],
    [0x04, 'verify sectors', (r, disk) => transfer(r, disk, 'verify', () => {})],
    [0x05, 'format track', null],
    [0x09, 'initialize drive pair', null],
    [0x0c, 'seek', null],
    [0x0d, 'alternate disk reset', null],
    [0x10, 'check drive ready', null],
    [0x11, 'recalibrate', null],
    [0x14, 'controller diagnostic', null],
    [0x16, 'detect disk change', () => STATUS_DISK_CHANGED],
    [0x41, 'EDD: check extensions present', null],
    [0x42, 'EDD: extended read', null],
    [0x43, 'EDD: extended write', null],
    [0x44, 'EDD: verify sectors', null],
    [0x45, 'EDD: lock drive', null],
    [0x46, 'EDD: eject medium', null],
    [0x47, 'EDD: extended seek', null],
    [0x48, 'EDD: get drive parameters', null],
    [0x49, 'EDD: extended media change', null],
    [0x4b, 'bootable CD-ROM: terminate emulation or get status', null],
    [0x4e, 'EDD: set hardware configuration', null],
  ];
  const byAh: readonly (readonly [number, BiosService])[] = [
    ...services.map(([ah, name, onFloppy]) => [ah, { name, run: onWhich(ah, onFloppy) }] as const),
    [0x01, { name: 'get status of last operation', run: lastStatus }],
    [0x08, { name: 'get drive parameters', returnsSegment: true, run: onWhich(0x08, parameters) }],
    [0x15, { name: 'get disk type', run: driveKind }],
  ];
  return {
    vector: 0x13,
    byAh: new Map(byAh),
    unknown: (r) => finish(r, r.dl, STATUS_BAD_PARAMETER),
  };
}
