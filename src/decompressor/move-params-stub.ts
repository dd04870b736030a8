// The stub up to 2.6.21, which stays where it was loaded and hands over a struct moveparams.

import type { KernelImage } from '../image/kernel-image.ts';
import type { Instruction } from '../x86/instruction.ts';
import type { StubDetails } from './stub.ts';
import {
  CALL,
  callTarget,
  clearedRange,
  hexadecimal,
  isMove,
  movedImmediate,
  RAX,
  RSI,
  RSP,
} from './stub-walk.ts';

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

export function findMoveParamsStub(
  image: KernelImage,
  startup32: readonly Instruction[],
): StubDetails | null {
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
