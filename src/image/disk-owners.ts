// What the sectors of a disk belong to: the partition table, a loader's own place, a file system's tables, a folder, a file by its
// name. File systems are walked only as far as it takes to answer.

import { BootscopeError } from '../error.ts';
import { type DiskImage, readDisk, SECTOR_SIZE } from './disk-image.ts';
import { CD_SECTOR_SIZE } from './el-torito.ts';
import { isExt, openExt } from './ext.ts';
import { openFat } from './fat.ts';
import type { DiskRange, FileNode, FileSystem } from './file-tree.ts';
import { GRUB_CORE, grubCore } from './grub-core.ts';
import { openIso9660 } from './iso9660.ts';
import { type Partition, type PartitionTable, readPartitionTable } from './partition-table.ts';

/** Bytes [start, end) of a disk and what they belong to. */
export interface OwnedRange extends DiskRange {
  /** `MBR`, `/boot/vmlinuz`, `FAT`. */
  readonly owner: string;
  /** Number of the partition; null outside of them. */
  readonly partition: number | null;
  /** The file, where it is one. */
  readonly file: FileNode | null;
}

const GAP = 'gap behind the MBR';
const OUTSIDE = 'in no partition';
/** Owners of what lies in no partition. */
export const IN_NO_PARTITION: ReadonlySet<string> = new Set([GAP, OUTSIDE]);

/** Files and folders of a file system that are looked at. */
const MOST_NODES = 20_000;
/** Where boot loaders and what they load lie: looked at before others. */
const BOOT_FOLDERS =
  /^(boot|efi|grub2?|i386-pc|x86_64-efi|(sys|iso|ext)linux|loader|entries|live|casper|install.*|images)$/i;
const BIOS_BOOT = '21686148-6449-6e6f-744e-656564454649';
const CD_IDENTIFIER_AT = 0x8001;
const GPT_TABLE_SECTORS = 33;

const UNPARTITIONED: PartitionTable = { kind: 'none', partitions: [], problems: [] };

export class DiskOwners {
  readonly #disk: DiskImage;
  readonly #isPartitioned: boolean;
  #table: PartitionTable | null = null;
  /** Outside of file systems, the first that fits counts. */
  readonly #fixed: OwnedRange[] = [];
  readonly #systems = new Map<number | null, FileSystemOwners | null>();

  /** @param isPartitioned - false for a floppy, where what looks like a table of partitions is code, and for a CD, which is read as one */
  constructor(disk: DiskImage, isPartitioned = true) {
    this.#disk = disk;
    this.#isPartitioned = isPartitioned;
  }

  get table(): PartitionTable {
    if (this.#table === null) {
      this.#table = this.#isPartitioned ? readPartitionTable(this.#disk) : UNPARTITIONED;
      this.#addFixed(this.#table);
    }
    return this.#table;
  }

  /** Whose the bytes [start, end) are, in their order and without gaps. */
  of(start: number, end: number): readonly OwnedRange[] {
    const found: { -readonly [Key in keyof OwnedRange]: OwnedRange[Key] }[] = [];
    for (let at = start; at < end; ) {
      const one = this.#at(at);
      const to = Math.min(end, Math.max(one.end, at + 1));
      const last = found.at(-1);
      if (last !== undefined && last.owner === one.owner && last.partition === one.partition) last.end = to;
      else found.push({ ...one, start: at, end: to });
      at = to;
    }
    return found;
  }

