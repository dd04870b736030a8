// The lz4 frame format (lz4_Frame_format.md), what `lz4` writes without -l and U-Boot reads. No kernel's own payload comes in
// it, so it is none of the codecs of a boot stub: only files around a kernel do.

import type { DecompressResult } from './codec.ts';
import { checksumMismatch, corrupt, outputLimit, truncated } from './codec-errors.ts';
import { measureBlock } from './lz4.ts';
import { matchesLz4Frame } from './magic.ts';

const LARGEST_HISTORY = 0x10000;
const UNCOMPRESSED = 0x8000_0000;

/**
 * Decompresses the frame at the start of `input` to the start of `output` and verifies its checksums.
 *
 * @throws BootscopeError as the codecs do
 */
export async function decompressLz4Frame(input: Uint8Array, output: Uint8Array): Promise<DecompressResult> {
  const [blocks, hashes] = await Promise.all([import('lz4js'), import('lz4js/xxh32.js')]);
  // CommonJS packages: what loads them decides whether their exports are the default export or named ones.
  const { decompressBlock } = blocks.default ?? blocks;
  const { hash } = hashes.default ?? hashes;
  const xxh32 = (bytes: Uint8Array): number => hash(0, bytes, 0, bytes.length) >>> 0;

  if (!matchesLz4Frame(input)) throw corrupt('lz4', 0, 'it has no header of a frame');
  const flags = input[4]!;
  const [independent, blockChecksums, contentSize, contentChecksum, dictionary] = [
    0x20, 0x10, 0x08, 0x04, 0x01,
  ].map((bit) => (flags & bit) !== 0);
  if (dictionary) throw corrupt('lz4', 4, 'a frame that needs a dictionary, which the file does not have');
  const blockSize = 1 << (8 + 2 * (input[5]! >> 4));
  let offset = 6 + (contentSize ? 8 : 0);
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
  const need = (length: number, what: string): void => {
    if (offset + length > input.length) throw truncated('lz4', offset + length, input.length, what);
  };
  const check = (what: string, bytes: Uint8Array): void => {
    need(4, what);
    const stored = view.getUint32(offset, true);
    const computed = xxh32(bytes);
    if (stored !== computed) throw checksumMismatch('lz4', what, stored, computed);
    offset += 4;
  };

  need(1, 'its header');
  const headerHash = (xxh32(input.subarray(4, offset)) >>> 8) & 0xff;
  if (input[offset] !== headerHash) {
    throw checksumMismatch('lz4', 'the checksum of its header', input[offset]!, headerHash);
  }
  offset++;
  let written = 0;
  for (;;) {
    need(4, `the block at ${offset}`);
    const word = view.getUint32(offset, true);
    offset += 4;
    if (word === 0) break;
    const length = word & ~UNCOMPRESSED;
    if (length > blockSize) {
      throw corrupt('lz4', offset - 4, `block of ${length} bytes, at most ${blockSize} are possible`);
    }
    need(length, `the block at ${offset - 4}`);
    const block = input.subarray(offset, offset + length);
    if ((word & UNCOMPRESSED) !== 0) {
      if (written + length > output.length) throw outputLimit('lz4', output.length);
      output.set(block, written);
      written += length;
    } else {
      const history = independent ? 0 : Math.min(written, LARGEST_HISTORY);
      const format = { history, blockSize };
      const size = measureBlock(input, offset, offset + length, output.length, written, format);
      // A view of the output up to the block's end, so that matches reach back to what is before the block.
      decompressBlock(input, output.subarray(0, written + size), offset, length, written);
      written += size;
    }
    offset += length;
    if (blockChecksums) check(`the checksum of the block at ${offset - length - 4}`, block);
  }
  if (contentChecksum) check('the checksum of its content', output.subarray(0, written));
  return { bytesRead: offset, bytesWritten: written };
}
