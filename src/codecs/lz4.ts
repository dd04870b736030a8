// lz4's legacy frame, what `lz4 -l` writes: a magic, then blocks of a 32-bit length and LZ4 data for at most 8 MiB each.

import type { Codec, DecompressResult } from './codec.ts';
import { corrupt, outputLimit, truncated } from './codec-errors.ts';
import { MATCHERS } from './magic.ts';
import { systemLibrary } from './system-library.ts';

export const lz4: Codec = {
  name: 'lz4',
  matches: MATCHERS.lz4,
  async decompress(input, output, options) {
    const native = options?.portable ? null : await liblz4();
    if (native !== null) return native(input, output);
    return decodeFrame(input, await portableDecoder(input, output));
  },
  background: liblz4,
};

/** Walks the blocks of a frame, which tell where they end and whether one follows only once they are decoded. */
async function decodeFrame(input: Uint8Array, decode: BlockDecoder): Promise<DecompressResult> {
  checkMagic(input);
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
  let offset = 4;
  let written = 0;
  let lastBlock = BLOCK_SIZE;
  while (input.length - offset >= 4) {
    const word = view.getUint32(offset, true);
    if (word === MAGIC) {
      offset += 4;
      lastBlock = BLOCK_SIZE;
      continue;
    }
    if (offset > 4 && endsAt(word, input.length - offset - 4, written, lastBlock)) break;
    const start = offset + 4;
    const end = start + word;
    if (word === 0 || word > LARGEST_BLOCK) {
      throw corrupt('lz4', offset, `block of ${word} bytes, at most ${LARGEST_BLOCK} are possible`);
    }
    if (end > input.length) throw truncated('lz4', end, input.length, `the block at ${offset}`);
    lastBlock = await decode(start, end, written);
    written += lastBlock;
    offset = end;
  }
  return { bytesRead: offset, bytesWritten: written };
}

function checkMagic(input: Uint8Array): void {
  if (input.length < 4) throw truncated('lz4', 4, input.length, 'its magic');
  if (!MATCHERS.lz4(input)) throw corrupt('lz4', 0, 'it has no magic of a legacy frame');
}

const MAGIC = 0x184c2102;
const BLOCK_SIZE = 8 * 1024 * 1024;
/** LZ4_COMPRESSBOUND of a block that does not compress. */
const LARGEST_BLOCK = BLOCK_SIZE + Math.floor(BLOCK_SIZE / 255) + 16;

/**
 * Whether `word`, read where the next block's length would be, lies behind the stream. A legacy frame has no end mark:
 * it ends with the input, and a kernel's build appends the decompressed length, which can look like a block's.
 */
function endsAt(word: number, bytesBehind: number, written: number, lastBlock: number): boolean {
  if (word === written && (bytesBehind === 0 || lastBlock < BLOCK_SIZE)) return true;
  return word === 0 || word > (lastBlock < BLOCK_SIZE ? bytesBehind : LARGEST_BLOCK);
}

/** Decodes the block input[start, end) to output[target…] and returns how many bytes it holds. */
type BlockDecoder = (start: number, end: number, target: number) => number | Promise<number>;

/**
 * The system's liblz4. All blocks but a frame's last hold 8 MiB, so each is started where it should go, at once on several
 * threads. What the library refuses is measured once more to say what is wrong.
 */
async function liblz4(): Promise<
  ((input: Uint8Array, output: Uint8Array) => Promise<DecompressResult>) | null
