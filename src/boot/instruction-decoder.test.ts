// Disassembling memory as the CPU would run it.

import { describe, expect, it } from 'vitest';
import { PhysicalMemory } from '../x86/physical-memory.ts';
import { disassemble } from './instruction-decoder.ts';

const memory = new Uint8Array(0x200);
memory.set([0xb8, 0x34, 0x12, 0x00, 0x00, 0xcd, 0x10, 0xf4], 0x110);

describe('disassembling', () => {
  it('takes the same bytes for what the mode makes of them', () => {
    const texts = (mode: 'real16' | 'prot32'): string[] =>
      disassemble(PhysicalMemory.of(memory), { address: 0x110, mode, csBase: 0 }, 3, 'intel').map(
        ({ text }) => text,
      );
    expect(texts('real16')).toEqual(['mov ax,0x1234', 'add [bx+si],al', 'int 0x10']);
    expect(texts('prot32')).toEqual(['mov eax,0x1234', 'int 0x10', 'hlt']);
  });

  it('gives offsets in CS and ends with memory', () => {
    const found = disassemble(
      PhysicalMemory.of(memory),
      { address: 0x1fe, mode: 'real16', csBase: 0x100 },
      9,
      'gas',
    );
    expect(found.map(({ address, offset }) => [address, offset])).toEqual([[0x1fe, 0xfe]]);
  });
});
