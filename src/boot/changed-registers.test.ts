import { describe, expect, it } from 'vitest';
import { PhysicalMemory } from '../x86/physical-memory.ts';
import { ALL_REGISTERS, FLAGS_PLACE } from './changed-registers.ts';
import { InstructionDecoder } from './instruction-decoder.ts';
import { REGISTERS_BY_NUMBER } from './memory-operands.ts';

/** Names of what an instruction of 64-bit code may change. */
function changesOf(...code: number[]): string[] | 'all' {
  const decoder = new InstructionDecoder('intel', () => null, { changes: true });
  const memory = PhysicalMemory.of(Uint8Array.of(...code, ...new Uint8Array(16)));
  const { changes } = decoder.decode(memory, 0, 'long64', 0);
  if (changes === ALL_REGISTERS) return 'all';
  const names = REGISTERS_BY_NUMBER.filter((_, number) => (changes & (1 << number)) !== 0);
  return (changes & (1 << FLAGS_PLACE)) === 0 ? [...names] : [...names, 'rflags'];
}

describe('the registers that an instruction may change', () => {
  it.each<[string, number[], string[] | 'all']>([
    ['mov %al,(%rcx)', [0x88, 0x01], []],
    ['jne', [0x75, 0xfe], []],
    ['mov $1,%ah', [0xb4, 1], ['rax']],
    ['mov (%rdi),%r9d', [0x44, 0x8b, 0x0f], ['r9']],
    ['add $1,%rcx', [0x48, 0x83, 0xc1, 1], ['rcx', 'rflags']],
    ['cmp %r8,%rcx', [0x4c, 0x39, 0xc1], ['rflags']],
    ['push %rbx', [0x53], ['rsp']],
    ['pop %r12', [0x41, 0x5c], ['rsp', 'r12']],
    ['call', [0xe8, 0, 0, 0, 0], ['rsp']],
    ['leave', [0xc9], ['rsp', 'rbp']],
    ['mul %rbx', [0x48, 0xf7, 0xe3], ['rax', 'rdx', 'rflags']],
    ['xchg %rbx,(%rsi)', [0x48, 0x87, 0x1e], ['rbx']],
    ['xadd %rbx,%rsi', [0x48, 0x0f, 0xc1, 0xde], ['rbx', 'rsi', 'rflags']],
    ['cmpxchg %rbx,(%rsi)', [0x48, 0x0f, 0xb1, 0x1e], ['rax', 'rflags']],
    ['cmovne %rbx,%rsi', [0x48, 0x0f, 0x45, 0xf3], ['rsi']],
    ['shl %cl,%rdx', [0x48, 0xd3, 0xe2], ['rdx', 'rflags']],
    ['rep movsb', [0xf3, 0xa4], ['rcx', 'rsi', 'rdi']],
    ['repe cmpsb', [0xf3, 0xa6], ['rcx', 'rsi', 'rdi', 'rflags']],
    ['lodsb', [0xac], ['rax', 'rsi']],
    ['loop', [0xe2, 0xfe], ['rcx']],
    ['cpuid', [0x0f, 0xa2], ['rax', 'rcx', 'rdx', 'rbx']],
    ['rdtsc', [0x0f, 0x31], ['rax', 'rdx']],
    ['popf', [0x9d], ['rsp', 'rflags']],
    ['movd %xmm0,%ebx', [0x66, 0x0f, 0x7e, 0xc3], ['rbx']],
    ['ret', [0xc3], ['rsp']],
    ['ud2', [0x0f, 0x0b], 'all'],
    ['no instruction', [0x06], 'all'],
  ])('of %s', (_, code, expected) => {
    expect(changesOf(...code)).toEqual(expected);
  });

  it('are all where nobody has asked', () => {
    const memory = PhysicalMemory.of(new Uint8Array(32).fill(0x90));
    const decoder = new InstructionDecoder('gas', () => null);
    expect(decoder.decode(memory, 0, 'long64', 0).changes).toBe(ALL_REGISTERS);
  });
});
