// Where an interrupt goes: to the BIOS in TypeScript, to a handler of the guest's through IVT or IDT, or to the end of the run.

import type { Cpu } from '../cpu/cpu.ts';
import { deliverProtectedInterrupt, deliverRealModeInterrupt } from '../cpu/deliver-interrupt.ts';
import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import { CR0_PE, EFER_LMA } from '../x86/control-registers.ts';
import { nameInstruction } from '../x86/undefined-instruction.ts';
import type { Bios } from './bios/bios.ts';
import { ROM_ADDRESS, ROM_ES_VALUE, ROM_RETURN_ES, ROM_SEGMENT, stubOffset } from './bios/rom.ts';
import { FLAG_CF, FLAG_ZF, linear } from './bios/service.ts';
import type { MachineEvent } from './events.ts';

const EXCEPTION_VECTORS = 32;
const INVALID_OPCODE = 6;
const PAGE_FAULT = 14;
const LONGEST_INSTRUCTION = 15;
const INT_SIZE = 2;

/** Names of the exceptions (Intel SDM 3A, table 6-1). */
const EXCEPTION_NAMES: readonly string[] = [
  ...['divide error', 'debug', 'NMI', 'breakpoint', 'overflow', 'bound range exceeded', 'invalid opcode'],
  ...[
    'device not available',
    'double fault',
    'coprocessor segment overrun',
    'invalid TSS',
    'segment not present',
  ],
  ...['stack-segment fault', 'general protection', 'page fault', 'reserved', 'x87 floating point error'],
  ...['alignment check', 'machine check', 'SIMD floating point error', 'virtualization exception'],
  'control protection',
];

export interface InterruptParts {
  readonly cpu: Cpu;
  readonly bios: Bios;
  readonly stop: (reason: string) => void;
  /** Called when the guest goes on behind an `INT n` that the BIOS has served: where a waiting IRQ gets in. */
  readonly afterService: () => void;
}

export class Interrupts {
  onEvent: ((event: MachineEvent) => void) | null = null;
  /** Asked before an exception goes anywhere. True: it is dealt with, and the guest goes on where it is. */
  intercept: ((vector: number, errorCode: number) => boolean) | null = null;
  readonly #parts: InterruptParts;

  constructor(parts: InterruptParts) {
    this.#parts = parts;
  }

  /**
   * Handles what the CPU reports.
   * @param exception - null for `INT n`
   */
  handle(vector: number, exception: { readonly errorCode: number } | null): void {
    if (this.intercept?.(vector, exception?.errorCode ?? 0)) return;
    if (this.#parts.cpu.readRegister('cr0') & CR0_PE) {
      this.#protected(vector, exception);
    } else if (exception === null) {
      this.#realModeCall(vector);
    } else {
      this.#realModeException(vector);
    }
  }

  /**
   * Brings a hardware interrupt to the CPU, in a hook or between runs.
   * @param vector - what the interrupt controller gives for its line
   * @returns false, with nothing changed, where the guest is in protected mode without a gate for it
   */
  deliverHardware(vector: number): boolean {
    const { cpu } = this.#parts;
    if (cpu.readRegister('cr0') & CR0_PE) {
      const interrupt = { kind: 'hardware', errorCode: null } as const;
      return deliverProtectedInterrupt(cpu, vector, interrupt);
    }
    this.#deliverRealMode(vector);
    return true;
  }

  /** Whether the vector still points to the BIOS. */
  pointsToBios(vector: number): boolean {
    const { memory } = this.#parts.cpu;
    const entry = memory.read32(vector * 4);
    return entry === ((ROM_SEGMENT << 16) | stubOffset(vector)) >>> 0;
  }

  #deliverRealMode(vector: number): void {
    try {
      deliverRealModeInterrupt(this.#parts.cpu, vector);
    } catch (error) {
      if (!(error instanceof BootscopeError)) throw error;
      this.#parts.stop(error.message);
    }
  }

