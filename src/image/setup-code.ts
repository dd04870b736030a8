// Where setup's own bss, end and stack lie, read from the first instructions of its assembly part: they are written by hand
// in header.S, so their encoding does not depend on a compiler.

/** Offsets in setup's segment (from the start of the boot sector), in bytes. */
export interface SetupExtents {
  /** Cleared by setup; its end is the end of setup, where its heap begins. */
  readonly bss: { readonly start: number; readonly end: number };
  /** The room below its stack pointer that setup keeps for its stack: STACK_SIZE. */
  readonly stackSize: number;
}

/** setup's signature, compared with a doubleword in its data: `cmpl $0x5a5aaa55, imm16`. */
const SIGNATURE = [0x55, 0xaa, 0x5a, 0x5a] as const;
const OPERAND_SIZE = 0x66;
const COMPARE_IMMEDIATE = 0x81;
const MODRM_COMPARE_DIRECT = 0x3e;
const MOVE_TO_DI = 0xbf;
const MOVE_TO_CX = 0xb9;
const MODRM_ADD_DX = 0xc2;
/** How far around the comparison the others stand, in bytes. */
const NEARBY = 64;
/** Before 4.15 or so; later ones keep 1024. */
const OLD_STACK_SIZE = 512;

/**
 * @param setup - boot sector and setup code as in the file
 * @returns null for setup code without that assembly part: kernels before 2.6.23
 */
export function readSetupExtents(setup: Uint8Array): SetupExtents | null {
  const view = new DataView(setup.buffer, setup.byteOffset, setup.byteLength);
  for (let at = 0x200; at + 24 < setup.length; at++) {
    if (setup[at] !== OPERAND_SIZE || setup[at + 1] !== COMPARE_IMMEDIATE) continue;
    if (setup[at + 2] !== MODRM_COMPARE_DIRECT || !SIGNATURE.every((byte, i) => setup[at + 5 + i] === byte)) {
      continue;
    }
    for (let move = at + 9; move < at + NEARBY && move + 6 <= setup.length; move++) {
      if (setup[move] !== MOVE_TO_DI || setup[move + 3] !== MOVE_TO_CX) continue;
      const start = view.getUint16(move + 1, true);
      // The count is rounded up to doublewords: `$_end+3`.
      const end = view.getUint16(move + 4, true) - 3;
      if (start >= 0x200 && start <= end) return { bss: { start, end }, stackSize: stackSize(setup, at) };
    }
  }
  return null;
}

/** `addw $STACK_SIZE, %dx` before the comparison. */
function stackSize(setup: Uint8Array, before: number): number {
  for (let at = before - 4; at >= Math.max(0x200, before - NEARBY); at--) {
    if (setup[at] === COMPARE_IMMEDIATE && setup[at + 1] === MODRM_ADD_DX) {
      return setup[at + 2]! | (setup[at + 3]! << 8);
    }
  }
  return OLD_STACK_SIZE;
}
