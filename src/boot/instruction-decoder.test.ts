// Disassembling memory as the CPU would run it.

import { describe, expect, it } from 'vitest';
import type { CpuMode } from '../trace/boot-trace.ts';
import { PhysicalMemory } from '../x86/physical-memory.ts';
import { disassemble, InstructionDecoder } from './instruction-decoder.ts';

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

describe('a decoded instruction', () => {
  /** The instruction, what is to be known of it, and whether it changes what the CPU keeps beside its registers. */
  const known: readonly [mode: CpuMode, bytes: string, text: string, classes: string, system: boolean][] = [
    ['long64', '90', 'nop', '', false],
    ['long64', '4889d8', 'mov rax,rbx', '', false],
    ['long64', 'f3a4', 'rep movsb', '', false],
    ['long64', 'e800000000', 'call', 'calls', false],
    ['long64', 'ffd0', 'call rax', 'calls', false],
    ['long64', 'c3', 'ret', 'calls', false],
    ['long64', 'ebfe', 'jmp', 'branches', false],
    ['long64', '74fe', 'je', 'branches', false],
    ['long64', 'ffe0', 'jmp rax', 'branches', false],
    ['long64', 'cd80', 'int 0x80', 'int', true],
    ['long64', 'e460', 'in al,0x60', 'io', false],
    ['long64', 'ee', 'out dx,al', 'io', false],
    ['prot32', '6c', 'insb', 'io', false],
    ['prot32', '6f', 'outsd', 'io', false],
    ['long64', '0f32', 'rdmsr', 'msr', false],
    ['long64', '0f30', 'wrmsr', 'msr mode', true],
    ['long64', '0f20c0', 'mov rax,cr0', 'cr', true],
    ['long64', '0f22d8', 'mov cr3,rax', 'cr mode', true],
    ['long64', '0f23c0', 'mov dr0,rax', '', false],
    ['long64', '0f0110', 'lgdt', 'mode', true],
    ['long64', '0f0118', 'lidt', 'mode', true],
    ['long64', '0f0100', 'sgdt', '', false],
    ['long64', '0f01f0', 'lmsw ax', 'mode', true],
    ['long64', '0f00d8', 'ltr', 'mode', true],
    ['long64', '0f01f8', 'swapgs', 'mode', true],
    ['long64', 'cb', 'ret', 'calls mode', true],
    ['long64', '48cf', 'iretq', 'calls mode', true],
    ['long64', 'ff28', 'jmp far', 'branches mode', true],
    ['long64', 'ff18', 'call far', 'calls mode', true],
    ['prot32', 'ea000010001000', 'jmp far', 'branches mode', true],
    ['real16', 'ea00002090', 'jmp far', 'branches mode', true],
    // Segments by number: ES, CS, SS, DS, FS, GS. One that is read is left as it is.
    ['prot32', '8ec0', 'mov es,ax', '', true],
    ['prot32', '8ed0', 'mov ss,ax', '', true],
    ['prot32', '8ee8', 'mov gs,ax', '', true],
    ['prot32', '8cd8', 'mov eax,ds', '', false],
    ['prot32', '8c18', 'mov [eax],ds', '', false],
    ['prot32', '07', 'pop es', '', true],
    ['prot32', '1f', 'pop ds', '', true],
    ['prot32', '58', 'pop eax', '', false],
    ['real16', 'c406', 'les ax', 'mode', true],
  ];
  it.each(known)(
    'in %s of the bytes %s, %s, has the classes [%s] and system %s',
    (mode, hex, text, classes, system) => {
      const code = new Uint8Array(16);
      code.set(Buffer.from(hex, 'hex'));
      const [found] = disassemble(PhysicalMemory.of(code), { address: 0, mode, csBase: 0 }, 1, 'intel');
      expect(found!.text.slice(0, text.length)).toBe(text);
      expect(found!.classes.toSorted()).toEqual(
        classes
          .split(' ')
          .filter((each) => each !== '')
          .toSorted(),
      );
      expect(found!.system).toBe(system);
      expect(found!.repeated).toBe(text.startsWith('rep'));
    },
  );

  it('is the same object until its bytes change, its mode, or where CS begins', () => {
    const ram = new Uint8Array(0x1000);
    ram.set([0xb8, 0x01, 0x00, 0x00, 0x00], 0x100);
    const memory = PhysicalMemory.of(ram);
    const described: string[] = [];
    const decoder = new InstructionDecoder('intel', ({ text }) => described.push(text));
    const first = decoder.decode(memory, 0x100, 'prot32', 0);
    expect(decoder.decode(memory, 0x100, 'prot32', 0)).toBe(first);
    expect(decoder.decode(memory, 0x100, 'compat32', 0)).not.toBe(first);
    ram[0x101] = 2;
    expect(decoder.decode(memory, 0x100, 'compat32', 0).text).toBe('mov eax,2');
    expect(decoder.decode(memory, 0x100, 'long64', 0).mode).toBe('long64');
    expect(decoder.decode(memory, 0x100, 'real16', 0x100)).toMatchObject({ offset: 0, text: 'mov ax,2' });
    expect(decoder.decode(memory, 0x100, 'real16', 0).offset).toBe(0x100);
    expect(described).toEqual([
      ...['mov eax,1', 'mov eax,1', 'mov eax,2', 'mov eax,2', 'mov ax,2', 'mov ax,2'],
    ]);
  });

  it('is not taken from memory that is gone', () => {
    const ram = new Uint8Array(0x1000).fill(0x90);
    const decoder = new InstructionDecoder('gas', () => null);
    const at = 0xfff;
    const first = decoder.decode(PhysicalMemory.of(ram), at, 'prot32', 0);
    expect(first).toMatchObject({ text: 'nop', bytes: Uint8Array.of(0x90) });
    expect(decoder.decode(PhysicalMemory.of(ram.subarray(0, 0x800)), at, 'prot32', 0)).not.toBe(first);
  });

  it('has its operands in memory only where they are asked for, and none of INT n', () => {
    const memory = PhysicalMemory.of(Uint8Array.of(0x89, 0x03, 0xcd, 0x10, ...new Uint8Array(16)));
    const operandsAt = (address: number, operands: boolean): number =>
      new InstructionDecoder('intel', () => null, { operands }).decode(memory, address, 'prot32', 0).operands
        .length;
    expect([operandsAt(0, false), operandsAt(0, true), operandsAt(2, true)]).toEqual([0, 1, 0]);
  });
});