  #at(at: number): OwnedRange {
    const { partitions } = this.table;
    // A floppy's sectors may lie behind the end of its image.
    const diskEnd = at < this.#disk.size ? this.#disk.size : Number.POSITIVE_INFINITY;
    const partition = partitions.find(
      ({ start, sectors }) => at >= start * SECTOR_SIZE && at < (start + sectors) * SECTOR_SIZE,
    );
    const fixed = this.#fixed.find(({ start, end }) => at >= start && at < end);
    if (fixed !== undefined) return fixed;
    const isWhole = partitions.length === 0;
    if (partition === undefined && !isWhole) {
      const next = Math.min(
        diskEnd,
        ...[
          ...partitions.map(({ start }) => start * SECTOR_SIZE),
          ...this.#fixed.map(({ start }) => start),
        ].filter((start) => start > at),
      );
      const first = Math.min(...partitions.map(({ start }) => start * SECTOR_SIZE));
      const owner = at < first ? GAP : OUTSIDE;
      return { start: at, end: Math.max(next, at + 1), owner, partition: null, file: null };
    }
    const system = this.#systemOf(partition ?? null);
    const number = partition?.number ?? null;
    const own = system?.at(at) ?? null;
    if (own !== null) return { ...own, partition: number };
    const end = partition === undefined ? diskEnd : (partition.start + partition.sectors) * SECTOR_SIZE;
    const fixedAfter = this.#fixed.map(({ start }) => start).filter((start) => start > at);
    const first = (partition?.start ?? 0) * SECTOR_SIZE + SECTOR_SIZE;
    const ofFirst = system === null && at < first ? [first] : [];
    const until = Math.min(system?.next(at) ?? end, end, ...fixedAfter, ...ofFirst);
    const owner = system === null ? unknownOwner(partition ?? null, at) : `free in ${system.type}`;
    return { start: at, end: Math.max(until, at + 1), owner, partition: number, file: null };
  }

  #systemOf(partition: Partition | null): FileSystemOwners | null {
    const key = partition?.number ?? null;
    let system = this.#systems.get(key);
    if (system === undefined) {
      const found = openFileSystem(this.#disk, (partition?.start ?? 0) * SECTOR_SIZE);
      system = found === null ? null : new FileSystemOwners(found);
      this.#systems.set(key, system);
    }
    return system;
  }

  #addFixed({ kind, partitions }: PartitionTable): void {
    const add = (start: number, end: number, owner: string): void => {
      this.#fixed.push({ start, end, owner, partition: null, file: null });
    };
    const sectors = Math.floor(this.#disk.size / SECTOR_SIZE);
    const sector = (first: number, count: number, owner: string): void =>
      add(first * SECTOR_SIZE, (first + count) * SECTOR_SIZE, owner);
    const core = grubCore(this.#disk, 0);
    const size = core.reduce((sum, { start, end }) => sum + end - start, 0);
    const file = fileOfRanges(this.#disk, GRUB_CORE, size, core);
    for (const { start, end } of core) {
      const inside = partitions.find(
        (each) => start >= each.start * SECTOR_SIZE && start < (each.start + each.sectors) * SECTOR_SIZE,
      );
      // In a file system it is a file, by its name.
      if (inside !== undefined && inside.type !== BIOS_BOOT) continue;
      this.#fixed.push({ start, end, owner: GRUB_CORE, partition: inside?.number ?? null, file });
    }
    if (kind === 'none') return;
    sector(0, 1, 'MBR');
    if (kind === 'gpt') {
      sector(1, 1, 'GPT header');
      sector(2, GPT_TABLE_SECTORS - 1, 'GPT entries');
      sector(sectors - GPT_TABLE_SECTORS, GPT_TABLE_SECTORS - 1, 'second GPT entries');
      sector(sectors - 1, 1, 'second GPT header');
    }
  }
}

/** What lies in no file system, as a file. */
function fileOfRanges(disk: DiskImage, name: string, size: number, ranges: readonly DiskRange[]): FileNode {
  return {
    ...{ name, isFolder: false, size },
    list: () => [],
    read: () => {
      const bytes = new Uint8Array(size);
      let at = 0;
      for (const { start, end } of ranges) {
        disk.read(start, bytes.subarray(at, at + end - start));
        at += end - start;
      }
      return bytes;
    },
    extents: () => ranges,
  };
}

function unknownOwner(partition: Partition | null, at: number): string {
  if (partition === null) return at < SECTOR_SIZE ? 'boot sector' : 'no file system';
  const { type, start } = partition;
  if (type === BIOS_BOOT) return 'BIOS boot partition';
  if (at < (start + 1) * SECTOR_SIZE) return 'boot sector';
  return `no file system that is known, type ${typeof type === 'number' ? `0x${type.toString(16)}` : type}`;
}

/** What begins there; null for what is none, or too damaged. */
function openFileSystem(disk: DiskImage, start: number): FileSystem | null {
  try {
    if (start === 0 && text(readDisk(disk, CD_IDENTIFIER_AT, 5)) === 'CD001') return openIso9660(disk);
    if (isExt(disk, start)) return openExt(disk, start);
    const sector = readDisk(disk, start, SECTOR_SIZE);
    const isFat = sector[510] === 0x55 && sector[511] === 0xaa;
    return isFat ? openFat(disk, start) : null;
  } catch (error) {
    if (error instanceof BootscopeError) return null;
    throw error;
  }
}

function text(bytes: Uint8Array): string {
  return new TextDecoder('latin1').decode(bytes);
}

interface Found extends DiskRange {
  readonly owner: string;
  readonly file: FileNode | null;
}

interface Waiting {
  readonly node: FileNode;
  readonly path: string;
}

/** The owners of one file system's bytes. */
class FileSystemOwners {
  readonly type: string;
  /** Files are padded to whole sectors of so many bytes. */
  readonly #sector: number;
  /** By start, apart from each other. */
  #found: Found[];
  #isSorted = false;
  readonly #first: Waiting[] = [];
  readonly #others: Waiting[] = [];
  #nodes = 0;

  constructor({ type, root, metadata }: FileSystem) {
    this.type = type;
    this.#sector = type === 'ISO 9660' ? CD_SECTOR_SIZE : SECTOR_SIZE;
    this.#found = metadata.map((each) => ({ ...each, file: null }));
    this.#first.push({ node: root, path: '' });
  }

  at(at: number): Found | null {
    const found = this.#lookUp(at);
    if (found !== null) return found;
    while (!this.#isDone) if (this.#walk(at)) return this.#lookUp(at);
    return null;
  }

  /** Where the next begins that is known. */
  next(at: number): number | null {
    this.#sort();
    return this.#found.find(({ start }) => start > at)?.start ?? null;
  }

  get #isDone(): boolean {
    return this.#nodes >= MOST_NODES || (this.#first.length === 0 && this.#others.length === 0);
  }

  #sort(): void {
    if (this.#isSorted) return;
    this.#found = this.#found.sort((a, b) => a.start - b.start);
    this.#isSorted = true;
  }

  #lookUp(at: number): Found | null {
    this.#sort();
    let [low, high] = [0, this.#found.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#found[middle]!.start <= at) low = middle + 1;
      else high = middle;
    }
    // Small metadata may lie inside of what begins before it.
    for (let index = low - 1; index >= Math.max(0, low - 3); index--) {
      const each = this.#found[index]!;
      if (at < each.end) return each;
    }
    return null;
  }

  /** Looks at one more file or folder; whether it covers `at`. */
  #walk(at: number): boolean {
    const next = this.#first.shift() ?? this.#others.shift();
    if (next === undefined) return false;
    const { node, path } = next;
    this.#nodes++;
    let covers = false;
    try {
      const owner = node.isFolder ? `folder ${path === '' ? '/' : path}` : path;
      for (const { start, end } of node.extents?.() ?? []) {
        const padded = Math.ceil(end / this.#sector) * this.#sector;
        this.#found.push({ start, end: padded, owner, file: node.isFolder ? null : node });
        this.#isSorted = false;
        if (at >= start && at < padded) covers = true;
      }
      for (const child of node.list()) {
        const isFirst = path === '' || BOOT_FOLDERS.test(child.name);
        const waiting = { node: child, path: `${path}/${child.name}` };
        const isBoot = !child.isFolder || BOOT_FOLDERS.test(child.name);
        if (isFirst && isBoot) this.#first.push(waiting);
        else if (!child.isFolder && BOOT_FOLDERS.test(node.name)) this.#first.push(waiting);
        else this.#others.push(waiting);
      }
    } catch (error) {
      if (!(error instanceof BootscopeError)) throw error;
    }
    return covers;
  }
}

/** `partition 1: /ldlinux.sys`. */
export function ownerName({ partition, owner }: Pick<OwnedRange, 'partition' | 'owner'>): string {
  return partition === null ? owner : `partition ${partition}: ${owner}`;
}

/** `(partition 1: /ldlinux.sys)`, with the sectors where there are several. */
export function ownersText(owners: readonly OwnedRange[], sectorSize: number): string {
  if (owners.length === 0) return '';
  if (owners.length === 1) return ` (${ownerName(owners[0]!)})`;
  const [shown, more] = [owners.slice(0, OWNERS_SHOWN), owners.length - OWNERS_SHOWN];
  const parts = shown.map((each) => {
    const [first, last] = [Math.floor(each.start / sectorSize), Math.ceil(each.end / sectorSize) - 1];
    return `${first === last ? first : `${first} to ${last}`} ${ownerName(each)}`;
  });
  return ` (${parts.join('; ')}${more > 0 ? `; and ${more} more` : ''})`;
}

const OWNERS_SHOWN = 6;
