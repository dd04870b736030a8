// Hostile disks: partition tables, FAT file systems and boot catalogs of CDs, small ones that are made here and then changed.

import { crc32 } from '../../src/codecs/checksums.ts';
import { BootscopeError } from '../../src/error.ts';
import { type DiskImage, diskOfBytes } from '../../src/image/disk-image.ts';
import { DiskOwners } from '../../src/image/disk-owners.ts';
import { readCdBootImage } from '../../src/image/el-torito.ts';
import { openExt } from '../../src/image/ext.ts';
import { openFat } from '../../src/image/fat.ts';
import type { FileNode } from '../../src/image/file-tree.ts';
import { openIso9660 } from '../../src/image/iso9660.ts';
import { readPartitionTable } from '../../src/image/partition-table.ts';
import { Drives } from '../../src/machine/drives.ts';
import type { Dice } from './dice.ts';
import { changeAny, changeFields, headerFields } from './mutate.ts';

const SECTOR = 512;
const CD_SECTOR = 2048;
const SECTORS = 256;
const MOST_NODES = 300;

function put(
  bytes: Uint8Array,
  at: number,
  values: readonly (readonly [offset: number, size: 1 | 2 | 4 | 8, value: number])[],
): void {
  const view = new DataView(bytes.buffer);
  for (const [offset, size, value] of values) {
    if (size === 1) view.setUint8(at + offset, value);
    else if (size === 2) view.setUint16(at + offset, value, true);
    else if (size === 4) view.setUint32(at + offset, value, true);
    else view.setBigUint64(at + offset, BigInt(value), true);
  }
}

/** A primary and an extended partition with two logical ones. */
function mbrDisk(): Uint8Array {
  const bytes = new Uint8Array(SECTORS * SECTOR);
  const table = (
    sector: number,
    entries: readonly (readonly [type: number, start: number, count: number])[],
  ): void => {
    bytes.set([0x55, 0xaa], sector * SECTOR + 510);
    for (const [index, [type, start, count]] of entries.entries()) {
      put(bytes, sector * SECTOR + 446 + index * 16, [
        [4, 1, type],
        [8, 4, start],
        [12, 4, count],
      ]);
    }
  };
  table(0, [
    [0x83, 10, 50],
    [5, 64, 100],
  ]);
  table(64, [
    [0x83, 2, 10],
    [5, 40, 40],
  ]);
  table(104, [[0x82, 2, 30]]);
  return bytes;
}

function gptDisk(dice: Dice): Uint8Array {
  const bytes = new Uint8Array(SECTORS * SECTOR);
  put(bytes, 446, [
    [4, 1, 0xee],
    [8, 4, 1],
    [12, 4, SECTORS - 1],
  ]);
  bytes.set([0x55, 0xaa], 510);
  for (const [header, table] of [
    [1, 2],
    [SECTORS - 1, SECTORS - 33],
  ] as const) {
    const at = header * SECTOR;
    bytes.set(Buffer.from('EFI PART'), at);
    put(bytes, at, [
      [12, 4, 92],
      [24, 8, header],
      [72, 8, table],
      [80, 4, 128],
      [84, 4, 128],
    ]);
    bytes.set(Buffer.from('28732ac11ff8d211ba4b00a0c93ec93b', 'hex'), table * SECTOR);
    put(bytes, table * SECTOR, [
      [32, 8, 40],
      [40, 8, 99],
    ]);
    // Changed before it is sealed, so that what the sums cover is looked at, too.
    const changed = changeFields(bytes, dice, headerFields(dice.once(2) ? at + 72 : table * SECTOR, 48));
    bytes.set(changed);
    put(bytes, at, [[88, 4, crc32(bytes.subarray(table * SECTOR, table * SECTOR + 128 * 128))]]);
    put(bytes, at, [[16, 4, 0]]);
    put(bytes, at, [[16, 4, crc32(bytes.subarray(at, at + 92))]]);
  }
  return bytes;
}

/** FAT12 or FAT32 (by its number of clusters) with a folder in a folder, a long name and a file of two clusters. */
function fatDisk(dice: Dice): Uint8Array {
  const isLarge = dice.once(4);
  const sectors = isLarge ? 66_700 : SECTORS;
  const fatSectors = isLarge ? 520 : 2;
  const bytes = new Uint8Array(sectors * SECTOR);
  put(bytes, 0, [
    [11, 2, SECTOR],
    [13, 1, 1],
    [14, 2, 1],
    [16, 1, 1],
    [17, 2, isLarge ? 0 : 16],
    [32, 4, sectors],
    [isLarge ? 36 : 22, isLarge ? 4 : 2, fatSectors],
    ...(isLarge ? ([[44, 4, 2]] as const) : []),
  ]);
  const root = (1 + fatSectors) * SECTOR;
  const cluster = (number: number): number => root + (isLarge ? 0 : SECTOR) + (number - 2) * SECTOR;
  const entry = (at: number, name: string, attributes: number, first: number, size: number): void => {
    bytes.set(Buffer.from(name.padEnd(11)), at);
    put(bytes, at, [
      [11, 1, attributes],
      [26, 2, first],
      [28, 4, size],
    ]);
  };
  entry(root, 'EFI', 0x10, 3, 0);
  entry(root + 32, 'FILE    BIN', 0, 5, 700);
  entry(cluster(3), 'BOOT', 0x10, 4, 0);
  entry(cluster(4), 'DEEP    EFI', 0, 7, 20);
  if (isLarge)
    put(
      bytes,
      SECTOR,
      [2, 3, 4, 6, 6, 7].map((_, index) => [8 + index * 4, 4, index === 3 ? 6 : 0x0fff_ffff] as const),
    );
  else bytes.set(Buffer.from('f8fffffffffffffff06000ffffff', 'hex'), SECTOR);
  const fields = [
    ...headerFields(8, 40),
    ...headerFields(SECTOR, 64),
    ...headerFields(root, 64),
    ...headerFields(cluster(3), 32),
    ...headerFields(cluster(4), 32),
  ];
  return changeAny(bytes, dice, fields);
}

