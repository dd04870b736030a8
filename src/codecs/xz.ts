// .xz (the tukaani "xz file format" 1.2): one stream of LZMA2 blocks, with the branch filters of a processor or none.

import {
  undoArm64Filter,
  undoArmFilter,
  undoArmThumbFilter,
  undoPowerPcFilter,
  undoSparcFilter,
  undoX86Filter,
} from './branch-filters.ts';
import { crc32, crc64, sha256 } from './checksums.ts';
import type { Codec, DecompressResult } from './codec.ts';
import { checksumMismatch, corrupt, outputLimit, truncated } from './codec-errors.ts';
import { MATCHERS } from './magic.ts';
import { systemLibrary } from './system-library.ts';

export const xz: Codec = {
  name: 'xz',
  matches: MATCHERS.xz,
  async decompress(input, output, options) {
    const stream = readStream(input, output.length);
    const native = options?.portable ? null : await liblzma();
    const decoded = await native?.(input, output, stream);
    if (decoded != null) return decoded;
    for (const block of stream.blocks) await decodeBlock(input, output, block, stream.check);
    return { bytesRead: stream.length, bytesWritten: stream.outputLength };
  },
  background: liblzma,
};

/** Bytes of a check by its type (xz format 2.1.1.2); the types that xz defines but never writes are left out. */
const CHECK_SIZES: Readonly<Record<number, number>> = { 0: 0, 1: 4, 4: 8, 10: 32 };
/** By their ids; those of IA-64 and RISC-V are missing. */
const BRANCH_FILTERS: ReadonlyMap<number, (bytes: Uint8Array) => void> = new Map([
  [0x04, undoX86Filter],
  [0x05, undoPowerPcFilter],
  [0x07, undoArmFilter],
  [0x08, undoArmThumbFilter],
  [0x09, undoSparcFilter],
  [0x0a, undoArm64Filter],
]);
const FILTER_LZMA2 = 0x21;
const STREAM_MAGIC = [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00] as const;
const HEADER_SIZE = 12;
/** The encoded size of a dictionary of 4 GiB - 1, the largest. */
const LARGEST_DICTIONARY = 40;

interface Block {
  /** Where the LZMA2 chunks lie in the input, with the end marker. */
  readonly start: number;
  readonly end: number;
  readonly checkOffset: number;
  /** In the order in which the encoder applied them. */
  readonly branchFilters: readonly number[];
  /** LZMA2's one property byte: the encoded dictionary size. */
  readonly dictionary: number;
  readonly outputOffset: number;
  readonly outputLength: number;
}

interface Stream {
  readonly check: number;
  readonly blocks: readonly Block[];
  readonly length: number;
  readonly outputLength: number;
}

/**
 * Reads the whole container without decompressing: the chunks of LZMA2 say how long they are on both
 * sides, so that every size, offset and header is known and checked before the first byte is decoded.
 */
function readStream(input: Uint8Array, limit: number): Stream {
  need(input, HEADER_SIZE, 'its header');
  if (!MATCHERS.xz(input)) throw corrupt('xz', 0, 'it has no .xz magic');
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
  verifyCrc32(input, view, 6, 8, 'CRC32 of the stream header');
  const check = input[7]!;
  const checkSize = CHECK_SIZES[check];
  if (input[6] !== 0 || checkSize === undefined) {
    throw corrupt('xz', 6, `stream flags ${input[6]} ${check} name no check of none, CRC32, CRC64, SHA-256`);
  }

  const blocks: Block[] = [];
  let offset = HEADER_SIZE;
  let outputLength = 0;
  const records: { unpaddedSize: number; outputLength: number }[] = [];
  for (;;) {
    need(input, offset + 1, `the byte at ${offset}`);
    if (input[offset] === 0) break;
    const header = readBlockHeader(input, view, offset);
    const chunks = measureChunks(input, header.end);
    if (header.compressedSize !== null && header.compressedSize !== chunks.end - header.end) {
      const declared = header.compressedSize;
      throw corrupt('xz', offset, `block of ${chunks.end - header.end} bytes, its header says ${declared}`);
    }
    if (header.outputLength !== null && header.outputLength !== chunks.outputLength) {
      const declared = header.outputLength;
      throw corrupt('xz', offset, `block holds ${chunks.outputLength} bytes, its header says ${declared}`);
    }
    const checkOffset = skipPadding(input, chunks.end, HEADER_SIZE);
    need(input, checkOffset + checkSize, 'the check of a block');
    blocks.push({
      start: header.end,
      end: chunks.end,
      checkOffset,
      branchFilters: header.branchFilters,
      dictionary: header.dictionary,
      outputOffset: outputLength,
      outputLength: chunks.outputLength,
    });
    records.push({ unpaddedSize: chunks.end - offset + checkSize, outputLength: chunks.outputLength });
    outputLength += chunks.outputLength;
    offset = checkOffset + checkSize;
  }
  const indexEnd = verifyIndex(input, view, offset, records);
  verifyFooter(input, view, indexEnd, offset);
  if (outputLength > limit) throw outputLimit('xz', limit, outputLength);
  return { check, blocks, length: indexEnd + HEADER_SIZE, outputLength };
}

