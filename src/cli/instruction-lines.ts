// One executed instruction as a line of text or JSON. What is the same each time is made once.

import type { DecodedInstruction } from '../boot/instruction-decoder.ts';
import type { InstructionBatch, InstructionDetails, RegisterChanges } from '../boot/instruction-stream.ts';
import type { MemoryOperand } from '../boot/memory-operands.ts';
import { type LineFormat, LineMemory, type LineText } from './line-memory.ts';
import { LineOutput } from './line-output.ts';

export const INSTRUCTION_FORMATS = ['text', 'jsonl'] as const;
export type InstructionFormat = (typeof INSTRUCTION_FORMATS)[number];

export interface InstructionWriter {
  readonly output: LineOutput;
  /** Writes the lines of many instructions at once. */
  readonly batch: InstructionBatch<LineText>;
  phase(name: string, address: number, symbol: string | null, note: string | null): void;
  /**
   * All of the line that is the same each time.
   * @param nameOf - names linear addresses: `name` or `name+0x10`
   */
  prefix(instruction: DecodedInstruction, nameOf: (address: number) => string | null): LineText;
  instruction(
    prefix: LineText,
    iterations: number,
    changes: RegisterChanges,
    details: InstructionDetails,
  ): void;
}

/** Columns of a text line. */
const ADDRESS_WIDTH = 9;
const MODE_WIDTH = 16;
const BYTES_WIDTH = 24;
const TEXT_WIDTH = 44;

const FORMATS: Readonly<Record<InstructionFormat, LineFormat>> = {
  text: {
    firstName: (register) => ` ${register}=0x`,
    laterName: (register) => ` ${register}=0x`,
    ...{ quoted: false, open: '', end: '\n', trimmed: true },
  },
  jsonl: {
    firstName: (register) => `"${register}":"0x`,
    laterName: (register) => `,"${register}":"0x`,
    ...{ quoted: true, open: ',"changed":{', end: '}}\n', trimmed: false },
  },
};

/**
 * @param path - `-` for standard output
 * @param apart - whether instructions are left out, so that each line of text needs its own symbol
 * @throws BootscopeError `cli-output` as `LineOutput` does
 */
export function instructionWriter(
  path: string,
  force: boolean,
  format: InstructionFormat,
  apart: boolean,
): InstructionWriter {
  const memory = new LineMemory(FORMATS[format]);
  const output = new LineOutput(path, force, memory.output);
  const common = { output, batch: lineBatch(memory, output) };
  return format === 'text'
    ? { ...common, ...textWriter(memory, output, apart) }
    : { ...common, ...jsonWriter(memory, output) };
}

/**
 * A batch that ends after so many lines.
 * @param left - how many more there may be
 * @param wrote - called with how many have been written
 */
export function limitedBatch(
  batch: InstructionBatch<LineText>,
  left: () => number,
  wrote: (lines: number) => void,
): InstructionBatch<LineText> {
  return {
    ...batch,
    executed: (index, count, words) => {
      const told = batch.executed(index, Math.min(count, index + left()), words);
      wrote(told.index - index);
      return told;
    },
  };
}

function lineBatch(memory: LineMemory, output: LineOutput): InstructionBatch<LineText> {
  return {
    registers: memory.registers,
    remember: (slot, text) => memory.remember(slot, text),
    load: (steps) => memory.load(steps),
    executed: (index, count, words) => {
      let told = { index, words };
      for (;;) {
        output.makeRoom();
        const more = memory.lines(told.index, count, told.words, output.position);
        const stands = more.index === told.index;
        ({ position: output.position } = more);
        told = more;
        if (stands || told.index === count) return told;
      }
    },
  };
}

type LineWriter = Omit<InstructionWriter, 'output' | 'batch'>;

function textWriter(memory: LineMemory, output: LineOutput, apart: boolean): LineWriter {
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
      return memory.text(
        `0x${instruction.address.toString(16)}`.padStart(ADDRESS_WIDTH) +
          ` ${where.padEnd(MODE_WIDTH)} ${hexBytes(bytes).padEnd(BYTES_WIDTH)}` +
          ` ${`${shown ? `<${symbol}> ` : ''}${disassembly}${target === null ? '' : ` <${target}>`}`.padEnd(TEXT_WIDTH)}`,
      );
    },
    instruction: (prefix, iterations, changes, { operands, call }) => {
      let more = iterations === 1 ? '' : ` x${iterations}`;
      if (call !== null) {
        const service = call.service === null ? '' : ` <${call.service}>`;
        more += ` AH=0x${call.ah.toString(16).padStart(2, '0')}${service}`;
      }
      for (const operand of operands) more += ` ${operandText(operand)}`;
      output.makeRoom();
      output.position = memory.line(output.position, prefix, more, changes);
    },
  };
}

function jsonWriter(memory: LineMemory, output: LineOutput): LineWriter {
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
      return memory.text(JSON.stringify(fields).slice(0, -1));
    },
    instruction: (prefix, iterations, changes, { operands, call }) => {
      let more = iterations === 1 ? '' : `,"iterations":${iterations}`;
      if (call !== null) more += `,"call":${JSON.stringify(call)}`;
      if (operands.length > 0) more += `,"operands":${JSON.stringify(operands.map(operandJson))}`;
      output.makeRoom();
      output.position = memory.line(output.position, prefix, more, changes);
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
