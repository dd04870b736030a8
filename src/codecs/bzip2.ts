// bzip2: one stream, with the system's libbz2 where there is one and seek-bzip elsewhere.

import { BootscopeError } from '../error.ts';
import type { BackgroundDecoder, Codec, DecompressResult } from './codec.ts';
import { corrupt, outputLimit, truncated } from './codec-errors.ts';
import { MATCHERS } from './magic.ts';
import { systemLibrary } from './system-library.ts';

export const bzip2: Codec = {
  name: 'bzip2',
  matches: MATCHERS.bzip2,
  async decompress(input, output, options) {
    checkMagic(input);
    const native = options?.portable ? null : await libbz2();
    return (await native?.(input, output)) ?? (await decodePortably(input, output));
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

/** seek-bzip reads and writes through objects, which is where the input's end and the output's limit are watched. */
async function decodePortably(input: Uint8Array, output: Uint8Array): Promise<DecompressResult> {
  const library = await import('seek-bzip');
  // A CommonJS package: what loads it decides whether its exports are the default export or named ones.
  const { decode } = library.default ?? library;
  let bytesRead = 0;
  let bytesWritten = 0;
  const source = {
    readByte() {
      if (bytesRead >= input.length) throw truncated('bzip2', bytesRead + 1, input.length, 'its data');
      return input[bytesRead++]!;
    },
    read(buffer: Uint8Array, offset: number, length: number) {
      for (let i = 0; i < length; i++) buffer[offset + i] = this.readByte();
      return length;
    },
  };
  const target = {
    writeByte(byte: number) {
      if (bytesWritten >= output.length) throw outputLimit('bzip2', output.length);
      output[bytesWritten++] = byte;
    },
  };
  try {
    decode(source, target);
  } catch (error) {
    if (error instanceof BootscopeError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    if (reason.includes('CRC')) {
      throw new BootscopeError(
        'codec-checksum',
        `the bzip2 stream is damaged before offset ${bytesRead}: ${reason}`,
        {
          cause: error,
        },
      );
    }
    throw corrupt('bzip2', bytesRead, `${reason}, after ${bytesWritten} bytes of output`, error);
  }
  return { bytesRead, bytesWritten };
}
