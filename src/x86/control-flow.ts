// Which instructions of a function can be executed, and which functions it calls: compilers lay jump tables and padding
// between its blocks.

import { decodeInstruction, type Instruction } from './instruction.ts';

/** Jcc, LOOPcc and JCXZ. */
export function isConditionalBranch({ opcode }: Instruction): boolean {
  return (
    (opcode >= 0x70 && opcode <= 0x7f) ||
    (opcode >= 0x0f80 && opcode <= 0x0f8f) ||
    (opcode >= 0xe0 && opcode <= 0xe3)
  );
}

/** LIDT: 0f 01 /3 with a memory operand. */
export function isLidt({ opcode, mod, reg }: Instruction): boolean {
  return opcode === 0x0f01 && mod !== 3 && reg % 8 === 3;
}

function endsRun({ opcode, reg }: Instruction): boolean {
  const isReturn = opcode === 0xc3 || opcode === 0xc2;
  const isJump = opcode === 0xeb || opcode === 0xe9 || (opcode === 0xff && (reg % 8 === 4 || reg % 8 === 5));
  return isReturn || isJump || opcode === 0xf4;
}

/**
 * The straight runs of a function's code: from its start or the target of a direct branch to the next jump, return or HLT, or
 * to code that an earlier run holds. Calls are not followed. The first run begins at `start`.
 *
 * @param limit - instructions in all runs together
 */
export function* straightRuns(
  code: Uint8Array,
  start: number,
  bits: 32 | 64,
  limit = 5000,
): Generator<readonly Instruction[]> {
  const seen = new Set<number>();
  const targets = [start];
  for (let at = targets.shift(); at !== undefined && seen.size < limit; at = targets.shift()) {
    const run: Instruction[] = [];
    while (!seen.has(at) && seen.size < limit) {
      const instruction = decodeInstruction(code, at, bits);
      if (instruction === null) break;
      seen.add(at);
      run.push(instruction);
      const { opcode, next, immediate } = instruction;
      if (isConditionalBranch(instruction) || opcode === 0xeb || opcode === 0xe9) {
        targets.push(next + immediate);
      }
      if (endsRun(instruction)) break;
      at = next;
    }
    if (run.length > 0) yield run;
  }
}

/** A function's instructions that direct branches lead to, and the offsets of the functions that it calls directly. */
export interface FoundFunction {
  readonly offset: number;
  readonly instructions: readonly Instruction[];
  readonly calls: readonly number[];
}

/**
 * The function at `start`, those that it calls, those that they call and so on, the nearest first.
 *
 * @param limit - functions at most
 */
export function* calledFunctions(
  code: Uint8Array,
  start: number,
  bits: 32 | 64,
  limit = 100,
): Generator<FoundFunction> {
  const seen = new Set<number>();
  const open = [start];
  for (let offset = open.shift(); offset !== undefined && seen.size < limit; offset = open.shift()) {
    if (seen.has(offset) || offset < 0 || offset >= code.length) continue;
    seen.add(offset);
    const instructions = [...straightRuns(code, offset, bits)].flat();
    const calls = instructions
      .filter(({ opcode }) => opcode === 0xe8)
      .map(({ next, immediate }) => next + immediate);
    open.push(...calls);
    yield { offset, instructions, calls };
  }
}

const CALL = 0xe8;

/**
 * Offsets that the bytes of direct calls lead to, whether branches lead to the call or not: behind a jump table none that can be
 * followed does. Bytes that only look like a call lead anywhere.
 */
export function callTargets(code: Uint8Array, from: number, to: number): readonly number[] {
  const view = new DataView(code.buffer, code.byteOffset, code.byteLength);
  const targets: number[] = [];
  for (let offset = from; offset < Math.min(to, code.length - 4); offset++) {
    if (code[offset] !== CALL) continue;
    const target = offset + 5 + view.getInt32(offset + 1, true);
    if (target >= 0 && target < code.length) targets.push(target);
  }
  return targets;
}
