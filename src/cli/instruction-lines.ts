// One executed instruction as a line of text or JSON. What is the same each time is made once, as bytes.

import type { DecodedInstruction } from '../boot/instruction-decoder.ts';
import type { InstructionDetails, RegisterChanges } from '../boot/instruction-stream.ts';
import type { MemoryOperand } from '../boot/memory-operands.ts';
import { REGISTER_NAMES } from '../cpu/cpu.ts';
import type { LineOutput } from './line-output.ts';

export const INSTRUCTION_FORMATS = ['text', 'jsonl'] as const;
export type InstructionFormat = (typeof INSTRUCTION_FORMATS)[number];

export interface InstructionWriter {
  phase(name: string, address: number, symbol: string | null, note: string | null): void;
  /**
   * All of the line that is the same each time.
   * @param nameOf - names linear addresses: `name` or `name+0x10`
   */
  prefix(instruction: DecodedInstruction, nameOf: (address: number) => string | null): Uint8Array;
  instruction(
    prefix: Uint8Array,
    iterations: number,
    changes: RegisterChanges,
    details: InstructionDetails,
  ): void;
}

const HEX_DIGITS = Buffer.from('0123456789abcdef');
const NEWLINE = 0x0a;
const QUOTE = 0x22;
const DIGIT_0 = 0x30;
const LETTER_X = 0x78;
/** Columns of a text line. */
const ADDRESS_WIDTH = 9;
const MODE_WIDTH = 16;
const BYTES_WIDTH = 24;
const TEXT_WIDTH = 44;

/** @param apart - whether instructions are left out, so that each line of text needs its own symbol */
export function instructionWriter(
  output: LineOutput,
  format: InstructionFormat,
  apart: boolean,
): InstructionWriter {
  return format === 'text' ? textWriter(output, apart) : jsonWriter(output);
}

function textWriter(output: LineOutput, apart: boolean): InstructionWriter {
  const names = REGISTER_NAMES.map((name) => Buffer.from(` ${name}=`));
  return {
    phase: (name, address, symbol, note) =>
      output.text(
        `# ${name} at 0x${address.toString(16)}${symbol === null ? '' : ` <${symbol}>`}${note === null ? '' : `: ${note}`}\n`,
      ),
    prefix: (instruction, nameOf) => {
      const { mode, bytes, text } = instruction;
      const symbol = nameOf(instruction.address);
      const shown = symbol !== null && (apart || !symbol.includes('+'));
      const target = targetName(instruction, nameOf);
      const where = mode === 'real16' ? `${mode} ${segmentAndOffset(instruction)}` : mode;
      const disassembly = text.replace(/^(\S+)\s+/, (_, mnemonic: string) => `${mnemonic.padEnd(7)} `);
      return Buffer.from(
        `0x${instruction.address.toString(16)}`.padStart(ADDRESS_WIDTH) +
          ` ${where.padEnd(MODE_WIDTH)} ${hexBytes(bytes).padEnd(BYTES_WIDTH)}` +
          ` ${`${shown ? `<${symbol}> ` : ''}${disassembly}${target === null ? '' : ` <${target}>`}`.padEnd(TEXT_WIDTH)}`,
      );
    },
    instruction: (prefix, iterations, changes, { operands, call }) => {
      output.makeRoom();
      const { buffer } = output;
      let at = copy(prefix, buffer, output.position);
      if (iterations !== 1) at += buffer.write(` x${iterations}`, at, 'latin1');
      if (call !== null) {
        const service = call.service === null ? '' : ` <${call.service}>`;
        at += buffer.write(` AH=0x${call.ah.toString(16).padStart(2, '0')}${service}`, at, 'latin1');
      }
      for (const operand of operands) at += buffer.write(` ${operandText(operand)}`, at, 'latin1');
      for (let index = 0; index < changes.count; index++) {
        at = copy(names[changes.registers[index]!]!, buffer, at);
        at = hex(changes.high[index]!, changes.low[index]!, buffer, at);
      }
      while (buffer[at - 1] === 0x20) at--;
      buffer[at++] = NEWLINE;
      output.position = at;
    },
  };
}