/** Block header (xz format 3.1). */
function readBlockHeader(input: Uint8Array, view: DataView, offset: number) {
  const headerEnd = offset + (input[offset]! + 1) * 4;
  need(input, headerEnd, `the block header at ${offset}`);
  verifyCrc32(input, view, offset, headerEnd - 4, `CRC32 of the block header at ${offset}`);
  const flags = input[offset + 1]!;
  if ((flags & 0x3c) !== 0) throw corrupt('xz', offset + 1, `block flags 0x${flags.toString(16)}`);
  const fields = input.subarray(0, headerEnd - 4);
  let position = offset + 2;
  const next = (): number => {
    const number = readNumber(fields, position);
    position = number.end;
    return number.value;
  };
  const compressedSize = flags & 0x40 ? next() : null;
  const outputLength = flags & 0x80 ? next() : null;
  const branchFilters: number[] = [];
  for (let left = flags & 3; ; left--) {
    const filterOffset = position;
    const id = next();
    const propertiesSize = next();
    const properties = fields.subarray(position, position + propertiesSize);
    position += propertiesSize;
    if (position > fields.length)
      throw corrupt('xz', filterOffset, 'filter properties pass the block header');
    if (left === 0) {
      const dictionary = properties[0];
      if (id !== FILTER_LZMA2 || propertiesSize !== 1 || dictionary === undefined) {
        throw corrupt('xz', filterOffset, `last filter is 0x${id.toString(16)}, not LZMA2 (0x21)`);
      }
      if (dictionary > LARGEST_DICTIONARY) {
        throw corrupt(
          'xz',
          filterOffset,
          `LZMA2 dictionary size code ${dictionary} exceeds ${LARGEST_DICTIONARY}`,
        );
      }
      return { end: headerEnd, compressedSize, outputLength, branchFilters, dictionary };
    }
    if (!BRANCH_FILTERS.has(id) || propertiesSize !== 0) {
      throw corrupt(
        'xz',
        filterOffset,
        `filter 0x${id.toString(16)} with ${propertiesSize} bytes of properties is not supported (those of x86, PowerPC, ARM, SPARC and ARM64 are)`,
      );
    }
    branchFilters.push(id);
  }
}

/** Walks the headers of LZMA2 chunks from `start` to the end marker. */
function measureChunks(input: Uint8Array, start: number): { end: number; outputLength: number } {
  let offset = start;
  let outputLength = 0;
  let needsDictionaryReset = true;
  let needsProperties = true;
  for (;;) {
    need(input, offset + 1, `the LZMA2 chunk at ${offset}`);
    const control = input[offset]!;
    if (control === 0) return { end: offset + 1, outputLength };
    const compressed = control >= 0x80;
    if (!compressed && control > 2) throw corrupt('xz', offset, `LZMA2 control byte ${control}`);
    const headerSize = compressed ? (control >= 0xc0 ? 6 : 5) : 3;
    need(input, offset + headerSize, `the LZMA2 chunk at ${offset}`);
    if (control === 1 || control >= 0xe0) {
      needsDictionaryReset = false;
      needsProperties = true;
    }
    if (control >= 0xc0) needsProperties = false;
    if (needsDictionaryReset || (compressed && needsProperties)) {
      throw corrupt('xz', offset, `LZMA2 chunk 0x${control.toString(16)} lacks the reset it depends on`);
    }
    const sizeLow = ((input[offset + 1]! << 8) | input[offset + 2]!) + 1;
    outputLength += compressed ? ((control & 0x1f) << 16) + sizeLow : sizeLow;
    const size = compressed ? ((input[offset + 3]! << 8) | input[offset + 4]!) + 1 : sizeLow;
    offset += headerSize + size;
    need(input, offset, `the LZMA2 chunk before offset ${offset}`);
  }
}

