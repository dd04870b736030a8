// .lzma, the container before .xz ("LZMA_alone"): 13 bytes of header, then one LZMA stream without any checksum.

import type { Codec, DecompressResult } from './codec.ts';
import { corrupt, outputLimit, truncated } from './codec-errors.ts';
import { decodeLzma, type LzmaProperties } from './lzma-decoder.ts';
import { MATCHERS } from './magic.ts';
import { type SystemLibrary, systemLibrary } from './system-library.ts';

export const lzma: Codec = {
  name: 'lzma',
  matches: MATCHERS.lzma,
  async decompress(input, output, options) {
    const { properties, size } = readHeader(input);
    if (size !== null && size > output.length) throw outputLimit('lzma', output.length, size);
    if (!options?.portable) {
      const library = await systemLibrary('lzma');
      const result = library && decodeWithLiblzma(library, input, output);
      if (result) return result;
    }
    return decodeLzma(input, HEADER_SIZE, output, properties, size);
  },
};

const HEADER_SIZE = 13;

/** Properties byte (pb * 5 + lp) * 9 + lc, dictionary size, uncompressed size or all ones for unknown. */
function readHeader(input: Uint8Array): { properties: LzmaProperties; size: number | null } {
  if (input.length < HEADER_SIZE) throw truncated('lzma', HEADER_SIZE, input.length, 'its header');
  const byte = input[0]!;
  if (byte >= 9 * 5 * 5) throw corrupt('lzma', 0, `properties byte ${byte}, at most 224 is possible`);
  // Looked at here already, since it is the only byte that tells a .lzma header from anything else.
  if (input.length > HEADER_SIZE && input[HEADER_SIZE] !== 0) {
    throw corrupt('lzma', HEADER_SIZE, `first byte of the range coder is ${input[HEADER_SIZE]}, not 0`);
  }
  const view = new DataView(input.buffer, input.byteOffset, HEADER_SIZE);
  // The dictionary size is not needed: the output is the dictionary, and nothing is allocated for it.
  const size = view.getBigUint64(5, true);
  return {
    properties: {
      literalContextBits: byte % 9,
      literalPositionBits: Math.floor(byte / 9) % 5,
      positionBits: Math.floor(byte / 45),
    },
    size: size === 0xffff_ffff_ffff_ffffn ? null : Number(size),
  };
}

/** liblzma may use this much for its dictionary; a stream that wants more goes the portable way, which needs none. */
const LIBLZMA_MEMORY_LIMIT = 512n << 20n;
const LZMA_FINISH = 3;
const LZMA_STREAM_END = 1;

/** Null where liblzma finds a fault, which the portable way then names. */
function decodeWithLiblzma(
  library: SystemLibrary,
  input: Uint8Array,
  output: Uint8Array,
): DecompressResult | null {
  const start = library.bind('int lzma_alone_decoder(void *strm, uint64_t memlimit)');
  const code = library.bind('int lzma_code(void *strm, int action)');
  const end = library.bind('void lzma_end(void *strm)');
  // struct lzma_stream of lzma/base.h on a 64-bit host: next_in, avail_in, total_in, next_out, avail_out, total_out, …
  const stream = new BigUint64Array(17);
  if (start(stream, LIBLZMA_MEMORY_LIMIT) !== 0) return null;
  try {
    stream.set([library.addressOf(input), BigInt(input.length)], 0);
    stream.set([library.addressOf(output), BigInt(output.length)], 3);
    if (code(stream, LZMA_FINISH) !== LZMA_STREAM_END) return null;
    return { bytesRead: Number(stream[2]), bytesWritten: Number(stream[5]) };
  } finally {
    end(stream);
  }
}
