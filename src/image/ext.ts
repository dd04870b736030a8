// An ext2, ext3 or ext4 file system: where its files lie on a disk (the kernel's Documentation/filesystems/ext4).

import { BootscopeError } from '../error.ts';
import { type DiskImage, readDisk } from './disk-image.ts';
import type { DiskRange, FileNode, FileSystem } from './file-tree.ts';

const SUPERBLOCK = 1024;
const SUPERBLOCK_SIZE = 1024;
const MAGIC = 0xef53;
const ROOT_INODE = 2;
const JOURNAL_INODE = 8;
/** Of s_feature_compat, s_feature_incompat. */
const COMPAT_HAS_JOURNAL = 0x4;
const INCOMPAT_EXTENTS = 0x40;
const INCOMPAT_64BIT = 0x80;
const INCOMPAT_META_BG = 0x10;
/** Of i_flags. */
const EXTENTS_FLAG = 0x80000;
const INLINE_DATA_FLAG = 0x10000000;
const EXTENT_MAGIC = 0xf30a;
const DEEPEST_EXTENT_TREE = 5;
const MODE_TYPE = 0xf000;
const MODE_FOLDER = 0x4000;
const MODE_FILE = 0x8000;
const MODE_LINK = 0xa000;
/** A link of up to as many bytes has its target in the inode. */
const FAST_LINK = 60;
const DIRECT_BLOCKS = 12;
const LARGEST_FOLDER = 2 ** 24;
/** Of damaged ones. */
const MOST_BLOCKS = 2 ** 22;
const MOST_GROUPS = 2 ** 18;

interface Volume {
  readonly disk: DiskImage;
  readonly start: number;
  readonly blockSize: number;
  readonly blocks: number;
  readonly inodes: number;
  readonly inodesPerGroup: number;
  readonly inodeSize: number;
  /** Where each group's inodes begin, in blocks. */
  readonly inodeTables: readonly number[];
}

/** Whether one begins there. */
export function isExt(disk: DiskImage, start: number): boolean {
  return new DataView(readDisk(disk, start + SUPERBLOCK + 56, 2).buffer).getUint16(0, true) === MAGIC;
}

/**
 * The file system that begins at `start`.
 *
 * @throws BootscopeError `image-ext` where there is none that can be read
 */
