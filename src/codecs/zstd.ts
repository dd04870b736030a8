// Zstandard (RFC 8878): the one frame that a kernel's payload is, checksum included.

import type { Codec, DecompressResult } from './codec.ts';
import { checksumMismatch, corrupt, outputLimit, truncated } from './codec-errors.ts';
import { MATCHERS } from './magic.ts';
import { systemLibrary } from './system-library.ts';

export const zstd: Codec = {
  name: 'zstd',
  matches: MATCHERS.zstd,
  async decompress(input, output, options) {
    const frame = readFrame(input, output.length);
    const native = options?.portable ? null : await libzstd();
    return (
      (await native?.(input, output, frame)) ?? {
        bytesRead: frame.length,
        bytesWritten: await decodePortably(input, output, frame),
      }
    );
  },
  background: libzstd,
};

/** Largest content of one block (RFC 8878 3.1.1.2.4). */
const LARGEST_BLOCK = 128 * 1024;

interface Frame {
  readonly length: number;
  readonly hasChecksum: boolean;
  /** As the frame header says it; null where it doesn't, as in what the kernel's build pipes through zstd. */
  readonly contentSize: number | null;
  /** What its blocks hold at most. */
  readonly largestContent: number;
}

/** Walks the frame header and the block headers (RFC 8878 3.1.1). */
function readFrame(input: Uint8Array, limit: number): Frame {
  need(input, 5, 'its frame header');
  if (!MATCHERS.zstd(input)) throw corrupt('zstd', 0, 'it has no magic');
  const descriptor = input[4]!;
  if (descriptor & 0x08) throw corrupt('zstd', 4, 'reserved bit set in the frame header');
  const singleSegment = (descriptor & 0x20) !== 0;
  const dictionaryIdSize = [0, 1, 2, 4][descriptor & 3]!;
  const contentSizeSize = [singleSegment ? 1 : 0, 2, 4, 8][descriptor >>> 6]!;
  const windowSize = singleSegment ? 0 : 1;
  let offset = 5 + windowSize + dictionaryIdSize + contentSizeSize;
  need(input, offset, 'its frame header');
  const dictionaryId = readLittleEndian(input, 5 + windowSize, dictionaryIdSize);
  if (dictionaryId !== 0)
    throw corrupt('zstd', 5, `needs dictionary ${dictionaryId}, which no kernel carries`);
  const contentSize =
    contentSizeSize === 0
      ? null
      : readLittleEndian(input, offset - contentSizeSize, contentSizeSize) +
        (contentSizeSize === 2 ? 256 : 0);
  if (contentSize !== null && contentSize > limit) throw outputLimit('zstd', limit, contentSize);
  let largestContent = 0;
  let leastContent = 0;
  for (let last = false; !last; ) {
    need(input, offset + 3, `the block header at ${offset}`);
    const header = readLittleEndian(input, offset, 3);
    last = (header & 1) !== 0;
    const type = (header >>> 1) & 3;
    const size = header >>> 3;
    if (type === 3 || size > LARGEST_BLOCK) {
      throw corrupt(
        'zstd',
        offset,
        `block of type ${type} and ${size} bytes, at most ${LARGEST_BLOCK} are possible`,
      );
    }
    // Raw, repeated byte, compressed.
    largestContent += type === 2 ? LARGEST_BLOCK : size;
    leastContent += type === 2 ? 0 : size;
    if (leastContent > limit) throw outputLimit('zstd', limit);
    const end = offset + 3 + (type === 1 ? 1 : size);
    need(input, end, `the block at ${offset}`);
    offset = end;
  }
  const hasChecksum = (descriptor & 4) !== 0;
  if (hasChecksum) offset += 4;
  need(input, offset, 'its checksum');
  if (contentSize !== null && contentSize > largestContent) {
    throw corrupt('zstd', 4, `content of ${contentSize} bytes, its blocks hold at most ${largestContent}`);
  }
  return { length: offset, hasChecksum, contentSize, largestContent };
}

/** The system's libzstd; where it finds a fault the portable way names it. */
async function libzstd(): Promise<
  ((input: Uint8Array, output: Uint8Array, known?: Frame) => Promise<DecompressResult | null>) | null
