// Where the instructions of a translated block begin, for counting them.

import type { BlockDecoder } from '../cpu/cpu.ts';
import { instructionLength, opcodeOffset } from '../x86/instruction.ts';

/** By their first byte behind prefixes: INS and OUTS, MOVS and CMPS, STOS, LODS and SCAS. */
function isStringInstruction(opcode: number): boolean {
  return (
    (opcode >= 0x6c && opcode <= 0x6f) ||
    (opcode >= 0xa4 && opcode <= 0xa7) ||
    (opcode >= 0xaa && opcode <= 0xaf)
  );
}

/** IN and OUT with their string forms. */
function accessesPort(opcode: number): boolean {
  return (
    (opcode >= 0x6c && opcode <= 0x6f) ||
    (opcode >= 0xe4 && opcode <= 0xe7) ||
    (opcode >= 0xec && opcode <= 0xef)
  );
}

/**
 * @param ram - physical memory from address 0, taken anew each time; the code is mapped to itself
 * @param readBits - width of the code that runs now
 */
export function blockDecoder(ram: () => Uint8Array, readBits: () => 16 | 32 | 64): BlockDecoder {
  return (address, size) => {
    const code = ram();
    const bits = readBits();
    const starts: number[] = [];
    const ports: number[] = [];
    let last = address;
    for (let at = address; at < address + size; at += instructionLength(code, at, bits)) {
      last = at;
      starts.push(at - address);
      if (accessesPort(code[opcodeOffset(code, at, bits)]!)) ports.push(at - address);
    }
    // An empty one is an instruction that cannot be fetched.
    if (starts.length === 0) starts.push(0);
    const opcode = opcodeOffset(code, last, bits);
    const repeats = isStringInstruction(code[opcode]!) && hasRepeat(code, last, opcode);
    return { starts, ports, repeats };
  };
}

function hasRepeat(code: Uint8Array, from: number, to: number): boolean {
  for (let at = from; at < to; at++) if (code[at] === 0xf2 || code[at] === 0xf3) return true;
  return false;
}