export function openExt(disk: DiskImage, start: number): FileSystem {
  const view = new DataView(readDisk(disk, start + SUPERBLOCK, SUPERBLOCK_SIZE).buffer);
  const u32 = (at: number): number => view.getUint32(at, true);
  const u16 = (at: number): number => view.getUint16(at, true);
  const refuse = (why: string): never => {
    throw new BootscopeError(
      'image-ext',
      `${disk.path} has no ext2, ext3 or ext4 file system at byte ${start} that can be read: ${why}`,
    );
  };
  if (u16(56) !== MAGIC) refuse(`its magic is 0x${u16(56).toString(16)}`);
  const [logBlockSize, blocks, first] = [u32(24), u32(4), u32(20)];
  const [blocksPerGroup, inodesPerGroup] = [u32(32), u32(40)];
  if (logBlockSize > 6 || blocksPerGroup === 0 || inodesPerGroup === 0) {
    refuse(
      `its blocks have 2^${10 + logBlockSize} bytes, its groups ${blocksPerGroup} blocks and ${inodesPerGroup} inodes`,
    );
  }
  const blockSize = 1024 << logBlockSize;
  const inodeSize = u32(76) === 0 ? 128 : u16(88);
  const groups = Math.ceil((blocks - first) / blocksPerGroup);
  const [compatible, incompatible] = [u32(92), u32(96)];
  const is64 = (incompatible & INCOMPAT_64BIT) !== 0;
  const size = is64 ? Math.max(32, u16(254)) : 32;
  if (groups < 1 || groups > MOST_GROUPS || inodeSize < 128 || inodeSize > blockSize) {
    refuse(`it has ${groups} groups, its inodes ${inodeSize} bytes`);
  }
  if ((incompatible & INCOMPAT_META_BG) !== 0) refuse('its group descriptors lie apart (meta_bg)');
  const table = first + 1;
  const descriptors = new DataView(readDisk(disk, start + table * blockSize, groups * size).buffer);
  const block = (group: number, at: number): number =>
    descriptors.getUint32(group * size + at, true) +
    (is64 && size >= 64 ? descriptors.getUint32(group * size + at + 32, true) * 2 ** 32 : 0);
  const tables = Array.from({ length: groups }, (_, group) => block(group, 8));
  const volume: Volume = {
    ...{ disk, start, blockSize, blocks, inodeSize, inodesPerGroup, inodes: u32(0), inodeTables: tables },
  };
  const type =
    (incompatible & INCOMPAT_EXTENTS) !== 0
      ? 'ext4'
      : (compatible & COMPAT_HAS_JOURNAL) !== 0
        ? 'ext3'
        : 'ext2';
  const range = (from: number, count: number, owner: string) => ({
    ...{ start: start + from * blockSize, end: start + (from + count) * blockSize },
    owner,
  });
  const tableBlocks = Math.ceil((groups * size) / blockSize);
  const inodeBlocks = Math.ceil((inodesPerGroup * inodeSize) / blockSize);
  return {
    type,
    root: nodeOf(volume, '', ROOT_INODE) ?? refuse('its root is no folder'),
    metadata: [
      { start, end: start + SUPERBLOCK, owner: `boot sectors of ${type}` },
      { start: start + SUPERBLOCK, end: start + 2 * SUPERBLOCK, owner: `superblock of ${type}` },
      range(table, tableBlocks, 'group descriptors'),
      range(table + tableBlocks, u16(206), 'reserved group descriptors'),
      ...(nodeOf(volume, '', JOURNAL_INODE)?.extents?.() ?? []).map((each) => ({
        ...each,
        owner: 'journal',
      })),
      ...tables.flatMap((inodeTable, group) => [
        range(block(group, 0), 1, 'block bitmap'),
        range(block(group, 4), 1, 'inode bitmap'),
        range(inodeTable, inodeBlocks, 'inodes'),
      ]),
    ],
  };
}

/** Null for what is neither file, folder nor link. */
function nodeOf(volume: Volume, name: string, number: number): FileNode | null {
  const { disk, start, blockSize, inodeSize, inodesPerGroup, inodeTables, inodes } = volume;
  if (number < 1 || number > inodes) return null;
  const [group, index] = [Math.floor((number - 1) / inodesPerGroup), (number - 1) % inodesPerGroup];
  const inodeTable = inodeTables[group];
  if (inodeTable === undefined) return null;
  const inode = new DataView(readDisk(disk, start + inodeTable * blockSize + index * inodeSize, 128).buffer);
  const type = inode.getUint16(0, true) & MODE_TYPE;
  const isFolder = type === MODE_FOLDER;
  if (!isFolder && type !== MODE_FILE && type !== MODE_LINK) return null;
  const high = isFolder ? 0 : inode.getUint32(108, true);
  const size = inode.getUint32(4, true) + high * 2 ** 32;
  const flags = inode.getUint32(32, true);
  const isInside = (flags & INLINE_DATA_FLAG) !== 0 || (type === MODE_LINK && size < FAST_LINK);
  const extents = (): readonly DiskRange[] =>
    isInside ? [] : extentsOf(volume, inode, (flags & EXTENTS_FLAG) !== 0, size);
  let nodes: readonly FileNode[] | null = null;
  return {
    ...{ name, isFolder, size: isFolder ? 0 : size },
    list: () => {
      if (!isFolder) return [];
      nodes ??= readFolder(volume, readExtents(disk, extents(), Math.min(size, LARGEST_FOLDER)));
      return nodes;
    },
    read: () => (isFolder ? new Uint8Array(0) : readExtents(disk, extents(), size)),
    extents,
  };
}

