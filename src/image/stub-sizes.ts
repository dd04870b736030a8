// Where a boot stub's own code has the sizes of its payload: the words that mkpiggy writes (input_len, output_len) and the
// instructions that load z_input_len and z_output_len.

import { indexOfBytes } from '../host/host.ts';
import { ByteView } from './byte-view.ts';

/** Offsets in the protected-mode code of 32-bit words; empty where the stub shows none. */
export interface StubSizes {
  readonly inputLength: readonly number[];
  readonly outputLength: readonly number[];
}

/** How far apart two instructions are that load the arguments of one call, in bytes. */
const SAME_CALL = 48;

/**
 * @param payload - where the payload lies in `code`; it is not searched
 * @param outputLength - decompressed bytes
 * @returns null where a length occurs in a way that is not understood, so that nothing may be changed
 */
export function findStubSizes(
  code: Uint8Array,
  payload: { readonly offset: number; readonly length: number },
  outputLength: number,
): StubSizes | null {
  const inputs = findWord(code, payload, payload.length);
  const outputs = findWord(code, payload, outputLength);
  // A pair of words in read-only data: input_len and output_len of piggy.S.
  const pairs = inputs.filter((at) => outputs.includes(at + 4));
  const loads = inputs.filter(
    (at) =>
      !pairs.includes(at) &&
      isImmediate(code, at) &&
      (outputs.length === 0 ||
        outputs.some((other) => Math.abs(other - at) <= SAME_CALL && isImmediate(code, other))),
  );
  const known = [...pairs, ...loads];
  const knownOutputs = outputs.filter(
    (at) =>
      pairs.includes(at - 4) ||
      (isImmediate(code, at) && loads.some((other) => Math.abs(other - at) <= SAME_CALL)),
  );
  // Other words with the value of the length: constant copies of it, or chance. Either way the stub is not understood.
  if (known.length > 0 && inputs.length > known.length && !isAlone(code, inputs, known)) return null;
  return { inputLength: known, outputLength: knownOutputs };
}

/** Whether the words beside the known ones stand alone in data, as mkpiggy's z_input_len does in kernels before 5.x. */
function isAlone(code: Uint8Array, all: readonly number[], known: readonly number[]): boolean {
  const view = new ByteView(code, 'boot stub');
  return all.filter((at) => !known.includes(at)).every((at) => view.has(at + 4, 4) && view.u32(at + 4) === 0);
}

function findWord(
  code: Uint8Array,
  payload: { readonly offset: number; readonly length: number },
  value: number,
): number[] {
  const word = new Uint8Array(4);
  new DataView(word.buffer).setUint32(0, value, true);
  const found: number[] = [];
  const end = payload.offset + payload.length;
  for (let at = indexOfBytes(code, word); at >= 0; at = indexOfBytes(code, word, at + 1)) {
    if (at + 4 <= payload.offset || at >= end) found.push(at);
    else if (at < end - 4) at = Math.max(at, end - 8);
  }
  return found;
}

/** Whether the word is the operand of an instruction that loads a constant: MOV to a register, PUSH. */
function isImmediate(code: Uint8Array, at: number): boolean {
  const before = code[at - 1] ?? 0;
  // B8+r: MOV r32, imm32; 68: PUSH imm32.
  if ((before & 0xf8) === 0xb8 || before === 0x68) return true;
  // C7 /0 with a register: MOV r64, imm32 sign extended.
  return code[at - 2] === 0xc7 && (before & 0xf8) === 0xc0;
}
