// Reads a gzip stream of unknown length and says where it ends, whatever follows it (RFC 1952).
// Node's own gunzip takes what follows for a further member and fails.

import { crc32 } from '../codecs/checksums.ts';
import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import { inflateRaw } from '../host/host.ts';
import type { Inflated } from '../host/host-types.ts';
import { ByteView } from './byte-view.ts';

const TRAILER_LENGTH = 8;

/** Length in bytes of the gzip header at `at`; null where there is none. */
export function gzipHeaderLength(bytes: Uint8Array, at: number): number | null {
  const view = new ByteView(bytes, 'gzip header');
  if (!view.startsWith('\x1f\x8b\x08', at) || !view.has(at, 18)) return null;
  const flags = view.u8(at + 3);
  if ((flags & 0xe0) !== 0) return null;
  let next = at + 10;
  if ((flags & 0x04) !== 0) {
    if (!view.has(next, 2)) return null;
    next += 2 + view.u16(next);
  }
  // File name and comment, each ended by a NUL.
  for (const flag of [0x08, 0x10]) {
    if ((flags & flag) === 0) continue;
    const limit = next + 4096;
    while (view.has(next, 1) && next < limit && view.u8(next) !== 0) next++;
    if (!view.has(next, 1) || view.u8(next) !== 0) return null;
    next++;
  }
  if ((flags & 0x02) !== 0) next += 2;
  return view.has(next, 1) ? next - at : null;
}

/** The first bytes of a gzip stream's content, from its first `length` bytes; null where they are no such stream. */
export function inflateGzipStart(bytes: Uint8Array, length: number, limit: number): Uint8Array | null {
  const start = gzipHeaderLength(bytes, 0);
  if (start === null) return null;
  const inflated = inflateRaw(bytes.subarray(start, start + length), limit, true);
  return 'fault' in inflated ? null : inflated.content;
}

/**
 * Inflates the gzip member at the start of `bytes` and checks its CRC and length.
 *
 * @param what - names the stream in messages
 * @param limit - the largest content, in bytes
 * @returns the content, and how many bytes the member has
 * @throws BootscopeError `image-truncated`, `image-corrupt`, `image-too-large`
 */
export function inflateGzip(
  what: string,
  bytes: Uint8Array,
  limit: number,
): { readonly content: Uint8Array; readonly length: number } {
  const start = gzipHeaderLength(bytes, 0);
  if (start === null)
    throw new BootscopeError('image-corrupt', `${what} is a damaged gzip file: its header is wrong`);
  const { content, consumed } = inflate(what, bytes.subarray(start), limit);
  const length = start + consumed + TRAILER_LENGTH;
  if (length > bytes.length) {
    throw new BootscopeError(
      'image-truncated',
      `${what} is a cut gzip file: it needs ${length} bytes, there are ${bytes.length}`,
    );
  }
  const view = new ByteView(bytes, what);
  const statedCrc = view.u32(length - 8);
  const computedCrc = crc32(content);
  if (statedCrc !== computedCrc || view.u32(length - 4) !== content.length >>> 0) {
    throw new BootscopeError(
      'image-corrupt',
      `${what} is a damaged gzip file: its CRC is ${hex(statedCrc)} for ${view.u32(length - 4)} bytes, ` +
        `its content has CRC ${hex(computedCrc)} and ${content.length} bytes`,
    );
  }
  return { content, length };
}

function inflate(what: string, bytes: Uint8Array, limit: number): Inflated {
  const inflated = inflateRaw(bytes, limit, false);
  if (!('fault' in inflated)) return inflated;
  const { fault, reason, cause } = inflated;
  switch (fault) {
    case 'limit':
      throw new BootscopeError(
        'image-too-large',
        `${what} holds more than ${limit} bytes under gzip, which no kernel image has`,
        { cause },
      );
    case 'cut':
      throw new BootscopeError(
        'image-truncated',
        `${what} is a cut gzip file: its stream does not end within ${bytes.length} bytes`,
        { cause },
      );
    case 'damaged':
      throw new BootscopeError('image-corrupt', `${what} is a damaged gzip file: ${reason}`, { cause });
  }
}
