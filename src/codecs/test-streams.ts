// Streams for the codecs' tests, made by the tools that kernels are compressed with, and damage done to them.

import { spawnSync } from 'node:child_process';
import { closeSync, openSync, readSync } from 'node:fs';
import type { CodecName } from './codec.ts';

/** A way to make a stream: the tool, as the kernel's build calls it or as the format allows otherwise. */
export interface Recipe {
  readonly codec: CodecName;
  readonly name: string;
  readonly tool: string;
  readonly parameters: readonly string[];
}

export const RECIPES: readonly Recipe[] = [
  recipe('gzip', 'gzip', '-n', '-f', '-9'),
  recipe('gzip', 'gzip', '-1'),
  recipe('bzip2', 'bzip2', '-9'),
  recipe('bzip2', 'bzip2', '-1'),
  recipe('lzma', 'xz', '--format=lzma', '-9'),
  recipe('lzma', 'xz', '--format=lzma', '--lzma1=dict=64KiB,lc=3,lp=0,pb=2'),
  recipe('xz', 'xz', '--check=crc32', '--x86', '--lzma2=dict=32MiB'),
  recipe('xz', 'xz', '--check=none', '--lzma2=preset=1'),
  recipe('xz', 'xz', '--check=crc64'),
  recipe('xz', 'xz', '--check=sha256', '--x86', '--lzma2=preset=1,lc=0,lp=2'),
  recipe('xz', 'xz', '--arm64', '--lzma2=preset=1'),
  recipe('xz', 'xz', '--arm', '--lzma2=preset=1'),
  recipe('xz', 'xz', '--armthumb', '--lzma2=preset=1'),
  recipe('xz', 'xz', '--powerpc', '--lzma2=preset=1'),
  recipe('xz', 'xz', '--sparc', '--lzma2=preset=1'),
  recipe('xz', 'xz', '--threads=2', '--block-size=65536', '--x86', '--lzma2=preset=1'),
  recipe('lzo', 'lzop', '-9'),
  recipe('lzo', 'lzop', '-1', '--crc32'),
  recipe('lzo', 'lzop', '-3', '--no-checksum'),
  recipe('lz4', 'lz4', '-l', '-9', '-c'),
  recipe('lz4', 'lz4', '-l', '-1', '-c'),
  recipe('zstd', 'zstd', '--ultra', '-22', '-c'),
  recipe('zstd', 'zstd', '-1', '--no-check', '-c'),
];

function recipe(codec: CodecName, tool: string, ...parameters: string[]): Recipe {
  return { codec, name: [tool, ...parameters].join(' '), tool, parameters };
}

const tools = new Map<string, boolean>();

export function hasTool(tool: string): boolean {
  const known = tools.get(tool) ?? spawnSync(tool, ['--version'], { stdio: 'ignore' }).error === undefined;
  tools.set(tool, known);
  return known;
}

/** Runs the tool as a filter, as the kernel's build does, so that it knows no size in advance. */
export function compress(recipe: Recipe, plain: Uint8Array): Uint8Array {
  const made = streams.get(plain) ?? new Map<Recipe, Uint8Array>();
  streams.set(plain, made);
  const stream = made.get(recipe) ?? filter(recipe.tool, recipe.parameters, plain);
  made.set(recipe, stream);
  return stream;
}

/** What was compressed already: the same contents go through every tool more than once. */
const streams = new WeakMap<Uint8Array, Map<Recipe, Uint8Array>>();

export function filter(tool: string, parameters: readonly string[], input: Uint8Array): Uint8Array {
  const { status, stdout, stderr } = spawnSync(tool, parameters, { input, maxBuffer: 2 ** 28 });
  if (status !== 0) throw new Error(`${tool} ${parameters.join(' ')}: ${stderr}`);
  return stdout;
}

/** What the tests compress: each shape that a codec has a case of its own for. */
export const CONTENTS: ReadonlyMap<string, Uint8Array> = new Map([
  ['one byte', Uint8Array.of(0x7f)],
  ['text', new TextEncoder().encode('extract_kernel decompress_kernel parse_elf '.repeat(50))],
  ['noise', noise(300_000, 1)],
  ['9 MB of zeros', new Uint8Array(9_000_000)],
  // Machine code: its calls and jumps are what the branch filters look for.
  ['code', machineCode(1_500_000)],
  ['calls', calls(200_000)],
]);

/** Bytes of a xorshift generator. */
export function noise(length: number, seed: number): Uint8Array {
  const random = randomNumbers(seed);
  return filled(length, () => random(256));
}

/** A loop is 30 times as fast as `Uint8Array.from`, and tests take megabytes. */
function filled(length: number, next: () => number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at++) bytes[at] = next();
  return bytes;
}

/** Numbers below a bound, the same for the same seed. */
export function randomNumbers(seed: number): (below: number) => number {
  let state = seed | 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** A piece of Node itself; where Node is a small file around a library, `calls` instead. */
function machineCode(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const file = openSync(process.execPath, 'r');
  const read = readSync(file, bytes, 0, length, 30_000_000);
  closeSync(file);
  return read === length ? bytes : calls(length);
}

/** Opcodes E8 and E9 and the bytes 00 and FF in every order: all the cases of the x86 branch filter's history. */
function calls(length: number): Uint8Array {
  const random = randomNumbers(7);
  const bytes = [0xe8, 0xe9, 0x00, 0xff, 0x01, 0x94, 0x90, 0xb0];
  return filled(length, () => bytes[random(random(3) === 0 ? 8 : 4)]!);
}

export function concatenate(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts));
}
