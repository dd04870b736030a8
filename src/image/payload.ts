// The compressed kernel inside the protected-mode code: told by the setup header (protocol 2.08 on), else found by its magic.

import type { CodecName } from '../codecs/codec.ts';
import { MATCHERS } from '../codecs/magic.ts';
import { detectCodec } from '../codecs/registry.ts';
import { BootscopeError } from '../error.ts';
import type { SetupHeader } from '../protocol/setup-header.ts';
import { ByteView } from './byte-view.ts';
import { inflateGzip, inflateGzipStart } from './gzip-stream.ts';

/** The compressed kernel inside a bzImage or zImage. */
export interface Payload {
  readonly codec: CodecName;
  /** Offset of its first byte in `KernelImage.protectedModeCode`. */
  readonly offset: number;
  /** Bytes, with the 4-byte decompressed length that the build appends (gzip carries its own). */
  readonly length: number;
  /** Decompressed length in bytes, read from its last 4 bytes; with the relocation lists. Null where unknown. */
  readonly outputLength: number | null;
  /** `header` from payload_offset/payload_length (protocol 2.08 on), `magic` found by searching. */
  readonly source: 'header' | 'magic';
}

/** No kernel decompresses to more than this; a larger number in a file is not a length. */
const MAX_OUTPUT_LENGTH = 0x40000000;

/** What to search for, and a closer look at what was found; `MATCHERS` has already said yes. */
const SEARCHES: readonly {
  readonly codec: CodecName;
  readonly prefix: string;
  isStream(view: ByteView, at: number): boolean;
}[] = [
  {
    codec: 'gzip',
    prefix: '\x1f\x8b\x08',
    isStream: (view, at) =>
      (inflateGzipStart(view.bytes.subarray(at), 0x4000, 0x2000000)?.length ?? 0) >= 256,
  },
  { codec: 'bzip2', prefix: 'BZh', isStream: () => true },
  {
    codec: 'lzma',
    prefix: '\x5d\x00\x00',
    isStream: (view, at) => {
      if (!view.has(at, 18)) return false;
      const length = view.u64(at + 5);
      return length === 0xffffffffffffffffn || (length >= 0x1000n && length <= BigInt(MAX_OUTPUT_LENGTH));
    },
  },
  {
    codec: 'xz',
    prefix: '\xfd7zXZ\x00',
    // Stream flags, then a block header, whose size byte is 0 only in an empty stream.
    isStream: (view, at) =>
      view.has(at, 24) && view.u8(at + 6) === 0 && (view.u8(at + 7) & 0xf0) === 0 && view.u8(at + 12) !== 0,
  },
  {
    codec: 'lzo',
    prefix: '\x89LZO\x00\r\n\x1a\n',
    // lzop's version in big endian, 0x0900 to 0x10ff in its releases.
    isStream: (view, at) => view.has(at, 34) && view.u8(at + 9) >= 0x09 && view.u8(at + 9) <= 0x1f,
  },
  {
    codec: 'lz4',
    prefix: '\x02\x21\x4c\x18',
    isStream: (view, at) => {
      if (!view.has(at, 8)) return false;
      const block = view.u32(at + 4);
      return block > 16 && block <= 0x810000 && view.has(at + 8, block);
    },
  },
  {
    codec: 'zstd',
    prefix: '\x28\xb5\x2f\xfd',
    // Frame header descriptor: bit 3 is reserved and 0 (RFC 8878 3.1.1.1.1).
    isStream: (view, at) => view.has(at, 18) && (view.u8(at + 4) & 0x08) === 0,
  },
];

function plausibleLength(value: number, compressed: number): number | null {
  return value >= compressed / 4 && value <= MAX_OUTPUT_LENGTH ? value : null;
}

/** Where the header says the payload is; null where it says nothing, or the codec is unknown. */
function payloadFromHeader(header: SetupHeader, code: Uint8Array): Payload | null {
  const offset = header.get('payload_offset');
  const length = header.get('payload_length');
  if (offset === 0 || length === 0) return null;
  if (offset >= code.length || length > code.length - offset) return null;
  const codec = detectCodec(code.subarray(offset, offset + 64));
  if (codec === null) return null;
  const outputLength =
    length >= 8 ? plausibleLength(new ByteView(code, 'payload').u32(offset + length - 4), length) : null;
  return { codec, offset, length, outputLength, source: 'header' };
}

