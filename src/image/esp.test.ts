// EFI system partitions: folders, and FAT file systems on disks.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openEsp } from './esp.ts';
import { findNode } from './file-tree.ts';

const env = { ...process.env, PATH: `${process.env.PATH}:/sbin:/usr/sbin`, MTOOLS_SKIP_CHECK: '1' };
const hasTools = ['mcopy', 'mkfs.vfat'].every(
  (tool) => spawnSync('sh', ['-c', `command -v ${tool}`], { env }).status === 0,
);

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'bootscope-esp-'));
  mkdirSync(join(folder, 'esp/EFI/BOOT'), { recursive: true });
  writeFileSync(join(folder, 'esp/EFI/BOOT/BOOTX64.EFI'), 'MZ program');
  writeFileSync(join(folder, 'esp/a rather long name.conf'), 'x'.repeat(70_000));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('an EFI system partition', () => {
  it('may be a folder', () => {
    const esp = openEsp(join(folder, 'esp'));
    const program = findNode(esp.root, 'EFI\\BOOT\\BOOTX64.EFI')!;
    expect(new TextDecoder().decode(program.read())).toBe('MZ program');
    expect(findNode(esp.root, '\\efi\\boot\\bootx64.efi')?.size).toBe(10);
    expect([esp.disk, findNode(esp.root, 'EFI\\nothing')]).toEqual([null, null]);
  });

  it.skipIf(!hasTools).each([
    [12, '1440K'],
    [16, '20M'],
    [32, '40M'],
  ])('may be a FAT%i of %s without a partition table (made by mtools)', (bits, size) => {
    const image = join(folder, `fat${bits}.img`);
    const run = (tool: string, ...args: readonly string[]): void =>
      expect(spawnSync(tool, args, { env }).status, `${tool} ${args.join(' ')}`).toBe(0);
    run('truncate', '-s', size, image);
    run('mkfs.vfat', '-F', String(bits), image);
    run('mmd', '-i', image, '::EFI', '::EFI/BOOT');
    run('mcopy', '-i', image, join(folder, 'esp/EFI/BOOT/BOOTX64.EFI'), '::EFI/BOOT/BOOTX64.EFI');
    run('mcopy', '-i', image, join(folder, 'esp/a rather long name.conf'), '::');
    const { root, partition } = openEsp(image);
    const node = findNode(root, 'A RATHER long name.conf')!;
    expect([partition, node.size, node.read().length, node.read()[69_999]]).toEqual([
      null,
      70_000,
      70_000,
      120,
    ]);
    expect(new TextDecoder().decode(findNode(root, 'efi\\boot\\bootx64.efi')!.read())).toBe('MZ program');
    const bytes = new Uint8Array(readFileSync(image));
    const reserved = new DataView(bytes.buffer).getUint16(14, true) * 512;
    // Each cluster's next is 3, whose own is, too.
    const entry = { 12: [0x03, 0x30, 0x00], 16: [3, 0], 32: [3, 0, 0, 0] }[bits]!;
    for (let at = reserved; at < reserved + 2040; at += entry.length) bytes.set(entry, at);
    const round = join(folder, `round${bits}.img`);
    writeFileSync(round, bytes);
    expect(() => findNode(openEsp(round).root, 'a rather long name.conf')!.read()).toThrow(
      /round\d+\.img has a chain of clusters that goes round: from \d+ on, \d+ comes again after \d+$/,
    );
    bytes.set([0xff, 0xff], 14);
    writeFileSync(round, bytes.subarray(0, 1_000_000));
    expect(() => openEsp(round)).toThrow(
      bits === 32 ? /is cut in/ : /without a cluster: .* 65535 are reserved/,
    );
    truncateSync(image, 100_000);
    expect(() => openEsp(image)).toThrow(/is cut in its FAT file system.*the file ends at 100000/);
  });

  it('is told apart from what is none', () => {
    const image = join(folder, 'nothing.img');
    writeFileSync(image, new Uint8Array(4096));
    expect(() => openEsp(image)).toThrow(/has no FAT file system at byte 0/);
    expect(() => openEsp(join(folder, 'missing'))).toThrow('missing does not exist');
    const mbr = new Uint8Array(4096);
    mbr.set([0x80, 0, 0, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0], 446);
    mbr.set([0x55, 0xaa], 510);
    writeFileSync(image, mbr);
    expect(() => openEsp(image)).toThrow('has no EFI system partition: its partitions are 1 of type 0x83');
  });
});
