// Finds the call of extract_kernel (decompress_kernel before 4.6) in a boot stub without symbols, by the shape of its code.
// Three shapes exist: the 64-bit and the 32-bit stub that copy themselves before decompressing, and the older one that hands
// over a struct moveparams. An image is recognised when exactly one of them fits and its arguments agree with the payload.

import type { KernelImage } from '../image/kernel-image.ts';
import { bootParamsOffset } from '../protocol/boot-params.ts';
import { isConditionalBranch, isLidt } from '../x86/control-flow.ts';
import { decodeInstruction, type Instruction } from '../x86/instruction.ts';
import type { ExtractKernelAbi, StubLayout } from './stub.ts';

const RAX = 0;
const RCX = 1;
const RDX = 2;
const RSP = 4;
const RBP = 5;
const RSI = 6;
const RDI = 7;
const R8 = 8;
const R9 = 9;

const CALL = 0xe8;
const LEA = 0x8d;
const PUSH_IMMEDIATE = 0x68;

/** Offset of the 64-bit entry (boot.rst, "64-bit Boot Protocol"); older stubs name theirs in the code. */
const STARTUP_64_OFFSET = 0x200;

/** What else a stub's code tells: all offsets in bytes from the start of the protected-mode code, as in `StubLayout`. */
export interface StubDetails {
  readonly layout: StubLayout;
  /** Address the code is linked to run at; 0 for the stubs that find out where they are. */
  readonly linkBase: number;
  /** What the displacements in a 32-bit stub count from, in bytes from its start: 0, or where its GOT lies (5.9 on). */
  readonly displacementBase: number;
  /** Arguments the call passes. */
  readonly argumentCount: number;
  /** input_data and input_len as the code passes them; null where it passes none or only a variable. */
  readonly inputData: number | null;
  readonly inputLength: number | null;
  /** Cleared with `rep stos` before the call: [start, end); null where the code does not show it. */
  readonly bss: { readonly start: number; readonly end: number } | null;
  /** The heap that is passed on; null for the stubs that choose it in C. */
  readonly heap: number | null;
  /** Initial stack pointer of the copied stub. */
  readonly stackEnd: number | null;
  /** Page tables built by startup_32 of a 64-bit stub. */
  readonly pageTable: number | null;
  /** End of the stub with bss and page tables (`_end`), where the code subtracts it from init_size. */
  readonly end: number | null;
  /** Distance from the output to the stub's copy, where it is fixed by the build (z_extract_offset). */
  readonly extractOffset: number | null;
  /** Lowest address the code lets the kernel be decompressed to (LOAD_PHYSICAL_ADDR); null where it names none. */
  readonly loadPhysicalAddress: number | null;
  /** Whether the copied stub loads an IDT of its own before the call, to map pages when they are touched (64-bit, 5.10 on). */
  readonly handlesPageFaults: boolean;
}

/**
 * Finds where the stub calls extract_kernel and how it passes arguments.
 *
 * @returns null when the stub has none of the known shapes, or more than one, or when what it passes does not agree with the
 *   image's payload
 */
export function findStub(image: KernelImage): StubLayout | null {
  return findStubDetails(image)?.layout ?? null;
}

/** Several steps of a boot ask for the same image, and walking the code takes milliseconds. */
const known = new WeakMap<KernelImage, StubDetails | null>();

/** `findStub` with what else the stub's code tells. An image is walked once; its bytes must not change afterwards. */
export function findStubDetails(image: KernelImage): StubDetails | null {
  let details = known.get(image);
  if (details === undefined) {
    details = walkStub(image);
    known.set(image, details);
  }
  return details;
}

function walkStub(image: KernelImage): StubDetails | null {
  const code = image.protectedModeCode;
  const startup32 = walk(code, 0, 32);
  const found = [
    findCopyingStub64(image, startup32),
    findCopyingStub32(image, startup32),
    findMoveParamsStub(image, startup32),
  ].filter((details) => details !== null);
  return found.length === 1 ? found[0]! : null;
}

/**
 * Instructions from `start` on in the order of the bytes; a forward JMP is followed, as code that it skips may be data or
 * another entry. Ends at an indirect jump, at a JMP backwards that no earlier branch leads past, or at bytes that are no code.
 */
