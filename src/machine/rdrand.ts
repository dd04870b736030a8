// RDRAND, which some engines do not know and others draw from the host: done from the machine's entropy.

import type { Cpu, RegisterName } from '../cpu/cpu.ts';
import type { PhysicalMemory } from '../x86/physical-memory.ts';
import { FLAG_CF } from './bios/service.ts';
import type { Entropy } from './entropy.ts';

/** General registers by their number in an instruction (Intel SDM 2A 2.1.5). */
const REGISTERS: readonly RegisterName[] = [
  ...(['rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi'] as const),
  ...(['r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15'] as const),
];
const OPERAND_SIZE = 0x66;
const LONGEST = 5;
/** CF set, OF, SF, ZF, AF, PF clear (Intel SDM 2B, RDRAND). */
const STATUS_FLAGS = 0x8d5n;

/**
 * Executes the instruction at linear `address` if it is RDRAND, and moves RIP behind it.
 * @param bits - default operand size of the code there; REX prefixes count in 64-bit code only
 * @returns false where the instruction is another one; nothing has changed then
 */
export function emulateRdrand(
  cpu: Cpu,
  memory: PhysicalMemory,
  entropy: Entropy,
  address: number,
  bits: 16 | 32 | 64,
): boolean {
  if (!memory.contains(address, LONGEST)) {
    return false;
  }
  const code = memory.copyOut(address, LONGEST);
  let at = 0;
  let width: 16 | 32 | 64 = bits === 16 ? 16 : 32;
  if (code[at] === OPERAND_SIZE) {
    width = width === 16 ? 32 : 16;
    at++;
  }
  let high = 0;
  if (bits === 64 && (code[at]! & 0xf0) === 0x40) {
    width = code[at]! & 8 ? 64 : width;
    high = code[at]! & 1 ? 8 : 0;
    at++;
  }
  if (code[at] !== 0x0f || code[at + 1] !== 0xc7 || (code[at + 2]! & 0xf8) !== 0xf0) {
    return false;
  }
  const register = REGISTERS[(code[at + 2]! & 7) + high]!;
  const random = entropy.next64();
  const old = cpu.readRegister(register);
  cpu.writeRegister(
    register,
    width === 16 ? (old & ~0xffffn) | (random & 0xffffn) : BigInt.asUintN(width, random),
  );
  cpu.writeRegister('rflags', (cpu.readRegister('rflags') & ~STATUS_FLAGS) | BigInt(FLAG_CF));
  cpu.writeRegister('rip', cpu.readRegister('rip') + BigInt(at + 3));
  return true;
}
