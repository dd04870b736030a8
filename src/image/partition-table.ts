// The partitions of a disk: MBR with logical ones, and GPT (UEFI 2.10, chapter 5).

import { crc32 } from '../codecs/checksums.ts';
import { hex } from '../hex.ts';
import { type DiskImage, readDisk, SECTOR_SIZE } from './disk-image.ts';

/** A partition as its table has it. */
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
  /** What is wrong with the table or the disk that it is on: a sentence each, which begins with the disk's path. */
  readonly problems: readonly string[];
}

const TABLE = 446;
const ENTRY = 16;
const PROTECTIVE = 0xee;
const EXTENDED: ReadonlySet<number> = new Set([0x05, 0x0f, 0x85]);
const MOST_LOGICAL = 128;
const MOST_GPT_ENTRIES = 1024;
const GPT_SIGNATURE = 'EFI PART';
const GPT_HEADER_SIZE = 92;
const GPT_HEADER_CRC = 16;
const SMALLEST_GPT_ENTRY = 128;
const LARGEST_GPT_ENTRY = 4096;
const FAT_SIGNATURES: readonly (readonly [offset: number, text: string])[] = [
  [0x36, 'FAT'],
  [0x52, 'FAT'],
  [0x03, 'NTFS'],
];

/** Reads them; what makes no sense is left out. A disk whose first sector is a file system's has none. */
export function readPartitionTable(disk: DiskImage): PartitionTable {
  const { problems, ...table } = readTable(disk);
  const outside = table.partitions.map((partition) => whyOutside(disk, partition));
  return { ...table, problems: [...problems, ...outside.filter((text) => text !== null)] };
}

/** Why not all of a partition is on its disk: a sentence that begins with the disk's path; null where it is. */
export function whyOutside({ path, size }: DiskImage, partition: Partition): string | null {
  const { number, start, sectors } = partition;
  const have = Math.ceil(size / SECTOR_SIZE);
  if (start + sectors <= have) return null;
  const verb = start >= have ? 'begins' : 'ends';
  return `${path}: partition ${number} (sectors ${start} to ${start + sectors - 1}) ${verb} behind the end of the disk, which has ${have} sectors`;
}

function readTable(disk: DiskImage): PartitionTable {
  const sector = readDisk(disk, 0, SECTOR_SIZE);
  const none: PartitionTable = { kind: 'none', partitions: [], problems: [] };
  if (sector[510] !== 0x55 || sector[511] !== 0xaa) return none;
  const primary = entriesOf(sector);
  if (primary.some(({ type }) => type === PROTECTIVE)) {
    const gpt = readGpt(disk);
    if (gpt !== null) return gpt;
  }
  // Code of a boot sector may look like entries.
  const isFileSystem = FAT_SIGNATURES.some(([offset, text]) => textAt(sector, offset, text.length) === text);
  if (isFileSystem || primary.length === 0) return none;
  const extended = primary.find(({ type }) => EXTENDED.has(type as number));
  return {
    kind: 'mbr',
    partitions: [...primary, ...(extended === undefined ? [] : readLogical(disk, extended.start))],
    problems: [],
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

/** By its first header, or the one at the disk's end where that is damaged (UEFI 2.10, 5.3.2); null where neither is there. */
function readGpt(disk: DiskImage): PartitionTable | null {
  const last = Math.floor(disk.size / SECTOR_SIZE) - 1;
  const problems: string[] = [];
  let isThere = false;
  for (const [at, name] of [
    [1, 'the GPT'],
    [last, 'the second GPT'],
  ] as const) {
    const header = readDisk(disk, at * SECTOR_SIZE, SECTOR_SIZE);
    if (textAt(header, 0, 8) !== GPT_SIGNATURE) continue;
    isThere = true;
    const read = readGptAt(disk, header, at);
    if (typeof read !== 'string') return { kind: 'gpt', partitions: read, problems };
    problems.push(`${disk.path}: ${name} (sector ${at}) is damaged: ${read}`);
  }
  return isThere ? { kind: 'gpt', partitions: [], problems } : null;
}

/** Its partitions, or what is wrong with it. */
function readGptAt(disk: DiskImage, header: Uint8Array, at: number): Partition[] | string {
  const view = new DataView(header.buffer);
  const length = view.getUint32(12, true);
  if (length < GPT_HEADER_SIZE || length > SECTOR_SIZE) return `its header has ${length} bytes`;
  const [own, stored] = [header.slice(0, length), view.getUint32(GPT_HEADER_CRC, true)];
  own.fill(0, GPT_HEADER_CRC, GPT_HEADER_CRC + 4);
  const found = crc32(own);
  if (found !== stored) return `the CRC of its header is ${hex(found)}, not ${hex(stored)}`;
  const self = view.getBigUint64(24, true);
  if (self !== BigInt(at)) return `it says that it is at sector ${self}`;
  const table = Number(view.getBigUint64(72, true));
  const [count, size] = [view.getUint32(80, true), view.getUint32(84, true)];
  if (count > MOST_GPT_ENTRIES || size < SMALLEST_GPT_ENTRY || size > LARGEST_GPT_ENTRY) {
    return `it has ${count} entries of ${size} bytes`;
  }
  if (table * SECTOR_SIZE + count * size > disk.size) {
    return `its ${count} entries of ${size} bytes begin at sector ${table}, the disk has ${Math.ceil(disk.size / SECTOR_SIZE)}`;
  }
  const entries = readDisk(disk, table * SECTOR_SIZE, count * size);
  const entriesCrc = view.getUint32(88, true);
  if (crc32(entries) !== entriesCrc) {
    return `the CRC of its ${count} entries is ${hex(crc32(entries))}, not ${hex(entriesCrc)}`;
  }
  return gptPartitions(entries, count, size);
}

function gptPartitions(entries: Uint8Array, count: number, size: number): Partition[] {
  const view = new DataView(entries.buffer);
  return Array.from({ length: count }, (_, index) => index).flatMap((index) => {
    const at = index * size;
    const type = guidText(entries.subarray(at, at + 16));
    const [first, last] = [view.getBigUint64(at + 32, true), view.getBigUint64(at + 40, true)];
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