/** Where a stream that was found by its magic ends, and what it holds; null where it is no stream after all. */
function measureStream(code: Uint8Array, codec: CodecName, offset: number): Payload | null {
  const view = new ByteView(code, 'payload');
  const rest = code.length - offset;
  // 2.4 and 2.6 link the payload behind a 32-bit word with its length (input_len before input_data).
  const stated = offset >= 4 ? view.u32(offset - 4) : 0;
  if (stated > 18 && stated <= rest) {
    const outputLength = plausibleLength(view.u32(offset + stated - 4), stated);
    if (outputLength !== null) return { codec, offset, length: stated, outputLength, source: 'magic' };
  }
  if (codec === 'gzip') {
    const length = gzipStreamLength(code.subarray(offset));
    if (length === null) {
      if (stated > rest && stated <= rest + 0x1000000) {
        throw new BootscopeError(
          'image-truncated',
          `the image is cut in its payload: ${stated} bytes of gzip start at offset ${offset} of the ` +
            `protected-mode code, which has ${rest} bytes from there`,
        );
      }
      return null;
    }
    const outputLength = plausibleLength(view.u32(offset + length - 4), 0);
    return { codec, offset, length, outputLength, source: 'magic' };
  }
  if (codec === 'lzma') {
    const length = view.u64(offset + 5);
    const outputLength = length <= BigInt(MAX_OUTPUT_LENGTH) ? Number(length) : null;
    return { codec, offset, length: rest, outputLength, source: 'magic' };
  }
  return { codec, offset, length: rest, outputLength: null, source: 'magic' };
}

/** Bytes of the gzip stream at the start of `bytes`; null where it is damaged or cut. */
function gzipStreamLength(bytes: Uint8Array): number | null {
  try {
    return inflateGzip('payload', bytes, MAX_OUTPUT_LENGTH).length;
  } catch (error) {
    if (error instanceof BootscopeError) return null;
    throw error;
  }
}

/** The first stream in the code that withstands a closer look. */
function payloadBySearch(code: Uint8Array): Payload | null {
  for (const { codec, offset } of findStreams(code)) {
    const payload = measureStream(code, codec, offset);
    if (payload !== null) return payload;
  }
  return null;
}

/** The first compressed stream in `bytes`, by its magic and a closer look; null where there is none. */
export function findStream(bytes: Uint8Array): { readonly codec: CodecName; readonly offset: number } | null {
  return findStreams(bytes)[0] ?? null;
}

/** The first stream of each codec, in the order of their offsets. */
function findStreams(code: Uint8Array): { codec: CodecName; offset: number }[] {
  const buffer = Buffer.from(code.buffer, code.byteOffset, code.byteLength);
  const view = new ByteView(code, 'payload');
  const found: { codec: CodecName; offset: number }[] = [];
  for (const { codec, prefix, isStream } of SEARCHES) {
    const needle = Buffer.from(prefix, 'latin1');
    let at = buffer.indexOf(needle);
    // A file made of nothing but magics must not take for ever.
    for (let tries = 0; at >= 0 && tries < 256; tries++) {
      if (MATCHERS[codec](code.subarray(at, at + 64)) && isStream(view, at)) {
        found.push({ codec, offset: at });
        break;
      }
      at = buffer.indexOf(needle, at + 1);
    }
  }
  return found.sort((a, b) => a.offset - b.offset);
}

/**
 * Finds the compressed kernel in the protected-mode code; null where there is none or none whose codec is known.
 *
 * @param code - all that follows setup in the image
 * @throws BootscopeError `image-truncated` where the payload does not end inside the file
 */
export function findPayload(header: SetupHeader, code: Uint8Array): Payload | null {
  const fromHeader = payloadFromHeader(header, code);
  if (fromHeader !== null) return fromHeader;
  // A header that names a payload which is not one of ours: nothing else in there is the payload either.
  if (header.get('payload_offset') !== 0 && header.get('payload_length') !== 0) return null;
  return payloadBySearch(code);
}