> {
  const library = await systemLibrary('lz4');
  if (library === null) return null;
  const decodeSafe = library.bindInBackground(
    'int LZ4_decompress_safe(void *src, void *dst, int srcSize, int dstCapacity)',
  );
  return async (input, output) => {
    const decode = (start: number, end: number, target: number): Promise<number> => {
      const room = output.subarray(target, target + BLOCK_SIZE);
      return decodeSafe([input.subarray(start, end), room, end - start, room.length]);
    };
    const started = new Map<number, { readonly target: number; readonly length: Promise<number> }>();
    for (const [index, { start, end }] of expectedBlocks(input).entries()) {
      const target = index * BLOCK_SIZE;
      if (target < output.length) started.set(start, { target, length: decode(start, end, target) });
    }
    try {
      return await decodeFrame(input, async (start, end, target) => {
        const early = started.get(start);
        // Behind a shorter block than expected the others have to wait until nothing else writes there.
        if (early?.target !== target) await Promise.all([...started.values()].map(({ length }) => length));
        const length = await (early?.target === target ? early.length : decode(start, end, target));
        if (length >= 0) return length;
        measureBlock(input, start, end, output.length, target);
        throw corrupt('lz4', start, 'block that liblz4 refuses');
      });
    } finally {
      await Promise.all([...started.values()].map(({ length }) => length));
    }
  };
}

/** The blocks of a frame, each 8 MiB but the last, as far as their lengths are possible; what follows a frame may look like one more. */
function expectedBlocks(input: Uint8Array): readonly { readonly start: number; readonly end: number }[] {
  const blocks: { start: number; end: number }[] = [];
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
  for (let offset = 4; input.length - offset >= 4; ) {
    const length = view.getUint32(offset, true);
    const start = offset + 4;
    offset = start + length;
    if (length === 0 || length > LARGEST_BLOCK || offset > input.length) break;
    blocks.push({ start, end: offset });
  }
  return blocks;
}

/** lz4js checks nothing, so every block is measured, and with that checked, before it gets it. */
async function portableDecoder(input: Uint8Array, output: Uint8Array): Promise<BlockDecoder> {
  const library = await import('lz4js');
  // A CommonJS package: what loads it decides whether its exports are the default export or named ones.
  const { decompressBlock } = library.default ?? library;
  return (start, end, target) => {
    const length = measureBlock(input, start, end, output.length, target);
    const room = output.subarray(target, target + length);
    decompressBlock(input, room, start, end - start, 0);
    return length;
  };
}

/**
 * Walks the sequences of an LZ4 block (the "LZ4 block format" description) without decoding and returns
 * the bytes it holds. Checks that lengths stay in the block and in the output, and that every match
 * starts inside the block's own output, or in the `history` bytes before it.
 */
export function measureBlock(
  input: Uint8Array,
  start: number,
  end: number,
  limit: number,
  target: number,
  { history, blockSize } = { history: 0, blockSize: BLOCK_SIZE },
): number {
  const room = Math.min(limit - target, blockSize);
  let offset = start;
  let length = 0;
  while (offset < end) {
    const token = input[offset++]!;
    let literals = token >>> 4;
    if (literals === 15) {
      let byte: number;
      do {
        if (offset >= end) throw corrupt('lz4', offset, 'literal length that passes its block');
        byte = input[offset++]!;
        literals += byte;
      } while (byte === 255);
    }
    offset += literals;
    length += literals;
    if (offset > end) throw corrupt('lz4', offset, `literals that pass their block, which ends at ${end}`);
    if (length > room) break;
    if (offset === end) return length;
    if (offset + 2 > end) throw corrupt('lz4', offset, 'match offset that passes its block');
    const distance = input[offset]! | (input[offset + 1]! << 8);
    if (distance === 0 || distance > length + history) {
      throw corrupt('lz4', offset, `match ${distance} bytes back, the block has ${length} so far`);
    }
    offset += 2;
    let match = token & 15;
    if (match === 15) {
      let byte: number;
      do {
        if (offset >= end) throw corrupt('lz4', offset, 'match length that passes its block');
        byte = input[offset++]!;
        match += byte;
      } while (byte === 255);
    }
    length += match + 4;
    if (length > room) break;
  }
  if (length <= room) throw corrupt('lz4', end, 'block that ends with a match instead of literals');
  if (room < blockSize) throw outputLimit('lz4', limit);
  throw corrupt('lz4', offset, `block of more than ${blockSize} bytes`);
}
