// Names instructions that a CPU refuses, for whoever wonders why: those that engines lack or that are none.

import { instructionLength, opcodeOffset } from './instruction.ts';

const LONGEST = 15;

/** Two-byte opcodes by their second byte; the rest has to be looked at more closely. */
const NAMES: Readonly<Record<number, string>> = {
  11: 'ud2',
  185: 'ud1',
  255: 'ud0',
  174: 'an xsave or fence',
};
const GROUP_7: Readonly<Record<number, string>> = {
  ...{ 193: 'vmcall', 208: 'xgetbv', 209: 'xsetbv', 217: 'vmmcall', 249: 'rdtscp' },
};

/**
 * @param code - from the instruction on
 * @returns its bytes, with its name where it has one here: `f3 0f b8 c0 (popcnt)`
 */
export function nameInstruction(code: Uint8Array, bits: 16 | 32 | 64): string {
  const length = Math.max(1, Math.min(instructionLength(code, 0, bits) || 1, LONGEST, code.length));
  const bytes = [...code.subarray(0, length)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
  const name = nameOf(code, bits);
  return name === null ? bytes : `${bytes} (${name})`;
}

/** Whether it is a far call or jump of a register, which is no instruction. */
export function isFarOfRegister(code: Uint8Array, offset: number, bits: 16 | 32 | 64): boolean {
  const at = opcodeOffset(code, offset, bits);
  const reg = (code[at + 1]! >> 3) & 7;
  return code[at] === 0xff && code[at + 1]! >= 0xc0 && (reg === 3 || reg === 5);
}

function nameOf(code: Uint8Array, bits: 16 | 32 | 64): string | null {
  const at = opcodeOffset(code, 0, bits);
  const [opcode, second, third] = [code[at]!, code[at + 1]!, code[at + 2]!];
  if (isFarOfRegister(code, 0, bits)) return 'a far call or jump of a register, which is no instruction';
  if (opcode === 0x62 && bits === 64) return 'AVX-512';
  if ((opcode === 0xc4 || opcode === 0xc5) && (bits === 64 || second >= 0xc0)) return 'a VEX instruction';
  if (opcode !== 0x0f) return null;
  const repeat = code.subarray(0, at).findLast((byte) => byte === 0xf2 || byte === 0xf3);
  if (second === 0xb8 && repeat === 0xf3) return 'popcnt';
  if (second === 0x38 && (third === 0xf0 || third === 0xf1)) return repeat === 0xf2 ? 'crc32' : 'movbe';
  if (second === 0x01) return GROUP_7[third] ?? null;
  if (second === 0xc7 && third >= 0xf0) return third >= 0xf8 ? 'rdseed' : 'rdrand';
  return NAMES[second] ?? null;
}
