// The commands on a disk in drive A instead of an image, and what they say when that cannot be.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bootscope, buildCommand } from './command.ts';

const DEMO = fileURLToPath(new URL('../images/demo', import.meta.url));
const ZIMAGE = join(DEMO, 'demo.zImage');
const GZIP = join(DEMO, 'demo-gzip.bzImage');
const BOOT_CODE = 0x1f1;

let folder = '';
beforeAll(() => {
  buildCommand();
  folder = mkdtempSync(join(tmpdir(), 'bootscope-disk-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function written(name: string, bytes: Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

/** A disk of 1440 KiB without a kernel, whose boot sector begins with `code`. */
function disk(name: string, code: readonly number[]): string {
  const bytes = new Uint8Array(1440 * 1024);
  bytes.set(code);
  bytes.set([0x55, 0xaa], 510);
  return written(name, bytes);
}

/** Each command that boots, and what it prints for the zImage on a disk. */
const COMMANDS: readonly (readonly [
  name: string,
  status: number,
  printed: RegExp,
  options: readonly string[],
])[] = [
  ['boot', 0, /^boot-sector .*\n(.*\n)*kernel +0x100000 /m, []],
  ['layout', 0, /^boot-sector {2}0x7c00 {2}real16 /m, ['--phase', 'boot-sector']],
  ['lint', 0, /demo\.zImage: no hazards/, []],
  ['kaslr', 2, /^bootscope: .*demo\.zImage: this kernel was built without KASLR\n$/, []],
  ['verify', 0, /demo\.zImage: hooked and emulated agree, entry 0x100000/, []],
  ['report', 0, /"entry": "boot-sector"/, ['--format', 'json', '-o', '-']],
  ['record', 0, /"entry": "boot-sector"/, ['-o', '-']],
  ['trace', 0, /^# boot-sector at 0x7c00\n +0x7c00 real16 0000:7c00 /, ['--to', 'setup']],
];

describe('a disk in drive A without an image', () => {
  it.each(COMMANDS)('is what `%s` boots from', async (name, status, printed, options) => {
    const ended = await bootscope([name, '--floppy', ZIMAGE, ...options]);
    expect(ended.stdout + ended.stderr).toMatch(printed);
    expect(ended.status).toBe(status);
  });

  it.each(COMMANDS)('is asked for by `%s` where neither is named', async (name, _status, _, options) => {
    expect(await bootscope([name, ...options])).toEqual({
      status: 2,
      stdout: '',
      stderr: 'bootscope: name an image to boot, or a disk with --disk, --floppy, --cdrom or --esp\n',
    });
  });

  it.each(COMMANDS)('has no other entry for `%s`', async (name, _status, _, options) => {
    const ended = await bootscope([name, '--floppy', ZIMAGE, '--entry', 'prot32', ...options]);
    expect(ended).toMatchObject({ status: 2, stdout: '' });
    expect(ended.stderr).toMatch(/^bootscope: --entry prot32 needs an image; [^\n]*demo\.zImage\n$/);
  });

  it.each(COMMANDS)(
    'boots as the image does with --entry boot-sector: %s',
    async (name, _status, _, options) => {
      const [alone, named] = await Promise.all([
        bootscope([name, '--floppy', ZIMAGE, ...options]),
        bootscope([name, ZIMAGE, '--entry', 'boot-sector', ...options]),
      ]);
      expect(alone.stdout).toBe(named.stdout);
      expect(alone.status).toBe(named.status);
    },
  );

  it('is recorded and checked', async () => {
    const reference = join(folder, 'reference.json');
    expect(await bootscope(['record', '--floppy', ZIMAGE, '-o', reference])).toMatchObject({ status: 0 });
    const { status, stdout } = await bootscope(['check', ZIMAGE, reference]);
    expect(stdout).toContain('1 of 1 as recorded');
    expect(status).toBe(0);
  });

  it('may be no kernel', async () => {
    const looping = disk('looping.img', [0xeb, 0xfe]);
    const { status, stderr } = await bootscope(['lint', '--floppy', looping, '--timeout', '1']);
    expect(stderr).toMatch(/^bootscope: .*no hazards were seen, but the kernel was not reached: .*\n$/);
    expect(status).toBe(2);
  });
});

describe('two disks', () => {
  it('are compared by what they hold and do, not by their names', async () => {
    const [one, other] = [disk('one.img', [0xfa, 0xf4]), disk('two.img', [0xfa, 0xf4])];
    const { status, stdout } = await bootscope([
      'diff',
      one,
      other,
      '--entry',
      'boot-sector',
      '--timeout',
      '1',
    ]);
    expect(stdout).toMatch(/(no|0) difference|nothing differs/i);
    expect(status).toBe(0);
    const loaded = await bootscope(['diff', one, ZIMAGE, '--entry', 'boot-sector', '--timeout', '1']);
    expect(loaded.stdout).toMatch(/kernel/);
    expect(loaded.status).toBe(1);
  });
});

describe('an image and a disk', () => {
  it('are both kept by a recording, with the memory map', async () => {
    const reference = join(folder, 'both.json');
    const other = disk('other.img', [0xf4]);
    const map = join(folder, 'map.txt');
    writeFileSync(map, '0x0 0x9fc00 1\n0x100000 0x10000000 1\n');
    const recorded = await bootscope([
      'record',
      GZIP,
      '--floppy',
      other,
      '--memory-map',
      map,
      '-o',
      reference,
    ]);
    expect(recorded).toMatchObject({ status: 0 });
    expect(JSON.parse(readFileSync(reference, 'utf8')).options).toMatchObject({
      floppy: 'other.img',
      memoryMap: ['0x0 0x9fc00 1', '0x100000 0x10000000 1'],
    });
    expect(await bootscope(['check', GZIP, reference])).toMatchObject({ status: 0 });
  });

  it('are refused where both would be in the drive', async () => {
    const { status, stderr } = await bootscope(['boot', ZIMAGE, '--entry', 'boot-sector', '--floppy', GZIP]);
    expect(stderr).toMatch(
      /^bootscope: with --entry boot-sector .*demo\.zImage is the disk in drive A; .*\n$/,
    );
    expect(status).toBe(2);
  });
});

describe('a boot sector that loads no kernel', () => {
  const boot = (path: string, ...more: string[]) =>
    bootscope(['boot', path, '--entry', 'boot-sector', '--timeout', '2', ...more]);

  it('is told apart by its message', async () => {
    const { status, stdout, stderr } = await boot(GZIP);
    expect(stdout).toContain('This demo kernel needs a boot loader.');
    expect(stderr).toMatch(
      /^bootscope: no kernel was reached: the boot sector loads no kernel: it ended without reading the disk \(the guest halted[^\n]*\); the entry real16 starts it as boot loaders do\n$/,
    );
    expect(status).toBe(1);
  });

  it.each([
    ['filled with ff', 0xff],
    ['filled with 0', 0],
  ])('has no code: %s', async (name, filler) => {
    const bytes = Uint8Array.from(readFileSync(GZIP)).fill(filler, 0, BOOT_CODE);
    // Unicorn.js cannot translate so many zeroes.
    const { status, stderr } = await boot(written(`${name}.bzImage`, bytes), '--engine', 'native');
    expect(stderr).toMatch(
      /^bootscope: no kernel was reached: the boot sector loads no kernel: it ended without reading the disk [^\n]*\n$/,
    );
    expect(status).toBe(1);
  });

  it('is on a disk without a kernel', async () => {
    const image = disk('halts.img', [0xf4]);
    const { stderr } = await bootscope(['boot', '--floppy', image, '--engine', 'native']);
    expect(stderr).toMatch(
      /the boot sector loads no kernel: it ended without reading the disk \([^\n]*\)\n$/,
    );
  });
});
