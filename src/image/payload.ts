// The compressed kernel inside the protected-mode code: told by the setup header (protocol 2.08 on), else found by its magic.

import type { CodecName } from '../codecs/codec.ts';
import { detectCodec } from '../codecs/registry.ts';
import { BootscopeError } from '../error.ts';
import type { SetupHeader } from '../protocol/setup-header.ts';
import { ByteView } from './byte-view.ts';
import { findCandidates, findLastStream } from './stream-search.ts';

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

/**
 * The length that 2.4 and 2.6 link in front of the payload (input_len before input_data) where it is one: it ends inside the
 * code, at a possible decompressed length.
 */
function linkedLength(view: ByteView, offset: number): { length: number; outputLength: number } | null {
  const length = offset >= 4 ? view.u32(offset - 4) : 0;
  if (length <= 18 || !view.has(offset, length)) return null;
  const outputLength = plausibleLength(view.u32(offset + length - 4), length);
  return outputLength === null ? null : { length, outputLength };
}

/** The last stream in the code that unpacks; where none does, the last that has its length in front of it, or is cut. */
async function payloadBySearch(code: Uint8Array): Promise<Payload | null> {
  const view = new ByteView(code, 'payload');
  const stream = await findLastStream(code);
  if (stream !== null) {
    const { codec, offset, content } = stream;
    const linked = linkedLength(view, offset);
    if (linked !== null) return { codec, offset, ...linked, source: 'magic' };
    // All but gzip have the decompressed length appended.
    const end = offset + stream.length;
    const appended = codec !== 'gzip' && view.has(end, 4) && view.u32(end) === content.length ? 4 : 0;
    return {
      codec,
      offset,
      length: stream.length + appended,
      outputLength: content.length,
      source: 'magic',
    };
  }
  for (const { codec, offset } of findCandidates(code).reverse()) {
    const linked = linkedLength(view, offset);
    if (linked !== null) return { codec, offset, ...linked, source: 'magic' };
    const stated = offset >= 4 ? view.u32(offset - 4) : 0;
    const rest = code.length - offset;
    if (stated > rest && stated <= rest + LARGEST_MISSING) {
      throw new BootscopeError(
        'image-truncated',
        `the image is cut in its payload: ${stated} bytes of ${codec} start at offset ${offset} of the ` +
          `protected-mode code, which has ${rest} bytes from there`,
      );
    }
  }
  return null;
}

/** More than this no image is cut by; a larger number in front of a magic is not a length. */
const LARGEST_MISSING = 0x1000000;

/**
 * Finds the compressed kernel in the protected-mode code; null where there is none or none whose codec is known.
 *
 * @param code - all that follows setup in the image
 * @throws BootscopeError `image-truncated` where the payload does not end inside the file
 */
export async function findPayload(header: SetupHeader, code: Uint8Array): Promise<Payload | null> {
  const fromHeader = payloadFromHeader(header, code);
  if (fromHeader !== null) return fromHeader;
  // A header that names a payload which is not one of ours: nothing else in there is the payload either.
  if (header.get('payload_offset') !== 0 && header.get('payload_length') !== 0) return null;
  return payloadBySearch(code);
}
