// The 32-bit stub that copies itself before it decompresses (2.6.20 on): it finds itself by call and pop, and passes on the stack.

import type { KernelImage } from '../image/kernel-image.ts';
import type { Instruction } from '../x86/instruction.ts';
import type { ExtractKernelAbi, StubDetails } from './stub.ts';
import {
  agreesWithPayload,
  CALL,
  callTarget,
  clearedRange,
  copyTarget,
  findTail,
  fixedDistance,
  hasBackwardCopy,
  hexadecimal,
  isLea,
  LEA,
  movedImmediate,
  RAX,
  RBP,
  RSI,
  RSP,
  readUint32,
  subtractedEnd,
} from './stub-walk.ts';

const PUSH_IMMEDIATE = 0x68;

/**
 * A 32-bit stub learns its address by `call 1f; 1: pop %reg` and adjusts it by an immediate, to its own start or (5.9 on) to the
 * GOT; displacements are relative to that point. Returns its offset from the start of the code.
 */
function displacementBase(instructions: readonly Instruction[]): number | null {
  for (let index = 0; index + 2 < instructions.length; index++) {
    const call = instructions[index]!;
    const pop = instructions[index + 1]!;
    const adjust = instructions[index + 2]!;
    if (call.opcode !== CALL || call.immediate !== 0 || pop.opcode < 0x58 || pop.opcode > 0x5f) {
      continue;
    }
    const arithmetic =
      ((adjust.opcode === 0x81 || adjust.opcode === 0x83) &&
        adjust.mod === 3 &&
        adjust.rm === pop.opcodeRegister) ||
      ((adjust.opcode === 0x2d || adjust.opcode === 0x05) && pop.opcodeRegister === RAX);
    if (!arithmetic) {
      continue;
    }
    const subtracts = adjust.opcode === 0x2d || (adjust.opcode !== 0x05 && adjust.reg === 5);
    const adds = adjust.opcode === 0x05 || (adjust.opcode !== 0x2d && adjust.reg === 0);
    if (subtracts || adds) {
      return pop.offset + (subtracts ? -adjust.immediate : adjust.immediate);
    }
  }
  return null;
}

