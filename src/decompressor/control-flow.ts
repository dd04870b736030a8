// Which instructions of a function can be executed: compilers lay jump tables and padding between its blocks.

import { decodeInstruction, type Instruction } from './instruction.ts';

/** Jcc, LOOPcc and JCXZ. */
export function isConditionalBranch({ opcode }: Instruction): boolean {
  return (
    (opcode >= 0x70 && opcode <= 0x7f) ||
    (opcode >= 0x0f80 && opcode <= 0x0f8f) ||
    (opcode >= 0xe0 && opcode <= 0xe3)
  );
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
