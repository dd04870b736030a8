// A FAT file system, read where it is asked for (Microsoft FAT Specification, 2005): 12, 16 and 32 bits, with long names.

import { BootscopeError } from '../error.ts';
import { type DiskImage, readDisk } from './disk-image.ts';
import type { DiskRange, FileNode, FileSystem } from './file-tree.ts';

const ENTRY = 32;
const ATTRIBUTE_FOLDER = 0x10;
const ATTRIBUTE_LABEL = 0x08;
const ATTRIBUTE_LONG_NAME = 0x0f;
const DELETED = 0xe5;
const LAST_LONG_ENTRY = 0x40;
/** Fewer clusters make a FAT12, fewer of the second a FAT16. */
const FAT12_CLUSTERS = 4085;
const FAT16_CLUSTERS = 65525;
/** A folder has at most as many entries (65536), a path of folders ends somewhere. */
const LARGEST_FOLDER = 65536 * ENTRY;

interface Volume {
  readonly disk: DiskImage;
  /** In bytes from the start of the disk. */
  readonly fat: number;
  readonly data: number;
  readonly clusterSize: number;
  readonly clusters: number;
  readonly bits: 12 | 16 | 32;
}

/**
 * The file system that begins at `start`.
 *
 * @throws BootscopeError `image-fat` where there is none
 */
export function openFat(disk: DiskImage, start: number): FileSystem {
  const sector = readDisk(disk, start, 512);
  const view = new DataView(sector.buffer);
  const bytesPerSector = view.getUint16(11, true);
  const sectorsPerCluster = view.getUint8(13);
  const reserved = view.getUint16(14, true);
  const fats = view.getUint8(16);
  const rootEntries = view.getUint16(17, true);
  const sectors = view.getUint16(19, true) || view.getUint32(32, true);
  const fatSectors = view.getUint16(22, true) || view.getUint32(36, true);
  const isPowerOfTwo = (value: number): boolean => value > 0 && (value & (value - 1)) === 0;
  if (![512, 1024, 2048, 4096].includes(bytesPerSector) || !isPowerOfTwo(sectorsPerCluster) || fats === 0) {
    throw new BootscopeError(
      'image-fat',
      `${disk.path} has no FAT file system at byte ${start}: ${bytesPerSector} bytes a sector, ` +
        `${sectorsPerCluster} sectors a cluster`,
    );
  }
  const rootSectors = Math.ceil((rootEntries * ENTRY) / bytesPerSector);
  const root = reserved + fats * fatSectors;
  const clusters = Math.floor((sectors - root - rootSectors) / sectorsPerCluster);
  if (clusters < 1) {
    throw new BootscopeError(
      'image-fat',
      `${disk.path} has a FAT file system at byte ${start} without a cluster: of its ${sectors} sectors ${reserved} are reserved, ` +
        `${fats} FATs have ${fatSectors} each, the root ${rootSectors}`,
    );
  }
  if (start + sectors * bytesPerSector > disk.size + bytesPerSector * 64) {
    throw new BootscopeError(
      'image-fat',
      `${disk.path} is cut in its FAT file system: that has ${sectors} sectors of ${bytesPerSector} bytes from byte ${start} on, ` +
        `the file ends at ${disk.size}`,
    );
  }
  const volume: Volume = {
    disk,
    fat: start + reserved * bytesPerSector,
    data: start + (root + rootSectors) * bytesPerSector,
    clusterSize: sectorsPerCluster * bytesPerSector,
    clusters,
    bits: clusters < FAT12_CLUSTERS ? 12 : clusters < FAT16_CLUSTERS ? 16 : 32,
  };
  const fixedRoot = { start: start + root * bytesPerSector, end: volume.data };
  const extents =
    volume.bits === 32
      ? () => chainExtents(volume, view.getUint32(44, true), LARGEST_FOLDER)
      : () => [fixedRoot];
  const part = (from: number, to: number, owner: string) => ({
    ...{ start: start + from * bytesPerSector, end: start + to * bytesPerSector },
    owner,
  });
  return {
    type: `FAT${volume.bits}`,
    root: folder(volume, '', extents),
    metadata: [
      part(0, 1, `boot sector of FAT${volume.bits}`),
      part(1, reserved, `reserved sectors of FAT${volume.bits}`),
      part(reserved, root, `FAT`),
    ],
  };
}

function folder(volume: Volume, name: string, extents: () => readonly DiskRange[]): FileNode {
  let nodes: readonly FileNode[] | null = null;
  return {
    ...{ name, isFolder: true, size: 0 },
    list: () => {
      nodes ??= readFolder(volume, readExtents(volume, extents()));
      return nodes;
    },
    read: () => new Uint8Array(0),
    extents,
  };
}

