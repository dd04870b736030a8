// For tests: little real-mode programs, put together from calls, run on a machine until they halt.

import { blockDecoder } from '../cpu/block-decoder.ts';
import type { Cpu } from '../cpu/cpu.ts';
import { enterRealMode } from '../cpu/enter-mode.ts';
import type { MachineEvent } from './events.ts';
import { Machine, type MachineOptions } from './machine.ts';

/** Bytes of RAM where a test says nothing: enough for INT 15h to tell of more than 16 MiB. */
const MEMORY = 64 * 2 ** 20;

/** Where programs run. */
export const PROGRAM_ADDRESS = 0x8000;
const STACK_TOP = 0x7c00;
const RUN_MILLISECONDS = 5_000;

const MOV_IMMEDIATE = {
  eax: 0xb8,
  ecx: 0xb9,
  edx: 0xba,
  ebx: 0xbb,
  ebp: 0xbd,
  esi: 0xbe,
  edi: 0xbf,
} as const;
type InputRegister = keyof typeof MOV_IMMEDIATE | 'es';

/** Bytes of instructions that load registers; ES through AX, so before the others. */
export function load(registers: Readonly<Partial<Record<InputRegister, number>>>): readonly number[] {
  const { es, ...general } = registers;
  const code: number[] = es === undefined ? [] : [0xb8, es & 0xff, es >>> 8, 0x8e, 0xc0];
  for (const [name, value] of Object.entries(general)) {
    const opcode = MOV_IMMEDIATE[name as keyof typeof MOV_IMMEDIATE];
    code.push(0x66, opcode, value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24);
  }
  return code;
}

/** INT with registers. */
export function call(
  vector: number,
  registers: Readonly<Partial<Record<InputRegister, number>>> = {},
): readonly number[] {
  return [...load(registers), 0xcd, vector];
}

/** What a program left behind. */
export interface ProgramResult {
  readonly machine: Machine;
  readonly events: readonly MachineEvent[];
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
  readonly esi: number;
  readonly edi: number;
  readonly ebp: number;
  readonly sp: number;
  readonly es: number;
  readonly carry: boolean;
  readonly zero: boolean;
  readonly interruptFlag: boolean;
}

/**
 * Runs `code` at 0000:8000 with interrupts on, CF set and ZF clear, up to a HLT that follows it.
 * @param prepare - changes memory before the start
 */
export function runProgram(
  cpu: Cpu,
  code: readonly number[],
  options: Partial<MachineOptions> = {},
  prepare: (machine: Machine) => void = () => {},
): ProgramResult {
  const events: MachineEvent[] = [];
  const machine = new Machine(cpu, {
    memory: MEMORY,
    onEvent: (event) => events.push(event),
    ...options,
  });
  machine.ram.set([...code, 0xf4], PROGRAM_ADDRESS);
  prepare(machine);
  const decode = blockDecoder(machine.memory, () => 16);
  const flags = 0x201;
  enterRealMode(cpu, {
    ...{ cs: 0, ip: PROGRAM_ADDRESS, ss: 0, sp: STACK_TOP, ds: 0, es: 0, flags },
  });
  cpu.countInstructions(decode);
  const end = cpu.run({ sliceMilliseconds: RUN_MILLISECONDS });
  if (end.kind !== 'halted' && machine.stopReason === null) {
    throw new Error(`the program did not halt: ${JSON.stringify(end)}`);
  }
  const register = (name: 'rax' | 'rbx' | 'rcx' | 'rdx' | 'rsi' | 'rdi' | 'rbp' | 'rsp' | 'es' | 'rflags') =>
    Number(cpu.readRegister(name) & 0xffffffffn);
  const after = register('rflags');
  return {
    machine,
    events,
    eax: register('rax'),
    ebx: register('rbx'),
    ecx: register('rcx'),
    edx: register('rdx'),
    esi: register('rsi'),
    edi: register('rdi'),
    ebp: register('rbp'),
    sp: register('rsp'),
    es: register('es'),
    carry: (after & 0x01) !== 0,
    zero: (after & 0x40) !== 0,
    interruptFlag: (after & 0x200) !== 0,
  };
}
