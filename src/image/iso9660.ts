// An ISO 9660 file system (ECMA-119), with the names of Rock Ridge (IEEE P1282) where it has them: where files lie on a CD.

import { BootscopeError } from '../error.ts';
import { type DiskImage, readDisk } from './disk-image.ts';
import { CD_SECTOR_SIZE } from './el-torito.ts';
import type { DiskRange, FileNode, FileSystem } from './file-tree.ts';

const FIRST_DESCRIPTOR = 16;
const MOST_DESCRIPTORS = 64;
const IDENTIFIER = 'CD001';
const PRIMARY = 1;
const TERMINATOR = 255;
const DESCRIPTOR_NAMES: Readonly<Record<number, string>> = {
  0: 'boot record',
  1: 'primary volume descriptor',
  2: 'supplementary volume descriptor',
  255: 'volume descriptor set terminator',
};
const ROOT_RECORD = 156;
const SHORTEST_RECORD = 34;
const FLAG_FOLDER = 0x02;
const LARGEST_FOLDER = 2 ** 24;

/**
 * @throws BootscopeError `image-cdrom` where there is none
 */
export function openIso9660(disk: DiskImage): FileSystem {
  const metadata: FileSystem['metadata'][number][] = [
    { start: 0, end: FIRST_DESCRIPTOR * CD_SECTOR_SIZE, owner: 'system area' },
  ];
  let root: FileNode | null = null;
  for (let index = 0; index < MOST_DESCRIPTORS; index++) {
    const start = (FIRST_DESCRIPTOR + index) * CD_SECTOR_SIZE;
    const descriptor = readDisk(disk, start, CD_SECTOR_SIZE);
    if (text(descriptor, 1, 6) !== IDENTIFIER) break;
    const type = descriptor[0]!;
    metadata.push({
      start,
      end: start + CD_SECTOR_SIZE,
      owner: DESCRIPTOR_NAMES[type] ?? 'volume descriptor',
    });
    if (type === TERMINATOR) break;
    if (type !== PRIMARY || root !== null) continue;
    root = nodeOf(disk, descriptor.subarray(ROOT_RECORD), '');
    const view = new DataView(descriptor.buffer);
    const size = view.getUint32(132, true);
    for (const [at, little] of [
      [140, true],
      [148, false],
    ] as const) {
      const table = view.getUint32(at, little) * CD_SECTOR_SIZE;
      metadata.push({ start: table, end: table + size, owner: 'path table' });
    }
  }
  if (root === null) {
    throw new BootscopeError('image-cdrom', `${disk.path} has no ISO 9660 primary volume descriptor`);
  }
  return { type: 'ISO 9660', root, metadata };
}

function text(bytes: Uint8Array, from: number, to: number): string {
  return new TextDecoder('latin1').decode(bytes.subarray(from, to));
}

/** @param record - a directory record (ECMA-119, 9.1) */
function nodeOf(disk: DiskImage, record: Uint8Array, name: string): FileNode {
  const view = new DataView(record.buffer, record.byteOffset, record.length);
  const [start, length] = [view.getUint32(2, true) * CD_SECTOR_SIZE, view.getUint32(10, true)];
  const isFolder = (record[25]! & FLAG_FOLDER) !== 0;
  const size = Math.max(0, Math.min(length, isFolder ? LARGEST_FOLDER : length, disk.size - start));
  const extents: readonly DiskRange[] = size === 0 ? [] : [{ start, end: start + size }];
  let nodes: readonly FileNode[] | null = null;
  return {
    ...{ name, isFolder, size: isFolder ? 0 : size },
    list: () => {
      if (!isFolder) return [];
      nodes ??= readFolder(disk, readDisk(disk, start, size));
      return nodes;
    },
    read: () => (isFolder ? new Uint8Array(0) : readDisk(disk, start, size)),
    extents: () => extents,
  };
}

function readFolder(disk: DiskImage, bytes: Uint8Array): readonly FileNode[] {
  const nodes: FileNode[] = [];
  for (let at = 0; at + SHORTEST_RECORD <= bytes.length; ) {
    const length = bytes[at]!;
    if (length === 0) {
      // Records do not reach over the end of a sector.
      at = (Math.floor(at / CD_SECTOR_SIZE) + 1) * CD_SECTOR_SIZE;
      continue;
    }
    const record = bytes.subarray(at, at + length);
    at += length;
    if (length < SHORTEST_RECORD || record.length < SHORTEST_RECORD) break;
    const nameEnd = 33 + record[32]!;
    // The folder itself and the one that it is in.
    if (record[32] === 1 && record[33]! <= 1) continue;
    const name = rockRidgeName(record, nameEnd + (nameEnd % 2)) ?? plainName(text(record, 33, nameEnd));
    nodes.push(nodeOf(disk, record, name));
  }
  return nodes;
}

/** Without version and the dot of a name that has no extension. */
function plainName(name: string): string {
  return name.replace(/;\d+$/, '').replace(/\.$/, '');
}

/** The NM entries behind a record's name; null where there are none. */
function rockRidgeName(record: Uint8Array, from: number): string | null {
  let name: string | null = null;
  for (let at = from; at + 5 <= record.length && record[at + 2]! >= 4; at += record[at + 2]!) {
    if (text(record, at, at + 2) === 'NM') name = (name ?? '') + text(record, at + 5, at + record[at + 2]!);
  }
  return name;
}