/** Index (xz format 4): it must list exactly the blocks found. */
function verifyIndex(
  input: Uint8Array,
  view: DataView,
  start: number,
  records: readonly { unpaddedSize: number; outputLength: number }[],
): number {
  let position = start + 1;
  const next = (): number => {
    const number = readNumber(input, position);
    position = number.end;
    return number.value;
  };
  const count = next();
  if (count !== records.length) {
    throw corrupt('xz', start, `index of ${count} blocks, the stream has ${records.length}`);
  }
  for (const record of records) {
    const recordOffset = position;
    if (next() !== record.unpaddedSize || next() !== record.outputLength) {
      throw corrupt('xz', recordOffset, 'index record that does not fit its block');
    }
  }
  position = skipPadding(input, position, start);
  need(input, position + 4, 'the CRC32 of the index');
  verifyCrc32(input, view, start, position, 'CRC32 of the index');
  return position + 4;
}

/** Stream footer (xz format 2.1.2), right behind the index. */
function verifyFooter(input: Uint8Array, view: DataView, start: number, indexStart: number): void {
  need(input, start + HEADER_SIZE, 'its footer');
  const computed = crc32(input.subarray(start + 4, start + 10));
  const stored = view.getUint32(start, true);
  if (stored !== computed) throw checksumMismatch('xz', 'CRC32 of the footer', stored, computed);
  const indexSize = (view.getUint32(start + 4, true) + 1) * 4;
  const flagsMatch = input[start + 8] === input[6] && input[start + 9] === input[7];
  if (
    indexSize !== start - indexStart ||
    !flagsMatch ||
    input[start + 10] !== 0x59 ||
    input[start + 11] !== 0x5a
  ) {
    throw corrupt('xz', start, 'footer that does not fit the stream');
  }
}

/** Multibyte integer (xz format 1.2): seven bits a byte, least significant first, at most nine bytes. */
function readNumber(input: Uint8Array, start: number): { value: number; end: number } {
  let value = 0;
  for (let i = 0; i < 9; i++) {
    const byte = input[start + i];
    if (byte === undefined) throw truncated('xz', start + i + 1, input.length, 'a number');
    value += (byte & 0x7f) * 2 ** (7 * i);
    if (byte < 0x80) {
      if ((byte === 0 && i > 0) || !Number.isSafeInteger(value)) break;
      return { value, end: start + i + 1 };
    }
  }
  throw corrupt('xz', start, 'number of more than 53 bits or with needless bytes');
}

/** Skips zero bytes up to a multiple of four, counted from `origin`. */
function skipPadding(input: Uint8Array, start: number, origin: number): number {
  let offset = start;
  for (; (offset - origin) % 4 !== 0; offset++) {
    need(input, offset + 1, 'padding');
    if (input[offset] !== 0) throw corrupt('xz', offset, `padding byte ${input[offset]} is not 0`);
  }
  return offset;
}

function need(input: Uint8Array, length: number, what: string): void {
  if (length > input.length) throw truncated('xz', length, input.length, what);
}

function verifyCrc32(input: Uint8Array, view: DataView, start: number, end: number, what: string): void {
  const computed = crc32(input.subarray(start, end));
  const stored = view.getUint32(end, true);
  if (stored !== computed) throw checksumMismatch('xz', what, stored, computed);
}

/** liblzma may use this much for its dictionary; a stream that wants more goes the portable way, which needs none. */
const LIBLZMA_MEMORY_LIMIT = 512n << 20n;

/** The system's liblzma, which decodes and verifies a whole stream; where it finds a fault the portable way names it. */
async function liblzma(): Promise<
  ((input: Uint8Array, output: Uint8Array, known?: Stream) => Promise<DecompressResult | null>) | null
> {
  const library = await systemLibrary('lzma');
  if (library === null) return null;
  const decode = library.bindInBackground(
    'int lzma_stream_buffer_decode(void *memlimit, uint32_t flags, void *allocator, void *in, void *in_pos, size_t in_size, void *out, void *out_pos, size_t out_size)',
  );
  return async (input, output, known) => {
    const { length, outputLength } = known ?? readStream(input, output.length);
    // Their addresses must stay, so each lies in an ArrayBuffer of its own.
    const [inputPosition, outputPosition, memoryLimit] = [0n, 0n, LIBLZMA_MEMORY_LIMIT].map((value) =>
      new BigUint64Array(new ArrayBuffer(8)).fill(value),
    ) as [BigUint64Array, BigUint64Array, BigUint64Array];
    const code = await decode([
      memoryLimit,
      0,
      null,
      input,
      inputPosition,
      length,
      output,
      outputPosition,
      outputLength,
    ]);
    const whole = code === 0 && outputPosition[0] === BigInt(outputLength);
    return whole ? { bytesRead: length, bytesWritten: outputLength } : null;
  };
}

