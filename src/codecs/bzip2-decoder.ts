// The bzip2 decoder in plain JavaScript. The format has no specification but its program; what it is made of: Burrows and Wheeler's
// transform of blocks of up to 900,000 bytes, whose runs are shortened before it, moved to front and Huffman coded after it.
//
// The bits of a symbol are taken in place, in local variables, as in `lzma-decoder.ts`, and for the same reason.

import type { DecompressResult } from './codec.ts';
import { checksumMismatch, corrupt, outputLimit, truncated } from './codec-errors.ts';

const BLOCK_MAGIC = [0x314159, 0x265359] as const;
const END_MAGIC = [0x177245, 0x385090] as const;
const HEADER_SIZE = 4;
const LONGEST_CODE = 20;
/** Codes of up to so many bits are looked up at once. */
const QUICK_BITS = 10;
/** Symbols that one selector counts for. */
const GROUP_SIZE = 50;
const MOST_SYMBOLS = 258;
const RUN_A = 0;
const RUN_B = 1;

/** Bits from the most significant of each byte on; zeroes behind the end, which `check` then finds. */
class BitReader {
  readonly bytes: Uint8Array;
  /** Of the next byte to be taken. */
  at: number;
  /** The low `count` bits are not used yet. */
  buffer = 0;
  count = 0;

  constructor(bytes: Uint8Array, at: number) {
    this.bytes = bytes;
    this.at = at;
  }

  /** @param bits - at most 24 */
  read(bits: number): number {
    while (this.count < bits) {
      this.buffer = (this.buffer << 8) | (this.bytes[this.at++] ?? 0);
      this.count += 8;
    }
    this.count -= bits;
    return (this.buffer >>> this.count) & (2 ** bits - 1);
  }

  /** Bytes that are used, the last of them perhaps in part. */
  get used(): number {
    return this.at - (this.count >>> 3);
  }

  check(): void {
    if (this.used > this.bytes.length) throw truncated('bzip2', this.used, this.bytes.length, 'its data');
  }
}

/** A Huffman code: `limit[n]` is the largest code of n bits, whose symbol stands in `symbols` at `code + offset[n]`. */
interface HuffmanCode {
  /** By the next `QUICK_BITS` bits: symbol << 5 | length; 0 for longer codes. */
  readonly quick: Uint16Array;
  readonly limit: Int32Array;
  readonly offset: Int32Array;
  readonly symbols: Uint16Array;
}

/** Decodes the stream at the start of `input`, whose header has been checked. */
export function decodeBzip2(input: Uint8Array, output: Uint8Array): DecompressResult {
  const bits = new BitReader(input, HEADER_SIZE);
  const blockSize = (input[HEADER_SIZE - 1]! - 0x30) * 100_000;
  const block = new Uint32Array(blockSize);
  let written = 0;
  let streamChecksum = 0;
  for (;;) {
    const start = bits.used;
    const [high, low] = [bits.read(24), bits.read(24)];
    bits.check();
    const stored = ((bits.read(16) << 16) | bits.read(16)) >>> 0;
    bits.check();
    if (high === END_MAGIC[0] && low === END_MAGIC[1]) {
      if (stored !== streamChecksum >>> 0) {
        throw checksumMismatch('bzip2', 'the CRC of all blocks', stored, streamChecksum >>> 0);
      }
      return { bytesRead: bits.used, bytesWritten: written };
    }
    if (high !== BLOCK_MAGIC[0] || low !== BLOCK_MAGIC[1]) {
      throw corrupt('bzip2', start, 'it has neither the magic of a block nor that of its end');
    }
    const { length, first } = readBlock(bits, block);
    const end = writeBlock(block, length, first, output, written);
    const checksum = crc(output, written, end);
    if (stored !== checksum) {
      throw checksumMismatch('bzip2', `the CRC of the block of ${end - written} bytes`, stored, checksum);
    }
    streamChecksum = ((streamChecksum << 1) | (streamChecksum >>> 31)) ^ checksum;
    written = end;
  }
}