/** Holes are left out: what is read is as long as what is there. */
function readExtents(disk: DiskImage, extents: readonly DiskRange[], most: number): Uint8Array {
  const there = extents.reduce((sum, { start, end }) => sum + end - start, 0);
  const bytes = new Uint8Array(Math.min(there, most));
  let at = 0;
  for (const { start, end } of extents) {
    const length = Math.min(end - start, bytes.length - at);
    disk.read(start, bytes.subarray(at, at + length));
    at += length;
  }
  return bytes;
}

/** Where the blocks of an inode lie, in the order of the file. */
function extentsOf(volume: Volume, inode: DataView, isTree: boolean, size: number): readonly DiskRange[] {
  const { start, blockSize, blocks, disk } = volume;
  const ranges: { start: number; end: number }[] = [];
  let left = Math.min(Math.ceil(size / blockSize), MOST_BLOCKS, blocks);
  const add = (block: number, count: number): void => {
    const taken = Math.min(count, left);
    left -= taken;
    if (block === 0 || taken === 0 || block + taken > blocks) return;
    const [from, to] = [start + block * blockSize, start + (block + taken) * blockSize];
    const last = ranges.at(-1);
    if (last?.end === from) last.end = to;
    else ranges.push({ start: from, end: to });
  };
  const blockAt = (block: number): DataView =>
    new DataView(readDisk(disk, start + block * blockSize, blockSize).buffer);

  const walkTree = (node: DataView, from: number, depth: number): void => {
    if (depth > DEEPEST_EXTENT_TREE || node.getUint16(from, true) !== EXTENT_MAGIC) return;
    const isLeaf = node.getUint16(from + 6, true) === 0;
    const most = Math.floor((node.byteLength - from - 12) / 12);
    const entries = Math.min(node.getUint16(from + 2, true), most);
    for (let index = 0; index < entries && left > 0; index++) {
      const at = from + 12 + index * 12;
      if (isLeaf) {
        const block = node.getUint16(at + 6, true) * 2 ** 32 + node.getUint32(at + 8, true);
        // More than 32768 marks blocks that were reserved and never written.
        const count = node.getUint16(at + 4, true);
        add(block, count > 32768 ? count - 32768 : count);
      } else {
        const child = node.getUint16(at + 8, true) * 2 ** 32 + node.getUint32(at + 4, true);
        if (child > 0 && child < blocks) walkTree(blockAt(child), 0, depth + 1);
      }
    }
  };
  const walkMap = (block: number, level: number): void => {
    if (left <= 0) return;
    if (level === 0) {
      add(block, 1);
      return;
    }
    const pointers = blockSize / 4;
    if (block === 0 || block >= blocks) {
      left -= pointers ** level;
      return;
    }
    const node = blockAt(block);
    for (let index = 0; index < pointers && left > 0; index++) {
      walkMap(node.getUint32(index * 4, true), level - 1);
    }
  };

  const map = 40;
  if (isTree) walkTree(new DataView(inode.buffer, map, 60), 0, 0);
  else {
    for (let index = 0; index < DIRECT_BLOCKS + 3; index++) {
      walkMap(inode.getUint32(map + index * 4, true), Math.max(0, index - DIRECT_BLOCKS + 1));
    }
  }
  const over = ranges.reduce((sum, { start: from, end }) => sum + end - from, 0) - size;
  const last = ranges.at(-1);
  // The end of the last block is nobody's.
  if (last !== undefined && over > 0 && over < blockSize) last.end -= over;
  return ranges;
}

/** The entries of hashed folders lie as those of others do, behind an index that looks like an empty one. */
function readFolder(volume: Volume, bytes: Uint8Array): readonly FileNode[] {
  const nodes: FileNode[] = [];
  const view = new DataView(bytes.buffer);
  for (let at = 0; at + 8 <= bytes.length; ) {
    const [number, length] = [view.getUint32(at, true), view.getUint16(at + 4, true)];
    if (length < 8) break;
    const name = new TextDecoder().decode(bytes.subarray(at + 8, at + 8 + view.getUint8(at + 6)));
    at += length;
    if (number === 0 || name === '' || name === '.' || name === '..') continue;
    const node = nodeOf(volume, name, number);
    if (node !== null) nodes.push(node);
  }
  return nodes;
}
