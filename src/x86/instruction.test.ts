import { Decoder, DecoderOptions, EncodingKind, Instruction } from 'iced-x86';
import { describe, expect, it } from 'vitest';
import { decodeInstruction, instructionLength } from './instruction.ts';

function decode(hex: string, bits: 32 | 64) {
  return decodeInstruction(Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex')), 0, bits);
}

describe('decoding an instruction', () => {
  it.each([
    ['fc', 64, 1],
    ['48 8d 2d eb fd ff ff', 64, 7],
    ['8b 86 30 02 00 00', 64, 6],
    ['48 81 fd 00 00 00 01', 64, 7],
    ['48 c7 c5 00 00 00 01', 64, 7],
    ['48 b8 08 07 06 05 04 03 02 01', 64, 10],
    ['f3 48 a5', 64, 3],
    ['66 c7 44 24 10 34 12', 64, 7],
    ['0f b6 84 24 e0 00 00 00', 64, 8],
    ['0f ba f0 1f', 64, 4],
    ['0f 84 a6 00 00 00', 64, 6],
    ['f6 86 11 02 00 00 40', 32, 7],
    ['f7 d0', 32, 2],
    ['ea 00 00 10 00 10 00', 32, 7],
    ['a1 40 36 10 00', 32, 5],
    ['8b 04 8d 00 10 00 00', 32, 7],
    ['67 8b 47 02', 32, 4],
    ['c8 10 00 00', 32, 4],
    ['68 00 00 10 00', 32, 5],
    ['ff 75 08', 32, 3],
  ] as const)('finds the length of %s in %i-bit code', (hex, bits, length) => {
    expect(decode(hex, bits)?.length).toBe(length);
  });

  it('gives displacement and immediate sign extended', () => {
    expect(decode('48 8d 2d eb fd ff ff', 64)).toMatchObject({ direct: true, displacement: -0x215, reg: 5 });
    expect(decode('83 ec f0', 32)).toMatchObject({ reg: 5, rm: 4, immediate: -16 });
    expect(decode('eb f6', 32)?.immediate).toBe(-10);
  });

  it('takes REX into register numbers', () => {
    expect(decode('4d 89 f8', 64)).toMatchObject({ wide: true, reg: 15, rm: 8 });
    expect(decode('41 b9 01 00 00 00', 64)).toMatchObject({ opcodeRegister: 9, immediate: 1 });
  });

  it('is null where bytes end or are no instruction of the mode', () => {
    expect(decode('48 8d 2d eb', 64)).toBeNull();
    expect(decode('ea 00 00 10 00 10 00', 64)).toBeNull();
    expect(decode('48', 64)).toBeNull();
    expect(decode('', 32)).toBeNull();
  });
});

describe('the length of an instruction', () => {
  /** Bytes that repeat from run to run (xorshift32). */
  function randomBytes(length: number): Uint8Array {
    let state = 0x2545_f491;
    return Uint8Array.from({ length }, () => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return state & 0xff;
    });
  }

  it.each([16, 32, 64] as const)('is that of another decoder in %i-bit code', (bits) => {
    const LONGEST = 15;
    const bytes = randomBytes(200_000);
    const instruction = new Instruction();
    let compared = 0;
    const wrong: unknown[] = [];
    for (let at = 0; at + LONGEST < bytes.length; at++) {
      const decoder = new Decoder(bits, bytes.subarray(at, at + LONGEST), DecoderOptions.None);
      decoder.decodeOut(instruction);
      decoder.free();
      const legacy = instruction.encoding === EncodingKind.Legacy;
      // A near branch of 16 bits in 64-bit code: manufacturers differ, and nobody uses it.
      const odd =
        bits === 64 && instruction.isJccShortOrNear && bytes.subarray(at, at + LONGEST).includes(0x66);
      if (instruction.isInvalid || !legacy || odd) continue;
      compared++;
      const { length } = instruction;
      const found = [
        instructionLength(bytes, at, bits),
        decodeInstruction(bytes, at, bits)?.length ?? length,
      ];
      if (found.some((each) => each !== length))
        wrong.push([Buffer.from(bytes.subarray(at, at + LONGEST)).toString('hex'), length, ...found]);
    }
    expect(wrong.slice(0, 10)).toEqual([]);
    expect(compared).toBeGreaterThan(100_000);
  });
});
