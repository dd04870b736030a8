// The LZMA decoder in plain JavaScript, after Igor Pavlov's public-domain "LZMA specification"; the output is its dictionary.

import type { DecompressResult } from './codec.ts';
import { corrupt, outputLimit, truncated } from './codec-errors.ts';

export interface LzmaProperties {
  /** lc, 0 to 8. */
  readonly literalContextBits: number;
  /** lp, 0 to 4. */
  readonly literalPositionBits: number;
  /** pb, 0 to 4. */
  readonly positionBits: number;
}

/**
 * Decodes one LZMA stream.
 *
 * @param start - offset in `input` of the range coder's first byte
 * @param size - how many bytes it holds; null where an end marker says it (one may follow a known size too)
 * @returns `bytesRead` counted from the start of `input`
 */
export function decodeLzma(
  input: Uint8Array,
  start: number,
  output: Uint8Array,
  properties: LzmaProperties,
  size: number | null,
): DecompressResult {
  const { literalContextBits, literalPositionBits } = properties;
  const positionMask = 2 ** properties.positionBits - 1;
  const literalPositionMask = 2 ** literalPositionBits - 1;
  const coder = new RangeDecoder(
    input,
    start,
    LITERAL + (0x300 << (literalContextBits + literalPositionBits)),
  );
  const limit = size ?? output.length;
  let written = 0;
  let state = 0;
  let distance0 = 1;
  let distance1 = 1;
  let distance2 = 1;
  let distance3 = 1;

  for (;;) {
    if (written === size && coder.isFinished()) break;
    const positionState = written & positionMask;
    if (coder.bit(IS_MATCH + state * 16 + positionState) === 0) {
      if (written === limit) throw overrun(coder, size, output);
      const previous = written === 0 ? 0 : output[written - 1]!;
      const context =
        ((written & literalPositionMask) << literalContextBits) + (previous >>> (8 - literalContextBits));
      const probabilities = LITERAL + 0x300 * context;
      if (state < 7) {
        output[written++] = coder.bitTree(probabilities, 8);
        state = state < 4 ? 0 : state - 3;
      } else {
        output[written] = coder.matchedLiteral(probabilities, output[written - distance0]!);
        written++;
        state = state < 10 ? state - 3 : state - 6;
      }
      continue;
    }

    let length: number;
    if (coder.bit(IS_REP + state) === 0) {
      distance3 = distance2;
      distance2 = distance1;
      distance1 = distance0;
      length = coder.length(MATCH_LENGTH, positionState);
      state = state < 7 ? 7 : 10;
      distance0 = coder.distance(length);
      if (distance0 === END_MARKER) {
        if (size !== null && written !== size) {
          throw corrupt('lzma', coder.position, `end marker after ${written} bytes, the header says ${size}`);
        }
        if (!coder.isFinished())
          throw corrupt('lzma', coder.position, 'range coder not at its end at the end marker');
        break;
      }
    } else {
      if (written === 0) throw corrupt('lzma', coder.position, 'repeated match before the first byte');
      if (coder.bit(IS_REP_0 + state) === 0) {
        if (coder.bit(IS_REP_0_LONG + state * 16 + positionState) === 0) {
          if (written === limit) throw overrun(coder, size, output);
          output[written] = output[written - distance0]!;
          written++;
          state = state < 7 ? 9 : 11;
          continue;
        }
      } else {
        let distance: number;
        if (coder.bit(IS_REP_1 + state) === 0) {
          distance = distance1;
        } else {
          if (coder.bit(IS_REP_2 + state) === 0) {
            distance = distance2;
          } else {
            distance = distance3;
            distance3 = distance2;
          }
          distance2 = distance1;
        }
        distance1 = distance0;
        distance0 = distance;
      }
      length = coder.length(REP_LENGTH, positionState);
      state = state < 7 ? 8 : 11;
    }
    if (distance0 > written) {
      throw corrupt('lzma', coder.position, `match ${distance0} bytes back after ${written} bytes of output`);
    }
    if (length > limit - written) throw overrun(coder, size, output);
    for (const end = written + length; written < end; written++)
      output[written] = output[written - distance0]!;
  }
  return { bytesRead: coder.position, bytesWritten: written };
}

function overrun(coder: RangeDecoder, size: number | null, output: Uint8Array): Error {
  if (size === null) return outputLimit('lzma', output.length);
  return corrupt('lzma', coder.position, `it goes on after the ${size} bytes that its header says`);
}

/** What `distance` returns for the end marker: 2^32 bytes back. */
const END_MARKER = 2 ** 32;

