// INT 13h: the floppy drive A:, answered as SeaBIOS answers; there are no hard disks.

import { hex } from '../../hex.ts';
import type { PhysicalMemory } from '../../x86/physical-memory.ts';
import type { FloppyController } from '../floppy-controller.ts';
import { type FloppyDisk, SECTOR_SIZE } from '../floppy-disk.ts';
import { BDA_FLOPPY_STATUS, ROM_DISK_TABLE, ROM_SEGMENT } from './rom.ts';
import { type BiosRegisters, type BiosService, type BiosVector, linear } from './service.ts';

// Status in AH (IBM PS/2 BIOS interface, INT 13h).
const STATUS_OK = 0x00;
const STATUS_BAD_PARAMETER = 0x01;
const STATUS_SECTOR_NOT_FOUND = 0x04;
const STATUS_DISK_CHANGED = 0x06;
const STATUS_DMA_BOUNDARY = 0x09;

const FLOPPY_WITHOUT_CHANGE_LINE = 0x01;
const DMA_PAGE = 0x10000;
const DRIVE_A = 0x00;

export interface DiskParts {
  readonly memory: PhysicalMemory;
  readonly controller: FloppyController;
  /** The disk in drive A:, null where there is no drive. */
  readonly floppy: FloppyDisk | null;
}

/** The services of INT 13h. A drive that is not there and an unknown function fail with AH=01h and carry. */
export function diskVector(parts: DiskParts): BiosVector {
  const { memory, controller, floppy } = parts;

  function finish(r: BiosRegisters, status: number): void {
    r.ah = status;
    r.carry = status !== STATUS_OK;
    memory.write8(BDA_FLOPPY_STATUS, status);
  }

  /** Wraps a function of drive A:, so that any other drive fails. */
  function onFloppy(run: (r: BiosRegisters, disk: FloppyDisk) => number): BiosService['run'] {
    return (r) => {
      const disk = r.dl === DRIVE_A ? floppy : null;
      finish(r, disk === null ? STATUS_BAD_PARAMETER : run(r, disk));
    };
  }

  /**
   * Checks CHS and count, and hands the run of bytes on. It goes on over the ends of tracks and cylinders,
   * as SeaBIOS does, but not past the disk and not across a 64 KiB boundary of the DMA controller.
   */
  function transfer(
    r: BiosRegisters,
    disk: FloppyDisk,
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
    r.result = `sectors ${first} to ${first + available - 1}, ${hex(address)}..${hex(address + available * SECTOR_SIZE)}`;
    return available < count ? STATUS_SECTOR_NOT_FOUND : STATUS_OK;
  }

  function read(r: BiosRegisters, disk: FloppyDisk): number {
    return transfer(r, disk, (offset, address, length) => {
      memory.copyIn(address, disk.bytes.subarray(offset, offset + length));
    });
  }

  function write(r: BiosRegisters, disk: FloppyDisk): number {
    return transfer(r, disk, (offset, address, length) => {
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
    finish(r, r.dl === DRIVE_A && floppy !== null ? memory.read8(BDA_FLOPPY_STATUS) : STATUS_BAD_PARAMETER);
  }

  function driveKind(r: BiosRegisters): void {
    const present = r.dl === DRIVE_A && floppy !== null;
    r.ax = FLOPPY_WITHOUT_CHANGE_LINE << 8;
    r.carry = !present;
  }

  const absent = (name: string): BiosService => ({ name, run: (r) => finish(r, STATUS_BAD_PARAMETER) });
  const byAh: readonly (readonly [number, BiosService])[] = [
    [0x00, { name: 'reset disk system', run: onFloppy(() => STATUS_OK) }],
    [0x01, { name: 'get status of last operation', run: lastStatus }],
    [0x02, { name: 'read sectors', run: onFloppy(read) }],
    [0x03, { name: 'write sectors', run: onFloppy(write) }],
    [0x04, { name: 'verify sectors', run: onFloppy((r, disk) => transfer(r, disk, () => {})) }],
    [0x08, { name: 'get drive parameters', returnsSegment: true, run: onFloppy(parameters) }],
    [0x15, { name: 'get disk type', run: driveKind }],
    [0x16, { name: 'detect disk change', run: onFloppy(() => STATUS_DISK_CHANGED) }],
    [0x41, absent('EDD: check extensions present')],
    [0x42, absent('EDD: extended read')],
    [0x48, absent('EDD: get drive parameters')],
    [0x4b, absent('bootable CD-ROM: terminate emulation or get status')],
  ];
  return {
    vector: 0x13,
    byAh: new Map(byAh),
    unknown: (r) => finish(r, STATUS_BAD_PARAMETER),
  };
}
