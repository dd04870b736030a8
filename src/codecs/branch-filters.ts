// The BCJ filters of .xz that a kernel image may have: they make relative branch targets of absolute ones again.

/**
 * Undoes the x86 filter in place over a whole block, which starts at filter position 0.
 *
 * The encoder replaced the 32-bit operand of E8 (CALL) and E9 (JMP) by the absolute target, but only where
 * the operand's top byte was 00 or FF, and only where the four bytes before hold no opcode that may have
 * been meant instead; the decoder keeps the same history, in `history`: bit n set means that the byte
 * n + 1 positions back was such an opcode whose operand was left alone.
 */
export function undoX86Filter(bytes: Uint8Array): void {
  const end = bytes.length - 4;
  let history = 0;
  let previousOpcode = -1;
  for (let i = 0; i < end; i++) {
    if ((bytes[i]! & 0xfe) !== 0xe8) continue;
    const distance = i - previousOpcode;
    previousOpcode = i;
    history = distance > 3 ? 0 : (history << (distance - 1)) & 7;
    if (history !== 0) {
      // Of the masks with more than one opcode only the directly adjacent pairs 1 and 2, and single ones, go on.
      const ambiguous = history === 3 || history > 4;
      if (ambiguous || isSignByte(bytes[i + 4 - operandByte(history)]!)) {
        history = ((history << 1) | 1) & 7;
        continue;
      }
    }
    const top = bytes[i + 4]!;
    if (!isSignByte(top)) {
      history = ((history << 1) | 1) & 7;
      continue;
    }
    let source = bytes[i + 1]! | (bytes[i + 2]! << 8) | (bytes[i + 3]! << 16) | (top << 24);
    let target: number;
    for (;;) {
      target = (source - (i + 5)) | 0;
      if (history === 0) break;
      const shift = operandByte(history) * 8;
      if (!isSignByte((target >>> (24 - shift)) & 0xff)) break;
      source = target ^ (2 ** (32 - shift) - 1);
    }
    bytes[i + 1] = target;
    bytes[i + 2] = target >>> 8;
    bytes[i + 3] = target >>> 16;
    // The operand has 25 bits, sign extended.
    bytes[i + 4] = target & 0x01000000 ? 0xff : 0;
    i += 4;
  }
}

/** Which operand byte (counted down from the top) overlaps the nearest earlier opcode. */
function operandByte(history: number): number {
  return history === 0 ? 0 : history === 1 ? 1 : history < 4 ? 2 : 3;
}

function isSignByte(byte: number): boolean {
  return byte === 0 || byte === 0xff;
}

/** Undoes the ARM64 filter in place over a whole block: BL, and ADRP whose target lies within 512 MiB. */
export function undoArm64Filter(bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let position = 0; position + 4 <= bytes.length; position += 4) {
    const instruction = view.getUint32(position, true);
    if (instruction >>> 26 === 0x25) {
      const target = (instruction - (position >>> 2)) & 0x03ffffff;
      view.setUint32(position, 0x94000000 | target, true);
    } else if ((instruction & 0x9f000000) >>> 0 === 0x90000000) {
      const source = ((instruction >>> 29) & 3) | ((instruction >>> 3) & 0x001ffffc);
      if (((source + 0x00020000) & 0x001c0000) !== 0) continue;
      const target = source - (position >>> 12);
      const rest = instruction & 0x9000001f;
      const operand =
        ((target & 3) << 29) | ((target & 0x0003fffc) << 3) | (-(target & 0x00020000) & 0x00e00000);
      view.setUint32(position, rest | operand, true);
    }
  }
}

/** Undoes the 32-bit ARM filter in place over a whole block: BL that is always taken. */
export function undoArmFilter(bytes: Uint8Array): void {
  for (let at = 0; at + 4 <= bytes.length; at += 4) {
    if (bytes[at + 3] !== 0xeb) continue;
    const source = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16);
    // The operand counts words from the instruction after the next.
    const target = source - ((at + 8) >>> 2);
    bytes[at] = target;
    bytes[at + 1] = target >>> 8;
    bytes[at + 2] = target >>> 16;
  }
}

/** Undoes the Thumb filter in place over a whole block: BL of two halfwords. */
export function undoArmThumbFilter(bytes: Uint8Array): void {
  for (let at = 0; at + 4 <= bytes.length; at += 2) {
    if ((bytes[at + 1]! & 0xf8) !== 0xf0 || (bytes[at + 3]! & 0xf8) !== 0xf8) continue;
    const source =
      ((bytes[at + 1]! & 7) << 19) | (bytes[at]! << 11) | ((bytes[at + 3]! & 7) << 8) | bytes[at + 2]!;
    const target = source - ((at + 4) >>> 1);
    bytes[at + 1] = 0xf0 | ((target >>> 19) & 7);
    bytes[at] = target >>> 11;
    bytes[at + 3] = 0xf8 | ((target >>> 8) & 7);
    bytes[at + 2] = target;
    at += 2;
  }
}

/** Undoes the PowerPC filter in place over a whole block: BL with a relative target, big endian. */
export function undoPowerPcFilter(bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + 4 <= bytes.length; at += 4) {
    const instruction = view.getUint32(at);
    if (instruction >>> 26 !== 0x12 || (instruction & 3) !== 1) continue;
    const target = (instruction & 0x03fffffc) - at;
    view.setUint32(at, 0x48000000 | (target & 0x03fffffc) | 1);
  }
}

/** Undoes the SPARC filter in place over a whole block: CALL within 8 MiB, big endian. */
export function undoSparcFilter(bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + 4 <= bytes.length; at += 4) {
    const instruction = view.getUint32(at);
    const top = instruction >>> 22;
    if (top !== 0x100 && top !== 0x1ff) continue;
    const target = ((instruction << 2) - at) >>> 2;
    const sign = (target & 0x00400000) === 0 ? 0 : 0x3fc00000;
    view.setUint32(at, 0x40000000 | sign | (target & 0x003fffff));
  }
}
