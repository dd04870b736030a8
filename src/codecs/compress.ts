// Compresses a kernel as its build does (scripts/Makefile.lib of the kernel): the same tools with the same options, so that the
// same content gives the same bytes; all but gzip with the decompressed length appended.

import { BootscopeError } from '../error.ts';
import { concatBytes, runTool } from '../host/host.ts';
import { adler32 } from './checksums.ts';
import type { CodecName } from './codec.ts';

/** A tool and its options for one codec. */
interface Recipe {
  readonly tool: string;
  /** Options that make less of it, slowly, and that the kernel's decompressor takes as well; to be tried in turn. */
  readonly strongest: readonly (readonly string[])[];
  /** The build's own level. */
  readonly level: number;
  readonly levels: readonly [least: number, most: number];
  /** Filters standard input to standard output. */
  options(level: number): readonly string[];
}

const RECIPES: Readonly<Record<CodecName, Recipe>> = {
  gzip: {
    tool: 'gzip',
    strongest: [],
    level: 9,
    levels: [1, 9],
    options: (level) => ['-n', '-f', `-${level}`],
  },
  bzip2: {
    tool: 'bzip2',
    strongest: [],
    level: 9,
    levels: [1, 9],
    options: (level) => ['-c', `-${level}`],
  },
  lzma: {
    tool: 'xz',
    strongest: [['--format=lzma', '-c', '-9e']],
    level: 9,
    levels: [0, 9],
    options: (level) => ['--format=lzma', '-c', `-${level}`],
  },
  xz: {
    tool: 'xz',
    strongest: [['--check=crc32', '--x86', '--lzma2=preset=9e,dict=128MiB', '-c']],
    level: 6,
    levels: [0, 9],
    options: (level) => ['--check=crc32', '--x86', `--lzma2=preset=${level},dict=32MiB`, '-c'],
  },
  lzo: { tool: 'lzop', strongest: [], level: 9, levels: [1, 9], options: (level) => [`-${level}`] },
  lz4: {
    tool: 'lz4',
    strongest: [['-l', '-12', '-c']],
    level: 9,
    levels: [1, 12],
    options: (level) => ['-l', `-${level}`, '-c'],
  },
  zstd: {
    tool: 'zstd',
    // Longer matches and a larger search than level 22's, in its window: which of them finds more depends on the kernel.
    strongest: [
      ['-22', '--ultra', '--zstd=tlen=4096,slog=10,clog=28', '--no-check', '-c'],
      ['-22', '--ultra', '--zstd=clog=28,hlog=28,slog=12', '--no-check', '-c'],
    ],
    level: 22,
    levels: [1, 22],
    options: (level) => [`-${level}`, '--ultra', '-c'],
  },
};

export interface CompressedKernel {
  /** The stream, and behind all but gzip's the length of its content. */
  readonly bytes: Uint8Array;
  /** `xz --check=crc32 …`. */
  readonly command: string;
}

/** How hard to compress: a level of the tool's, the build's own, or one of the ways that make less than the build's. */
export type CompressionLevel = number | 'build' | { readonly strongest: number };

/** How many ways there are that make less than the build's, to be tried from the first on. */
export function strongestWays(codec: CodecName): number {
  return RECIPES[codec].strongest.length;
}

/**
 * @throws BootscopeError `codec-no-tool` where the tool is missing or fails, `codec-level` for a level it does not know
 */
export async function compressKernel(
  codec: CodecName,
  content: Uint8Array,
  level: CompressionLevel = 'build',
): Promise<CompressedKernel> {
  const recipe = RECIPES[codec];
  const [least, most] = recipe.levels;
  if (typeof level === 'number' && (level < least || level > most)) {
    throw new BootscopeError('codec-level', `${codec} has the levels ${least} to ${most}, not ${level}`);
  }
  const options =
    typeof level === 'object'
      ? recipe.strongest[level.strongest]!
      : recipe.options(level === 'build' ? recipe.level : level);
  const command = [recipe.tool, ...options].join(' ');
  const stream = await filter(recipe.tool, options, content, codec);
  if (codec === 'gzip') return { bytes: stream, command };
  const trailer = new Uint8Array(4);
  new DataView(trailer.buffer).setUint32(0, content.length, true);
  return { bytes: concatBytes([stream, trailer]), command };
}

async function filter(
  tool: string,
  options: readonly string[],
  input: Uint8Array,
  codec: CodecName,
): Promise<Uint8Array> {
  const { output, why } = await runTool(tool, options, input);
  if (output !== null) return output;
  throw new BootscopeError('codec-no-tool', `compressing with ${codec} needs ${tool}: ${why}`);
}

/** Offset in an lzop file of the mode and time of what was compressed, 12 bytes, with the length of a name behind them. */
const LZOP_MODE = 21;
const LZOP_NAME_LENGTH = 33;

/**
 * An lzop stream with mode and time of another one, all that differs from one compression to the next. Both are of the
 * version that has a level in its header.
 */
export function withLzopOrigin(stream: Uint8Array, model: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(stream);
  copy.set(model.subarray(LZOP_MODE, LZOP_NAME_LENGTH), LZOP_MODE);
  const end = LZOP_NAME_LENGTH + 1 + copy[LZOP_NAME_LENGTH]!;
  new DataView(copy.buffer).setUint32(end, adler32(copy.subarray(9, end)));
  return copy;
}
