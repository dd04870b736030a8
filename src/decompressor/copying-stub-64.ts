// The 64-bit stub that copies itself before it decompresses (2.6.22 on): startup_32, startup_64, the copy, its tail.

import type { KernelImage } from '../image/kernel-image.ts';
import { isLidt } from '../x86/control-flow.ts';
import { decodeInstruction, type Instruction } from '../x86/instruction.ts';
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
  isMove,
  LEA,
  movedImmediate,
  R8,
  R9,
  RAX,
  RBP,
  RCX,
  RDX,
  RSI,
  RSP,
  readUint32,
  subtractedEnd,
  type Tail,
  walk,
} from './stub-walk.ts';

/** Offset of the 64-bit entry (boot.rst, "64-bit Boot Protocol"); older stubs name theirs in the code. */
const STARTUP_64_OFFSET = 0x200;

/** `lea disp(%rip), %register`. */
function isRipLea(instruction: Instruction, register: number): boolean {
  return instruction.opcode === LEA && instruction.direct && instruction.reg === register;
}

/** Whether the instruction writes `register` from memory at a RIP-relative address. */
function isRipLoad(instruction: Instruction, register: number): boolean {
  return instruction.opcode === 0x8b && instruction.direct && instruction.reg === register;
}

export function findCopyingStub64(image: KernelImage, startup32: readonly Instruction[]): StubDetails | null {
  const code = image.protectedModeCode;
  const RBX = 3;
  // startup_32 names startup_64 when it pushes the target of its far return.
  const named = startup32
    .filter((instruction) => isLea(instruction, RAX, RBP) || isLea(instruction, RAX, RBX))
    .map((instruction) => instruction.displacement);
  const candidates = new Set(
    named.includes(STARTUP_64_OFFSET) ? [STARTUP_64_OFFSET] : [STARTUP_64_OFFSET, ...named],
  );
  const found: StubDetails[] = [];
  for (const startup64 of candidates) {
    if (startup64 <= 0 || startup64 >= code.length) {
      continue;
    }
    const head = walk(code, startup64, 64);
    const relocated = copyTarget(head, 0);
    const tail = relocated !== null && hasBackwardCopy(head) ? findTail(code, relocated, 64) : null;
    const details =
      relocated === null || tail === null
        ? null
        : describeTail64(image, startup32, startup64, head, relocated, tail, named.includes(startup64));
    if (details !== null) {
      found.push(details);
    }
  }
  return found.length === 1 ? found[0]! : null;
}

