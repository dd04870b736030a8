// Reads the text of QEMU's `info registers`, which has another form in 64-bit code than elsewhere.

import { REGISTER_NAMES, type RegisterName } from '../../src/cpu/cpu.ts';
import type { CpuMode } from '../../src/trace/boot-trace.ts';

export interface QemuRegisters {
  readonly values: Readonly<Record<RegisterName, bigint>>;
  readonly mode: CpuMode;
  /** Base of CS: the linear address is this plus RIP. */
  readonly codeBase: bigint;
  readonly gdtr: { readonly base: bigint; readonly limit: number };
  readonly idtr: { readonly base: bigint; readonly limit: number };
}

const ALIASES: Readonly<Record<string, RegisterName>> = {
  EAX: 'rax',
  EBX: 'rbx',
  ECX: 'rcx',
  EDX: 'rdx',
  ESI: 'rsi',
  EDI: 'rdi',
  EBP: 'rbp',
  ESP: 'rsp',
  EIP: 'rip',
  EFL: 'rflags',
  RFL: 'rflags',
};
const CR0_PE = 1n;
const EFER_LMA = 0x400n;

/** @throws Error when the text lacks a register */
export function parseRegisters(text: string): QemuRegisters {
  const values: Partial<Record<RegisterName, bigint>> = {};
  for (const name of ['r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15'] as const) values[name] = 0n;
  for (const [, name, digits] of text.matchAll(/\b([A-Z][A-Z0-9]{1,3})\s*=\s*([0-9a-f]+)/g)) {
    const register = ALIASES[name!] ?? name!.toLowerCase();
    if (isRegisterName(register)) values[register] = BigInt(`0x${digits}`);
  }
  for (const name of REGISTER_NAMES)
    if (values[name] === undefined) throw new Error(`QEMU's register dump has no ${name}`);
  const complete = values as Record<RegisterName, bigint>;
  const code = /^CS =[0-9a-f]+ ([0-9a-f]+) .*?(CS16|CS32|CS64)?/m.exec(text);
  const width = /^CS =.*\b(CS16|CS32|CS64)\b/m.exec(text)?.[1];
  return {
    values: complete,
    mode: modeOf(complete, width),
    codeBase: BigInt(`0x${code?.[1] ?? '0'}`),
    gdtr: tableRegister(text, 'GDT'),
    idtr: tableRegister(text, 'IDT'),
  };
}

function isRegisterName(name: string): name is RegisterName {
  return (REGISTER_NAMES as readonly string[]).includes(name);
}

function modeOf(values: Readonly<Record<RegisterName, bigint>>, width: string | undefined): CpuMode {
  if ((values.cr0 & CR0_PE) === 0n) return 'real16';
  if (width === 'CS64') return 'long64';
  if ((values.efer & EFER_LMA) !== 0n) return 'compat32';
  return width === 'CS16' ? 'prot16' : 'prot32';
}

function tableRegister(text: string, name: 'GDT' | 'IDT'): { base: bigint; limit: number } {
  const match = new RegExp(`^${name}=\\s*([0-9a-f]+)\\s+([0-9a-f]+)`, 'm').exec(text);
  if (match === null) throw new Error(`QEMU's register dump has no ${name}`);
  return { base: BigInt(`0x${match[1]}`), limit: Number.parseInt(match[2]!, 16) };
}
