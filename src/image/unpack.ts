// Unpacks a compressed file whose content's length nobody has told: the gzip, xz, zstd … around a kernel file.

import type { CodecName } from '../codecs/codec.ts';
import { matchesLz4Frame } from '../codecs/magic.ts';
import { codecByName, detectCodec } from '../codecs/registry.ts';
import { BootscopeError } from '../error.ts';
import { inflateGzip, inflateGzipStart } from './gzip-stream.ts';

/** What a file can be compressed with: a kernel's codecs, and lz4's other format. */
export type Compression = CodecName | 'lz4-frame';

/** No kernel file is larger; what is, is refused instead of filling memory. */
export const UNPACKED_LIMIT = 0x20000000;

/** Tried in turn, since the codecs want to know how much room there is. */
const GUESSED_LENGTHS: readonly number[] = [0x2000000, 0x8000000, UNPACKED_LIMIT];

/** The first of the 16 magics of a skippable frame. */
const SKIPPABLE_MAGIC = 0x184d2a50;

/** Compressed bytes from which `unpackStart` unpacks. */
const START_LENGTH = 0x20000;

/**
 * Where the first frame with content begins: zstd and lz4 pass over skippable frames in front (RFC 8878 3.1.2), which pzstd and
 * signing tools write. 0 for a file without, or with nothing but such frames.
 */
export function pastSkippableFrames(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  while (at + 8 <= bytes.length && (view.getUint32(at, true) & ~0xf) >>> 0 === SKIPPABLE_MAGIC) {
    at += 8 + view.getUint32(at + 4, true);
  }
  const compression = detectCompression(bytes.subarray(at, at + 64));
  return compression === 'zstd' || compression === 'lz4-frame' ? at : 0;
}

/** By the magic at the start of `bytes`; null for none. */
export function detectCompression(bytes: Uint8Array): Compression | null {
  return detectCodec(bytes) ?? (matchesLz4Frame(bytes) ? 'lz4-frame' : null);
}

/**
 * The content of the compressed file `bytes`, and how many of its bytes the stream has.
 *
 * @param what - names the file in messages
 * @throws BootscopeError `image-truncated`, `image-corrupt`, `image-too-large`
 */
export async function unpackStream(
  what: string,
  bytes: Uint8Array,
  compression: Compression,
): Promise<{ readonly content: Uint8Array; readonly length: number }> {
  if (compression === 'gzip') return inflateGzip(what, bytes, UNPACKED_LIMIT);
  const decompress =
    compression === 'lz4-frame'
      ? (await import('../codecs/lz4-frame.ts')).decompressLz4Frame
      : (await codecByName(compression)).decompress;
  for (const length of GUESSED_LENGTHS) {
    const output = new Uint8Array(length);
    try {
      const { bytesRead, bytesWritten } = await decompress(bytes, output);
      return { content: output.subarray(0, bytesWritten), length: bytesRead };
    } catch (error) {
      if (!(error instanceof BootscopeError)) throw error;
      if (error.code === 'codec-output-limit') continue;
      const isCut = error.code === 'codec-truncated';
      const fault = isCut ? 'cut' : 'damaged';
      throw new BootscopeError(
        isCut ? 'image-truncated' : 'image-corrupt',
        `${what} is a ${fault} ${compression} file: ${error.message}`,
        {
          cause: error,
        },
      );
    }
  }
  throw new BootscopeError(
    'image-too-large',
    `${what} holds more than ${UNPACKED_LIMIT} bytes under ${compression}, which no kernel image has`,
  );
}

/** As much of a gzip file's content as its first bytes give, to see what it is; empty for a damaged one. */
export function gunzipStart(bytes: Uint8Array): Uint8Array {
  // A smaller piece may stay below the limit, or before the damage.
  for (let take = START_LENGTH; take >= 32; take >>= 2) {
    const start = inflateGzipStart(bytes, take, 0x8000000);
    if (start !== null) return start;
  }
  return new Uint8Array(0);
}
