// bzip2: one stream, with the system's libbz2 where there is one, seek-bzip elsewhere, and our own decoder in a browser.

import { decodeBzip2 } from '#bzip2-decoder';
import type { BackgroundDecoder, Codec } from './codec.ts';
import { corrupt, truncated } from './codec-errors.ts';
import { MATCHERS } from './magic.ts';
import { systemLibrary } from './system-library.ts';

export const bzip2: Codec = {
  name: 'bzip2',
  matches: MATCHERS.bzip2,
  async decompress(input, output, options) {
    checkMagic(input);
    const native = options?.portable ? null : await libbz2();
    return (await native?.(input, output)) ?? (await decodeBzip2(input, output));
  },
  background: libbz2,
};

function checkMagic(input: Uint8Array): void {
  if (input.length < MAGIC_SIZE) throw truncated('bzip2', MAGIC_SIZE, input.length, 'its header');
  if (!MATCHERS.bzip2(input))
    throw corrupt('bzip2', 0, 'it has no bzip2 magic with the magic of a block behind it');
}

/** "BZh" and the level, then the block's magic. */
const MAGIC_SIZE = 10;

const BZ_STREAM_END = 4;

/** The system's libbz2; where it finds a fault the portable way names it. */
async function libbz2(): Promise<BackgroundDecoder | null> {
  const library = await systemLibrary('bz2');
  if (library === null) return null;
  const start = library.bind('int BZ2_bzDecompressInit(void *strm, int verbosity, int small)');
  const decode = library.bindInBackground('int BZ2_bzDecompress(void *strm)');
  const end = library.bind('int BZ2_bzDecompressEnd(void *strm)');
  return async (input, output) => {
    checkMagic(input);
    // struct bz_stream of bzlib.h on a 64-bit host. Its address must stay, so it lies in an ArrayBuffer of its own.
    const stream = new Uint8Array(new ArrayBuffer(80));
    const view = new DataView(stream.buffer);
    view.setBigUint64(0, library.addressOf(input), true);
    view.setUint32(8, input.length, true);
    view.setBigUint64(24, library.addressOf(output), true);
    view.setUint32(32, output.length, true);
    if (start(stream, 0, 0) !== 0) return null;
    try {
      if ((await decode([stream], [input, output])) !== BZ_STREAM_END) return null;
      return {
        bytesRead: input.length - view.getUint32(8, true),
        bytesWritten: output.length - view.getUint32(32, true),
      };
    } finally {
      end(stream);
    }
  };
}
