// BlockIo and DiskIo (UEFI 2.10, 13.9 and 13.7): a disk, or a partition of it, in sectors and in bytes.

import { SECTOR_SIZE } from '../../image/disk-image.ts';
import { ownersText } from '../../image/disk-owners.ts';
import { EFI_STATUS } from '../../protocol/efi-tables.ts';
import type { DiskDrive } from '../disk-drive.ts';
import type { UefiFirmware } from './firmware.ts';
import { service } from './service.ts';

const { SUCCESS, INVALID_PARAMETER, BAD_BUFFER_SIZE } = EFI_STATUS;

const BLOCK_IO_REVISION = 0x20031n;
const DISK_IO_REVISION = 0x10000n;
const MEDIA_SIZE = 48;

/** Sectors [start, start + sectors) of a drive. */
export interface BlockRange {
  readonly drive: DiskDrive;
  readonly start: number;
  readonly sectors: number;
  readonly isPartition: boolean;
}

export function blockIo(firmware: UefiFirmware, range: BlockRange): bigint {
  const { memory } = firmware;
  const { drive, start, sectors, isPartition } = range;
  const media = firmware.bootData(MEDIA_SIZE);
  memory.write8(media + 5, 1); // a medium is there
  memory.write8(media + 6, isPartition ? 1 : 0);
  memory.write32(media + 12, SECTOR_SIZE);
  memory.write64(media + 24, BigInt(sectors - 1));
  const isInside = (first: bigint, size: bigint): boolean =>
    first + size / BigInt(SECTOR_SIZE) <= BigInt(sectors);
  return firmware.interface([
    BLOCK_IO_REVISION,
    BigInt(media),
    service('BlockIo.Reset', 'This:address ExtendedVerification:number', () => SUCCESS),
    service(
      'BlockIo.ReadBlocks',
      'This:address MediaId:number Lba:number BufferSize:number Buffer:address',
      (_, _self, _media, first, size, buffer) => {
        if (size! % BigInt(SECTOR_SIZE) !== 0n) return BAD_BUFFER_SIZE;
        if (!isInside(first!, size!)) return INVALID_PARAMETER;
        const bytes = new Uint8Array(Number(size));
        drive.read(start + Number(first), bytes);
        memory.copyIn(Number(buffer), bytes);
        tellRead(firmware, drive, start + Number(first), bytes.length);
        return SUCCESS;
      },
    ),
    service(
      'BlockIo.WriteBlocks',
      'This:address MediaId:number Lba:number BufferSize:number Buffer:address',
      (_, _self, _media, first, size, buffer) => {
        if (size! % BigInt(SECTOR_SIZE) !== 0n) return BAD_BUFFER_SIZE;
        if (!isInside(first!, size!)) return INVALID_PARAMETER;
        drive.write(start + Number(first), memory.copyOut(Number(buffer), Number(size)));
        return SUCCESS;
      },
    ),
    service('BlockIo.FlushBlocks', 'This:address', () => SUCCESS),
  ]);
}

/** Says of the call which sectors of the disk it was, and whose they are. */
function tellRead(firmware: UefiFirmware, drive: DiskDrive, first: number, length: number): void {
  const start = first * SECTOR_SIZE;
  const owners = ownersText(drive.owners.of(start, start + length), SECTOR_SIZE);
  firmware.remark(`sectors ${first} to ${first + length / SECTOR_SIZE - 1}${owners}`);
}

export function diskIo(firmware: UefiFirmware, { drive, start, sectors }: BlockRange): bigint {
  const { memory } = firmware;
  /** Whole sectors that hold [offset, offset + size), and where that begins in them; null where it is not on the disk. */
  const around = (offset: bigint, size: bigint): { first: number; bytes: Uint8Array; at: number } | null => {
    if (offset + size > BigInt(sectors) * BigInt(SECTOR_SIZE)) return null;
    const first = Math.floor(Number(offset) / SECTOR_SIZE);
    const last = Math.ceil(Number(offset + size) / SECTOR_SIZE);
    const bytes = new Uint8Array((last - first) * SECTOR_SIZE);
    drive.read(start + first, bytes);
    return { first, bytes, at: Number(offset) - first * SECTOR_SIZE };
  };
  return firmware.interface([
    DISK_IO_REVISION,
    service(
      'DiskIo.ReadDisk',
      'This:address MediaId:number Offset:number BufferSize:number Buffer:address',
      (_, _self, _media, offset, size, buffer) => {
        const found = around(offset!, size!);
        if (found === null) return INVALID_PARAMETER;
        memory.copyIn(Number(buffer), found.bytes.subarray(found.at, found.at + Number(size)));
        tellRead(firmware, drive, start + found.first, found.bytes.length);
        return SUCCESS;
      },
    ),
    service(
      'DiskIo.WriteDisk',
      'This:address MediaId:number Offset:number BufferSize:number Buffer:address',
      (_, _self, _media, offset, size, buffer) => {
        const found = around(offset!, size!);
        if (found === null) return INVALID_PARAMETER;
        found.bytes.set(memory.copyOut(Number(buffer), Number(size)), found.at);
        drive.write(start + found.first, found.bytes);
        return SUCCESS;
      },
    ),
  ]);
}
