// Just enough of the x86 instruction encoding to walk compiled code without losing step: lengths, ModRM, displacements, immediates.

/** One decoded instruction. Offsets are positions in the decoded bytes; values are sign extended. */
export interface Instruction {
  readonly offset: number;
  readonly length: number;
  /** Offset of the next instruction. */
  readonly next: number;
  /** The opcode: 0x00-0xff, 0x0f00-0x0fff for the two-byte map, 0x0f3800/0x0f3a00 and up for the three-byte maps. */
  readonly opcode: number;
  /** REX.W, or a 64-bit operand by default (push, pop, near branches keep false). */
  readonly wide: boolean;
  /** Whether operands are 16 bits where neither `wide` nor the opcode says otherwise. */
  readonly operand16: boolean;
  /** F2 or F3 prefix, 0 without one. */
  readonly repeat: 0 | 0xf2 | 0xf3;
  /** ModRM fields with their REX bits; -1 without a ModRM byte. */
  readonly mod: number;
  readonly reg: number;
  readonly rm: number;
  /** Whether a SIB byte is there, so that `rm` is not the base register. */
  readonly sib: boolean;
  /** Displacement of the memory operand, 0 without one. */
  readonly displacement: number;
  /** Whether the memory operand is RIP relative (64-bit) or an absolute address (32-bit): mod 0, rm 5; never with 16-bit addresses. */
  readonly direct: boolean;
  /** Immediate, or the relative distance of a branch; 0 without one. 64-bit immediates keep their low 32 bits. */
  readonly immediate: number;
  /** Low 3 bits of the opcode with REX.B, for opcodes that hold a register (push, pop, mov imm). */
  readonly opcodeRegister: number;
}

function bytesOf(characters: string): Uint8Array {
  return Uint8Array.from(characters, (character) => character.charCodeAt(0));
}

/**
 * What follows each opcode (Intel SDM 2A, tables ), a character each: `p` it is a prefix, `m` ModRM, `b` `w` `z` an
 * immediate of 8, 16, and 16 or 32 bits by the operand size, `v` one of the operand's size, `r` a near branch's distance,
 * `a` an offset of the address size, `f` a far pointer, `e` the operands of ENTER, `B` `Z` ModRM and an immediate as `b`
 * `z`, `t` `T` the same for TEST only, `c` ModRM that always names registers. Looked up as bytes: a boot decodes a few thousand instructions once, in code that
 * is never optimized.
 */
const ONE_BYTE = bytesOf(
  'mmmmbz..mmmmbz..' +
    'mmmmbz..mmmmbz..' +
    'mmmmbzp.mmmmbzp.' +
    'mmmmbzp.mmmmbzp.' +
    '................' +
    '................' +
    '..mmppppzZbB....' +
    'bbbbbbbbbbbbbbbb' +
    'BZBBmmmmmmmmmmmm' +
    '..........f.....' +
    'aaaa....bz......' +
    'bbbbbbbbvvvvvvvv' +
    'BBw.mmBZe.w..b..' +
    'mmmmbb..mmmmmmmm' +
    'bbbbbbbbrrfb....' +
    'p.pp..tT......mm',
);
const TWO_BYTE = bytesOf(
  'mmmm.........m.m' +
    'mmmmmmmmmmmmmmmm' +
    'ccccmmmmmmmmmmmm' +
    '........mmmmmmmm' +
    'mmmmmmmmmmmmmmmm' +
    'mmmmmmmmmmmmmmmm' +
    'mmmmmmmmmmmmmmmm' +
    'BBBBmmm.mmmmmmmm' +
    'rrrrrrrrrrrrrrrr' +
    'mmmmmmmmmmmmmmmm' +
    '...mBmmm...mBmmm' +
    'mmmmmmmmmmBmmmmm' +
    'mmBmBBBm........' +
    'mmmmmmmmmmmmmmmm' +
    'mmmmmmmmmmmmmmmm' +
    'mmmmmmmmmmmmmmmm',
);
const NOTHING = 0x2e;
const PREFIX = 0x70;
const MODRM = 0x6d;
const MODRM_REGISTERS = 0x63;
const MODRM_BYTE = 0x42;
const MODRM_OPERAND = 0x5a;
const MODRM_TEST_BYTE = 0x74;
const MODRM_TEST = 0x54;
const BYTE = 0x62;
const WORD = 0x77;
const OPERAND = 0x7a;
const WIDE_OPERAND = 0x76;
const BRANCH = 0x72;
const OFFSET = 0x61;
const FAR = 0x66;
const ENTER = 0x65;