function jsonWriter(output: LineOutput): InstructionWriter {
  const names = REGISTER_NAMES.map((name) => Buffer.from(`,"${name}":"`));
  const [ITERATIONS, CHANGED, END] = [',"iterations":', ',"changed":{', '}}\n'].map((text) =>
    Buffer.from(text),
  );
  return {
    phase: (name, address, symbol, note) =>
      output.text(
        `${JSON.stringify({
          ...{ phase: name, address: `0x${address.toString(16)}` },
          ...(symbol === null ? {} : { symbol }),
          ...(note === null ? {} : { note }),
        })}\n`,
      ),
    prefix: (instruction, nameOf) => {
      const { address, mode, bytes, text, classes } = instruction;
      const symbol = nameOf(address);
      const target = targetName(instruction, nameOf);
      const fields = {
        address: `0x${address.toString(16)}`,
        mode,
        ...(mode === 'real16' ? { segmented: segmentAndOffset(instruction) } : {}),
        bytes: hexBytes(bytes).replaceAll(' ', ''),
        text,
        ...(symbol === null ? {} : { symbol }),
        ...(target === null ? {} : { target }),
        ...(classes.length === 0 ? {} : { classes }),
      };
      return Buffer.from(JSON.stringify(fields).slice(0, -1));
    },
    instruction: (prefix, iterations, changes, { operands, call }) => {
      output.makeRoom();
      const { buffer } = output;
      let at = copy(prefix, buffer, output.position);
      if (iterations !== 1) {
        at = copy(ITERATIONS!, buffer, at);
        at += buffer.write(String(iterations), at, 'latin1');
      }
      if (call !== null) at += buffer.write(`,"call":${JSON.stringify(call)}`, at, 'latin1');
      if (operands.length > 0) {
        at += buffer.write(`,"operands":${JSON.stringify(operands.map(operandJson))}`, at, 'latin1');
      }
      at = copy(CHANGED!, buffer, at);
      const first = at;
      for (let index = 0; index < changes.count; index++) {
        const name = names[changes.registers[index]!]!;
        at = copy(index === 0 ? name.subarray(1) : name, buffer, at);
        at = hex(changes.high[index]!, changes.low[index]!, buffer, at);
        buffer[at++] = QUOTE;
      }
      if (first > at) at = first;
      output.position = copy(END!, buffer, at);
    },
  };
}

/** `r4[0x94a60]=0x10`, `w2[…]=…`, `rw1[…]=0x0->0x1`: size, linear address and value, little endian; of several iterations the range. */
function operandText({ access, address, size, before, after }: MemoryOperand): string {
  const letters = access === 'read' ? 'r' : access === 'write' ? 'w' : 'rw';
  const start = `0x${address.toString(16)}`;
  if (before === null || after === null) return `${letters}${size}[${start}]`;
  const value =
    access === 'read-write' ? `${littleEndian(before)}->${littleEndian(after)}` : littleEndian(after);
  return `${letters}${size}[${start}]=${value}`;
}

function operandJson({ access, address, size, before, after }: MemoryOperand): object {
  return {
    ...{ access, address: `0x${address.toString(16)}`, size },
    ...(before === null || access !== 'read-write' ? {} : { before: littleEndian(before) }),
    ...(after === null ? {} : { value: littleEndian(after) }),
  };
}

function littleEndian(bytes: Uint8Array): string {
  let value = 0n;
  for (let at = bytes.length - 1; at >= 0; at--) value = (value << 8n) | BigInt(bytes[at]!);
  return `0x${value.toString(16)}`;
}

/** The name of where a direct near branch or call goes to. */
function targetName(
  { mode, text, classes }: DecodedInstruction,
  nameOf: (address: number) => string | null,
): string | null {
  // In real mode the text has an offset in CS, and no code that has names runs.
  if (mode === 'real16' || !(classes.includes('branches') || classes.includes('calls'))) return null;
  const target = /^[^,*[(]*\s(0x[0-9a-f]+)$/.exec(text);
  return target === null ? null : nameOf(Number(target[1]));
}

function segmentAndOffset({ address, offset }: DecodedInstruction): string {
  const four = (value: number): string => value.toString(16).padStart(4, '0');
  return `${four((address - offset) / 16)}:${four(offset)}`;
}

function hexBytes(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
}

/** A loop is faster than `set` for so few bytes. */
function copy(bytes: Uint8Array, to: Uint8Array, at: number): number {
  for (let index = 0; index < bytes.length; index++) to[at + index] = bytes[index]!;
  return at + bytes.length;
}

/** Appends `0x…` without leading zeroes. */
function hex(high: number, low: number, to: Uint8Array, start: number): number {
  let at = start;
  to[at++] = DIGIT_0;
  to[at++] = LETTER_X;
  if (high !== 0) {
    at = digits(high, 31 - Math.clz32(high), to, at);
    return digits(low, 31, to, at);
  }
  return digits(low, low === 0 ? 0 : 31 - Math.clz32(low), to, at);
}

function digits(value: number, topBit: number, to: Uint8Array, start: number): number {
  let at = start;
  for (let shift = topBit & ~3; shift >= 0; shift -= 4) to[at++] = HEX_DIGITS[(value >>> shift) & 15]!;
  return at;
}