> {
  const library = await systemLibrary('zstd');
  if (library === null) return null;
  const decode = library.bindInBackground(
    'size_t ZSTD_decompress(void *dst, size_t dstCapacity, void *src, size_t srcSize)',
  );
  return async (input, output, known) => {
    const { length } = known ?? readFrame(input, output.length);
    const size = Number(await decode([output, output.length, input, length]));
    // An error is a small negative number as size_t.
    return size <= output.length ? { bytesRead: length, bytesWritten: size } : null;
  };
}

async function decodePortably(input: Uint8Array, output: Uint8Array, frame: Frame): Promise<number> {
  const source = input.subarray(0, frame.length);
  if (frame.largestContent === 0) {
    verifyEmpty(input, frame);
    return 0;
  }
  const decoder = await zstddec();
  // The frame's blocks bound what the library allocates; the output's length bounds it further.
  const capacity = frame.contentSize ?? Math.min(frame.largestContent, output.length);
  const content = decode(decoder, source, capacity);
  if (content !== null) {
    output.set(content);
    return content.length;
  }
  // The library doesn't say what was wrong: without the checksum it decodes, or with more room, or not at all.
  if (frame.hasChecksum) {
    // Not `slice`, which shares memory where the input is one of Node's buffers.
    const unchecked = new Uint8Array(source.subarray(0, -4));
    unchecked[4]! &= ~4;
    if (decode(decoder, unchecked, capacity) !== null) {
      const stored = readLittleEndian(input, frame.length - 4, 4);
      throw checksumMismatch('zstd', 'XXH64 of the content (low half)', stored, 'another value');
    }
    if (capacity < frame.largestContent && decode(decoder, unchecked, moreRoom(frame)) !== null) {
      throw outputLimit('zstd', output.length);
    }
  } else if (capacity < frame.largestContent && decode(decoder, source, moreRoom(frame)) !== null) {
    throw outputLimit('zstd', output.length);
  }
  throw corrupt('zstd', 0, `none of the ${frame.length} bytes of the frame could be trusted`);
}

/** XXH64 of no bytes with seed 0, the low half, which is what a frame stores (RFC 8878 3.1.1). */
const CHECKSUM_OF_NOTHING = 0x51d8e999;

function verifyEmpty(input: Uint8Array, frame: Frame): void {
  if (!frame.hasChecksum) return;
  const stored = readLittleEndian(input, frame.length - 4, 4);
  if (stored !== CHECKSUM_OF_NOTHING) {
    throw checksumMismatch('zstd', 'XXH64 of no content (low half)', stored, CHECKSUM_OF_NOTHING);
  }
}

/** At most 512 MiB are allocated to find out whether a frame is sound and only too large. */
function moreRoom(frame: Frame): number {
  return Math.min(frame.largestContent, 512 * 1024 * 1024);
}

/** Frames with more than this on both sides are left to libzstd: a WASM memory has at most 2 GiB here. */
const WASM_LIMIT = 1536 * 1024 * 1024;

/** The content, or null for a frame that zstddec refuses: its result is then empty, which no frame with content is. */
function decode(decoder: ZstdDecoder, frame: Uint8Array, capacity: number): Uint8Array | null {
  if (capacity === 0 || frame.length + capacity > WASM_LIMIT) return null;
  try {
    const content = decoder.decode(frame, capacity);
    return content.length === 0 ? null : content;
  } catch {
    return null;
  }
}

type ZstdDecoder = Pick<import('zstddec').ZSTDDecoder, 'decode'>;

async function zstddec(): Promise<ZstdDecoder> {
  const { ZSTDDecoder } = await import('zstddec');
  const decoder = new ZSTDDecoder();
  await decoder.init();
  return decoder;
}

function readLittleEndian(input: Uint8Array, offset: number, size: number): number {
  let value = 0;
  for (let i = size - 1; i >= 0; i--) value = value * 256 + input[offset + i]!;
  return value;
}

function need(input: Uint8Array, length: number, what: string): void {
  if (length > input.length) throw truncated('zstd', length, input.length, what);
}