function hasModRm(kind: number): boolean {
  switch (kind) {
    case MODRM:
    case MODRM_REGISTERS:
    case MODRM_BYTE:
    case MODRM_OPERAND:
    case MODRM_TEST_BYTE:
    case MODRM_TEST:
      return true;
    default:
      return false;
  }
}

/** Bytes of an address, by whether there is a prefix that changes its size. */
function addressSize(bits: 16 | 32 | 64, prefixed: boolean): 2 | 4 | 8 {
  if (bits === 32) return prefixed ? 2 : 4;
  return prefixed ? 4 : bits === 16 ? 2 : 8;
}

/**
 * Bytes of immediate behind an opcode of this kind.
 * @param z - bytes of an operand that is never 64 bits wide
 * @param address - bytes of an address
 */
function immediateSize(
  kind: number,
  reg: number,
  z: 2 | 4,
  wide: boolean,
  address: 2 | 4 | 8,
  bits: 16 | 32 | 64,
): number {
  switch (kind) {
    case BYTE:
    case MODRM_BYTE:
      return 1;
    case OPERAND:
    case MODRM_OPERAND:
      return z;
    case BRANCH:
      return bits === 64 ? 4 : z;
    case WORD:
      return 2;
    case WIDE_OPERAND:
      return wide ? 8 : z;
    case OFFSET:
      return address;
    case FAR:
      return z + 2;
    case ENTER:
      return 3;
    case MODRM_TEST_BYTE:
      return (reg & 7) < 2 ? 1 : 0;
    case MODRM_TEST:
      return (reg & 7) < 2 ? z : 0;
    default:
      return 0;
  }
}

/** VEX of three and two bytes, EVEX; in other than 64-bit code also LES, LDS and BOUND, whose operands are never registers. */
function isVectorPrefix(byte: number): boolean {
  return byte === 0xc4 || byte === 0xc5 || byte === 0x62;
}

/** Offset of the opcode of the instruction at `offset`, behind its prefixes. */
export function opcodeOffset(code: Uint8Array, offset: number, bits: 16 | 32 | 64): number {
  let at = offset;
  while (ONE_BYTE[code[at]!] === PREFIX || (bits === 64 && (code[at]! & 0xf0) === 0x40)) at++;
  return at;
}

/**
 * Bytes of the instruction at `offset`, which the CPU has found to be one: nothing is checked, and it may reach beyond the
 * end of `code`. Several times as fast as `decodeInstruction`.
 */
export function instructionLength(code: Uint8Array, offset: number, bits: 16 | 32 | 64): number {
  let at = offset;
  let z: 2 | 4 = bits === 16 ? 2 : 4;
  let address = addressSize(bits, false);
  let byte = code[at++]!;
  let kind = ONE_BYTE[byte]!;
  // Of several REX prefixes the last counts, and that only right before the opcode.
  let wide = false;
  for (; ; kind = ONE_BYTE[byte]!) {
    const rex = bits === 64 && (byte & 0xf0) === 0x40;
    if (kind !== PREFIX && !rex) break;
    if (byte === 0x66) z = bits === 16 ? 4 : 2;
    else if (byte === 0x67) address = addressSize(bits, true);
    wide = rex && (byte & 8) !== 0;
    byte = code[at++]!;
  }
  if (byte === 0x0f) {
    byte = code[at++]!;
    kind = TWO_BYTE[byte]!;
    if (byte === 0x38 || byte === 0x3a) {
      at++;
      kind = byte === 0x38 ? MODRM : MODRM_BYTE;
    }
  } else if (isVectorPrefix(byte) && (bits === 64 || code[at]! >= 0xc0)) {
    const map = byte === 0xc5 ? 1 : code[at]! & 7;
    at += byte === 0xc5 ? 1 : byte === 0xc4 ? 2 : 3;
    const opcode = code[at++]!;
    kind = map === 1 ? TWO_BYTE[opcode]! : map === 2 ? MODRM : MODRM_BYTE;
  }
  if (kind === NOTHING) return at - offset;
  let reg = 0;
  if (hasModRm(kind)) {
    const modRm = code[at++]!;
    reg = (modRm >> 3) & 7;
    const mod = kind === MODRM_REGISTERS ? 3 : modRm >> 6;
    let base = modRm & 7;
    if (mod !== 3 && address === 2) at += mod === 1 ? 1 : mod === 2 || base === 6 ? 2 : 0;
    else if (mod !== 3) {
      if (base === 4) base = code[at++]! & 7;
      at += mod === 1 ? 1 : mod === 2 || base === 5 ? 4 : 0;
    }
  }
  return at + immediateSize(kind, reg, wide ? 4 : z, wide, address, bits) - offset;
}

