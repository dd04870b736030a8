import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { DecodedInstruction } from '../boot/instruction-decoder.ts';
import { type InstructionFormat, instructionWriter } from './instruction-lines.ts';

const folder = mkdtempSync(join(tmpdir(), 'bootscope-lines-'));
afterAll(() => rmSync(folder, { recursive: true }));

const SYMBOLS: readonly (readonly [number, string])[] = [
  [0x100200, 'startup_64'],
  [0x1003a0, 'extract_kernel'],
];

function nameOf(address: number): string | null {
  const found = SYMBOLS.findLast(([start]) => start <= address);
  if (found === undefined) return null;
  return address === found[0] ? found[1] : `${found[1]}+0x${(address - found[0]).toString(16)}`;
}

function instruction(
  address: number,
  text: string,
  more: Partial<DecodedInstruction> = {},
): DecodedInstruction {
  return {
    ...{ address, offset: address, bytes: Uint8Array.of(0x90), text, mode: 'long64', classes: [] },
    ...{ system: false, repeated: false, operands: [] },
    ...more,
  };
}

const CALL = { classes: ['calls'] } as const;
const BRANCH = { classes: ['branches'] } as const;

let files = 0;
function lineOf(shown: DecodedInstruction, format: InstructionFormat, apart: boolean): string {
  const { output, prefix } = instructionWriter(join(folder, String(files++)), false, format, apart);
  const { bytes } = prefix(shown, nameOf);
  output.end();
  return Buffer.from(bytes).toString().trimEnd();
}

/** What stands behind the bytes in a line of text. */
function textOf(shown: DecodedInstruction, apart = false): string {
  return lineOf(shown, 'text', apart).replace(/^ *0x\S+ \S+ (\S+:\S+)? *(\S\S )+ */, '');
}

describe('a line of text', () => {
  it('names the symbol that begins there', () => {
    expect(textOf(instruction(0x100200, 'cld'))).toBe('<startup_64> cld');
    expect(textOf(instruction(0x100201, 'cli'))).toBe('cli');
    expect(textOf(instruction(0x90200, 'cli'))).toBe('cli');
  });

  it('names where each instruction stands when others are left out', () => {
    expect(textOf(instruction(0x100205, 'rdmsr'), true)).toBe('<startup_64+0x5> rdmsr');
  });

  it('names where a branch or call goes to, in both syntaxes', () => {
    expect(textOf(instruction(0x100205, 'call 0x1003a0', CALL))).toBe('call    0x1003a0 <extract_kernel>');
    expect(textOf(instruction(0x100205, 'jmp short 0x100210', BRANCH))).toBe(
      'jmp     short 0x100210 <startup_64+0x10>',
    );
    expect(textOf(instruction(0x100205, 'jne 0x90000', BRANCH))).toBe('jne     0x90000');
  });

  it('names no number that is no target', () => {
    expect(textOf(instruction(0x100205, 'jmp *0x1003a0', BRANCH))).toBe('jmp     *0x1003a0');
    expect(textOf(instruction(0x100205, 'ljmp $0x10,$0x1003a0', BRANCH))).toBe('ljmp    $0x10,$0x1003a0');
    expect(textOf(instruction(0x100205, 'mov 0x1003a0,%eax'))).toBe('mov     0x1003a0,%eax');
    expect(textOf(instruction(0x100205, 'push 0x1003a0'))).toBe('push    0x1003a0');
    expect(textOf(instruction(0x90200, 'call 0x1003a0', { ...CALL, mode: 'real16', offset: 0x200 }))).toBe(
      'call    0x1003a0',
    );
  });
});

describe('a line of JSON', () => {
  it('has the symbol of every instruction and the target of a branch', () => {
    const parsed = (shown: DecodedInstruction): unknown => JSON.parse(`${lineOf(shown, 'jsonl', false)}}`);
    expect(parsed(instruction(0x100205, 'call 0x1003a0', CALL))).toMatchObject({
      symbol: 'startup_64+0x5',
      target: 'extract_kernel',
    });
    expect(parsed(instruction(0x90200, 'cli'))).not.toHaveProperty('symbol');
    expect(parsed(instruction(0x100200, 'cli'))).not.toHaveProperty('target');
  });
});

describe('the line of a phase', () => {
  it('has its symbol where there is one', () => {
    const write = (format: InstructionFormat): string => {
      const path = join(folder, String(files++));
      const writer = instructionWriter(path, false, format, false);
      writer.phase('kernel', 0x1000000, 'startup_64', null);
      writer.phase('setup', 0x90200, null, 'a note');
      writer.output.end();
      return readFileSync(path, 'utf8');
    };
    expect(write('text')).toBe('# kernel at 0x1000000 <startup_64>\n# setup at 0x90200: a note\n');
    expect(write('jsonl')).toBe(
      '{"phase":"kernel","address":"0x1000000","symbol":"startup_64"}\n{"phase":"setup","address":"0x90200","note":"a note"}\n',
    );
  });
});
