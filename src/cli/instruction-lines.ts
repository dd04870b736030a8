// One executed instruction as a line of text or JSON. What is the same each time is made once, as bytes.

import type { DecodedInstruction } from '../boot/instruction-decoder.ts';
import type { InstructionDetails, RegisterChanges } from '../boot/instruction-stream.ts';
import type { MemoryOperand } from '../boot/memory-operands.ts';
import { REGISTER_NAMES } from '../cpu/cpu.ts';
import type { LineOutput } from './line-output.ts';

export const INSTRUCTION_FORMATS = ['text', 'jsonl'] as const;
export type InstructionFormat = (typeof INSTRUCTION_FORMATS)[number];

/**
 * Bytes of a line that are made once, to be copied eight at a time: as floating-point numbers, none of which is a NaN, whose
 * bits may not survive, since no valid UTF-8 has their bytes.
 */
export interface LinePiece {
  /** Filled up with zeroes. */
  readonly words: Float64Array;
  /** Bytes. */
  readonly length: number;
  /** Bytes before the spaces at its end. */
  readonly trimmed: number;
}

export interface InstructionWriter {
  phase(name: string, address: number, symbol: string | null, note: string | null): void;
  /**
   * All of the line that is the same each time.
   * @param nameOf - names linear addresses: `name` or `name+0x10`
   */
  prefix(instruction: DecodedInstruction, nameOf: (address: number) => string | null): LinePiece;
  instruction(
    prefix: LinePiece,
    iterations: number,
    changes: RegisterChanges,
    details: InstructionDetails,
  ): void;
}

const NEWLINE = 0x0a;
const QUOTE = 0x22;
const SPACE = 0x20;
/** `0x`, little endian. */
const HEX_PREFIX = 0x7830;
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
  fourDigits ??= allFourDigits();
  return format === 'text' ? textWriter(output, apart) : jsonWriter(output);
}

function textWriter(output: LineOutput, apart: boolean): InstructionWriter {
  const names = REGISTER_NAMES.map((name) => piece(` ${name}=`));
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
      return piece(
        `0x${instruction.address.toString(16)}`.padStart(ADDRESS_WIDTH) +
          ` ${where.padEnd(MODE_WIDTH)} ${hexBytes(bytes).padEnd(BYTES_WIDTH)}` +
          ` ${`${shown ? `<${symbol}> ` : ''}${disassembly}${target === null ? '' : ` <${target}>`}`.padEnd(TEXT_WIDTH)}`,
      );
    },
    instruction: (prefix, iterations, changes, { operands, call }) => {
      output.makeRoom();
      const { buffer, view } = output;
      const start = output.position;
      let at = copy(prefix, view, start);
      const whole = at;
      if (iterations !== 1) at += buffer.write(` x${iterations}`, at, 'latin1');
      if (call !== null) {
        const service = call.service === null ? '' : ` <${call.service}>`;
        at += buffer.write(` AH=0x${call.ah.toString(16).padStart(2, '0')}${service}`, at, 'latin1');
      }
      for (const operand of operands) at += buffer.write(` ${operandText(operand)}`, at, 'latin1');
      for (let index = 0; index < changes.count; index++) {
        at = copy(names[changes.registers[index]!]!, view, at);
        at = hex(changes.high[index]!, changes.low[index]!, view, at);
      }
      if (at === whole) at = start + prefix.trimmed;
      buffer[at++] = NEWLINE;
      output.position = at;
    },
  };
}

function jsonWriter(output: LineOutput): InstructionWriter {
  const names = REGISTER_NAMES.map((name) => piece(`,"${name}":"`));
  const firstNames = REGISTER_NAMES.map((name) => piece(`"${name}":"`));
  const [ITERATIONS, CHANGED, END] = [',"iterations":', ',"changed":{', '}}\n'].map(piece);
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
      return piece(JSON.stringify(fields).slice(0, -1));
    },
    instruction: (prefix, iterations, changes, { operands, call }) => {
      output.makeRoom();
      const { buffer, view } = output;
      let at = copy(prefix, view, output.position);
      if (iterations !== 1) {
        at = copy(ITERATIONS!, view, at);
        at += buffer.write(String(iterations), at, 'latin1');
      }
      if (call !== null) at += buffer.write(`,"call":${JSON.stringify(call)}`, at, 'latin1');
      if (operands.length > 0) {
        at += buffer.write(`,"operands":${JSON.stringify(operands.map(operandJson))}`, at, 'latin1');
      }
      at = copy(CHANGED!, view, at);
      for (let index = 0; index < changes.count; index++) {
        const name = (index === 0 ? firstNames : names)[changes.registers[index]!]!;
        at = copy(name, view, at);
        at = hex(changes.high[index]!, changes.low[index]!, view, at);
        buffer[at++] = QUOTE;
      }
      output.position = copy(END!, view, at);
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
  let text = '';
  for (const byte of bytes) text += `${text === '' ? '' : ' '}${byte.toString(16).padStart(2, '0')}`;
  return text;
}

function piece(text: string): LinePiece {
  const length = Buffer.byteLength(text);
  const words = new Float64Array((length + 7) >>> 3);
  Buffer.from(words.buffer).write(text);
  let trimmed = text.length;
  while (text.charCodeAt(trimmed - 1) === SPACE) trimmed--;
  return { words, length, trimmed: length - (text.length - trimmed) };
}

/** Up to seven bytes behind the piece are written over; a loop is faster than `set` for so few. */
function copy({ words, length }: LinePiece, to: DataView, at: number): number {
  for (let index = 0; index < words.length; index++) to.setFloat64(at + 8 * index, words[index]!, true);
  return at + length;
}

/** The four hexadecimal digits of each number of 16 bits, as a little-endian word. */
let fourDigits: Uint32Array | undefined;

function allFourDigits(): Uint32Array {
  const digit = Buffer.from('0123456789abcdef');
  return Uint32Array.from({ length: 0x1_0000 }, (_, value) => {
    const upper = digit[value >>> 12]! | (digit[(value >>> 8) & 15]! << 8);
    return upper | (digit[(value >>> 4) & 15]! << 16) | (digit[value & 15]! << 24);
  });
}

/** Appends `0x…` without leading zeroes; up to seven bytes behind it are written over. */
function hex(high: number, low: number, to: DataView, start: number): number {
  to.setUint16(start, HEX_PREFIX, true);
  if (high === 0) return digits(low, to, start + 2);
  const at = digits(high, to, start + 2);
  eightDigits(low, to, at);
  return at + 8;
}

function digits(value: number, to: DataView, at: number): number {
  const count = value === 0 ? 1 : 8 - (Math.clz32(value) >>> 2);
  eightDigits(value << (32 - 4 * count), to, at);
  return at + count;
}

function eightDigits(value: number, to: DataView, at: number): void {
  to.setUint32(at, fourDigits![value >>> 16]!, true);
  to.setUint32(at + 4, fourDigits![value & 0xffff]!, true);
}