function cd(dice: Dice): Uint8Array {
  const bytes = new Uint8Array(40 * CD_SECTOR);
  const [record, catalog] = [16 * CD_SECTOR, 20 * CD_SECTOR];
  bytes.set([0, ...Buffer.from('CD001\x01EL TORITO SPECIFICATION')], record);
  put(bytes, record, [[0x47, 4, 20]]);
  const [primary, folder] = [17 * CD_SECTOR, 24 * CD_SECTOR];
  bytes.set([1, ...Buffer.from('CD001\x01')], primary);
  bytes.set([255, ...Buffer.from('CD001\x01')], 18 * CD_SECTOR);
  const entries = [primary + 156, ...Array.from({ length: 8 }, (_, index) => folder + index * 40)];
  for (const [index, at] of entries.entries()) {
    put(bytes, at, [
      [0, 1, 40],
      [2, 4, index < 3 ? 24 : dice.below(40)],
      [10, 4, 1 + dice.below(4096)],
      [25, 1, index === 0 || dice.once(4) ? 2 : 0],
      [32, 1, 2],
      [33, 2, 0x6161 + index],
    ]);
  }
  bytes.set([1], catalog);
  bytes.set([0xaa, 0x55, 0x55, 0xaa], catalog + 28);
  put(bytes, catalog + 32, [
    [0, 1, 0x88],
    [1, 1, dice.below(5)],
    [6, 2, 4],
    [8, 4, 30],
  ]);
  const fields = [
    ...headerFields(record + 0x46, 8),
    ...headerFields(catalog + 32, 16),
    ...headerFields(folder, 40),
  ];
  return changeAny(bytes, dice, fields);
}

/** An ext file system of one group whose root names itself and other inodes. */
function ext(dice: Dice): Uint8Array {
  const bytes = new Uint8Array(64 * 1024);
  const [bitmaps, inodes, folder] = [3, 5, 20];
  put(bytes, 1024, [
    [0, 4, 64],
    [4, 4, 64],
    [20, 4, 1],
    [32, 4, 8192],
    [40, 4, 64],
    [56, 2, 0xef53],
    [76, 4, 1],
    [88, 2, 128],
    [96, 4, dice.once(2) ? 0x40 : 0],
  ]);
  put(bytes, 2048, [
    [0, 4, bitmaps],
    [4, 4, bitmaps + 1],
    [8, 4, inodes],
  ]);
  for (let number = 1; number <= 20; number++) {
    put(bytes, inodes * 1024 + (number - 1) * 128, [
      [0, 2, number === 2 || dice.once(4) ? 0x41ed : 0x81a4],
      [4, 4, number === 2 ? 1024 : dice.below(100_000)],
      [32, 4, dice.once(2) ? 0x80000 : 0],
      [40, 4, number === 2 || dice.once(2) ? folder : 0x1f30a],
      [44, 4, dice.below(64)],
      [88, 4, dice.below(64)],
    ]);
  }
  for (let entry = 0; entry < 20; entry++) {
    put(bytes, folder * 1024 + entry * 16, [
      [0, 4, entry + 1],
      [4, 2, 16],
      [6, 1, 1],
      [8, 1, 97 + entry],
    ]);
  }
  return changeAny(bytes, dice, [...headerFields(1024, 104), ...headerFields(2048, 32)]);
}

/** What is in a file system; of folders that are in one another, a part. */
function walk(root: FileNode): readonly string[] {
  const found: string[] = [];
  const queue = [root];
  for (let node = queue.shift(); node !== undefined && found.length < MOST_NODES; node = queue.shift()) {
    found.push(`${node.name} ${node.size}`);
    try {
      if (node.isFolder) queue.push(...node.list());
      else found.push(String(node.read().length));
    } catch (error) {
      if (!(error instanceof BootscopeError)) throw error;
      found.push(error.message);
    }
  }
  return found;
}

const disk = (bytes: Uint8Array): DiskImage => diskOfBytes('disk', bytes);

/** Readers of disks by name. */
export const DISK_READERS: Readonly<Record<string, (dice: Dice) => unknown>> = {
  'partition-table': (dice) => {
    const isGpt = dice.once(2);
    const fields = isGpt
      ? headerFields(446, 16)
      : [...headerFields(446, 32), ...headerFields(64 * SECTOR + 446, 32)];
    const bytes = isGpt ? gptDisk(dice) : mbrDisk();
    return readPartitionTable(disk(isGpt && !dice.once(3) ? bytes : changeAny(bytes, dice, fields)));
  },
  fat: (dice) => walk(openFat(disk(fatDisk(dice)), 0).root),
  ext: (dice) => walk(openExt(disk(ext(dice)), 0).root),
  iso9660: (dice) => walk(openIso9660(disk(cd(dice))).root),
  'disk-owners': (dice) => {
    const bytes = [mbrDisk, gptDisk, fatDisk, ext, cd][dice.below(5)]!(dice);
    const owned = new DiskOwners(disk(changeAny(bytes, dice, headerFields(0, 512)))).of(0, bytes.length);
    return owned.length;
  },
  cdrom: (dice) => {
    const image = disk(cd(dice));
    const boot = readCdBootImage(image);
    return [boot, new Drives({ cdrom: image }).boot(['cdrom']).bytes.length];
  },
};
