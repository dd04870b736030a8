// Where `bootscope trace` writes to and from where it starts: slow and leaving readers, each entry, the guest's own
// decompression, both engines.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeEachEngine } from '../src/cpu/each-engine.ts';
import { buildCommand, COMMAND } from './command.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const DEMO = join(ROOT, 'images/demo');
const folder = mkdtempSync(join(tmpdir(), 'bootscope-'));
beforeAll(buildCommand);
afterAll(() => rmSync(folder, { recursive: true }));
const hasPerl = spawnSync('perl', ['-e', '0']).status === 0;

describeEachEngine('the output of bootscope trace', (_open, engine) => {
  // The WASM engine is refused there.
  const stepsThroughDecompression = engine !== 'wasm';
  const longest = stepsThroughDecompression ? '--decompress emulated' : '';
  /** Megabytes of text, more than a pipe holds. */
  const longLines = stepsThroughDecompression ? 25_000 : 10_000;
  const long = `${longest} --limit ${longLines}`;
  const trace = (image: string, rest: string, before = '', after = '') =>
    spawnSync(
      'bash',
      [
        '-o',
        'pipefail',
        '-c',
        `${before} ${process.execPath} ${COMMAND} trace ${join(DEMO, image)} --cmdline nokaslr --engine ${engine} ${rest} ${after}`,
      ],
      { cwd: ROOT, encoding: 'utf8', maxBuffer: 1 << 28 },
    );
  const toFile = (image: string, rest: string): string => {
    const file = join(folder, 'trace');
    const { status, stderr } = trace(image, `${rest} --force -o ${file}`);
    expect([status, stderr]).toEqual([0, '']);
    return readFileSync(file, 'utf8');
  };
  const lines = (text: string): string[] => text.split('\n').filter((line) => !/^(#|$)/.test(line));

  it('is whole where the reader is slow', () => {
    const text = toFile('demo-gzip.bzImage', long);
    expect(lines(text)).toHaveLength(longLines);
    const { status, stdout } = trace('demo-gzip.bzImage', long, '', '| (sleep 2; cat)');
    expect(status).toBe(0);
    expect(stdout === text).toBe(true);
  });

  it.skipIf(!hasPerl)('is whole where the pipe does not block (skipped without perl)', () => {
    const nonBlocking = `perl -e 'use Fcntl; fcntl(STDOUT, F_SETFL, O_WRONLY | O_NONBLOCK); exec @ARGV'`;
    const { status, stdout, stderr } = trace('demo-gzip.bzImage', long, nonBlocking, '| (sleep 2; cat)');
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout === toFile('demo-gzip.bzImage', long)).toBe(true);
  });

  it('goes through a named pipe', () => {
    const pipe = join(folder, `pipe-${engine}`);
    const copy = `${pipe}.txt`;
    const reader = `mkfifo ${pipe}; (sleep 1; cat ${pipe} > ${copy}) & `;
    const { status } = trace('demo-lz4.bzImage', `--force -o ${pipe}`, reader, '&& wait');
    expect(status).toBe(0);
    expect(readFileSync(copy, 'utf8') === toFile('demo-lz4.bzImage', '')).toBe(true);
  });

  it('ends the boot when its reader goes', () => {
    const { status, stdout, stderr } = trace('demo-gzip.bzImage', longest, '', '| head -5');
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout.split('\n')).toHaveLength(6);
  });

  it.each([
    ['demo-gzip.bzImage', 'prot32', /^# startup_32 at 0x100000\n 0x100000 prot32 /],
    ['demo-gzip.bzImage', 'long64', /^# startup_64 at 0x100200\n 0x100200 long64 /],
    ['demo.zImage', 'boot-sector', /^# boot-sector at 0x7c00\n {3}0x7c00 real16 /],
    ['demo-i386.bzImage', 'real16', /^# setup at 0x90200\n {2}0x90200 real16 9020:0000 /],
  ])('begins at the entry: %s %s', (image, entry, beginning) => {
    const text = toFile(image, `--entry ${entry}`);
    expect(text).toMatch(beginning);
    // Up to the kernel, whose own first instruction is not executed.
    const json = JSON.parse(
      spawnSync(
        process.execPath,
        [
          ...[COMMAND, 'boot', join(DEMO, image), '--cmdline', 'nokaslr'],
          ...['--engine', engine, '--entry', entry, '--json', '--no-hash'],
        ],
        { cwd: ROOT, encoding: 'utf8' },
      ).stdout,
    ) as { phases: { name: string; instructions: number }[] };
    const kernel = json.phases.at(-1)!;
    expect([kernel.name, kernel.instructions]).toEqual(['kernel', lines(text).length]);
  });

  it('follows the guest when it decompresses by itself, to the first instruction of the kernel', ({
    skip,
  }) => {
    if (!stepsThroughDecompression) skip('the WASM engine is refused there');
    const text = toFile('demo-lzo.bzImage', '--entry long64 --decompress emulated --from extract_kernel');
    expect(text).toMatch(/^# extract_kernel at 0x/);
    expect(text).not.toContain('TypeScript');
    expect(lines(text).length).toBeGreaterThan(10_000);
    expect(text.trimEnd().split('\n').at(-1)).toMatch(/^# kernel at 0x1000040/);
  });

  it('ends after the number of instructions that was asked for', () => {
    const all = lines(toFile('demo-lz4.bzImage', ''));
    expect(lines(toFile('demo-lz4.bzImage', '--limit 1500'))).toEqual(all.slice(0, 1500));
    const calls = lines(toFile('demo-lz4.bzImage', '--only calls'));
    expect(lines(toFile('demo-lz4.bzImage', '--only calls --limit 7'))).toEqual(calls.slice(0, 7));
    const { status, stderr } = trace('demo-lz4.bzImage', '--limit 0');
    expect(status).toBe(2);
    expect(stderr).toMatch(/--limit/);
  });
});
