// Walking a stub's code, and the marks that its generations share: the copy that it makes of itself, the tail behind that up to
// the jump into the kernel, and the numbers that the instructions hold.

import type { KernelImage } from '../image/kernel-image.ts';
import { bootParamsOffset } from '../protocol/boot-params.ts';
import { isConditionalBranch } from '../x86/control-flow.ts';
import { decodeInstruction, type Instruction } from '../x86/instruction.ts';

export const RAX = 0;
export const RCX = 1;
export const RDX = 2;
export const RSP = 4;
export const RBP = 5;
export const RSI = 6;
export const RDI = 7;
export const R8 = 8;
export const R9 = 9;
export const CALL = 0xe8;
export const LEA = 0x8d;
/**
 * Instructions from `start` on in the order of the bytes; a forward JMP is followed, as code that it skips may be data or
 * another entry. Ends at an indirect jump, at a JMP backwards that no earlier branch leads past, or at bytes that are no code.
 */
export function walk(code: Uint8Array, start: number, bits: 32 | 64, limit = 400): Instruction[] {
  const instructions: Instruction[] = [];
  let at = start;
  // Behind it, code is reached by a branch seen before.
  let furthestBranch = start;
  while (instructions.length < limit) {
    const instruction = decodeInstruction(code, at, bits);
    if (instruction === null) {
      break;
    }
    instructions.push(instruction);
    at = instruction.next;
    if (isConditionalBranch(instruction)) {
      furthestBranch = Math.max(furthestBranch, at + instruction.immediate);
    } else if (instruction.opcode === 0xeb || instruction.opcode === 0xe9) {
      if (instruction.immediate >= 0) {
        at += instruction.immediate;
      } else if (furthestBranch < at) {
        break;
      }
    } else if (isIndirectJump(instruction)) {
      break;
    }
  }
  return instructions;
}

export function isIndirectJump(instruction: Instruction): boolean {
  return instruction.opcode === 0xff && instruction.reg % 8 === 4 && instruction.mod === 3;
}

export function isLea(instruction: Instruction, register: number, base: number): boolean {
  return (
    instruction.opcode === LEA &&
    instruction.reg === register &&
    instruction.mod !== 0 &&
    instruction.mod !== 3 &&
    !instruction.sib &&
    instruction.rm === base
  );
}

/** `mov %source, %register`, either encoding. */
export function isMove(instruction: Instruction, register: number, source: number): boolean {
  return (
    instruction.mod === 3 &&
    ((instruction.opcode === 0x89 && instruction.rm === register && instruction.reg === source) ||
      (instruction.opcode === 0x8b && instruction.reg === register && instruction.rm === source))
  );
}

/** The value of `mov $imm, %register`; null for any other instruction. */
export function movedImmediate(instruction: Instruction, register: number): number | null {
  if (instruction.opcode >= 0xb8 && instruction.opcode <= 0xbf && instruction.opcodeRegister === register) {
    return instruction.immediate >>> 0;
  }
  if (instruction.opcode === 0xc7 && instruction.mod === 3 && instruction.rm === register) {
    return instruction.immediate >>> 0;
  }
  return null;
}

export function callTarget(instruction: Instruction): number {
  return instruction.next + instruction.immediate;
}

export function readUint32(code: Uint8Array, offset: number): number | null {
  return offset < 0 || offset + 4 > code.length
    ? null
    : (code[offset]! | (code[offset + 1]! << 8) | (code[offset + 2]! << 16) | (code[offset + 3]! << 24)) >>>
        0;
}

export function hexadecimal(value: number): string {
  return `0x${value.toString(16)}`;
}

/** `lea disp(%rbx), %rax; jmp *%rax` at the end of a walk: where the stub goes on in its copy. */
export function copyTarget(instructions: readonly Instruction[], base: number): number | null {
  const jump = instructions.at(-1);
  const lea = instructions.at(-2);
  const RBX = 3;
  return jump !== undefined &&
    isIndirectJump(jump) &&
    jump.rm === RAX &&
    lea !== undefined &&
    isLea(lea, RAX, RBX)
    ? lea.displacement + base
    : null;
}

/**
 * Whether the walk holds the copy itself: STD and REP MOVS, or (64-bit stubs up to 2.6.2x) a loop of a load, a store and a
 * branch back.
 */