function describeTail64(
  image: KernelImage,
  startup32: readonly Instruction[],
  startup64: number,
  head: readonly Instruction[],
  relocated: number,
  tail: Tail,
  named: boolean,
): StubDetails | null {
  const code = image.protectedModeCode;
  const RBX = 3;
  const evidence = [
    named
      ? `startup_32 returns far to startup_64 at ${hexadecimal(startup64)}`
      : `startup_64 is at ${hexadecimal(startup64)} by the boot protocol`,
    `the copy goes on at ${hexadecimal(relocated)}`,
  ];
  const before = tail.instructions.slice(0, tail.callIndex);
  const previousCall = before.findLastIndex((instruction) => instruction.opcode === CALL);
  const argumentsCode = before.slice(previousCall + 1);
  const ripTarget = (register: number): number | null => {
    const lea = argumentsCode.findLast((instruction) => isRipLea(instruction, register));
    return lea === undefined ? null : lea.next + lea.displacement;
  };
  const inputData = ripTarget(RDX);
  const heap = ripTarget(RSI);
  // `mov $z_input_len, %ecx`, or a load of input_len, to ECX at once or through EAX.
  const inputLength =
    argumentsCode
      .map((instruction) =>
        isRipLoad(instruction, RCX) || isRipLoad(instruction, RAX)
          ? readUint32(code, instruction.next + instruction.displacement)
          : movedImmediate(instruction, RCX),
      )
      .findLast((value) => value !== null) ?? null;

  let abi: ExtractKernelAbi;
  let argumentCount: number;
  if (inputData !== null && heap !== null) {
    // The last generations of this call pass more and more; five arguments are in all of them.
    if (!argumentsCode.some((instruction) => isMove(instruction, R8, RBP))) {
      return null;
    }
    abi = 'rmode-heap-input';
    const passesOutputLength = argumentsCode.some(
      (instruction) => movedImmediate(instruction, R9) !== null || isRipLoad(instruction, R9),
    );
    const pushesRunSize = argumentsCode.some(
      (instruction) => instruction.opcode === 0x51 && instruction.opcodeRegister === R9,
    );
    argumentCount = pushesRunSize ? 7 : passesOutputLength ? 6 : 5;
    if (!agreesWithPayload(image, inputData, inputLength, evidence)) {
      return null;
    }
  } else if (
    inputData === null &&
    heap === null &&
    argumentsCode.some((instruction) => isMove(instruction, RSI, RBP))
  ) {
    abi = 'rmode-output';
    argumentCount = 2;
    evidence.push('the last call before the jump gets boot_params in RDI and the output in RSI');
  } else {
    return null;
  }
  if (tail.instructions.length - 1 - tail.callIndex > 8) {
    return null;
  }
  evidence.push(
    `${tail.instructions.length - 2 - tail.callIndex} instructions lie between call and jmp *%${tail.exitRegister}`,
  );

  const ripLea = (instruction: Instruction, register: number): number | null =>
    isRipLea(instruction, register)
      ? instruction.next + instruction.displacement
      : isLea(instruction, register, RBX)
        ? instruction.displacement
        : null;
  const stack =
    head.findLast((instruction) => isLea(instruction, RSP, RBX))?.displacement ??
    before.map((instruction) => ripLea(instruction, RSP)).find((value) => value !== null) ??
    null;
  const cr3 = startup32.findIndex(
    (instruction) => instruction.opcode === 0x0f22 && instruction.reg === 3 && instruction.rm === RAX,
  );
  const extract = head.map((instruction) => fixedDistance(instruction)).find((value) => value !== null);
  return {
    layout: {
      bits: 64,
      abi,
      startup64,
      relocated,
      call: tail.call.offset,
      extractKernel: callTarget(tail.call),
      returnSite: tail.call.next,
      exitJump: tail.exit.offset,
      exitRegister: tail.exitRegister,
      evidence,
    },
    linkBase: 0,
    displacementBase: 0,
    argumentCount,
    inputData,
    inputLength,
    bss: clearedRange(before, ripLea),
    heap,
    stackEnd: stack,
    pageTable:
      startup32
        .slice(0, Math.max(cr3, 0))
        .findLast((instruction) => isLea(instruction, RAX, RBX) || isLea(instruction, RAX, RBP))
        ?.displacement ?? null,
    end: subtractedEnd(head),
    extractOffset: extract ?? null,
    handlesPageFaults: before.some(
      (instruction) => instruction.opcode === CALL && loadsIdt(code, callTarget(instruction), 1),
    ),
    loadPhysicalAddress:
      head.map((instruction) => movedImmediate(instruction, RBP)).find((value) => value !== null) ?? null,
  };
}

/** Whether the function at `offset` executes LIDT before it returns, itself or in a function it calls. */
function loadsIdt(code: Uint8Array, offset: number, depth: number): boolean {
  for (let at = offset, count = 0; count < 100; count++) {
    const instruction = decodeInstruction(code, at, 64);
    if (instruction === null || instruction.opcode === 0xc3) {
      return false;
    }
    if (isLidt(instruction)) {
      return true;
    }
    if (instruction.opcode === CALL && depth > 0 && loadsIdt(code, callTarget(instruction), depth - 1)) {
      return true;
    }
    at =
      instruction.opcode === 0xeb || instruction.opcode === 0xe9 ? callTarget(instruction) : instruction.next;
  }
  return false;
}
