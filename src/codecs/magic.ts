// How each compression format is told from its first bytes.

import type { CodecName } from './codec.ts';

/** Per format, whether `bytes` (16 are enough) start one of its streams. */
export const MATCHERS: Readonly<Record<CodecName, (bytes: Uint8Array) => boolean>> = {
  // RFC 1952 2.3: ID1, ID2, CM = deflate, no reserved flag.
  gzip: (bytes) => startsWith(bytes, 0x1f, 0x8b, 0x08) && (bytes[3] ?? 0xff) < 0x20,
  // "BZh", level 1 to 9, and the magic of a block (pi) or of the stream's end (sqrt(pi)).
  bzip2: (bytes) =>
    startsWith(bytes, 0x42, 0x5a, 0x68) &&
    (bytes[3] ?? 0) >= 0x31 &&
    (bytes[3] ?? 0) <= 0x39 &&
    (startsWith(bytes.subarray(4), 0x31, 0x41, 0x59, 0x26, 0x53, 0x59) ||
      startsWith(bytes.subarray(4), 0x17, 0x72, 0x45, 0x38, 0x50, 0x90)),
  lzma: matchesLzma,
  xz: (bytes) => startsWith(bytes, 0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00),
  lzo: (bytes) => startsWith(bytes, 0x89, 0x4c, 0x5a, 0x4f, 0x00, 0x0d, 0x0a, 0x1a, 0x0a),
  lz4: (bytes) => startsWith(bytes, 0x02, 0x21, 0x4c, 0x18),
  zstd: (bytes) => startsWith(bytes, 0x28, 0xb5, 0x2f, 0xfd),
};

/** (pb * 5 + lp) * 9 + lc with the largest of each: 4, 4 and 8. */
const LZMA_LARGEST_PROPERTIES = 224;

/**
 * The .lzma header has no magic; this takes what `lzma` and `xz --format=lzma` write: any lc/lp/pb (the default is 0x5d), a
 * dictionary of 2^n or 2^n + 2^(n-1) bytes, the size unknown (all ones) or below 256 GiB, and the first byte of the range
 * coder, which is always 0.
 */
function matchesLzma(bytes: Uint8Array): boolean {
  if (bytes.length < 14 || bytes[0]! > LZMA_LARGEST_PROPERTIES || bytes[13] !== 0) return false;
  const view = new DataView(bytes.buffer, bytes.byteOffset, 13);
  const dictionarySize = view.getUint32(1, true);
  const highestBit = 31 - Math.clz32(dictionarySize);
  const rest = dictionarySize - 2 ** highestBit;
  if (dictionarySize < 4096 || (rest !== 0 && rest !== 2 ** (highestBit - 1))) return false;
  const sizeLow = view.getUint32(5, true);
  const sizeHigh = view.getUint32(9, true);
  return (sizeLow === 0xffffffff && sizeHigh === 0xffffffff) || sizeHigh < 64;
}

/** Whether `bytes` (7 are enough) start a frame of lz4's other format: version 1, no reserved bit, a possible block size. */
export function matchesLz4Frame(bytes: Uint8Array): boolean {
  const [flags = 0, blockSize = 0] = bytes.subarray(4, 6);
  return (
    startsWith(bytes, 0x04, 0x22, 0x4d, 0x18) &&
    (flags & 0xc2) === 0x40 &&
    (blockSize & 0x8f) === 0 &&
    blockSize >= 0x40
  );
}

function startsWith(bytes: Uint8Array, ...magic: readonly number[]): boolean {
  return magic.every((byte, index) => bytes[index] === byte);
}