export function hasBackwardCopy(instructions: readonly Instruction[]): boolean {
  const std = instructions.findIndex((instruction) => instruction.opcode === 0xfd);
  const repeats = instructions
    .slice(std + 1, std + 3)
    .some(
      (instruction) =>
        instruction.repeat === 0xf3 && (instruction.opcode === 0xa4 || instruction.opcode === 0xa5),
    );
  if (std >= 0 && repeats) {
    return true;
  }
  return instructions.some((branch, index) => {
    if (branch.opcode !== 0x75 || branch.immediate >= 0) {
      return false;
    }
    const body = instructions
      .slice(0, index)
      .filter(({ offset }) => offset >= branch.next + branch.immediate);
    return (
      body.some(({ opcode, mod }) => opcode === 0x8b && mod === 0) &&
      body.some(({ opcode, mod }) => opcode === 0x89 && mod === 0)
    );
  });
}

const EXIT_REGISTERS: Readonly<Record<number, 'rax' | 'rbp' | 'rdi'>> = {
  [RAX]: 'rax',
  [RBP]: 'rbp',
  [RDI]: 'rdi',
};

/** The code behind the copy up to its jump into the kernel, with the last call before it. */
export interface Tail {
  readonly instructions: readonly Instruction[];
  readonly callIndex: number;
  readonly call: Instruction;
  readonly exit: Instruction;
  readonly exitRegister: 'rax' | 'rbp' | 'rdi';
}

export function findTail(code: Uint8Array, relocated: number, bits: 32 | 64): Tail | null {
  if (relocated < 0 || relocated >= code.length) {
    return null;
  }
  const instructions = walk(code, relocated, bits, 120);
  const exit = instructions.at(-1);
  if (exit === undefined || !isIndirectJump(exit)) {
    return null;
  }
  const exitRegister = EXIT_REGISTERS[exit.rm];
  const callIndex = instructions.findLastIndex((instruction) => instruction.opcode === CALL);
  const call = instructions[callIndex];
  if (exitRegister === undefined || call === undefined) {
    return null;
  }
  const target = callTarget(call);
  return target > 0 && target < code.length ? { instructions, callIndex, call, exit, exitRegister } : null;
}

/** The bss that the tail clears: operands of the first REP STOS, with `pointer` telling where an LEA points. */
export function clearedRange(
  instructions: readonly Instruction[],
  pointer: (instruction: Instruction, register: number) => number | null,
): { start: number; end: number } | null {
  let start: number | null = null;
  let end: number | null = null;
  for (const instruction of instructions) {
    start = pointer(instruction, RDI) ?? start;
    end = pointer(instruction, RCX) ?? end;
    if (instruction.repeat === 0xf3 && (instruction.opcode === 0xaa || instruction.opcode === 0xab)) {
      return start !== null && end !== null && end >= start ? { start, end } : null;
    }
  }
  return null;
}

/** `_end` of the stub, subtracted from init_size: `add 0x260(%esi), %ebx` (or a load) and then `sub $imm, %ebx`. */
export function subtractedEnd(instructions: readonly Instruction[]): number | null {
  const INIT_SIZE = bootParamsOffset('init_size');
  const load = instructions.findIndex(
    (instruction) =>
      (instruction.opcode === 0x03 || instruction.opcode === 0x8b) &&
      instruction.rm === RSI &&
      instruction.displacement === INIT_SIZE,
  );
  const sub = load < 0 ? undefined : instructions[load + 1];
  const subtracts =
    sub !== undefined && (sub.opcode === 0x2d || (sub.opcode === 0x81 && sub.mod === 3 && sub.reg % 8 === 5));
  return subtracts ? sub.immediate : null;
}

/** z_extract_offset, a whole number of pages: `lea z_extract_offset(%rbp), %rbx` or `add $z_extract_offset, %ebx`. */
export function fixedDistance(instruction: Instruction): number | null {
  const RBX = 3;
  const adds =
    instruction.opcode === 0x81 && instruction.mod === 3 && instruction.rm === RBX && instruction.reg === 0;
  const distance = isLea(instruction, RBX, RBP) ? instruction.displacement : adds ? instruction.immediate : 0;
  return distance !== 0 && distance % 4096 === 0 ? distance : null;
}

/** Whether what a call passes as input_data and input_len is the image's payload. */
export function agreesWithPayload(
  image: KernelImage,
  inputData: number,
  inputLength: number | null,
  evidence: string[],
): boolean {
  if (inputData < 0 || inputData >= image.protectedModeCode.length) {
    return false;
  }
  const payload = image.payload;
  if (payload === null) {
    evidence.push(`it passes input_data at ${hexadecimal(inputData)}`);
    return true;
  }
  if (payload.offset !== inputData) {
    return false;
  }
  if (inputLength !== null && payload.source === 'header' && inputLength !== payload.length) {
    return false;
  }
  evidence.push(`it passes input_data at ${hexadecimal(inputData)}, the payload's offset`);
  if (inputLength !== null) {
    evidence.push(`and input_len ${hexadecimal(inputLength)}`);
  }
  return true;
}
