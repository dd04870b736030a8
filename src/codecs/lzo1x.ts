// LZO1X decoding, written from the description of the stream in the kernel's Documentation/staging/lzo.rst.

import { corrupt } from './codec-errors.ts';
import { copyMatch } from './copy-match.ts';

/**
 * Decodes one LZO1X block that must fill `output` exactly and end with `input`.
 *
 * @param origin - offset of `input` in the stream, for error messages
 */
export function decodeLzo1x(input: Uint8Array, output: Uint8Array, origin: number): void {
  const inputLength = input.length;
  const outputLength = output.length;
  let offset = 0;
  let written = 0;
  // How many literals the last instruction copied, 4 standing for 4 or more: the next one's meaning depends on it.
  let state = 0;
  // What the instruction at hand copies: literals only, or a match and then up to 3 literals.
  let literals = 0;
  let distance = 0;
  let length = 0;

  if (inputLength > 0 && input[0]! > 17) {
    offset = 1;
    literals = input[0]! - 17;
    state = Math.min(literals, 4);
  }
  for (;;) {
    if (literals > 0) {
      if (literals > inputLength - offset) {
        throw damage(origin + offset, `${literals} literals with ${inputLength - offset} bytes left`);
      }
      if (literals > outputLength - written) throw overrun(origin + offset, outputLength);
      if (literals < 32) {
        for (const end = written + literals; written < end; ) output[written++] = input[offset++]!;
      } else {
        output.set(input.subarray(offset, offset + literals), written);
        offset += literals;
        written += literals;
      }
    }

    if (offset >= inputLength) throw damage(origin + offset, 'block without its end');
    const instruction = input[offset++]!;
    if (instruction >= 64) {
      length = instruction >= 128 ? 5 + ((instruction >>> 5) & 3) : 3 + ((instruction >>> 5) & 1);
      distance = (input[offset++]! << 3) + ((instruction >>> 2) & 7) + 1;
      literals = instruction & 3;
    } else if (instruction < 16 && state !== 0) {
      length = state === 4 ? 3 : 2;
      distance = (input[offset++]! << 2) + (instruction >>> 2) + (state === 4 ? 2049 : 1);
      literals = instruction & 3;
    } else {
      // A length whose bits in the instruction are all zero goes on in bytes: 255 for each zero, then the rest.
      const mask = instruction >= 32 ? 31 : instruction >= 16 ? 7 : 15;
      length = instruction & mask;
      if (length === 0) {
        length = mask;
        while (input[offset] === 0) {
          offset++;
          length += 255;
        }
        length += input[offset++]!;
      }
      if (instruction < 16) {
        literals = length + 3;
        state = 4;
        if (offset > inputLength) throw damage(origin + offset, 'instruction that passes its block');
        continue;
      }
      length += 2;
      const operand = input[offset]! | (input[offset + 1]! << 8);
      offset += 2;
      literals = operand & 3;
      distance = operand >>> 2;
      if (instruction >= 32) {
        distance += 1;
      } else {
        distance += 16384 + ((instruction & 8) << 11);
        if (distance === 16384 && length === 3 && written === outputLength && offset === inputLength) return;
        if (distance === 16384) {
          const left = inputLength - offset;
          throw damage(
            origin + offset,
            `end after ${written} of ${outputLength} bytes, ${left} left to read`,
          );
        }
      }
    }
    if (offset > inputLength) throw damage(origin + offset, 'instruction that passes its block');
    if (distance > written)
      throw damage(origin + offset, `match ${distance} bytes back after ${written} bytes`);
    if (length > outputLength - written) throw overrun(origin + offset, outputLength);
    copyMatch(output, written, distance, length);
    written += length;
    state = literals;
  }
}

function damage(offset: number, what: string): Error {
  return corrupt('lzo', offset, what);
}

function overrun(offset: number, length: number): Error {
  return damage(offset, `more than the ${length} bytes of its block`);
}
