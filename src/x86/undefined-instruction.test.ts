import { expect, it } from 'vitest';
import { isFarOfRegister, nameInstruction } from './undefined-instruction.ts';

it.each([
  ['f3 0f b8 c0 (popcnt)', 64, [0xf3, 0x0f, 0xb8, 0xc0, 0x90]],
  ['f3 48 0f b8 c1 (popcnt)', 64, [0xf3, 0x48, 0x0f, 0xb8, 0xc1]],
  ['0f 38 f0 06 (movbe)', 32, [0x0f, 0x38, 0xf0, 0x06]],
  ['f2 0f 38 f1 c1 (crc32)', 32, [0xf2, 0x0f, 0x38, 0xf1, 0xc1]],
  ['0f c7 f8 (rdseed)', 32, [0x0f, 0xc7, 0xf8]],
  ['ff d8 (a far call or jump of a register, which is no instruction)', 16, [0xff, 0xd8, 0x8e]],
  ['c4 e2 69 f7 c3 (a VEX instruction)', 64, [0xc4, 0xe2, 0x69, 0xf7, 0xc3]],
  ['d6', 16, [0xd6, 0x90]],
] as const)('names %s in %d-bit code', (name, bits, code) => {
  expect(nameInstruction(Uint8Array.from(code), bits)).toBe(name);
});

it('tells a far call of a register from one of memory', () => {
  expect(isFarOfRegister(Uint8Array.from([0xff, 0xd8]), 0, 16)).toBe(true);
  expect(isFarOfRegister(Uint8Array.from([0xff, 0x1f]), 0, 16)).toBe(false);
});