/**
 * Decodes the instruction at `offset` of `code` as 16-, 32- or 64-bit code; operands are 16 bits by default in the first.
 *
 * @returns null where the bytes end within the instruction or are no instruction of that mode
 */
export function decodeInstruction(code: Uint8Array, offset: number, bits: 16 | 32 | 64): Instruction | null {
  let at = offset;
  let operand16 = bits === 16;
  let address = addressSize(bits, false);
  let repeat: 0 | 0xf2 | 0xf3 = 0;
  let rex = 0;
  let byte = code[at];
  while (byte !== undefined && at - offset < 14) {
    const isRex = bits === 64 && (byte & 0xf0) === 0x40;
    if (ONE_BYTE[byte] !== PREFIX && !isRex) {
      break;
    }
    rex = isRex ? byte : 0;
    if (byte === 0x66) {
      operand16 = bits !== 16;
    }
    if (byte === 0x67) {
      address = addressSize(bits, true);
    }
    if (byte === 0xf2 || byte === 0xf3) {
      repeat = byte;
    }
    byte = code[++at];
  }
  if (byte === undefined) {
    return null;
  }
  const wide = (rex & 8) !== 0;
  let opcode = byte;
  at++;
  let kind = ONE_BYTE[opcode]!;
  if (opcode === 0x0f) {
    const second = code[at++];
    if (second === undefined) {
      return null;
    }
    opcode = 0x0f00 | second;
    kind = TWO_BYTE[second]!;
    if (second === 0x38 || second === 0x3a) {
      const third = code[at++];
      if (third === undefined) {
        return null;
      }
      opcode = (opcode << 8) | third;
      kind = second === 0x38 ? MODRM : MODRM_BYTE;
    }
  } else if (
    (opcode === 0xc4 || opcode === 0xc5 || opcode === 0x62) &&
    (bits === 64 || (code[at] ?? 0) >= 0xc0)
  ) {
    // VEX and EVEX: boot code has none.
    return null;
  } else if (
    bits === 64 &&
    (opcode === 0x9a || opcode === 0xea || opcode === 0x82 || (opcode < 0x40 && (opcode & 7) >= 6))
  ) {
    return null;
  }

  let mod = -1;
  let reg = -1;
  let rm = -1;
  let sib = false;
  let displacement = 0;
  let direct = false;
  if (hasModRm(kind)) {
    const value = code[at++];
    if (value === undefined) {
      return null;
    }
    mod = kind === MODRM_REGISTERS ? 3 : value >> 6;
    reg = ((value >> 3) & 7) | ((rex & 4) << 1);
    const low = value & 7;
    rm = low | ((rex & 1) << 3);
    let size = 0;
    if (mod !== 3 && address === 2) {
      size = mod === 1 ? 1 : mod === 2 || low === 6 ? 2 : 0;
    } else if (mod !== 3) {
      size = mod === 1 ? 1 : mod === 2 ? 4 : 0;
      if (low === 4) {
        sib = true;
        const index = code[at++];
        if (index === undefined) {
          return null;
        }
        if (mod === 0 && (index & 7) === 5) {
          size = 4;
        }
      } else if (mod === 0 && low === 5) {
        size = 4;
        direct = true;
      }
    }
    if (at + size > code.length) {
      return null;
    }
    displacement = readSigned(code, at, size);
    at += size;
  }
  const size = immediateSize(kind, reg, operand16 && !wide ? 2 : 4, wide, address, bits);
  if (at + size > code.length) {
    return null;
  }
  const immediate = readSigned(code, at, size === 8 || size === 6 ? 4 : size === 3 ? 2 : size);
  at += size;
  return {
    offset,
    length: at - offset,
    next: at,
    opcode,
    wide,
    operand16,
    repeat,
    mod,
    reg,
    rm,
    sib,
    displacement,
    direct,
    immediate,
    opcodeRegister: (opcode & 7) | ((rex & 1) << 3),
  };
}

function readSigned(code: Uint8Array, at: number, size: number): number {
  switch (size) {
    case 1:
      return (code[at]! << 24) >> 24;
    case 2:
      return ((code[at]! | (code[at + 1]! << 8)) << 16) >> 16;
    case 4:
      return code[at]! | (code[at + 1]! << 8) | (code[at + 2]! << 16) | (code[at + 3]! << 24);
    default:
      return 0;
  }
}
