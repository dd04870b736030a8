// The LZMA decoder in plain JavaScript, after Igor Pavlov's public-domain "LZMA specification"; the output is its dictionary.
//
// The step that decodes one bit is written out at each place instead of being a method: with `range` and `code`
// in local variables the whole decodes more than twice as fast.

import type { DecompressResult } from './codec.ts';
import { corrupt, outputLimit, truncated } from './codec-errors.ts';
import { copyMatch } from './copy-match.ts';

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
  if (input.length < start + 5) throw truncated('lzma', start + 5, input.length, 'the start of its data');
  if (input[start] !== 0)
    throw corrupt('lzma', start, `first byte of the range coder is ${input[start]}, not 0`);
  const { literalContextBits, literalPositionBits } = properties;
  const positionMask = 2 ** properties.positionBits - 1;
  const literalPositionMask = 2 ** literalPositionBits - 1;
  const probabilities = new Uint16Array(LITERAL + (0x300 << (literalContextBits + literalPositionBits))).fill(
    1024,
  );
  const limit = size ?? output.length;
  const inputLength = input.length;

  // The range coder, as signed 32-bit numbers. Past the input's end it reads zeros; each symbol checks for that.
  let position = start + 5;
  let range = -1;
  let code = new DataView(input.buffer, input.byteOffset + start + 1, 4).getInt32(0);
  let probability = 0;
  let bound = 0;

  let written = 0;
  let state = 0;
  // How many bytes back the last four matches started, the latest first.
  let distance0 = 1;
  let distance1 = 1;
  let distance2 = 1;
  let distance3 = 1;

  for (;;) {
    if (position > inputLength) throw truncated('lzma', position, inputLength, 'its data');
    if (written === size) {
      if (range >>> 24 === 0) {
        range <<= 8;
        code = (code << 8) | input[position++]!;
        if (position > inputLength) throw truncated('lzma', position, inputLength, 'its data');
      }
      // The encoder has flushed; otherwise only an end marker may follow.
      if (code === 0) break;
    }
    const positionState = written & positionMask;
    let index = IS_MATCH + state * 16 + positionState;
    let isMatch: boolean;
    if (range >>> 24 === 0) {
      range <<= 8;
      code = (code << 8) | input[position++]!;
    }
    probability = probabilities[index]!;
    bound = Math.imul(range >>> 11, probability);
    if (code >>> 0 < bound >>> 0) {
      range = bound;
      probabilities[index] = probability + ((2048 - probability) >>> 5);
      isMatch = false;
    } else {
      range = (range - bound) | 0;
      code = (code - bound) | 0;
      probabilities[index] = probability - (probability >>> 5);
      isMatch = true;
    }
    if (!isMatch) {
      if (written === limit) throw overrun(position, size, input, output);
      const previous = written === 0 ? 0 : output[written - 1]!;
      const context =
        ((written & literalPositionMask) << literalContextBits) + (previous >>> (8 - literalContextBits));
      const base = LITERAL + 0x300 * context;
      let symbol = 1;
      if (state >= 7) {
        // After a match: as long as the bits agree with the byte the match would go on with, that byte is context.
        let matchByte = output[written - distance0]!;
        do {
          const matchBit = (matchByte >>> 7) & 1;
          matchByte <<= 1;
          index = base + ((1 + matchBit) << 8) + symbol;
          if (range >>> 24 === 0) {
            range <<= 8;
            code = (code << 8) | input[position++]!;
          }
          probability = probabilities[index]!;
          bound = Math.imul(range >>> 11, probability);
          if (code >>> 0 < bound >>> 0) {
            range = bound;
            probabilities[index] = probability + ((2048 - probability) >>> 5);
            symbol <<= 1;
            if (matchBit === 1) break;
          } else {
            range = (range - bound) | 0;
            code = (code - bound) | 0;
            probabilities[index] = probability - (probability >>> 5);
            symbol = (symbol << 1) | 1;
            if (matchBit === 0) break;
          }
        } while (symbol < 0x100);
      }
      while (symbol < 0x100) {
        index = base + symbol;
        if (range >>> 24 === 0) {
          range <<= 8;
          code = (code << 8) | input[position++]!;
        }
        probability = probabilities[index]!;
        bound = Math.imul(range >>> 11, probability);
        if (code >>> 0 < bound >>> 0) {
          range = bound;
          probabilities[index] = probability + ((2048 - probability) >>> 5);
          symbol <<= 1;
        } else {
          range = (range - bound) | 0;
          code = (code - bound) | 0;
          probabilities[index] = probability - (probability >>> 5);
          symbol = (symbol << 1) | 1;
        }
      }
      output[written++] = symbol;
      state = state < 4 ? 0 : state < 10 ? state - 3 : state - 6;
      continue;
    }

    let isRepeat: boolean;
    index = IS_REP + state;
    if (range >>> 24 === 0) {
      range <<= 8;
      code = (code << 8) | input[position++]!;
    }
    probability = probabilities[index]!;
    bound = Math.imul(range >>> 11, probability);
    if (code >>> 0 < bound >>> 0) {
      range = bound;
      probabilities[index] = probability + ((2048 - probability) >>> 5);
      isRepeat = false;
    } else {
      range = (range - bound) | 0;
      code = (code - bound) | 0;
      probabilities[index] = probability - (probability >>> 5);
      isRepeat = true;
    }
    if (isRepeat) {
      if (written === 0) throw corrupt('lzma', position, 'repeated match before the first byte');
      let isLatest: boolean;
      index = IS_REP_0 + state;
      if (range >>> 24 === 0) {
        range <<= 8;
        code = (code << 8) | input[position++]!;
      }
      probability = probabilities[index]!;
      bound = Math.imul(range >>> 11, probability);
      if (code >>> 0 < bound >>> 0) {
        range = bound;
        probabilities[index] = probability + ((2048 - probability) >>> 5);
        isLatest = true;
      } else {
        range = (range - bound) | 0;
        code = (code - bound) | 0;
        probabilities[index] = probability - (probability >>> 5);
        isLatest = false;
      }
      if (isLatest) {
        let isShort: boolean;
        index = IS_REP_0_LONG + state * 16 + positionState;
        if (range >>> 24 === 0) {
          range <<= 8;
          code = (code << 8) | input[position++]!;
        }
        probability = probabilities[index]!;
        bound = Math.imul(range >>> 11, probability);
        if (code >>> 0 < bound >>> 0) {
          range = bound;
          probabilities[index] = probability + ((2048 - probability) >>> 5);
          isShort = true;
        } else {
          range = (range - bound) | 0;
          code = (code - bound) | 0;
          probabilities[index] = probability - (probability >>> 5);
          isShort = false;
        }
        if (isShort) {
          if (written === limit) throw overrun(position, size, input, output);
          output[written] = output[written - distance0]!;
          written++;
          state = state < 7 ? 9 : 11;
          continue;
        }
      } else {
        let distance: number;
        index = IS_REP_1 + state;
        if (range >>> 24 === 0) {
          range <<= 8;
          code = (code << 8) | input[position++]!;
        }
        probability = probabilities[index]!;
        bound = Math.imul(range >>> 11, probability);
        if (code >>> 0 < bound >>> 0) {
          range = bound;
          probabilities[index] = probability + ((2048 - probability) >>> 5);
          distance = distance1;
        } else {
          range = (range - bound) | 0;
          code = (code - bound) | 0;
          probabilities[index] = probability - (probability >>> 5);
          distance = 0;
        }
        if (distance === 0) {
          index = IS_REP_2 + state;
          if (range >>> 24 === 0) {
            range <<= 8;
            code = (code << 8) | input[position++]!;
          }
          probability = probabilities[index]!;
          bound = Math.imul(range >>> 11, probability);
          if (code >>> 0 < bound >>> 0) {
            range = bound;
            probabilities[index] = probability + ((2048 - probability) >>> 5);
            distance = distance2;
          } else {
            range = (range - bound) | 0;
            code = (code - bound) | 0;
            probabilities[index] = probability - (probability >>> 5);
            distance = distance3;
            distance3 = distance2;
          }
          distance2 = distance1;
        }
        distance1 = distance0;
        distance0 = distance;
      }
      state = state < 7 ? 8 : 11;
    } else {
      state = state < 7 ? 7 : 10;
    }

    // The length: 3 bits per position state, 3 more, or 8 bits for all.
    const lengthBase = isRepeat ? REP_LENGTH : MATCH_LENGTH;
    let treeBase = lengthBase + LENGTH_LOW + positionState * 8;
    let treeEnd = 8;
    let length = 2 - 8;
    let isLow: boolean;
    index = lengthBase;
    if (range >>> 24 === 0) {
      range <<= 8;
      code = (code << 8) | input[position++]!;
    }
    probability = probabilities[index]!;
    bound = Math.imul(range >>> 11, probability);
    if (code >>> 0 < bound >>> 0) {
      range = bound;
      probabilities[index] = probability + ((2048 - probability) >>> 5);
      isLow = true;
    } else {
      range = (range - bound) | 0;
      code = (code - bound) | 0;
      probabilities[index] = probability - (probability >>> 5);
      isLow = false;
    }
    if (!isLow) {
      index = lengthBase + 1;
      if (range >>> 24 === 0) {
        range <<= 8;
        code = (code << 8) | input[position++]!;
      }
      probability = probabilities[index]!;
      bound = Math.imul(range >>> 11, probability);
      if (code >>> 0 < bound >>> 0) {
        range = bound;
        probabilities[index] = probability + ((2048 - probability) >>> 5);
        treeBase = lengthBase + LENGTH_MIDDLE + positionState * 8;
        length = 10 - 8;
      } else {
        range = (range - bound) | 0;
        code = (code - bound) | 0;
        probabilities[index] = probability - (probability >>> 5);
        treeBase = lengthBase + LENGTH_HIGH;
        treeEnd = 256;
        length = 18 - 256;
      }
    }
    let symbol = 1;
    while (symbol < treeEnd) {
      index = treeBase + symbol;
      if (range >>> 24 === 0) {
        range <<= 8;
        code = (code << 8) | input[position++]!;
      }
      probability = probabilities[index]!;
      bound = Math.imul(range >>> 11, probability);
      if (code >>> 0 < bound >>> 0) {
        range = bound;
        probabilities[index] = probability + ((2048 - probability) >>> 5);
        symbol <<= 1;
      } else {
        range = (range - bound) | 0;
        code = (code - bound) | 0;
        probabilities[index] = probability - (probability >>> 5);
        symbol = (symbol << 1) | 1;
      }
    }
    length += symbol;

    if (!isRepeat) {
      distance3 = distance2;
      distance2 = distance1;
      distance1 = distance0;
      const slotBase = POSITION_SLOT + Math.min(length - 2, 3) * 64;
      symbol = 1;
      while (symbol < 64) {
        index = slotBase + symbol;
        if (range >>> 24 === 0) {
          range <<= 8;
          code = (code << 8) | input[position++]!;
        }
        probability = probabilities[index]!;
        bound = Math.imul(range >>> 11, probability);
        if (code >>> 0 < bound >>> 0) {
          range = bound;
          probabilities[index] = probability + ((2048 - probability) >>> 5);
          symbol <<= 1;
        } else {
          range = (range - bound) | 0;
          code = (code - bound) | 0;
          probabilities[index] = probability - (probability >>> 5);
          symbol = (symbol << 1) | 1;
        }
      }
      const slot = symbol - 64;
      distance0 = slot + 1;
      if (slot >= 4) {
        const directBits = (slot >>> 1) - 1;
        distance0 = (2 | (slot & 1)) * 2 ** directBits + 1;
        let reverseBase = POSITION_SPECIAL + distance0 - 1 - slot;
        let reverseBits = directBits;
        if (slot >= 14) {
          reverseBase = POSITION_ALIGN;
          reverseBits = 4;
          let middle = 0;
          for (let i = directBits - 4; i > 0; i--) {
            if (range >>> 24 === 0) {
              range <<= 8;
              code = (code << 8) | input[position++]!;
            }
            range >>>= 1;
            middle <<= 1;
            if (code >>> 0 >= range) {
              code = (code - range) | 0;
              middle |= 1;
            }
          }
          distance0 += middle * 16;
        }
        symbol = 1;
        for (let i = 0; i < reverseBits; i++) {
          index = reverseBase + symbol;
          if (range >>> 24 === 0) {
            range <<= 8;
            code = (code << 8) | input[position++]!;
          }
          probability = probabilities[index]!;
          bound = Math.imul(range >>> 11, probability);
          if (code >>> 0 < bound >>> 0) {
            range = bound;
            probabilities[index] = probability + ((2048 - probability) >>> 5);
            symbol <<= 1;
          } else {
            range = (range - bound) | 0;
            code = (code - bound) | 0;
            probabilities[index] = probability - (probability >>> 5);
            symbol = (symbol << 1) | 1;
            distance0 += 1 << i;
          }
        }
      }
      if (distance0 === END_MARKER) {
        if (range >>> 24 === 0) {
          range <<= 8;
          code = (code << 8) | input[position++]!;
        }
        if (position > inputLength) throw truncated('lzma', position, inputLength, 'its data');
        if (size !== null && written !== size) {
          throw corrupt('lzma', position, `end marker after ${written} bytes, the header says ${size}`);
        }
        if (code !== 0) throw corrupt('lzma', position, 'range coder not at its end at the end marker');
        break;
      }
    }

    if (distance0 > written) {
      if (position > inputLength) throw truncated('lzma', position, inputLength, 'its data');
      throw corrupt('lzma', position, `match ${distance0} bytes back after ${written} bytes of output`);
    }
    if (length > limit - written) throw overrun(position, size, input, output);
    copyMatch(output, written, distance0, length);
    written += length;
  }
  return { bytesRead: position, bytesWritten: written };
}

function overrun(position: number, size: number | null, input: Uint8Array, output: Uint8Array): Error {
  if (position > input.length) return truncated('lzma', position, input.length, 'its data');
  if (size === null) return outputLimit('lzma', output.length);
  return corrupt('lzma', position, `it goes on after the ${size} bytes that its header says`);
}

/** The distance that marks the stream's end. */
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