async function decodeBlock(
  input: Uint8Array,
  output: Uint8Array,
  block: Block,
  check: number,
): Promise<void> {
  const target = output.subarray(block.outputOffset, block.outputOffset + block.outputLength);
  await decodeChunks(input, block, target);
  for (const filter of block.branchFilters.toReversed()) {
    BRANCH_FILTERS.get(filter)?.(target);
  }
  const stored = input.subarray(block.checkOffset, block.checkOffset + CHECK_SIZES[check]!);
  const storedView = new DataView(stored.buffer, stored.byteOffset, stored.byteLength);
  const where = `of the ${target.length} bytes of the block at ${block.start}`;
  if (check === 1) {
    const computed = crc32(target);
    if (storedView.getUint32(0, true) !== computed) {
      throw checksumMismatch('xz', `CRC32 ${where}`, storedView.getUint32(0, true), computed);
    }
  } else if (check === 4) {
    const computed = crc64(target);
    if (storedView.getBigUint64(0, true) !== computed) {
      throw checksumMismatch('xz', `CRC64 ${where}`, storedView.getBigUint64(0, true), computed);
    }
  } else if (check === 10) {
    const computed = await sha256(target);
    if (computed.some((byte, index) => byte !== stored[index])) {
      throw checksumMismatch('xz', `SHA-256 ${where}`, hex(stored), hex(computed));
    }
  }
}

/**
 * Decodes a block's LZMA2 chunks with xz-decompress. That is xz-embedded without branch filters and
 * with CRC32 alone, so it gets the same chunks in a stream that names neither filter nor check.
 */
async function decodeChunks(input: Uint8Array, block: Block, target: Uint8Array): Promise<void> {
  if (target.length === 0) return;
  const library = await import('xz-decompress');
  // A CommonJS package: what loads it decides whether its exports are the default export or named ones.
  const { XzReadableStream } = library.default ?? library;
  const parts = plainStream(input.subarray(block.start, block.end), block.dictionary, target.length);
  const source = new ReadableStream<Uint8Array>({
    pull(controller) {
      const part = parts.shift();
      if (part === undefined) controller.close();
      else controller.enqueue(part);
    },
  });
  let written = 0;
  const reader = new XzReadableStream(source).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      if (written + value.length > target.length) throw new Error('more output than the chunk headers say');
      target.set(value, written);
      written += value.length;
    }
  } catch (error) {
    // The library is one shared instance behind a lock that only cancelling gives back.
    await reader.cancel().catch(() => undefined);
    throw corrupt(
      'xz',
      block.start,
      `LZMA2 data that cannot be decoded past ${written} bytes of output`,
      error,
    );
  }
  if (written !== target.length) {
    throw corrupt('xz', block.start, `${written} bytes decoded, the chunk headers say ${target.length}`);
  }
}

/** A stream without check and filter around LZMA2 chunks; the chunks are not copied. */
function plainStream(chunks: Uint8Array, dictionary: number, outputLength: number): Uint8Array[] {
  const flags = [0, 0];
  const header = [...STREAM_MAGIC, ...flags, ...crc32Bytes(flags)];
  // A dictionary larger than the output is never needed; the smaller one keeps a forged size from being allocated.
  const blockHeader = [2, 0, FILTER_LZMA2, 1, Math.min(dictionary, dictionaryFor(outputLength)), 0, 0, 0];
  blockHeader.push(...crc32Bytes(blockHeader));
  const unpaddedSize = blockHeader.length + chunks.length;
  const blockPadding = new Array<number>(-chunks.length & 3).fill(0);
  const index = [0, 1, ...numberBytes(unpaddedSize), ...numberBytes(outputLength)];
  while (index.length % 4 !== 0) index.push(0);
  index.push(...crc32Bytes(index));
  const footer = [...littleEndian(index.length / 4 - 1), ...flags];
  return [
    Uint8Array.from([...header, ...blockHeader]),
    chunks,
    Uint8Array.from([...blockPadding, ...index, ...crc32Bytes(footer), ...footer, 0x59, 0x5a]),
  ];
}

/** The code of the smallest dictionary of at least `length` bytes: code n is (2 | n & 1) << (n / 2 + 11). */
function dictionaryFor(length: number): number {
  for (let code = 0; code < LARGEST_DICTIONARY; code++) {
    if ((2 | (code & 1)) * 2 ** ((code >> 1) + 11) >= length) return code;
  }
  return LARGEST_DICTIONARY;
}

function numberBytes(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  return [...bytes, rest];
}

function crc32Bytes(bytes: readonly number[]): number[] {
  return littleEndian(crc32(Uint8Array.from(bytes)));
}

function littleEndian(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