  #realModeCall(vector: number): void {
    const { cpu, bios } = this.#parts;
    if (this.#isInRomStub(vector)) {
      this.#serveForRom(vector);
    } else if (!this.pointsToBios(vector)) {
      this.#deliverRealMode(vector);
    } else if (bios.returnsSegment(vector, Number(cpu.readRegister('rax') & 0xffffn))) {
      this.#deliverRealMode(vector); // comes back through the ROM's stub
    } else {
      const flags = Number(cpu.readRegister('rflags'));
      const result = bios.serve(vector, flags);
      if (result.flags !== flags) {
        cpu.writeRegister('rflags', BigInt(result.flags));
      }
      this.#parts.afterService();
    }
  }

  /** Whether the INT was the one in the ROM's stub for this vector. */
  #isInRomStub(vector: number): boolean {
    const { cpu } = this.#parts;
    const ip = Number(cpu.readRegister('rip') & 0xffffn);
    return ip === stubOffset(vector) + INT_SIZE && cpu.readRegister('cs') === BigInt(ROM_SEGMENT);
  }

  /** The service for a caller whose FLAGS wait on the stack, where the stub's IRET takes them. */
  #serveForRom(vector: number): void {
    const { cpu, bios } = this.#parts;
    const { memory } = cpu;
    const stack = Number(cpu.readRegister('ss') & 0xffffn);
    const sp = Number(cpu.readRegister('rsp') & 0xffffn);
    const at = linear(stack, (sp + 4) & 0xffff);
    const flags = memory.read16(at);
    const result = bios.serve(vector, flags);
    const changeable = FLAG_CF | FLAG_ZF;
    memory.write16(at, (flags & ~changeable) | (result.flags & changeable));
    if (bios.returnsSegment(vector, bios.lastAx)) {
      memory.write16(ROM_ADDRESS + ROM_ES_VALUE, result.es);
      cpu.writeRegister('rip', BigInt(ROM_RETURN_ES));
    }
    this.#parts.afterService();
  }

  #realModeException(vector: number): void {
    const { cpu } = this.#parts;
    const address = linear(Number(cpu.readRegister('cs')), Number(cpu.readRegister('rip')));
    const delivered = !this.pointsToBios(vector);
    this.#report(vector, BigInt(address), delivered);
    if (delivered) {
      this.#deliverRealMode(vector);
    } else {
      this.#parts.stop(
        `exception ${vector} (${exceptionName(vector)}) in real mode at ${hex(address)}${this.#which(vector, address, 16)}`,
      );
    }
  }

  #protected(vector: number, exception: { readonly errorCode: number } | null): void {
    const { cpu } = this.#parts;
    const rip = cpu.readRegister('rip');
    const delivered = deliverProtectedInterrupt(
      cpu,
      vector,
      exception === null
        ? { kind: 'software', errorCode: null }
        : { kind: 'exception', errorCode: exception.errorCode },
    );
    if (exception !== null) {
      this.#report(vector, rip, delivered);
    }
    if (!delivered) {
      this.#parts.stop(this.#undelivered(vector, exception !== null, rip));
    }
  }

  #undelivered(vector: number, isException: boolean, rip: bigint): string {
    const at = `at ${hex(rip)}`;
    if (!isException) {
      return `INT ${vector.toString(16).padStart(2, '0')}h in protected mode ${at}, and the IDT has no gate for it`;
    }
    const cr2 = vector === PAGE_FAULT ? `, cr2 0x${this.#parts.cpu.readRegister('cr2').toString(16)}` : '';
    const { cpu } = this.#parts;
    const bits = cpu.readRegister('efer') & EFER_LMA ? 64 : 32;
    const which = this.#which(vector, Number(rip), bits);
    return `exception ${vector} (${exceptionName(vector)}) ${at}${cr2}${which}, and the IDT has no gate for it`;
  }

  /** Names an undefined instruction. */
  #which(vector: number, address: number, bits: 16 | 32 | 64): string {
    if (vector !== INVALID_OPCODE) return '';
    const code = this.#parts.cpu.memory.viewUpTo(address, LONGEST_INSTRUCTION);
    return code.length === 0 ? '' : `: ${nameInstruction(code, bits)}`;
  }

  #report(vector: number, address: bigint, delivered: boolean): void {
    this.onEvent?.({ kind: 'exception', vector, address, delivered });
  }
}

function exceptionName(vector: number): string {
  return vector < EXCEPTION_VECTORS ? (EXCEPTION_NAMES[vector] ?? 'reserved') : 'interrupt';
}
