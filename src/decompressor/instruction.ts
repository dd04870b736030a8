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
  /** Whether the memory operand is RIP relative (64-bit) or an absolute address (32-bit): mod 0, rm 5. */
  readonly direct: boolean;
  /** Immediate, or the relative distance of a branch; 0 without one. 64-bit immediates keep their low 32 bits. */
  readonly immediate: number;
  /** Low 3 bits of the opcode with REX.B, for opcodes that hold a register (push, pop, mov imm). */
  readonly opcodeRegister: number;
}

const PREFIXES = new Set([0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3]);

/** Intel SDM 2A, table A-2: whether a one-byte opcode is followed by ModRM. */
function hasModRm(opcode: number): boolean {
  if (opcode < 0x40) {
    return (opcode & 7) < 4;
  }
  return (
    opcode === 0x62 ||
    opcode === 0x63 ||
    opcode === 0x69 ||
    opcode === 0x6b ||
    (opcode >= 0x80 && opcode <= 0x8f) ||
    opcode === 0xc0 ||
    opcode === 0xc1 ||
    (opcode >= 0xc4 && opcode <= 0xc7) ||
    (opcode >= 0xd0 && opcode <= 0xd3) ||
    (opcode >= 0xd8 && opcode <= 0xdf) ||
    opcode === 0xf6 ||
    opcode === 0xf7 ||
    opcode === 0xfe ||
    opcode === 0xff
  );
}

/** Table A-3: the two-byte opcodes that have no ModRM byte. */
function hasModRmAfter0f(opcode: number): boolean {
  return !(
    (opcode >= 0x04 && opcode <= 0x0c && opcode !== 0x0d) ||
    opcode === 0x0e ||
    (opcode >= 0x30 && opcode <= 0x37) ||
    opcode === 0x77 ||
    (opcode >= 0x80 && opcode <= 0x8f) ||
    (opcode >= 0xa0 && opcode <= 0xa2) ||
    (opcode >= 0xa8 && opcode <= 0xaa) ||
    (opcode >= 0xc8 && opcode <= 0xcf)
  );
}

/** Bytes of immediate for a one-byte opcode. */
function immediateSize(
  opcode: number,
  reg: number,
  operand16: boolean,
  wide: boolean,
  bits: 32 | 64,
): number {
  const z = operand16 ? 2 : 4;
  if (opcode < 0x40) {
    return (opcode & 7) === 4 ? 1 : (opcode & 7) === 5 ? z : 0;
  }
  if (opcode >= 0x70 && opcode <= 0x7f) {
    return 1;
  }
  if (opcode >= 0xb0 && opcode <= 0xb7) {
    return 1;
  }
  if (opcode >= 0xb8 && opcode <= 0xbf) {
    return wide ? 8 : z;
  }
  switch (opcode) {
    case 0x6a:
    case 0x6b:
    case 0x80:
    case 0x82:
    case 0x83:
    case 0xa8:
    case 0xc0:
    case 0xc1:
    case 0xc6:
    case 0xcd:
    case 0xd4:
    case 0xd5:
    case 0xe0:
    case 0xe1:
    case 0xe2:
    case 0xe3:
    case 0xe4:
    case 0xe5:
    case 0xe6:
    case 0xe7:
    case 0xeb:
      return 1;
    case 0x68:
    case 0x69:
    case 0x81:
    case 0xa9:
    case 0xc7:
      return z;
    case 0xe8:
    case 0xe9:
      return bits === 64 ? 4 : z;
    case 0xa0:
    case 0xa1:
    case 0xa2:
    case 0xa3:
      return bits === 64 ? 8 : 4;
    case 0xc2:
    case 0xca:
      return 2;
    case 0xc8:
      return 3;
    case 0x9a:
    case 0xea:
      return z + 2;
    case 0xf6:
      return reg % 8 < 2 ? 1 : 0;
    case 0xf7:
      return reg % 8 < 2 ? z : 0;
    default:
      return 0;
  }
}

function immediateSizeAfter0f(opcode: number, operand16: boolean): number {
  if (opcode >= 0x80 && opcode <= 0x8f) {
    return operand16 ? 2 : 4;
  }
  return (opcode >= 0x70 && opcode <= 0x73) ||
    opcode === 0xa4 ||
    opcode === 0xac ||
    opcode === 0xba ||
    opcode === 0xc2 ||
    (opcode >= 0xc4 && opcode <= 0xc6)
    ? 1
    : 0;
}

/**
 * Decodes the instruction at `offset` of `code` as 32- or 64-bit code with 32-bit default operands.
 *
 * @returns null where the bytes end within the instruction or are no instruction of that mode
 */
export function decodeInstruction(code: Uint8Array, offset: number, bits: 32 | 64): Instruction | null {
  let at = offset;
  let operand16 = false;
  let address16 = false;
  let repeat: 0 | 0xf2 | 0xf3 = 0;
  let byte = code[at];
  while (byte !== undefined && PREFIXES.has(byte) && at - offset < 14) {
    operand16 ||= byte === 0x66;
    address16 ||= byte === 0x67 && bits === 32;
    if (byte === 0xf2 || byte === 0xf3) {
      repeat = byte;
    }
    byte = code[++at];
  }
  let rex = 0;
  if (bits === 64 && byte !== undefined && (byte & 0xf0) === 0x40) {
    rex = byte;
    byte = code[++at];
  }
  if (byte === undefined) {
    return null;
  }
  const wide = (rex & 8) !== 0;
  let opcode = byte;
  at++;
  let modRm = hasModRm(opcode);
  let map = 1;
  if (opcode === 0x0f) {
    const second = code[at++];
    if (second === undefined) {
      return null;
    }
    map = 2;
    opcode = 0x0f00 | second;
    modRm = hasModRmAfter0f(second);
    if (second === 0x38 || second === 0x3a) {
      const third = code[at++];
      if (third === undefined) {
        return null;
      }
      map = second === 0x38 ? 3 : 4;
      opcode = (opcode << 8) | third;
      modRm = true;
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
  if (modRm) {
    const value = code[at++];
    if (value === undefined) {
      return null;
    }
    mod = value >> 6;
    reg = ((value >> 3) & 7) | ((rex & 4) << 1);
    const low = value & 7;
    rm = low | ((rex & 1) << 3);
    let size = 0;
    if (mod !== 3 && address16) {
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
  const size =
    map === 1
      ? immediateSize(opcode, reg, operand16, wide, bits)
      : map === 2
        ? immediateSizeAfter0f(opcode & 0xff, operand16)
        : map === 4
          ? 1
          : 0;
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