/** Reads a block's tables and symbols; `block` then holds the last column of the sorted rotations, a byte an element. */
function readBlock(bits: BitReader, block: Uint32Array): { readonly length: number; readonly first: number } {
  const start = bits.used;
  if (bits.read(1) !== 0) throw corrupt('bzip2', start, 'its block is randomised, as before bzip2 0.9.5');
  const first = bits.read(24);
  const moved = readAlphabet(bits);
  const codeCount = bits.read(3);
  const selectorCount = bits.read(15);
  bits.check();
  if (codeCount < 2 || codeCount > 6 || selectorCount === 0) {
    throw corrupt('bzip2', start, `its block has ${codeCount} codes and ${selectorCount} selectors`);
  }
  const selectors = readSelectors(bits, codeCount, selectorCount);
  const codes = Array.from({ length: codeCount }, () => readCode(bits, moved.length + 2));
  const length = readSymbols(bits, block, moved, selectors, codes);
  if (first >= length) throw corrupt('bzip2', start, `its block of ${length} bytes begins at ${first}`);
  return { length, first };
}

/** The bytes that occur in a block, ascending. */
function readAlphabet(bits: BitReader): Uint8Array {
  const start = bits.used;
  const rows = bits.read(16);
  const used: number[] = [];
  for (let row = 0; row < 16; row++) {
    if ((rows & (0x8000 >> row)) === 0) continue;
    const columns = bits.read(16);
    for (let column = 0; column < 16; column++) {
      if ((columns & (0x8000 >> column)) !== 0) used.push(row * 16 + column);
    }
  }
  bits.check();
  if (used.length === 0) throw corrupt('bzip2', start, 'its block has no bytes');
  return Uint8Array.from(used);
}

/** Which code each group of symbols has, moved to front. */
function readSelectors(bits: BitReader, codeCount: number, count: number): Uint8Array {
  const order = [0, 1, 2, 3, 4, 5];
  const selectors = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    let place = 0;
    while (bits.read(1) !== 0) {
      place++;
      if (place >= codeCount) {
        bits.check();
        throw corrupt('bzip2', bits.used, `a selector names code ${place} of ${codeCount}`);
      }
    }
    const [code] = order.splice(place, 1);
    order.unshift(code!);
    selectors[i] = code!;
  }
  bits.check();
  return selectors;
}

/** A code as the lengths of its symbols, each told by its difference to the one before. */
function readCode(bits: BitReader, symbolCount: number): HuffmanCode {
  const lengths = new Uint8Array(symbolCount);
  let length = bits.read(5);
  for (let symbol = 0; symbol < symbolCount; symbol++) {
    for (;;) {
      if (length < 1 || length > LONGEST_CODE) {
        bits.check();
        throw corrupt('bzip2', bits.used, `a code of ${length} bits, ${LONGEST_CODE} are the most`);
      }
      if (bits.read(1) === 0) break;
      length += bits.read(1) === 0 ? 1 : -1;
    }
    lengths[symbol] = length;
  }
  bits.check();
  const quick = new Uint16Array(1 << QUICK_BITS);
  const limit = new Int32Array(LONGEST_CODE + 2).fill(-1);
  const offset = new Int32Array(LONGEST_CODE + 2);
  const symbols = new Uint16Array(MOST_SYMBOLS);
  let code = 0;
  let next = 0;
  for (let size = 1; size <= LONGEST_CODE; size++) {
    offset[size] = next - code;
    for (let symbol = 0; symbol < symbolCount; symbol++) {
      if (lengths[symbol] !== size) continue;
      symbols[next++] = symbol;
      if (size <= QUICK_BITS) {
        const from = code << (QUICK_BITS - size);
        quick.fill((symbol << 5) | size, from, from + (1 << (QUICK_BITS - size)));
      }
      code++;
    }
    limit[size] = code - 1;
    code <<= 1;
  }
  return { quick, limit, offset, symbols };
}