function walk(code: Uint8Array, start: number, bits: 32 | 64, limit = 400): Instruction[] {
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

function isIndirectJump(instruction: Instruction): boolean {
  return instruction.opcode === 0xff && instruction.reg % 8 === 4 && instruction.mod === 3;
}

function isLea(instruction: Instruction, register: number, base: number): boolean {
  return (
    instruction.opcode === LEA &&
    instruction.reg === register &&
    instruction.mod !== 0 &&
    instruction.mod !== 3 &&
    !instruction.sib &&
    instruction.rm === base
  );
}

/** `lea disp(%rip), %register`. */
function isRipLea(instruction: Instruction, register: number): boolean {
  return instruction.opcode === LEA && instruction.direct && instruction.reg === register;
}

/** `mov %source, %register`, either encoding. */
function isMove(instruction: Instruction, register: number, source: number): boolean {
  return (
    instruction.mod === 3 &&
    ((instruction.opcode === 0x89 && instruction.rm === register && instruction.reg === source) ||
      (instruction.opcode === 0x8b && instruction.reg === register && instruction.rm === source))
  );
}

/** The value of `mov $imm, %register`; null for any other instruction. */
function movedImmediate(instruction: Instruction, register: number): number | null {
  if (instruction.opcode >= 0xb8 && instruction.opcode <= 0xbf && instruction.opcodeRegister === register) {
    return instruction.immediate >>> 0;
  }
  if (instruction.opcode === 0xc7 && instruction.mod === 3 && instruction.rm === register) {
    return instruction.immediate >>> 0;
  }
  return null;
}

/** Whether the instruction writes `register` from memory at a RIP-relative address. */
function isRipLoad(instruction: Instruction, register: number): boolean {
  return instruction.opcode === 0x8b && instruction.direct && instruction.reg === register;
}

function callTarget(instruction: Instruction): number {
  return instruction.next + instruction.immediate;
}

function readUint32(code: Uint8Array, offset: number): number | null {
  return offset < 0 || offset + 4 > code.length
    ? null
    : (code[offset]! | (code[offset + 1]! << 8) | (code[offset + 2]! << 16) | (code[offset + 3]! << 24)) >>>
        0;
}

function hexadecimal(value: number): string {
  return `0x${value.toString(16)}`;
}

/** `lea disp(%rbx), %rax; jmp *%rax` at the end of a walk: where the stub goes on in its copy. */
function copyTarget(instructions: readonly Instruction[], base: number): number | null {
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
function hasBackwardCopy(instructions: readonly Instruction[]): boolean {
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
interface Tail {
  readonly instructions: readonly Instruction[];
  readonly callIndex: number;
  readonly call: Instruction;
  readonly exit: Instruction;
  readonly exitRegister: 'rax' | 'rbp' | 'rdi';
}

function findTail(code: Uint8Array, relocated: number, bits: 32 | 64): Tail | null {
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
function clearedRange(
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
function subtractedEnd(instructions: readonly Instruction[]): number | null {
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
function fixedDistance(instruction: Instruction): number | null {
  const RBX = 3;
  const adds =
    instruction.opcode === 0x81 && instruction.mod === 3 && instruction.rm === RBX && instruction.reg === 0;
  const distance = isLea(instruction, RBX, RBP) ? instruction.displacement : adds ? instruction.immediate : 0;
  return distance !== 0 && distance % 4096 === 0 ? distance : null;
}

function findCopyingStub64(image: KernelImage, startup32: readonly Instruction[]): StubDetails | null {
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

/** Whether what a call passes as input_data and input_len is the image's payload. */
function agreesWithPayload(
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

function findCopyingStub32(image: KernelImage, startup32: readonly Instruction[]): StubDetails | null {
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

/**
 * What the four instructions before a call pass, if they make room for a struct moveparams: its address and boot_params (2), or
 * the address alone (1, to 2.2); 0 for anything else.
 */
function moveParamsArguments(before: readonly Instruction[]): number {
  const [first, second, third, fourth] = before as [Instruction, Instruction, Instruction, Instruction];
  const makesRoom = ({ opcode, mod, reg, rm, immediate }: Instruction): boolean =>
    opcode === 0x83 && mod === 3 && reg === 5 && rm === RSP && immediate === 16;
  if (
    makesRoom(first) &&
    isMove(second, RAX, RSP) &&
    third.opcode === 0x50 + RSI &&
    fourth.opcode === 0x50 + RAX
  ) {
    return 2;
  }
  return makesRoom(third) && fourth.opcode === 0x50 + RSP ? 1 : 0;
}

function findMoveParamsStub(image: KernelImage, startup32: readonly Instruction[]): StubDetails | null {
  const code = image.protectedModeCode;
  const found: StubDetails[] = [];
  for (let index = 4; index + 3 < startup32.length; index++) {
    const call = startup32[index]!;
    const test = startup32[index + 1]!;
    const branch = startup32[index + 2]!;
    const argumentCount = moveParamsArguments(startup32.slice(index - 4, index));
    const fits =
      call.opcode === CALL &&
      argumentCount > 0 &&
      (test.opcode === 0x09 || test.opcode === 0x85) &&
      test.mod === 3 &&
      test.reg === RAX &&
      test.rm === RAX &&
      (branch.opcode === 0x75 || branch.opcode === 0x0f85);
    const target = callTarget(call);
    if (!fits || target <= 0 || target >= code.length) {
      continue;
    }
    const exit = startup32
      .slice(index + 3)
      .find(
        (instruction) => instruction.opcode === 0xea && instruction.offset < branch.next + branch.immediate,
      );
    const linkBase = image.kind === 'bzImage' ? 0x100000 : 0x1000;
    const before = startup32.slice(0, index);
    const bss = clearedRange(before, (instruction, register) => {
      const value = movedImmediate(instruction, register);
      return value === null ? null : value - linkBase;
    });
    if (exit === undefined) {
      continue;
    }
    found.push({
      layout: {
        bits: 32,
        abi: 'moveparams',
        startup64: null,
        relocated: null,
        call: call.offset,
        extractKernel: target,
        returnSite: call.next,
        exitJump: exit.offset,
        exitRegister: null,
        evidence: [
          'a struct moveparams of 16 bytes is made on the stack and passed',
          `the result decides between ljmp to ${hexadecimal(exit.immediate)} and a move routine`,
        ],
      },
      linkBase,
      displacementBase: 0,
      argumentCount,
      inputData: null,
      inputLength: null,
      bss,
      heap: null,
      stackEnd: null,
      pageTable: null,
      handlesPageFaults: false,
      end: bss?.end ?? null,
      extractOffset: null,
      loadPhysicalAddress: exit.immediate >>> 0,
    });
  }
  return found.length === 1 ? found[0]! : null;
}