export function findCopyingStub32(image: KernelImage, startup32: readonly Instruction[]): StubDetails | null {
  const code = image.protectedModeCode;
  const EBX = 3;
  const base = displacementBase(startup32);
  if (base === null || !hasBackwardCopy(startup32)) {
    return null;
  }
  const relocated = copyTarget(startup32, base);
  const tail = relocated === null ? null : findTail(code, relocated, 32);
  if (relocated === null || tail === null) {
    return null;
  }
  const before = tail.instructions.slice(0, tail.callIndex);
  // The arguments: pushes and what prepares them, back to the first instruction of another kind.
  const pushes: Instruction[] = [];
  let inputData: number | null = null;
  let heap: number | null = null;
  let inputLength: number | null = null;
  for (let index = before.length - 1; index >= 0; index--) {
    const instruction = before[index]!;
    if (isPush(instruction)) {
      pushes.push(instruction);
      const argument = pushes.length;
      const value = before[index - 1];
      if (argument === 2 || argument === 3) {
        const pointer =
          value !== undefined &&
          instruction.opcode >= 0x50 &&
          instruction.opcode <= 0x57 &&
          isLea(value, instruction.opcodeRegister, EBX)
            ? value.displacement + base
            : null;
        if (argument === 2) {
          heap = pointer;
        } else {
          inputData = pointer;
        }
      }
      if (argument === 4) {
        inputLength = pushedNumber(code, base, instruction, value);
      }
    } else if (!isArgumentPreparation(instruction)) {
      break;
    }
  }
  const evidence = [
    `startup_32 finds its address by call and pop, displacements count from ${hexadecimal(base)}`,
    `the copy goes on at ${hexadecimal(relocated)}`,
  ];
  const rmode = pushes[0];
  if (rmode === undefined || rmode.opcode !== 0x50 + RSI) {
    return null;
  }
  let abi: ExtractKernelAbi;
  if (pushes.length >= 5 && pushes.length <= 7 && inputData !== null) {
    abi = 'stack-rmode-heap-input';
    if (!agreesWithPayload(image, inputData, inputLength, evidence)) {
      return null;
    }
  } else if (pushes.length === 2 && pushes[1]!.opcode === 0x50 + RBP) {
    abi = 'stack-rmode-output';
    inputData = null;
    heap = null;
    evidence.push('the last call before the jump gets boot_params and the output on the stack');
  } else {
    return null;
  }
  evidence.push(
    `${pushes.length} arguments are pushed, then call and jmp *%${tail.exitRegister.replace('r', 'e')}`,
  );

  const pointer = (instruction: Instruction, register: number): number | null =>
    isLea(instruction, register, EBX) ? instruction.displacement + base : null;
  const end = subtractedEnd(startup32);
  const extract = startup32.map((instruction) => fixedDistance(instruction)).find((value) => value !== null);
  return {
    layout: {
      bits: 32,
      abi,
      startup64: null,
      relocated,
      call: tail.call.offset,
      extractKernel: callTarget(tail.call),
      returnSite: tail.call.next,
      exitJump: tail.exit.offset,
      exitRegister: tail.exitRegister,
      evidence,
    },
    linkBase: 0,
    displacementBase: base,
    argumentCount: pushes.length,
    inputData,
    inputLength,
    bss: clearedRange(before, pointer),
    heap,
    stackEnd:
      startup32.map((instruction) => pointer(instruction, RSP)).findLast((value) => value !== null) ??
      before.map((instruction) => pointer(instruction, RSP)).find((value) => value !== null) ??
      null,
    pageTable: null,
    handlesPageFaults: false,
    end: end === null ? null : end + base,
    extractOffset: extract ?? null,
    loadPhysicalAddress:
      startup32
        .map((instruction) => movedImmediate(instruction, EBX) ?? movedImmediate(instruction, RBP))
        .find((value) => value !== null) ?? null,
  };
}

/** What a push passes that is an immediate or (through a register or not) a variable of the stub; null for anything else. */
function pushedNumber(
  code: Uint8Array,
  base: number,
  push: Instruction,
  before: Instruction | undefined,
): number | null {
  const EBX = 3;
  if (push.opcode === PUSH_IMMEDIATE) {
    return push.immediate >>> 0;
  }
  if (push.opcode === 0xff && push.rm === EBX && push.mod === 2) {
    return readUint32(code, push.displacement + base);
  }
  const loaded =
    push.opcode < 0x58 &&
    before?.opcode === 0x8b &&
    before.reg === push.opcodeRegister &&
    before.rm === EBX &&
    before.mod === 2;
  return loaded ? readUint32(code, before.displacement + base) : null;
}

function isPush(instruction: Instruction): boolean {
  return (
    (instruction.opcode >= 0x50 && instruction.opcode <= 0x57) ||
    instruction.opcode === PUSH_IMMEDIATE ||
    instruction.opcode === 0x6a ||
    (instruction.opcode === 0xff && instruction.reg === 6)
  );
}

/** LEA, MOV or SUB into a register other than the stack pointer. */
function isArgumentPreparation(instruction: Instruction): boolean {
  const { opcode, mod, reg, rm } = instruction;
  return (
    ((opcode === LEA || opcode === 0x8b || opcode === 0x2b) && reg !== RSP) ||
    ((opcode === 0x89 || opcode === 0x29) && mod === 3 && rm !== RSP) ||
    (opcode === 0x81 && mod === 3 && reg === 5 && rm !== RSP) ||
    opcode === 0x2d ||
    (opcode >= 0xb8 && opcode <= 0xbf && opcode !== 0xb8 + RSP)
  );
}