/**
 * Where a chain of clusters lies, up to `length` bytes; clusters in a row are one range.
 *
 * @throws BootscopeError `image-fat` where the chain comes back to a cluster that it has already
 */
function chainExtents(volume: Volume, first: number, length: number): readonly DiskRange[] {
  const { disk, data, clusterSize, clusters } = volume;
  const seen = new Set<number>();
  for (
    let cluster = first;
    cluster >= 2 && cluster < clusters + 2 && seen.size * clusterSize < length;
    cluster = next(volume, cluster)
  ) {
    if (seen.has(cluster)) {
      throw new BootscopeError(
        'image-fat',
        `${disk.path} has a chain of clusters that goes round: from ${first} on, ${cluster} comes again after ${seen.size}`,
      );
    }
    seen.add(cluster);
  }
  const ranges: { start: number; end: number }[] = [];
  let left = length;
  for (const cluster of seen) {
    const start = data + (cluster - 2) * clusterSize;
    const end = start + Math.min(clusterSize, left);
    left -= end - start;
    const last = ranges.at(-1);
    if (last?.end === start) last.end = end;
    else ranges.push({ start, end });
  }
  return ranges;
}

function readExtents({ disk }: Volume, extents: readonly DiskRange[]): Uint8Array {
  const bytes = new Uint8Array(extents.reduce((size, { start, end }) => size + end - start, 0));
  let at = 0;
  for (const { start, end } of extents) {
    disk.read(start, bytes.subarray(at, at + end - start));
    at += end - start;
  }
  return bytes;
}

function next({ disk, fat, bits }: Volume, cluster: number): number {
  const entry = new DataView(readDisk(disk, fat + Math.floor((cluster * bits) / 8), 4).buffer);
  if (bits === 32) return entry.getUint32(0, true) & 0x0fffffff;
  const word = entry.getUint16(0, true);
  if (bits === 16) return word >= 0xfff8 ? 0 : word;
  const value = cluster % 2 === 0 ? word & 0xfff : word >>> 4;
  return value >= 0xff8 ? 0 : value;
}

function readFolder(volume: Volume, bytes: Uint8Array): readonly FileNode[] {
  const nodes: FileNode[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let long = '';
  for (let at = 0; at + ENTRY <= bytes.length && bytes[at] !== 0; at += ENTRY) {
    const attributes = bytes[at + 11]!;
    if (bytes[at] === DELETED) {
      long = '';
    } else if (attributes === ATTRIBUTE_LONG_NAME) {
      const part = longNamePart(view, at);
      long = (bytes[at]! & LAST_LONG_ENTRY) !== 0 ? part : part + long;
    } else {
      const name = long !== '' ? long : shortName(bytes.subarray(at, at + ENTRY));
      long = '';
      if ((attributes & ATTRIBUTE_LABEL) !== 0 || name === '.' || name === '..') continue;
      const high = volume.bits === 32 ? view.getUint16(at + 20, true) : 0;
      const first = high * 0x10000 + view.getUint16(at + 26, true);
      if ((attributes & ATTRIBUTE_FOLDER) !== 0) {
        nodes.push(folder(volume, name, () => chainExtents(volume, first, LARGEST_FOLDER)));
      } else {
        const size = view.getUint32(at + 28, true);
        const extents = (): readonly DiskRange[] => chainExtents(volume, first, size);
        nodes.push({
          ...{ name, isFolder: false, size },
          list: () => [],
          read: () => readExtents(volume, extents()),
          extents,
        });
      }
    }
  }
  return nodes;
}

function longNamePart(view: DataView, at: number): string {
  const offsets = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
  const codes = offsets.map((offset) => view.getUint16(at + offset, true));
  const end = codes.indexOf(0);
  return String.fromCharCode(...(end < 0 ? codes : codes.slice(0, end)).filter((code) => code !== 0xffff));
}

/** In lower case where Windows has noted so. */
function shortName(entry: Uint8Array): string {
  const text = (from: number, to: number, isLower: boolean): string => {
    const part = new TextDecoder('latin1').decode(entry.subarray(from, to)).trimEnd();
    return isLower ? part.toLowerCase() : part;
  };
  const base = text(0, 8, (entry[12]! & 0x08) !== 0);
  const extension = text(8, 11, (entry[12]! & 0x10) !== 0);
  return extension === '' ? base : `${base}.${extension}`;
}