// Where each model's probabilities lie in the one table of them.
const IS_MATCH = 0;
const IS_REP = IS_MATCH + 12 * 16;
const IS_REP_0 = IS_REP + 12;
const IS_REP_1 = IS_REP_0 + 12;
const IS_REP_2 = IS_REP_1 + 12;
const IS_REP_0_LONG = IS_REP_2 + 12;
const POSITION_SLOT = IS_REP_0_LONG + 12 * 16;
const POSITION_SPECIAL = POSITION_SLOT + 4 * 64;
const POSITION_ALIGN = POSITION_SPECIAL + 128;
const MATCH_LENGTH = POSITION_ALIGN + 16;
const LENGTH_LOW = 2;
const LENGTH_MIDDLE = LENGTH_LOW + 16 * 8;
const LENGTH_HIGH = LENGTH_MIDDLE + 16 * 8;
const REP_LENGTH = MATCH_LENGTH + LENGTH_HIGH + 256;
const LITERAL = REP_LENGTH + LENGTH_HIGH + 256;

const PROBABILITY_BITS = 11;
const MOVE_BITS = 5;
const TOP = 2 ** 24;

class RangeDecoder {
  position: number;
  readonly #input: Uint8Array;
  readonly #probabilities: Uint16Array;
  #range = 0xffffffff;
  #code: number;

  constructor(input: Uint8Array, start: number, probabilityCount: number) {
    if (input.length < start + 5) throw truncated('lzma', start + 5, input.length, 'the start of its data');
    if (input[start] !== 0)
      throw corrupt('lzma', start, `first byte of the range coder is ${input[start]}, not 0`);
    this.#input = input;
    this.#probabilities = new Uint16Array(probabilityCount).fill(2 ** PROBABILITY_BITS / 2);
    this.#code = new DataView(input.buffer, input.byteOffset + start + 1, 4).getUint32(0);
    this.position = start + 5;
  }

  /** Whether the encoder has flushed: no code is left; the one byte of normalization that may be due is taken. */
  isFinished(): boolean {
    this.#normalize();
    return this.#code === 0;
  }

  #normalize(): void {
    if (this.#range >= TOP) return;
    if (this.position >= this.#input.length) {
      throw truncated('lzma', this.position + 1, this.#input.length, 'its data');
    }
    this.#range = (this.#range << 8) >>> 0;
    this.#code = ((this.#code << 8) | this.#input[this.position++]!) >>> 0;
  }

  bit(index: number): number {
    this.#normalize();
    const probability = this.#probabilities[index]!;
    const bound = Math.imul(this.#range >>> PROBABILITY_BITS, probability) >>> 0;
    if (this.#code < bound) {
      this.#range = bound;
      this.#probabilities[index] = probability + ((2 ** PROBABILITY_BITS - probability) >>> MOVE_BITS);
      return 0;
    }
    this.#range = (this.#range - bound) >>> 0;
    this.#code = (this.#code - bound) >>> 0;
    this.#probabilities[index] = probability - (probability >>> MOVE_BITS);
    return 1;
  }

  /** `bits` bits, most significant first. */
  bitTree(base: number, bits: number): number {
    let symbol = 1;
    for (let i = 0; i < bits; i++) symbol = (symbol << 1) | this.bit(base + symbol);
    return symbol - (1 << bits);
  }

  /** `bits` bits, least significant first. */
  #reverseBitTree(base: number, bits: number): number {
    let symbol = 1;
    let value = 0;
    for (let i = 0; i < bits; i++) {
      const bit = this.bit(base + symbol);
      symbol = (symbol << 1) | bit;
      value |= bit << i;
    }
    return value;
  }

  /** A literal after a match: as long as its bits agree with the byte the match would go on with, that byte is context. */
  matchedLiteral(base: number, matchByte: number): number {
    let symbol = 1;
    let rest = matchByte;
    while (symbol < 0x100) {
      const matchBit = (rest >>> 7) & 1;
      rest <<= 1;
      const bit = this.bit(base + ((1 + matchBit) << 8) + symbol);
      symbol = (symbol << 1) | bit;
      if (bit !== matchBit) {
        while (symbol < 0x100) symbol = (symbol << 1) | this.bit(base + symbol);
      }
    }
    return symbol & 0xff;
  }

  length(base: number, positionState: number): number {
    if (this.bit(base) === 0) return 2 + this.bitTree(base + LENGTH_LOW + positionState * 8, 3);
    if (this.bit(base + 1) === 0) return 10 + this.bitTree(base + LENGTH_MIDDLE + positionState * 8, 3);
    return 18 + this.bitTree(base + LENGTH_HIGH, 8);
  }

  /** How far back a match of that length starts, 1 to 2^32. */
  distance(length: number): number {
    const slot = this.bitTree(POSITION_SLOT + Math.min(length - 2, 3) * 64, 6);
    if (slot < 4) return slot + 1;
    const directBits = (slot >>> 1) - 1;
    const high = (2 | (slot & 1)) * 2 ** directBits;
    if (slot < 14) return high + this.#reverseBitTree(POSITION_SPECIAL + high - slot, directBits) + 1;
    let middle = 0;
    for (let i = 0; i < directBits - 4; i++) {
      this.#normalize();
      this.#range >>>= 1;
      const bit = this.#code >= this.#range ? 1 : 0;
      if (bit) this.#code -= this.#range;
      middle = middle * 2 + bit;
    }
    return high + middle * 16 + this.#reverseBitTree(POSITION_ALIGN, 4) + 1;
  }
}
