// lzop's file format: a header, then blocks of LZO1X data with checksums of both sides; with the system's liblzo2 where there is one.

import { hex } from '../hex.ts';
import { adler32, crc32 } from './checksums.ts';
import type { Codec } from './codec.ts';
import { checksumMismatch, corrupt, outputLimit, truncated } from './codec-errors.ts';
import { decodeLzo1x } from './lzo1x.ts';
import { MATCHERS } from './magic.ts';
import { systemLibrary } from './system-library.ts';

export const lzo: Codec = {
  name: 'lzo',
  matches: MATCHERS.lzo,
  async decompress(input, output, options) {
    const reader = new Reader(input);
    const { decode, adler32 } = (options?.portable ? null : await liblzo2()) ?? PORTABLE;
    const verify = options?.unchecked ? () => {} : verifySum;
    const checks = readHeader(reader, verify, { name: 'Adler-32', compute: adler32 });
    let written = 0;
    for (;;) {
      const blockOffset = reader.offset;
      const length = reader.uint32('the length of a block');
      if (length === 0) break;
      const storedLength = reader.uint32('the length of a block');
      if (length > LARGEST_BLOCK || storedLength === 0 || storedLength > length) {
        throw corrupt(
          'lzo',
          blockOffset,
          `block of ${storedLength} bytes for ${length}, at most ${LARGEST_BLOCK}`,
        );
      }
      const stored = storedLength === length;
      const plainSums = checks.plain.map((check) => [check, reader.uint32('a block checksum')] as const);
      // A block that did not compress has no checksums of its compressed form.
      const packedSums = stored
        ? []
        : checks.packed.map((check) => [check, reader.uint32('a block checksum')] as const);
      const packed = reader.bytes(storedLength, `the block at ${blockOffset}`);
      if (length > output.length - written) throw outputLimit('lzo', output.length, written + length);
      for (const sum of packedSums) verify(sum, packed, `the compressed block at ${blockOffset}`);
      const plain = output.subarray(written, written + length);
      if (stored) plain.set(packed);
      else decode(packed, plain, reader.offset - storedLength);
      for (const sum of plainSums) verify(sum, plain, `the block at ${blockOffset}`);
      written += length;
    }
    return { bytesRead: reader.offset, bytesWritten: written };
  },
  background: async () => null,
};

interface Decoder {
  /** As `decodeLzo1x`. */
  readonly decode: (packed: Uint8Array, plain: Uint8Array, origin: number) => void;
  readonly adler32: (bytes: Uint8Array) => number;
}

const PORTABLE: Decoder = { decode: decodeLzo1x, adler32 };

/** The system's liblzo2; a block that it refuses is decoded once more, which says what is wrong. */
async function liblzo2(): Promise<Decoder | null> {
  const library = await systemLibrary('lzo2');
  if (library === null) return null;
  const decode = library.bind(
    'int lzo1x_decompress_safe(void *src, size_t src_len, void *dst, void *dst_len, void *wrkmem)',
  );
  const sum = library.bind('uint32_t lzo_adler32(uint32_t adler, void *buf, size_t len)');
  const length = new BigUint64Array(1);
  return {
    decode(packed, plain, origin) {
      length[0] = BigInt(plain.length);
      const status = decode(packed, packed.length, plain, length, null);
      if (status !== 0 || length[0] !== BigInt(plain.length)) decodeLzo1x(packed, plain, origin);
    },
    adler32: (bytes) => sum(1, bytes, bytes.length),
  };
}

/** lzop's own limit (MAX_BLOCK_SIZE); it writes 256 KiB, which is the kernel's limit. */
const LARGEST_BLOCK = 64 * 1024 * 1024;

// Flags of the header that matter to a reader.
const ADLER32_OF_PLAIN = 0x1;
const ADLER32_OF_PACKED = 0x2;
const EXTRA_FIELD = 0x40;
const CRC32_OF_PLAIN = 0x100;
const CRC32_OF_PACKED = 0x200;
const MULTIPART = 0x400;
const FILTER = 0x800;
const HEADER_CRC32 = 0x1000;

interface Check {
  readonly name: string;
  compute(bytes: Uint8Array): number;
}

const CRC32: Check = { name: 'CRC32', compute: crc32 };

/** Header; before version 0x0940 it has no version needed, no level and no upper half of the time. */
function readHeader(
  reader: Reader,
  verify: typeof verifySum,
  adler: Check,
): { plain: readonly Check[]; packed: readonly Check[] } {
  if (!MATCHERS.lzo(reader.bytes(9, 'its magic'))) throw corrupt('lzo', 0, 'it has no lzop magic');
  const version = reader.uint16('its header');
  reader.bytes(2, 'its header');
  if (version >= 0x0940) reader.bytes(2, 'its header');
  const method = reader.bytes(1, 'its header')[0]!;
  // 1 LZO1X-1, 2 LZO1X-1(15), 3 LZO1X-999 differ in the compressor alone; 0x80 is deflate.
  if (method < 1 || method > 3) {
    throw corrupt('lzo', reader.offset - 1, `method ${method} is not LZO1X (1 to 3)`);
  }
  if (version >= 0x0940) reader.bytes(1, 'its header');
  const flags = reader.uint32('its header');
  if (flags & (FILTER | MULTIPART)) {
    throw corrupt(
      'lzo',
      reader.offset - 4,
      `flags ${hex(flags)} name a filter or more parts, neither supported`,
    );
  }
  // File mode and modification time.
  reader.bytes(version >= 0x0940 ? 12 : 8, 'its header');
  reader.bytes(reader.bytes(1, 'its header')[0]!, 'the file name in its header');
  const check = flags & HEADER_CRC32 ? CRC32 : adler;
  const header = reader.since(9);
  verify([check, reader.uint32('its header')], header, 'the header');
  if (flags & EXTRA_FIELD) {
    const start = reader.offset;
    reader.bytes(reader.uint32('its extra field'), 'its extra field');
    const field = reader.since(start);
    verify([check, reader.uint32('its extra field')], field, 'the extra field');
  }
  const chosen = (adlerFlag: number, crcFlag: number) => [
    ...(flags & adlerFlag ? [adler] : []),
    ...(flags & crcFlag ? [CRC32] : []),
  ];
  return {
    plain: chosen(ADLER32_OF_PLAIN, CRC32_OF_PLAIN),
    packed: chosen(ADLER32_OF_PACKED, CRC32_OF_PACKED),
  };
}

function verifySum([check, stored]: readonly [Check, number], bytes: Uint8Array, what: string): void {
  const computed = check.compute(bytes);
  if (stored !== computed) throw checksumMismatch('lzo', `${check.name} of ${what}`, stored, computed);
}

/** Big-endian fields one after the other. */
class Reader {
  offset = 0;
  readonly #input: Uint8Array;

  constructor(input: Uint8Array) {
    this.#input = input;
  }

  bytes(count: number, what: string): Uint8Array {
    const end = this.offset + count;
    if (end > this.#input.length) throw truncated('lzo', end, this.#input.length, what);
    const bytes = this.#input.subarray(this.offset, end);
    this.offset = end;
    return bytes;
  }

  uint16(what: string): number {
    const bytes = this.bytes(2, what);
    return bytes[0]! * 256 + bytes[1]!;
  }

  uint32(what: string): number {
    return this.uint16(what) * 65536 + this.uint16(what);
  }

  since(start: number): Uint8Array {
    return this.#input.subarray(start, this.offset);
  }
}
