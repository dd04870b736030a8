// The partitions of a disk: MBR with logical ones, and GPT (UEFI 2.10, chapter 5).

import { type DiskImage, readDisk, SECTOR_SIZE } from './disk-image.ts';

export interface Partition {
  /** As people and boot loaders count them, from 1; logical ones from 5. */
  readonly number: number;
  /** In sectors of 512 bytes. */
  readonly start: number;
  readonly sectors: number;
  /** The type byte of an MBR, or the type's GUID in a GPT. */
  readonly type: number | string;
  /** Its own GUID in a GPT, the disk's signature in an MBR; missing for what is in none. */
  readonly id?: string | number;
  /** Marked as the one to boot from, in an MBR. */
  readonly active: boolean;
}

export interface PartitionTable {
  readonly kind: 'mbr' | 'gpt' | 'none';
  /** By number. */
  readonly partitions: readonly Partition[];
}

const TABLE = 446;
const ENTRY = 16;
const PROTECTIVE = 0xee;
const EXTENDED: ReadonlySet<number> = new Set([0x05, 0x0f, 0x85]);
const MOST_LOGICAL = 128;
const MOST_GPT_ENTRIES = 1024;
const GPT_SIGNATURE = 'EFI PART';
const FAT_SIGNATURES: readonly (readonly [offset: number, text: string])[] = [
  [0x36, 'FAT'],
  [0x52, 'FAT'],
  [0x03, 'NTFS'],
];

/** Reads them; what makes no sense is left out. A disk whose first sector is a file system's has none. */
export function readPartitionTable(disk: DiskImage): PartitionTable {
  const sector = readDisk(disk, 0, SECTOR_SIZE);
  if (sector[510] !== 0x55 || sector[511] !== 0xaa) return { kind: 'none', partitions: [] };
  const primary = entriesOf(sector);
  if (primary.some(({ type }) => type === PROTECTIVE)) {
    const partitions = readGpt(disk);
    if (partitions !== null) return { kind: 'gpt', partitions };
  }
  // Code of a boot sector may look like entries.
  const isFileSystem = FAT_SIGNATURES.some(([offset, text]) => textAt(sector, offset, text.length) === text);
  if (isFileSystem || primary.length === 0) return { kind: 'none', partitions: [] };
  const extended = primary.find(({ type }) => EXTENDED.has(type as number));
  return {
    kind: 'mbr',
    partitions: [...primary, ...(extended === undefined ? [] : readLogical(disk, extended.start))],
  };
}

function textAt(bytes: Uint8Array, offset: number, length: number): string {
  return new TextDecoder('latin1').decode(bytes.subarray(offset, offset + length));
}

function entriesOf(sector: Uint8Array): Partition[] {
  const view = new DataView(sector.buffer, sector.byteOffset, sector.length);
  return [0, 1, 2, 3].flatMap((index) => {
    const at = TABLE + index * ENTRY;
    const [status, type] = [view.getUint8(at), view.getUint8(at + 4)];
    const [start, sectors] = [view.getUint32(at + 8, true), view.getUint32(at + 12, true)];
    if (type === 0 || sectors === 0 || (status & 0x7f) !== 0) return [];
    const id = view.getUint32(440, true);
    return [{ number: index + 1, start, sectors, type, id, active: status === 0x80 }];
  });
}

/** A chain of sectors with two entries each: a logical partition, and where the next sector is. */
function readLogical(disk: DiskImage, base: number): Partition[] {
  const found: Partition[] = [];
  let at = base;
  for (let count = 0; count < MOST_LOGICAL; count++) {
    if (at * SECTOR_SIZE >= disk.size) break;
    const entries = entriesOf(readDisk(disk, at * SECTOR_SIZE, SECTOR_SIZE));
    const next = entries.find(({ type }) => EXTENDED.has(type as number));
    const own = entries.find((entry) => entry !== next);
    if (own !== undefined) found.push({ ...own, number: 5 + found.length, start: at + own.start });
    if (next === undefined) break;
    at = base + next.start;
  }
  return found;
}

function readGpt(disk: DiskImage): Partition[] | null {
  const header = readDisk(disk, SECTOR_SIZE, SECTOR_SIZE);
  if (textAt(header, 0, 8) !== GPT_SIGNATURE) return null;
  const view = new DataView(header.buffer);
  const table = Number(view.getBigUint64(72, true)) * SECTOR_SIZE;
  const [count, size] = [view.getUint32(80, true), view.getUint32(84, true)];
  if (size < 128 || size > 4096 || count > MOST_GPT_ENTRIES || table >= disk.size) return [];
  const entries = readDisk(disk, table, count * size);
  const entryView = new DataView(entries.buffer);
  return Array.from({ length: count }, (_, index) => index).flatMap((index) => {
    const at = index * size;
    const type = guidText(entries.subarray(at, at + 16));
    const [first, last] = [entryView.getBigUint64(at + 32, true), entryView.getBigUint64(at + 40, true)];
    if (/^[0-]*$/.test(type) || last < first) return [];
    const [start, sectors] = [Number(first), Number(last - first) + 1];
    const id = guidText(entries.subarray(at + 16, at + 32));
    return [{ number: index + 1, start, sectors, type, id, active: false }];
  });
}

/** The first three fields are little endian (UEFI 2.10, appendix A). */
function guidText(bytes: Uint8Array): string {
  const text = (from: number, to: number, reversed: boolean): string => {
    const part = [...bytes.subarray(from, to)];
    return (reversed ? part.reverse() : part).map((byte) => byte.toString(16).padStart(2, '0')).join('');
  };
  return [text(0, 4, true), text(4, 6, true), text(6, 8, true), text(8, 10, false), text(10, 16, false)].join(
    '-',
  );
}
