import { describe, expect, it } from 'vitest';
import { decodeInstruction } from './instruction.ts';

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
