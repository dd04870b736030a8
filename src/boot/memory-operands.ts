// What an instruction does to memory by its operands, those that it names and those that are understood (stack, strings): where, how
// many bytes, and what was and is there. Descriptors, page tables and the stack of an interrupt are no operands.

import type * as Iced from 'iced-x86';
import type { Cpu } from '../cpu/cpu.ts';
import { linearToPhysical } from '../cpu/translate.ts';
import { CR0_PG } from '../x86/control-registers.ts';

export type OperandAccess = 'read' | 'write' | 'read-write';

/** A memory operand as the instruction has it, each time the same. */
export interface OperandForm {
  readonly access: OperandAccess;
  /** Bytes; of a string instruction those of one element. */
  readonly size: number;
  /** Which segment, in the order of their numbers: ES, CS, SS, DS, FS, GS. */
  readonly segment: number;
  readonly base: RegisterPart | null;
  readonly index: RegisterPart | null;
  readonly scale: bigint;
  readonly displacement: bigint;
  readonly mask: bigint;
}

interface RegisterPart {
  /** Number of the general register as instructions encode it. */
  readonly number: number;
  readonly mask: bigint;
}

/** A memory operand of an instruction that has been executed. */
export interface MemoryOperand {
  readonly access: OperandAccess;
  /** Linear, of the lowest byte. */
  readonly address: bigint;
  /** Bytes, of all iterations. */
  readonly size: number;
  /** Before and after; null where no memory is, of what is no value (FXSAVE), and of other than one iteration. */
  readonly before: Uint8Array | null;
  readonly after: Uint8Array | null;
}

/** Names of the general registers by their numbers. */
export const REGISTERS_BY_NUMBER = [
  ...(['rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi'] as const),
  ...(['r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15'] as const),
] as const;

/** Bytes of the widest registers. */
const LARGEST_VALUE = 64;
const ALL_64 = 0xffff_ffff_ffff_ffffn;
const DIRECTION_FLAG = 1n << 10n;
/** FS; those before have no base in 64-bit code. */
const FIRST_WITH_BASE = 4;
const PAGE = 4096n;

/** Of a decoded instruction; those that it only computes the address of are none. */
export function operandForms(
  iced: typeof Iced,
  factory: Iced.InstructionInfoFactory,
  instruction: Iced.Instruction,
  bits: 16 | 32 | 64,
): readonly OperandForm[] {
  const { MemorySizeExt, OpAccess, Register, RegisterExt } = iced;
  const reads: readonly Iced.OpAccess[] = [OpAccess.Read, OpAccess.CondRead];
  const writes: readonly Iced.OpAccess[] = [OpAccess.Write, OpAccess.CondWrite];
  const part = (register: Iced.Register): RegisterPart => ({
    number: RegisterExt.number(RegisterExt.fullRegister(register)),
    mask: (1n << BigInt(8 * RegisterExt.size(register))) - 1n,
  });
  const info = factory.info(instruction);
  const forms = info.usedMemory().flatMap((used): OperandForm[] => {
    const { access, segment, base, index, scale, displacement, memorySize } = used;
    used.free();
    // What a repeated string instruction accesses is of unknown size.
    const whole = MemorySizeExt.size(memorySize);
    const size =
      whole > 0 || !instruction.isStringInstruction ? whole : MemorySizeExt.size(instruction.memorySize);
    if (size === 0 || access === OpAccess.NoMemAccess || access === OpAccess.None) return [];
    // The displacement of an address relative to RIP is the address.
    const isRelative = base === Register.RIP || base === Register.EIP;
    const from = base === Register.None || isRelative ? null : part(base);
    return [
      {
        access: reads.includes(access) ? 'read' : writes.includes(access) ? 'write' : 'read-write',
        size,
        segment: segment === Register.None ? FIRST_WITH_BASE - 1 : segment - Register.ES,
        base: from,
        index: index === Register.None ? null : part(index),
        ...{ scale: BigInt(scale), displacement },
        mask: from?.mask ?? (bits === 64 ? ALL_64 : 0xffff_ffffn),
      },
    ];
  });
  info.free();
  return forms;
}

/** Looks at the operands of one instruction after the other, before it runs and when it has run. */
export class OperandWatch {
  readonly #cpu: Cpu;
  #bases: readonly bigint[] = [];
  #paging = false;
  #long = false;
  #seen: { readonly form: OperandForm; readonly address: bigint; readonly before: Uint8Array | null }[] = [];
  #backward = false;

  constructor(cpu: Cpu) {
    this.#cpu = cpu;
  }

  /** Segments, paging or the mode may have changed. */
  system(long: boolean): void {
    this.#bases = this.#cpu.readSegmentBases();
    this.#paging = (this.#cpu.readRegister('cr0') & CR0_PG) !== 0n;
    this.#long = long;
  }

  /** @param general - the value of a general register, by its number */
  before(forms: readonly OperandForm[], general: (number: number) => bigint, flags: bigint): void {
    this.#backward = (flags & DIRECTION_FLAG) !== 0n;
    this.#seen = forms.map((form) => {
      const address = this.#address(form, general);
      return { form, address, before: this.#read(address, form.size) };
    });
  }

  /** @param iterations - null where it is no repeated string instruction */
  after(iterations: number | null): readonly MemoryOperand[] {
    return this.#seen.map(({ form, address, before }): MemoryOperand => {
      const { access, size } = form;
      if (iterations !== null && iterations !== 1) {
        const length = iterations * size;
        const back = this.#backward && iterations > 0 ? BigInt(length - size) : 0n;
        return { access, address: address - back, size: length, before: null, after: null };
      }
      return { access, address, size, before, after: access === 'read' ? before : this.#read(address, size) };
    });
  }

  #address(
    { segment, base, index, scale, displacement, mask }: OperandForm,
    general: (number: number) => bigint,
  ): bigint {
    const part = (register: RegisterPart | null): bigint =>
      register === null ? 0n : general(register.number) & register.mask;
    const offset = (part(base) + part(index) * scale + displacement) & mask;
    const counts = !this.#long || segment >= FIRST_WITH_BASE;
    return (offset + (counts ? (this.#bases[segment] ?? 0n) : 0n)) & (this.#long ? ALL_64 : 0xffff_ffffn);
  }

  #read(address: bigint, size: number): Uint8Array | null {
    if (size > LARGEST_VALUE) return null;
    const { memory } = this.#cpu;
    const bytes = new Uint8Array(size);
    for (let done = 0; done < size; ) {
      const at = address + BigInt(done);
      const length = Math.min(size - done, Number(PAGE - (at % PAGE)));
      const physical = this.#paging ? linearToPhysical(this.#cpu, at) : at;
      if (physical === null || !memory.contains(Number(physical), length)) return null;
      bytes.set(memory.view(Number(physical), length), done);
      done += length;
    }
    return bytes;
  }
}
