// What the command says to input it cannot use: one sentence on stderr, and exit status 1 or 2.

import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findWasmEngine } from '../src/cpu/wasm-file.ts';
import { readKernelImage } from '../src/index.ts';
import { bootscope, buildCommand, type Ended } from './command.ts';

const DEMO = fileURLToPath(new URL('../images/demo', import.meta.url));
const GZIP = join(DEMO, 'demo-gzip.bzImage');
const I386 = join(DEMO, 'demo-i386.bzImage');
const ZIMAGE = join(DEMO, 'demo.zImage');

let folder = '';
beforeAll(() => {
  buildCommand();
  folder = mkdtempSync(join(tmpdir(), 'bootscope-bad-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function file(name: string, content: Uint8Array | string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

/** Exactly one sentence, and nothing of the program's own inside. */
function sentenceOf({ stderr }: Ended): string {
  expect(stderr).toMatch(/^bootscope: [^\n]+\n$/);
  expect(stderr).not.toMatch(/internal error|\bat .*:\d+:\d+|node:internal/);
  return stderr;
}

async function unusable(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<string> {
  const ended = await bootscope(args, { env });
  const sentence = sentenceOf(ended);
  expect(ended).toMatchObject({ status: 2, stdout: '' });
  return sentence;
}

async function stopped(args: readonly string[]): Promise<string> {
  const ended = await bootscope(args);
  expect(ended.status).toBe(1);
  expect(ended.stdout).toContain('No kernel was reached');
  return sentenceOf(ended);
}

describe('a file that is no kernel', () => {
  it('is named for what it is', async () => {
    const png = Uint8Array.from([
      0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 13, 73, 72, 68, 82,
    ]);
    expect(await unusable(['boot', file('empty', '')])).toContain('empty file');
    expect(await unusable(['boot', file('notes.txt', 'hello\n'.repeat(200))])).toContain('text file');
    expect(await unusable(['boot', file('a.png', png)])).toContain('PNG');
  });

  it('is refused when it is a directory, missing, a dangling link or a device', async () => {
    mkdirSync(join(folder, 'directory'));
    symlinkSync('nowhere', join(folder, 'link'));
    expect(await unusable(['boot', join(folder, 'directory')])).toContain('is a directory');
    expect(await unusable(['boot', join(folder, 'missing')])).toContain('does not exist');
    expect(await unusable(['boot', join(folder, 'link')])).toContain('does not exist');
    expect(await unusable(['boot', '/dev/zero'])).toContain('not a regular file');
  });

  it('is refused by every command that reads one', async () => {
    const path = file('words.txt', 'no kernel\n');
    for (const command of ['boot', 'kaslr', 'verify', 'layout']) await unusable([command, path]);
    await unusable(['extract', path, '-o', join(folder, 'never')]);
    await unusable(['record', path, '-o', join(folder, 'never')]);
    await unusable(['check', path, join(folder, 'missing.json')]);
    await unusable(['check', GZIP, path]);
    await unusable(['check', '--matrix', path]);
  });
});

describe('a damaged image', () => {
  it('is said to be cut in its setup code, its stub or its payload', async () => {
    const bytes = readFileSync(GZIP);
    const image = await readKernelImage(GZIP, bytes);
    const payload = image.setupSize + image.payload!.offset;
    const cut = (length: number) => unusable(['boot', file(`cut-${length}`, bytes.subarray(0, length))]);
    expect(await cut(image.setupSize - 512)).toContain('cut in its setup code');
    expect(await cut(image.setupSize)).toContain('ends after its setup code');
    expect(await cut(payload - 100)).toContain('cut in its boot stub');
    expect(await cut(payload + 1000)).toContain('cut in its payload');
    expect(await cut(300)).toContain('cut-300');
    expect(await cut(512)).toContain('cut-512');
  });

  for (const codec of ['gzip', 'bzip2', 'lzma', 'xz', 'lzo', 'zstd', 'i386']) {
    it(`stops in extract_kernel when a byte of its payload is flipped (${codec})`, async () => {
      const path = join(DEMO, `demo-${codec}.bzImage`);
      const bytes = Uint8Array.from(readFileSync(path));
      const { setupSize, payload } = await readKernelImage(path, bytes);
      bytes[setupSize + payload!.offset + (payload!.length >> 1)]! ^= 0x20;
      const flipped = file(`flipped-${codec}`, bytes);
      // Neither gzip's nor lzop's checksums are looked at by the kernel's own decompressors.
      expect(await stopped(['boot', flipped])).toMatch(/the stub stops with|this stub does not look at/);
      await unusable(['extract', flipped, '-o', join(folder, `vmlinux-${codec}`)]);
    });
  }

  it('stops in extract_kernel when an lz4 match reaches back before the start; literals carry no checksum', async () => {
    const path = join(DEMO, 'demo-lz4.bzImage');
    const bytes = Uint8Array.from(readFileSync(path));
    const { setupSize, payload } = await readKernelImage(path, bytes);
    bytes.fill(0xff, setupSize + payload!.offset + 8, setupSize + payload!.offset + 64);
    expect(await stopped(['boot', file('flipped-lz4', bytes)])).toContain('the stub stops with');
  });

  it('says in JSON and on stderr why no kernel was reached', async () => {
    const ended = await bootscope(['boot', GZIP, '--json', '--kaslr', 'phys:0x100000000000']);
    expect(ended.status).toBe(1);
    expect(sentenceOf(ended)).toContain('0x100000000000');
    expect(JSON.parse(ended.stdout)).toMatchObject({
      kernel: null,
      stopped: expect.stringContaining('0x100000000000'),
    });
  });
});

describe('an option that cannot be used', () => {
  const BAD: readonly (readonly [string, readonly string[], string])[] = [
    ['too little memory', ['--memory', '2M'], '4 MiB'],
    ['too much memory', ['--memory', '2T'], 'its RAM ends at 0xfd00000000'],
    ['memory that is no size', ['--memory', 'abc'], "'abc'"],
    ['memory below zero', ['--memory', '-1'], "'-1'"],
    ['memory that is not whole pages', ['--memory', '100001234'], '100001234'],
    ['an unknown option', ['--nonsense'], '--nonsense'],
    ['an option that is nearly right', ['--memroy', '1G'], '--memory'],
    ['an unknown CPU profile', ['--cpu', '8086'], 'qemu64'],
    ['an unknown engine', ['--engine', 'qemu'], 'auto, wasm, native'],
    ['an unknown entry', ['--entry', 'nowhere'], 'real16'],
    ['an unknown way to decompress', ['--decompress', 'maybe'], 'hooked, emulated'],
    ['a load address in the 16-bit protocol', ['--load-address', '0x1000000'], 'the entry prot32'],
    ['a load address that is no number', ['--entry', 'prot32', '--load-address', 'high'], "'high'"],
    ['a load address past 4 GiB', ['--entry', 'prot32', '--load-address', '0x100000000'], '4 GiB'],
    ['a command line that is too long', ['--cmdline', 'x'.repeat(2048)], '2048'],
    ['a KASLR seed beyond 64 bits', ['--kaslr', 'seed:18446744073709551616'], '64 bits'],
    ['a KASLR address that is not aligned', ['--kaslr', 'phys:0x123'], 'no multiple of 0x200000'],
    ['a load address inside a page', ['--entry', 'prot32', '--load-address', '0x100010'], '0x1000'],
    ['an address of an initrd without one', ['--initrd-address', '0x8000000'], '--initrd'],
    ['an option with two values', ['--cmdline', 'a', '--cmdline', 'b'], '--cmdline is given twice'],
    ['memory of a single byte', ['--memory', '1'], 'memory of 1 byte is'],
    ['KASLR nonsense', ['--kaslr', 'maybe'], 'seed:N'],
    ['a KASLR seed that is no number', ['--kaslr', 'seed:z'], 'seed:z'],
    ['a KASLR seed that is missing', ['--kaslr', 'seed:'], 'seed:'],
    ['KASLR entropy that is missing', ['--kaslr', 'entropy:1,'], 'entropy:1,'],
    [
      'KASLR entropy for RDRAND',
      ['--decompress', 'emulated', '--kaslr', 'entropy:1', '--cpu', 'max'],
      'hooked',
    ],
    ['an initrd that is missing', ['--initrd', '/nowhere/initrd'], 'does not exist'],
    ['a time limit of nothing', ['--timeout', '0'], "'0'"],
    ['a memory map that is missing', ['--memory-map', '/nowhere/map'], 'does not exist'],
    ['one image too many', ['another'], 'too many arguments'],
  ];
  for (const [what, options, words] of BAD) {
    it(`is refused: ${what}`, async () => {
      expect(await unusable(['boot', GZIP, ...options])).toContain(words);
    });
  }

  it('is refused: an initrd that is empty, or larger than RAM', async () => {
    const large = file('large', '');
    truncateSync(large, 80 << 20);
    expect(await unusable(['boot', GZIP, '--initrd', file('none', '')])).toContain('0 bytes');
    const sentence = await unusable(['boot', GZIP, '--memory', '64M', '--initrd', large]);
    expect(sentence).toContain('83886080 bytes');
    expect(sentence).toContain('more RAM');
  });

  it('is refused: an entry that the image does not have', async () => {
    expect(await unusable(['boot', I386, '--entry', 'long64'])).toContain('the entry prot32');
    expect(await unusable(['boot', ZIMAGE, '--entry', 'prot32'])).toContain('the entry real16');
    expect(await unusable(['boot', ZIMAGE, '--entry', 'long64'])).toContain('the entry real16');
  });

  it('is refused: a memory map with a line that is none', async () => {
    expect(
      await unusable(['boot', GZIP, '--memory-map', file('map', '0x0 0x9fc00 1\nall of it\n')]),
    ).toContain('line 2');
    expect(await unusable(['boot', GZIP, '--memory-map', file('nothing', '# nothing\n')])).toContain(
      '0 entries',
    );
  });

  it('ends the boot with the reason: KASLR addresses that are not possible', async () => {
    expect(await stopped(['boot', GZIP, '--kaslr', 'phys:0x100000000000'])).toContain('0x100000000000');
    expect(await stopped(['boot', GZIP, '--kaslr', 'virt:0x40000000'])).toContain('0x40000000');
  });
});

describe('a command that cannot be used', () => {
  it('is refused by its name, and without what it needs', async () => {
    expect(await unusable(['nosuch'])).toContain("'nosuch'");
    expect(await unusable(['info'])).toContain('image');
    expect(await unusable(['extract', GZIP])).toContain('--output');
    expect(await unusable(['check'])).toContain('--matrix');
    expect(await unusable(['check', GZIP])).toContain('reference');
    expect(await unusable(['check', '--matrix', file('list', '[]')])).toContain('at least one');
    expect(await unusable(['kaslr', GZIP, '--draws', '-1'])).toContain("'-1'");
  });

  it('prints a stack trace only when asked for one', async () => {
    const { status, stderr } = await bootscope(['boot', join(folder, 'missing'), '--debug']);
    expect(status).toBe(2);
    expect(stderr).toContain('does not exist');
    expect(stderr).toMatch(/\n\s+at /);
  });

  it('says how to get an engine where the named one cannot be loaded', async () => {
    const text = file('library.so', 'no library\n');
    for (const path of ['/nowhere/libunicorn.so', text]) {
      const named = await unusable(['boot', GZIP, '--engine', 'native'], { BOOTSCOPE_LIBUNICORN: path });
      expect(named).toContain(path);
      expect(await unusable(['boot', GZIP, '--engine', 'wasm'], { BOOTSCOPE_UNICORN_JS: path })).toContain(
        path,
      );
    }
  });

  const why = findWasmEngine() === null ? ' (left out: no Unicorn.js)' : '';
  it.skipIf(why !== '')(`will not step through the guest's own decompression with WASM${why}`, async () => {
    const output = join(folder, 'trace');
    const traced = ['trace', GZIP, '--engine', 'wasm', '--decompress', 'emulated', '--output', output];
    expect(await unusable(traced)).toContain('take the native engine, or leave --decompress emulated out');
    expect(existsSync(output)).toBe(false);
  });
});

describe('output', () => {
  it('does not go over a file that is there', async () => {
    const there = file('there', 'mine');
    for (const command of ['extract', 'record']) {
      expect(await unusable([command, GZIP, '-o', there])).toContain('--force');
    }
    expect(readFileSync(there, 'utf8')).toBe('mine');
  });

  it('is refused where it cannot be written', async () => {
    const nowhere = join(folder, 'no', 'such', 'folder');
    for (const command of ['extract', 'record']) {
      expect(await unusable([command, GZIP, '-o', nowhere])).toContain('cannot be written');
      expect(await unusable([command, GZIP, '-o', folder, '--force'])).toContain('is a directory');
    }
  });

  it('may end early: a reader that closes the pipe is no error', async () => {
    for (const args of [
      ['boot', GZIP, '--json'],
      ['layout', GZIP],
      ['info', GZIP],
    ]) {
      const { status, stderr } = await bootscope(args, { readOnly: 1 });
      expect(stderr).toBe('');
      expect(status).toBe(0);
    }
  });
});
