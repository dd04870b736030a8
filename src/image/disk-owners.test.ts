// Whose the sectors of a disk are: file systems that their own tools have made, read back by where their files lie.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { diskOfBytes, readDisk } from './disk-image.ts';
import { DiskOwners, ownersText } from './disk-owners.ts';
import { openExt } from './ext.ts';
import { openFat } from './fat.ts';
import { type FileSystem, findNode } from './file-tree.ts';
import { openIso9660 } from './iso9660.ts';

const env = { ...process.env, PATH: `${process.env.PATH}:/sbin:/usr/sbin`, MTOOLS_SKIP_CHECK: '1' };
const has = (...tools: readonly string[]): boolean =>
  tools.every((tool) => spawnSync('sh', ['-c', `command -v ${tool}`], { env }).status === 0);

let folder = '';
/** Reaches into double indirect blocks of 1 KiB. */
const big = Buffer.from(Array.from({ length: 60_000 }, (_, index) => `line ${index}\n`).join(''));
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'bootscope-owners-'));
  mkdirSync(join(folder, 'root/boot/grub'), { recursive: true });
  mkdirSync(join(folder, 'root/many'));
  writeFileSync(join(folder, 'root/boot/vmlinuz-1.2.3'), big);
  writeFileSync(join(folder, 'root/boot/grub/grub.cfg'), 'set timeout=5\n');
  // A folder of several blocks, which ext4 hashes.
  for (let index = 0; index < 120; index++)
    writeFileSync(join(folder, `root/many/file-number-${index}`), 'x');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function run(tool: string, ...args: readonly string[]): void {
  const done = spawnSync(tool, args, { env, encoding: 'utf8' });
  expect(done.status, `${tool} ${args.join(' ')}: ${done.stderr}`).toBe(0);
}

function diskAt(path: string) {
  return diskOfBytes(path, readFileSync(path));
}

/** A file's bytes and those where it is said to lie are what was put there; the disk's owners say the same. */
function expectFile(
  disk: ReturnType<typeof diskOfBytes>,
  { root }: FileSystem,
  start: number,
  owner: string,
): void {
  const node = findNode(root, 'boot\\vmlinuz-1.2.3')!;
  expect(Buffer.from(node.read()).equals(big)).toBe(true);
  const pieces = node.extents!().map((each) => readDisk(disk, each.start, each.end - each.start));
  expect(Buffer.concat(pieces).subarray(0, big.length).equals(big)).toBe(true);
  const owners = new DiskOwners(disk);
  for (const each of node.extents!()) {
    expect(ownersText(owners.of(each.start, each.end), 512)).toBe(` (${owner})`);
  }
  expect(owners.of(start, start + 512)).toHaveLength(1);
}

describe('the owner of a sector', () => {
  it.skipIf(!has('mke2fs')).each(['ext2', 'ext3', 'ext4'])('is a file of %s (made by mke2fs)', (type) => {
    const path = join(folder, `${type}.img`);
    run('truncate', '-s', '8M', path);
    run('mke2fs', '-q', '-t', type, '-b', '1024', '-d', join(folder, 'root'), path);
    const disk = diskAt(path);
    const system = openExt(disk, 0);
    expect(system.type).toBe(type);
    expectFile(disk, system, 0, '/boot/vmlinuz-1.2.3');
    expect(findNode(system.root, 'many')!.list()).toHaveLength(120);
    const owners = new DiskOwners(disk);
    expect(ownersText(owners.of(0, 2048), 512)).toBe(
      ` (0 to 1 boot sectors of ${type}; 2 to 3 superblock of ${type})`,
    );
  });

  it.skipIf(!has('mkfs.vfat', 'mcopy', 'sfdisk'))(
    'is a file of FAT in a partition, or the gap before it',
    () => {
      const path = join(folder, 'mbr.img');
      run('truncate', '-s', '8M', path);
      run('sh', '-c', `printf 'label: dos\nstart=2048, type=6\n' | sfdisk -q '${path}'`);
      run('mkfs.vfat', '-F', '12', '--offset', '2048', path, '7168');
      const at = `${path}@@1048576`;
      run('mmd', '-i', at, '::boot');
      run('mcopy', '-i', at, join(folder, 'root/boot/vmlinuz-1.2.3'), '::boot/');
      const disk = diskAt(path);
      expectFile(disk, openFat(disk, 2048 * 512), 2048 * 512, 'partition 1: /boot/vmlinuz-1.2.3');
      const owners = new DiskOwners(disk);
      expect(ownersText(owners.of(0, 4 * 512), 512)).toBe(' (0 MBR; 1 to 3 gap behind the MBR)');
      expect(ownersText(owners.of(2048 * 512, 2049 * 512), 512)).toBe(' (partition 1: boot sector of FAT12)');
      const end = disk.size - 512;
      expect(ownersText(owners.of(end, disk.size), 512)).toBe(' (partition 1: free in FAT12)');
    },
  );

  it.skipIf(!has('xorriso'))('is a file of a CD by its Rock Ridge name', () => {
    const path = join(folder, 'cd.iso');
    run('xorriso', '-as', 'mkisofs', '-quiet', '-R', '-o', path, join(folder, 'root'));
    const disk = diskAt(path);
    expectFile(disk, openIso9660(disk), 0, '/boot/vmlinuz-1.2.3');
    const owners = new DiskOwners(disk);
    expect(ownersText(owners.of(32768, 34816), 2048)).toBe(' (primary volume descriptor)');
  });

  it('is told without a file system, too, and for every byte of a damaged one', () => {
    const bytes = new Uint8Array(64 * 512);
    expect(ownersText(new DiskOwners(diskOfBytes('disk', bytes)).of(0, 1024), 512)).toBe(
      ' (0 boot sector; 1 no file system)',
    );
    // A superblock of ext with nothing behind it.
    bytes.set([0x53, 0xef], 1024 + 56);
    const owned = new DiskOwners(diskOfBytes('disk', bytes)).of(0, bytes.length);
    expect([owned[0]!.start, owned.at(-1)!.end]).toEqual([0, bytes.length]);
  });

  it('is told in one piece behind the end of an image, where a floppy still has sectors', () => {
    const image = diskOfBytes('floppy', new Uint8Array(24 * 512));
    let asked = 0;
    const disk = {
      read: image.read.bind(image),
      get size(): number {
        asked++;
        return image.size;
      },
    } as typeof image;
    const owned = new DiskOwners(disk, false).of(0, 2880 * 512);
    expect(owned.map(({ start, end, owner }) => [start, end, owner])).toEqual([
      [0, 512, 'boot sector'],
      [512, 2880 * 512, 'no file system'],
    ]);
    expect(asked).toBeLessThan(100);
  });
});
