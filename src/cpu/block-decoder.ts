// Where the instructions of a translated block begin, for counting them.

import { instructionLength, opcodeOffset } from '../x86/instruction.ts';
import type { PhysicalMemory } from '../x86/physical-memory.ts';
import type { BlockDecoder, SpecialInstruction } from './cpu.ts';

/** Of an x86 instruction, in bytes. */
const MAX_INSTRUCTION_LENGTH = 15;

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

const ESCAPE = 0x0f;
const CPUID = 0xa2;

/** @param at - of the second byte of an opcode that begins with 0f */
function specialKind(code: Uint8Array, at: number): SpecialInstruction['kind'] | null {
  const modRm = code[at + 1]!;
  const reg = (modRm >> 3) & 7;
  switch (code[at]) {
    case 0x22:
      return reg === 4 ? 'mov-cr4' : null;
    case 0x30:
      return 'wrmsr';
    case 0x31:
      return 'rdtsc';
    case 0x32:
      return 'rdmsr';
    case 0xc7:
      return reg === 6 && modRm >= 0xc0 ? 'rdrand' : null;
    default:
      return null;
  }
}

/**
 * @param memory - the code is mapped to itself in it
 * @param readBits - width of the code that runs now
 */
export function blockDecoder(memory: PhysicalMemory, readBits: () => 16 | 32 | 64): BlockDecoder {
  return (address, size) => {
    const code = memory.viewUpTo(address, size + MAX_INSTRUCTION_LENGTH);
    const bits = readBits();
    const starts: number[] = [];
    const ports: number[] = [];
    const cpuids: number[] = [];
    const special: SpecialInstruction[] = [];
    let last = 0;
    let length = 0;
    for (let at = 0; at < size; at += length) {
      last = at;
      starts.push(at);
      length = instructionLength(code, at, bits);
      const opcode = opcodeOffset(code, at, bits);
      if (accessesPort(code[opcode]!)) ports.push(at);
      if (code[opcode] === ESCAPE && code[opcode + 1] === CPUID) cpuids.push(at);
      const kind = code[opcode] === ESCAPE ? specialKind(code, opcode + 1) : null;
      if (kind !== null) special.push({ kind, offset: at, length });
    }
    // An empty one is an instruction that cannot be fetched.
    if (starts.length === 0) starts.push(0);
    const opcode = opcodeOffset(code, last, bits);
    const repeats = isStringInstruction(code[opcode]!) && hasRepeat(code, last, opcode);
    return { starts, ports, cpuids, repeats, special };
  };
}

function hasRepeat(code: Uint8Array, from: number, to: number): boolean {
  for (let at = from; at < to; at++) if (code[at] === 0xf2 || code[at] === 0xf3) return true;
  return false;
}
