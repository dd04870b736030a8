// Finds the compressed kernel in code that does not say where it is: every magic with a sound header behind it is a candidate,
// and the last one that unpacks is the kernel, since a boot program's own constants stand before what it carries.

import { crc32 } from '../codecs/checksums.ts';
import type { CodecName } from '../codecs/codec.ts';
import { MATCHERS } from '../codecs/magic.ts';
import { BootscopeError } from '../error.ts';
import { indexOfText } from '../host/host.ts';
import { ByteView } from './byte-view.ts';
import { inflateGzipStart } from './gzip-stream.ts';
import { unpackStream } from './unpack.ts';

/** A place that looks like the start of a stream. */
export interface StreamCandidate {
  readonly codec: CodecName;
  readonly offset: number;
}

/** A stream that was unpacked. */
export interface FoundStream extends StreamCandidate {
  /** Bytes of the stream itself. */
  readonly length: number;
  readonly content: Uint8Array;
}

/** Less than this no kernel unpacks to. */
const LEAST_CONTENT = 1024;
const LARGEST_CONTENT = 0x40000000;
/** A file made of nothing but magics must not take for ever. */
const MOST_CANDIDATES = 256;
/** How many candidates that do not unpack are tried. */
const MOST_TRIES = 12;

/** What to search for, and a closer look at what was found; `MATCHERS` has already said yes. */
const SEARCHES: readonly {
  readonly codec: CodecName;
  /** Latin-1, at `prefixAt` bytes from the start of the stream. */
  readonly prefix: string;
  readonly prefixAt?: number;
  isSound(view: ByteView, at: number): boolean;
}[] = [
  {
    codec: 'gzip',
    prefix: '\x1f\x8b\x08',
    isSound: (view, at) => (inflateGzipStart(view.bytes.subarray(at), 0x4000, 0x2000000)?.length ?? 0) >= 256,
  },
  { codec: 'bzip2', prefix: 'BZh', isSound: () => true },
  // The size where it is not known, then the first byte of the range coder: any properties and dictionary before it.
  {
    codec: 'lzma',
    prefix: '\xff\xff\xff\xff\xff\xff\xff\xff\0',
    prefixAt: 5,
    isSound: (view, at) => view.has(at, 18),
  },
  {
    codec: 'lzma',
    prefix: '\x5d\0\0',
    isSound: (view, at) => {
      if (!view.has(at, 18)) return false;
      const length = view.u64(at + 5);
      return length >= BigInt(LEAST_CONTENT) && length <= BigInt(LARGEST_CONTENT);
    },
  },
  {
    codec: 'xz',
    prefix: '\xfd7zXZ\0',
    // Stream flags with their CRC (xz-file-format 2.1.1), then a block header, whose size byte is 0 only in an empty stream.
    isSound: (view, at) =>
      view.has(at, 24) &&
      view.u8(at + 6) === 0 &&
      (view.u8(at + 7) & 0xf0) === 0 &&
      view.u32(at + 8) === crc32(view.slice(at + 6, 2)) &&
      view.u8(at + 12) !== 0,
  },
  {
    codec: 'lzo',
    prefix: '\x89LZO\0\r\n\x1a\n',
    // lzop's version in big endian, 0x0900 to 0x1fff in its releases; then the library's, the one needed, and a method.
    isSound: (view, at) =>
      view.has(at, 34) &&
      view.u8(at + 9) >= 0x09 &&
      view.u8(at + 9) <= 0x1f &&
      view.u8(at + 15) >= 1 &&
      view.u8(at + 15) <= 3,
  },
  {
    codec: 'lz4',
    prefix: '\x02\x21\x4c\x18',
    isSound: (view, at) => {
      if (!view.has(at, 8)) return false;
      const block = view.u32(at + 4);
      return block > 16 && block <= 0x810000 && view.has(at + 8, block);
    },
  },
  { codec: 'zstd', prefix: '\x28\xb5\x2f\xfd', isSound: isSoundZstd },
];

/** A frame header whose reserved bit is 0, and a block of a possible kind and size behind it (RFC 8878 3.1.1). */
function isSoundZstd(view: ByteView, at: number): boolean {
  if (!view.has(at, 18)) return false;
  const descriptor = view.u8(at + 4);
  if ((descriptor & 0x08) !== 0) return false;
  const singleSegment = (descriptor & 0x20) !== 0;
  const dictionaryId = [0, 1, 2, 4][descriptor & 3]!;
  const contentSize = [singleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6]!;
  const block = at + 5 + (singleSegment ? 0 : 1) + dictionaryId + contentSize;
  if (!view.has(block, 4)) return false;
  const header = view.u32(block) & 0xffffff;
  return ((header >> 1) & 3) !== 3 && header >> 3 <= 0x20000;
}

/** Every sound candidate, in the order of their offsets. */
export function findCandidates(bytes: Uint8Array): StreamCandidate[] {
  const view = new ByteView(bytes, 'compressed kernel');
  const found: StreamCandidate[] = [];
  for (const { codec, prefix, prefixAt = 0, isSound } of SEARCHES) {
    let at = indexOfText(bytes, prefix);
    for (let tries = 0; at >= 0 && tries < MOST_CANDIDATES; tries++) {
      const offset = at - prefixAt;
      if (offset >= 0 && MATCHERS[codec](bytes.subarray(offset, offset + 64)) && isSound(view, offset)) {
        found.push({ codec, offset });
      }
      at = indexOfText(bytes, prefix, at + 1);
    }
  }
  return found.sort((a, b) => a.offset - b.offset);
}

/** The last candidate that unpacks to something of a kernel's size; null where none does. */
export async function findLastStream(bytes: Uint8Array): Promise<FoundStream | null> {
  const candidates = findCandidates(bytes);
  for (const { codec, offset } of candidates.reverse().slice(0, MOST_TRIES)) {
    try {
      const { content, length } = await unpackStream('a candidate', bytes.subarray(offset), codec);
      if (content.length >= LEAST_CONTENT && content.length > length / 2)
        return { codec, offset, length, content };
    } catch (error) {
      if (!(error instanceof BootscopeError)) throw error;
    }
  }
  return null;
}
