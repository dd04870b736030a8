// Compresses a kernel as its build does (scripts/Makefile.lib of the kernel): the same tools with the same options, so that the
// same content gives the same bytes; all but gzip with the decompressed length appended.

import { spawn } from 'node:child_process';
import { BootscopeError } from '../error.ts';
import type { CodecName } from './codec.ts';

/** A tool and its options for one codec. */
interface Recipe {
  readonly tool: string;
  /** The build's own level. */
  readonly level: number;
  readonly levels: readonly [least: number, most: number];
  /** Filters standard input to standard output. */
  options(level: number): readonly string[];
}

const RECIPES: Readonly<Record<CodecName, Recipe>> = {
  gzip: { tool: 'gzip', level: 9, levels: [1, 9], options: (level) => ['-n', '-f', `-${level}`] },
  bzip2: { tool: 'bzip2', level: 9, levels: [1, 9], options: (level) => ['-c', `-${level}`] },
  lzma: {
    tool: 'xz',
    level: 9,
    levels: [0, 9],
    options: (level) => ['--format=lzma', '-c', `-${level}`],
  },
  xz: {
    tool: 'xz',
    level: 6,
    levels: [0, 9],
    options: (level) => ['--check=crc32', '--x86', `--lzma2=preset=${level},dict=32MiB`, '-c'],
  },
  lzo: { tool: 'lzop', level: 9, levels: [1, 9], options: (level) => [`-${level}`] },
  lz4: { tool: 'lz4', level: 9, levels: [1, 12], options: (level) => ['-l', `-${level}`, '-c'] },
  zstd: { tool: 'zstd', level: 22, levels: [1, 22], options: (level) => [`-${level}`, '--ultra', '-c'] },
};

export interface CompressedKernel {
  /** The stream, and behind all but gzip's the length of its content. */
  readonly bytes: Uint8Array;
  /** `xz --check=crc32 …`. */
  readonly command: string;
}

/** Levels that a codec's tool knows, and the build's own. */
export function compressionLevels(codec: CodecName): { least: number; most: number; build: number } {
  const { level, levels } = RECIPES[codec];
  return { least: levels[0], most: levels[1], build: level };
}

/**
 * @param level - null for the build's own
 * @throws BootscopeError `codec-no-tool` where the tool is missing or fails, `codec-level` for a level it does not know
 */
export async function compressKernel(
  codec: CodecName,
  content: Uint8Array,
  level: number | null = null,
): Promise<CompressedKernel> {
  const recipe = RECIPES[codec];
  const [least, most] = recipe.levels;
  if (level !== null && (level < least || level > most)) {
    throw new BootscopeError('codec-level', `${codec} has the levels ${least} to ${most}, not ${level}`);
  }
  const options = recipe.options(level ?? recipe.level);
  const command = [recipe.tool, ...options].join(' ');
  const stream = await filter(recipe.tool, options, content, codec);
  if (codec === 'gzip') return { bytes: stream, command };
  const trailer = Buffer.alloc(4);
  trailer.writeUInt32LE(content.length);
  return { bytes: Buffer.concat([stream, trailer]), command };
}

function filter(
  tool: string,
  options: readonly string[],
  input: Uint8Array,
  codec: CodecName,
): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const fail = (why: string): void =>
      reject(new BootscopeError('codec-no-tool', `compressing with ${codec} needs ${tool}: ${why}`));
    const child = spawn(tool, options, { stdio: ['pipe', 'pipe', 'pipe'] });
    const output: Uint8Array[] = [];
    let complaint = '';
    child.on('error', (error) => fail(error.message));
    child.stdout.on('data', (piece: Uint8Array) => output.push(piece));
    child.stderr.on('data', (piece: Buffer) => {
      complaint += piece.toString();
    });
    child.on('close', (status) => {
      if (status === 0) resolve(Buffer.concat(output));
      else fail(complaint.trim() || `it ended with status ${status}`);
    });
    // That the tool ends before it has read all is said by its status.
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
  });
}
