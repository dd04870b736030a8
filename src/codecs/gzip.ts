// gzip (RFC 1952): one member, with Node's zlib where there is one and pako elsewhere.

import { nativeZlib } from '../host/host.ts';
import { crc32 } from './checksums.ts';
import type { Codec, DecompressResult } from './codec.ts';
import { checksumMismatch, corrupt, outputLimit, truncated } from './codec-errors.ts';
import { MATCHERS } from './magic.ts';

export const gzip: Codec = {
  name: 'gzip',
  matches: MATCHERS.gzip,
  async decompress(input, output, options) {
    const start = readHeader(input);
    const deflated = input.subarray(start);
    const native =
      options?.portable || nativeZlib() === null ? null : await inflateWithNode(deflated, output);
    const inflated = native ?? (await inflateWithPako(deflated, start, output));
    if (!options?.unchecked) return verify(input, start, output, inflated);
    const end = Math.min(start + inflated.bytesRead + 8, input.length);
    return { bytesRead: end, bytesWritten: inflated.bytesWritten };
  },
  async background() {
    if (nativeZlib() === null) return null;
    return async (input, output) => {
      const start = readHeader(input);
      const inflated = await inflateWithNode(input.subarray(start), output);
      return inflated && verify(input, start, output, inflated);
    };
  },
};

/** Checks the trailer behind the deflate stream at `start`; returns what the whole member is. */
function verify(
  input: Uint8Array,
  start: number,
  output: Uint8Array,
  inflated: DecompressResult,
): DecompressResult {
  const { bytesRead, bytesWritten } = inflated;
  const trailer = start + bytesRead;
  need(input, trailer + 8, 'the trailer behind its data');
  const view = new DataView(input.buffer, input.byteOffset + trailer, 8);
  const computed = crc32(output.subarray(0, bytesWritten));
  if (view.getUint32(0, true) !== computed) {
    throw checksumMismatch('gzip', `CRC32 of ${bytesWritten} bytes`, view.getUint32(0, true), computed);
  }
  if (view.getUint32(4, true) !== bytesWritten % 2 ** 32) {
    throw corrupt(
      'gzip',
      trailer + 4,
      `length ${view.getUint32(4, true)}, ${bytesWritten} bytes decompressed`,
    );
  }
  return { bytesRead: trailer + 8, bytesWritten };
}

const FHCRC = 0x02;
const FEXTRA = 0x04;
const FNAME = 0x08;
const FCOMMENT = 0x10;

/** Member header (RFC 1952 2.3); returns where the deflate stream starts. */
function readHeader(input: Uint8Array): number {
  need(input, 10, 'its header');
  if (!MATCHERS.gzip(input)) throw corrupt('gzip', 0, 'it has no gzip magic with the deflate method');
  const flags = input[3]!;
  let offset = 10;
  if (flags & FEXTRA) {
    need(input, offset + 2, 'its extra field');
    offset += 2 + (input[offset]! | (input[offset + 1]! << 8));
  }
  for (const flag of [FNAME, FCOMMENT]) {
    if ((flags & flag) === 0) continue;
    const end = input.indexOf(0, offset);
    if (end < 0) throw truncated('gzip', input.length + 1, input.length, 'the text in its header');
    offset = end + 1;
  }
  if (flags & FHCRC) {
    need(input, offset + 2, 'the CRC16 of its header');
    const stored = input[offset]! | (input[offset + 1]! << 8);
    const computed = crc32(input.subarray(0, offset)) & 0xffff;
    if (stored !== computed) throw checksumMismatch('gzip', 'CRC16 of the header', stored, computed);
    offset += 2;
  }
  need(input, offset + 1, 'its data');
  return offset;
}

/** Null where zlib finds a fault, which pako then names. */
function inflateWithNode(deflated: Uint8Array, output: Uint8Array): Promise<DecompressResult | null> {
  return new Promise((resolve) => {
    nativeZlib()!.inflateRaw(
      deflated,
      {
        // With room for all of it in one chunk zlib hands that out without gathering pieces into another copy.
        chunkSize: chunkSizeFor(deflated, output.length),
        maxOutputLength: Math.max(output.length, 1),
        info: true,
      },
      (error, result: unknown) => {
        if (error !== null) return resolve(null);
        // `info` makes the result { buffer, engine }, which Node documents and its types leave out.
        const { buffer, engine } = result as { buffer: Uint8Array; engine: { bytesWritten: number } };
        if (buffer.length > output.length) return resolve(null);
        output.set(buffer);
        resolve({ bytesRead: engine.bytesWritten, bytesWritten: buffer.length });
      },
    );
  });
}

/** Deflate expands at most 1032 times; the last four bytes of a whole member are its length. */
function chunkSizeFor(deflated: Uint8Array, limit: number): number {
  const view = new DataView(deflated.buffer, deflated.byteOffset, deflated.byteLength);
  const length = deflated.length < 8 ? 0 : view.getUint32(deflated.length - 4, true);
  return Math.max(65536, Math.min(length, limit, deflated.length * 1032) + 64);
}

async function inflateWithPako(
  deflated: Uint8Array,
  start: number,
  output: Uint8Array,
): Promise<DecompressResult> {
  const pako = await import('pako');
  const stream = new pako.ZStream();
  pako.zlibInflateInit2(stream, -15);
  stream.input = deflated;
  stream.avail_in = deflated.length;
  stream.output = output as Uint8Array<ArrayBuffer>;
  stream.avail_out = output.length;
  const status = pako.zlibInflate(stream, pako.Z_FINISH);
  const result = { bytesRead: stream.next_in, bytesWritten: stream.next_out };
  pako.zlibInflateEnd(stream);
  if (status === pako.Z_STREAM_END) return result;
  if (status === pako.Z_DATA_ERROR) {
    throw corrupt(
      'gzip',
      start + result.bytesRead,
      `${stream.msg}, after ${result.bytesWritten} bytes of output`,
    );
  }
  if (result.bytesRead < deflated.length) {
    throw outputLimit('gzip', output.length);
  }
  const available = start + deflated.length;
  throw truncated('gzip', available + 1, available, 'its data');
}

function need(input: Uint8Array, length: number, what: string): void {
  if (length > input.length) throw truncated('gzip', length, input.length, what);
}
