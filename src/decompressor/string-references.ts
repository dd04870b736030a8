// Which strings a stub's code names, and in which order it comes to them: what is printed first is not what lies first.

import type { KernelImage } from '../image/kernel-image.ts';
import { straightRuns } from '../x86/control-flow.ts';
import type { Instruction } from '../x86/instruction.ts';
import type { StubLayout } from './stub.ts';
import { stubStringOffsets } from './stub-text.ts';

const CALL = 0xe8;
const LEA = 0x8d;

/**
 * The GOT's offset where `instruction` completes its computation: `call thunk; add $imm, %reg` or `call 1f; 1: pop %reg;
 * add $imm, %reg`; null elsewhere.
 *
 * @param history - the instructions before, the last first
 */
export function gotAfter(
  code: Uint8Array,
  instruction: Instruction,
  history: readonly Instruction[],
): number | null {
  const { opcode, mod, reg, rm, immediate } = instruction;
  const [last, secondLast] = history;
  const register = opcode === 0x05 ? 0 : opcode === 0x81 && mod === 3 && reg === 0 ? rm : -1;
  if (register < 0 || last === undefined) {
    return null;
  }
  if (last.opcode === CALL) {
    // The thunk: mov (%esp), %reg; ret.
    const thunk = last.next + last.immediate;
    const isThunk = code[thunk] === 0x8b && code[thunk + 2] === 0x24 && code[thunk + 3] === 0xc3;
    return isThunk ? last.next + immediate : null;
  }
  const pops = last.opcode === 0x58 + register && secondLast?.opcode === CALL && secondLast.immediate === 0;
  return pops ? last.offset + immediate : null;
}

/** An instruction and the place in the stub whose address it takes; null where it takes none. */
export interface Reference {
  readonly instruction: Instruction;
  readonly target: number | null;
}

/** The instructions of a function that direct branches lead to, in the order of `straightRuns`, with what they name. */
export function* functionReferences(code: Uint8Array, start: number, bits: 32 | 64): Generator<Reference> {
  // Displacements in position-independent 32-bit code count from the GOT, found by a call and an addition.
  let got = 0;
  for (const run of straightRuns(code, start, bits)) {
    let history: readonly Instruction[] = [];
    for (const instruction of run) {
      if (bits === 32) got = gotAfter(code, instruction, history) ?? got;
      const base = bits === 64 ? instruction.next : got;
      const named = instruction.opcode === LEA && (bits === 32 || instruction.direct);
      yield { instruction, target: named ? instruction.displacement + base : null };
      history = [instruction, ...history.slice(0, 1)];
    }
  }
}

/** Functions looked through; a stub has a few dozen. */
const MOST_FUNCTIONS = 200;

/**
 * Which of `targets` the code comes to first, functions that it calls included, in the order of its instructions.
 *
 * @param start - of the function to begin with
 * @returns null where it comes to none
 */
export function firstReached(
  code: Uint8Array,
  start: number,
  bits: 32 | 64,
  targets: ReadonlySet<number>,
): number | null {
  const seen = new Set<number>();
  const visit = (offset: number): number | null => {
    if (seen.has(offset) || seen.size >= MOST_FUNCTIONS || offset < 0 || offset >= code.length) return null;
    seen.add(offset);
    const references = [...functionReferences(code, offset, bits)];
    for (const { instruction, target } of references.sort(
      (a, b) => a.instruction.offset - b.instruction.offset,
    )) {
      if (target !== null && targets.has(target)) return target;
      if (instruction.opcode !== CALL) continue;
      const found = visit(instruction.next + instruction.immediate);
      if (found !== null) return found;
    }
    return null;
  };
  return visit(start);
}

/** Whether extract_kernel comes to the string `first` before it comes to `second`; false where it comes to neither. */
export function reachesBefore(image: KernelImage, stub: StubLayout, first: string, second: string): boolean {
  const wanted = new Set(stubStringOffsets(image, first));
  const targets = new Set([...wanted, ...stubStringOffsets(image, second)]);
  if (wanted.size === 0) return false;
  const reached = firstReached(image.protectedModeCode, stub.extractKernel, stub.bits, targets);
  return reached !== null && wanted.has(reached);
}
