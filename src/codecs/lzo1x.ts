// LZO1X decoding, written from the description of the stream in the kernel's Documentation/staging/lzo.rst.

import { corrupt } from './codec-errors.ts';
import { copyMatch } from './copy-match.ts';

/**
 * Decodes one LZO1X block that must fill `output` exactly and end with `input`.
 *
 * @param origin - offset of `input` in the stream, for error messages
 */
export function decodeLzo1x(input: Uint8Array, output: Uint8Array, origin: number): void {
  let offset = 0;
  let written = 0;

  const damage = (what: string) => corrupt('lzo', origin + offset, what);
  const next = (): number => {
    if (offset >= input.length) throw damage('block that ends inside an instruction');
    return input[offset++]!;
  };
  /** A length whose bits in the instruction were zero goes on in bytes: 255 for each zero, then the rest. */
  const longLength = (base: number): number => {
    let length = base;
    for (;;) {
      const byte = next();
      if (byte !== 0) return length + byte;
      length += 255;
      if (length > output.length) throw damage(`length of more than the block's ${output.length} bytes`);
    }
  };
  const literals = (count: number): void => {
    if (count > input.length - offset)
      throw damage(`${count} literals with ${input.length - offset} bytes left`);
    if (count > output.length - written) throw damage(`more than the block's ${output.length} bytes`);
    if (count < 32) {
      for (let i = 0; i < count; i++) output[written++] = input[offset++]!;
    } else {
      output.set(input.subarray(offset, offset + count), written);
      offset += count;
      written += count;
    }
  };
  const match = (distance: number, length: number): void => {
    if (distance > written) throw damage(`match ${distance} bytes back after ${written} bytes`);
    if (length > output.length - written) throw damage(`more than the block's ${output.length} bytes`);
    copyMatch(output, written, distance, length);
    written += length;
  };

  // How many literals the last instruction copied, 4 standing for 4 or more: the next one's meaning depends on it.
  let state = 0;
  if (input.length > 0 && input[0]! > 17) {
    const count = next() - 17;
    literals(count);
    state = Math.min(count, 4);
  }
  for (;;) {
    const instruction = next();
    if (instruction >= 64) {
      const length = instruction >= 128 ? 5 + ((instruction >>> 5) & 3) : 3 + ((instruction >>> 5) & 1);
      match((next() << 3) + ((instruction >>> 2) & 7) + 1, length);
      state = instruction & 3;
    } else if (instruction >= 32) {
      const length = 2 + (instruction & 31 || longLength(31));
      const operand = next() | (next() << 8);
      match((operand >>> 2) + 1, length);
      state = operand & 3;
    } else if (instruction >= 16) {
      const length = 2 + (instruction & 7 || longLength(7));
      const operand = next() | (next() << 8);
      const distance = 16384 + ((instruction & 8) << 11) + (operand >>> 2);
      if (distance === 16384) {
        if (length !== 3 || written !== output.length || offset !== input.length) {
          throw damage(
            `end marker after ${written} of ${output.length} bytes, ${input.length - offset} left`,
          );
        }
        return;
      }
      match(distance, length);
      state = operand & 3;
    } else if (state === 0) {
      literals(3 + (instruction || longLength(15)));
      state = 4;
      continue;
    } else {
      const distance = (next() << 2) + (instruction >>> 2) + 1;
      if (state === 4) match(distance + 2048, 3);
      else match(distance, 2);
      state = instruction & 3;
    }
    literals(state);
  }
}