/** Decodes the symbols of a block, runs and moves to front undone; returns how many bytes it has. */
function readSymbols(
  bits: BitReader,
  block: Uint32Array,
  moved: Uint8Array,
  selectors: Uint8Array,
  codes: readonly HuffmanCode[],
): number {
  const { bytes } = bits;
  const endOfBlock = moved.length + 1;
  let { at, buffer, count } = bits;
  let length = 0;
  let run = 0;
  let runBit = 1;
  for (let group = 0; group < selectors.length; group++) {
    const { quick, limit, offset, symbols } = codes[selectors[group]!]!;
    for (let i = 0; i < GROUP_SIZE; i++) {
      while (count < LONGEST_CODE) {
        buffer = (buffer << 8) | (bytes[at++] ?? 0);
        count += 8;
      }
      const found = quick[(buffer >>> (count - QUICK_BITS)) & ((1 << QUICK_BITS) - 1)]!;
      let symbol: number;
      if (found !== 0) {
        symbol = found >>> 5;
        count -= found & 31;
      } else {
        let size = QUICK_BITS + 1;
        let code = 0;
        for (; size <= LONGEST_CODE; size++) {
          code = (buffer >>> (count - size)) & ((1 << size) - 1);
          if (code <= limit[size]!) break;
        }
        if (size > LONGEST_CODE) {
          Object.assign(bits, { at, buffer, count });
          bits.check();
          throw corrupt('bzip2', bits.used, 'its bits are no symbol of their code');
        }
        symbol = symbols[code + offset[size]!]!;
        count -= size;
      }
      if (symbol === RUN_A || symbol === RUN_B) {
        run += runBit << symbol;
        runBit *= 2;
        if (runBit > 0x20_0000) throw tooLong(bits, at, count, block.length);
        continue;
      }
      if (run > 0) {
        if (length + run > block.length) throw tooLong(bits, at, count, block.length);
        block.fill(moved[0]!, length, length + run);
        length += run;
        run = 0;
        runBit = 1;
      }
      if (symbol === endOfBlock) {
        Object.assign(bits, { at, buffer, count });
        bits.check();
        return length;
      }
      if (length >= block.length) throw tooLong(bits, at, count, block.length);
      const place = symbol - 1;
      const byte = moved[place]!;
      if (place < 16) for (let j = place; j > 0; j--) moved[j] = moved[j - 1]!;
      else moved.copyWithin(1, 0, place);
      moved[0] = byte;
      block[length++] = byte;
    }
    if (at - (count >>> 3) > bytes.length) {
      throw truncated('bzip2', at - (count >>> 3), bytes.length, 'its data');
    }
  }
  Object.assign(bits, { at, buffer, count });
  bits.check();
  throw corrupt('bzip2', bits.used, `its block goes on behind its ${selectors.length} groups of symbols`);
}

function tooLong(bits: BitReader, at: number, count: number, most: number): Error {
  const used = at - (count >>> 3);
  if (used > bits.bytes.length) return truncated('bzip2', used, bits.bytes.length, 'its data');
  return corrupt('bzip2', used, `its block has more than the ${most} bytes that its header allows`);
}

/** Undoes the transform and the shortened runs; returns where the block ends in `output`. */
function writeBlock(
  block: Uint32Array,
  length: number,
  first: number,
  output: Uint8Array,
  start: number,
): number {
  // Of each byte, where its first row is once the rows are sorted.
  const next = new Uint32Array(257);
  for (let i = 0; i < length; i++) next[(block[i]! & 0xff) + 1]!++;
  for (let byte = 1; byte < 256; byte++) next[byte]! += next[byte - 1]!;
  for (let i = 0; i < length; i++) block[next[block[i]! & 0xff]!++]! |= i << 8;
  let at = start;
  let row = block[first]! >>> 8;
  let last = -1;
  let same = 0;
  for (let i = 0; i < length; i++) {
    const entry = block[row]!;
    row = entry >>> 8;
    const byte = entry & 0xff;
    if (same === 4) {
      // Behind four equal bytes stands how many more of them there are.
      if (at + byte > output.length) throw outputLimit('bzip2', output.length);
      output.fill(last, at, at + byte);
      at += byte;
      same = 0;
      last = -1;
      continue;
    }
    if (at >= output.length) throw outputLimit('bzip2', output.length);
    output[at++] = byte;
    same = byte === last ? same + 1 : 1;
    last = byte;
  }
  return at;
}

let crcTable: Int32Array | null = null;

/** CRC-32 of IEEE 802.3's polynomial, the most significant bit first. */
function crc(bytes: Uint8Array, start: number, end: number): number {
  crcTable ??= Int32Array.from({ length: 256 }, (_, byte) => {
    let value = byte << 24;
    for (let bit = 0; bit < 8; bit++) value = value & 0x8000_0000 ? (value << 1) ^ 0x04c1_1db7 : value << 1;
    return value;
  });
  const table = crcTable;
  let value = -1;
  for (let i = start; i < end; i++) value = (value << 8) ^ table[(value >>> 24) ^ bytes[i]!]!;
  return ~value >>> 0;
}
