// .lzma, the container before .xz ("LZMA_alone"): 13 bytes of header, then one LZMA stream without any checksum.

import type { BackgroundDecoder, Codec } from './codec.ts';
import { corrupt, outputLimit, truncated } from './codec-errors.ts';
import { decodeLzma, type LzmaProperties } from './lzma-decoder.ts';
import { MATCHERS } from './magic.ts';
import { systemLibrary } from './system-library.ts';

export const lzma: Codec = {
  name: 'lzma',
  matches: MATCHERS.lzma,
  async decompress(input, output, options) {
    const { properties, size } = readHeader(input, output.length);
    const native = options?.portable ? null : await liblzma();
    return (await native?.(input, output)) ?? decodeLzma(input, HEADER_SIZE, output, properties, size);
  },
  background: liblzma,
};

const HEADER_SIZE = 13;

/** Properties byte (pb * 5 + lp) * 9 + lc, dictionary size, uncompressed size or all ones for unknown. */
function readHeader(input: Uint8Array, limit: number): { properties: LzmaProperties; size: number | null } {
  if (input.length < HEADER_SIZE) throw truncated('lzma', HEADER_SIZE, input.length, 'its header');
  const byte = input[0]!;
  if (byte >= 9 * 5 * 5) throw corrupt('lzma', 0, `properties byte ${byte}, at most 224 is possible`);
  // Looked at here already, since it is the only byte that tells a .lzma header from anything else.
  if (input.length > HEADER_SIZE && input[HEADER_SIZE] !== 0) {
    throw corrupt('lzma', HEADER_SIZE, `first byte of the range coder is ${input[HEADER_SIZE]}, not 0`);
  }
  const view = new DataView(input.buffer, input.byteOffset, HEADER_SIZE);
  // The dictionary size is not needed: the output is the dictionary, and nothing is allocated for it.
  const word = view.getBigUint64(5, true);
  const size = word === 0xffff_ffff_ffff_ffffn ? null : Number(word);
  if (size !== null && size > limit) throw outputLimit('lzma', limit, size);
  return {
    properties: {
      literalContextBits: byte % 9,
      literalPositionBits: Math.floor(byte / 9) % 5,
      positionBits: Math.floor(byte / 45),
    },
    size,
  };
}

/** liblzma may use this much for its dictionary; a stream that wants more goes the portable way, which needs none. */
const LIBLZMA_MEMORY_LIMIT = 512n << 20n;
const LZMA_FINISH = 3;
const LZMA_STREAM_END = 1;

/** The system's liblzma; where it finds a fault the portable way names it. */
async function liblzma(): Promise<BackgroundDecoder | null> {
  const library = await systemLibrary('lzma');
  if (library === null) return null;
  const start = library.bind('int lzma_alone_decoder(void *strm, uint64_t memlimit)');
  const code = library.bindInBackground('int lzma_code(void *strm, int action)');
  const end = library.bind('void lzma_end(void *strm)');
  return async (input, output) => {
    readHeader(input, output.length);
    // struct lzma_stream of lzma/base.h on a 64-bit host: next_in, avail_in, total_in, next_out, avail_out, total_out, …
    // Its address must stay, so it lies in an ArrayBuffer of its own.
    const stream = new BigUint64Array(new ArrayBuffer(17 * 8));
    if (start(stream, LIBLZMA_MEMORY_LIMIT) !== 0) return null;
    try {
      stream.set([library.addressOf(input), BigInt(input.length)], 0);
      stream.set([library.addressOf(output), BigInt(output.length)], 3);
      if ((await code([stream, LZMA_FINISH], [input, output])) !== LZMA_STREAM_END) return null;
      return { bytesRead: Number(stream[2]), bytesWritten: Number(stream[5]) };
    } finally {
      end(stream);
    }
  };
}
