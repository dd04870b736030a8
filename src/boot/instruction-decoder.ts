// Decodes x86 instructions as they stand in memory, into text and what is to be known of them.

import type * as Iced from 'iced-x86';
import { loadIced } from '../host/host.ts';
import type { CpuMode } from '../trace/boot-trace.ts';
import type { PhysicalMemory } from '../x86/physical-memory.ts';
import { ALL_REGISTERS, changedRegisters } from './changed-registers.ts';
import { type OperandForm, operandForms } from './memory-operands.ts';

/** What an instruction does that one may look for. */
export const INSTRUCTION_CLASSES = ['calls', 'branches', 'io', 'int', 'mode', 'msr', 'cr'] as const;
export type InstructionClass = (typeof INSTRUCTION_CLASSES)[number];

/** An instruction as it stands in memory. */
export interface DecodedInstruction {
  /** Linear. */
  readonly address: number;
  /** Offset in CS, which differs from the address in real mode; near branches name such offsets. */
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly text: string;
  readonly mode: CpuMode;
  readonly classes: readonly InstructionClass[];
  /** Changes segment, control or descriptor table registers, or comes back by another way than it went. */
  readonly system: boolean;
  readonly repeated: boolean;
  /** Those in memory, where they were asked for; none of INT n, which the host serves. */
  readonly operands: readonly OperandForm[];
}

export type Syntax = 'gas' | 'intel';

/** A decoded instruction, the same object each time it is executed. */
export interface KnownInstruction<T> extends DecodedInstruction {
  readonly described: T | null;
  /** What it may change, as `changedRegisters` has it, where that was asked for; else all. */
  readonly changes: number;
}

const MAX_INSTRUCTION_LENGTH = 15;

/** What costs time to find out. */
interface Wanted {
  readonly operands?: boolean;
  readonly changes?: boolean;
}

/** Decodes each instruction once, and again when its bytes have changed. */
export class InstructionDecoder<T> {
  readonly #describe: (instruction: DecodedInstruction) => T | null;
  readonly #iced: typeof Iced;
  readonly #formatter: Iced.Formatter;
  readonly #instruction: Iced.Instruction;
  readonly #info: Iced.InstructionInfoFactory | null;
  readonly #wanted: Wanted;
  readonly #systemMnemonics: ReadonlySet<Iced.Mnemonic>;
  readonly #known: Readonly<Record<16 | 32 | 64, Map<number, KnownInstruction<T>>>> = {
    16: new Map(),
    32: new Map(),
    64: new Map(),
  };

  constructor(syntax: Syntax, describe: (instruction: DecodedInstruction) => T | null, wanted: Wanted = {}) {
    this.#describe = describe;
    this.#wanted = wanted;
    // CommonJS, and large: loaded only when somebody steps.
    this.#iced = loadIced();
    const { Formatter, FormatterSyntax, Instruction, Mnemonic } = this.#iced;
    this.#formatter = new Formatter(syntax === 'gas' ? FormatterSyntax.Gas : FormatterSyntax.Intel);
    this.#formatter.hexPrefix = '0x';
    this.#formatter.hexSuffix = '';
    this.#formatter.uppercaseHex = false;
    this.#formatter.branchLeadingZeros = false;
    this.#instruction = new Instruction();
    this.#info = wanted.operands || wanted.changes ? new this.#iced.InstructionInfoFactory() : null;
    this.#systemMnemonics = new Set([
      ...[
        Mnemonic.Lgdt,
        Mnemonic.Lidt,
        Mnemonic.Lldt,
        Mnemonic.Ltr,
        Mnemonic.Lmsw,
        Mnemonic.Wrmsr,
        Mnemonic.Clts,
      ],
      ...[Mnemonic.Lds, Mnemonic.Les, Mnemonic.Lfs, Mnemonic.Lgs, Mnemonic.Lss, Mnemonic.Retf, Mnemonic.Iret],
      ...[Mnemonic.Iretd, Mnemonic.Iretq, Mnemonic.Swapgs],
    ]);
  }

  decode(memory: PhysicalMemory, address: number, mode: CpuMode, csBase: number): KnownInstruction<T> {
    const bits = mode === 'long64' ? 64 : mode === 'real16' || mode === 'prot16' ? 16 : 32;
    const known = this.#known[bits].get(address);
    if (known !== undefined && known.mode === mode && known.offset === address - csBase) {
      if (this.#unchanged(memory, known)) return known;
    }
    const instruction = this.#decodeAnew(memory, address, mode, bits, csBase);
    const decoded = { ...instruction, described: this.#describe(instruction) };
    this.#known[bits].set(address, decoded);
    return decoded;
  }

  #unchanged(memory: PhysicalMemory, { address, bytes }: DecodedInstruction): boolean {
    if (!memory.contains(address, bytes.length)) return false;
    for (let index = 0; index < bytes.length; index++) {
      if (memory.read8(address + index) !== bytes[index]) return false;
    }
    return true;
  }

  #decodeAnew(
    memory: PhysicalMemory,
    address: number,
    mode: CpuMode,
    bits: 16 | 32 | 64,
    csBase: number,
  ): DecodedInstruction & { readonly changes: number } {
    const { Decoder, DecoderOptions } = this.#iced;
    const code = memory.viewUpTo(address, MAX_INSTRUCTION_LENGTH).slice();
    const decoder = new Decoder(bits, code, DecoderOptions.None);
    decoder.ip = BigInt(address - csBase);
    const instruction = this.#instruction;
    decoder.decodeOut(instruction);
    decoder.free();
    const length = Math.max(1, instruction.length);
    const classes = this.#classes(instruction);
    return {
      address,
      offset: address - csBase,
      bytes: code.subarray(0, length),
      text: this.#formatter.format(instruction),
      mode,
      classes,
      system:
        classes.includes('mode') ||
        classes.includes('cr') ||
        classes.includes('int') ||
        this.#loadsSegment(instruction),
      operands:
        this.#info === null || !this.#wanted.operands || classes.includes('int')
          ? []
          : operandForms(this.#iced, this.#info, instruction, bits),
      changes:
        this.#info === null || !this.#wanted.changes
          ? ALL_REGISTERS
          : changedRegisters(this.#iced, this.#info, instruction),
      repeated: instruction.isStringInstruction && (instruction.hasRepPrefix || instruction.hasRepnePrefix),
    };
  }

  #loadsSegment(instruction: Iced.Instruction): boolean {
    const { OpKind, Register } = this.#iced;
    if (this.#systemMnemonics.has(instruction.mnemonic)) return true;
    if (instruction.opCount === 0 || instruction.op0Kind !== OpKind.Register) return false;
    return instruction.op0Register >= Register.ES && instruction.op0Register <= Register.GS;
  }

  #classes(instruction: Iced.Instruction): InstructionClass[] {
    const { FlowControl, Mnemonic, OpKind, Register } = this.#iced;
    const { flowControl, mnemonic } = instruction;
    const found: InstructionClass[] = [];
    if (
      flowControl === FlowControl.Call ||
      flowControl === FlowControl.IndirectCall ||
      flowControl === FlowControl.Return
    ) {
      found.push('calls');
    }
    const branches: readonly Iced.FlowControl[] = [
      FlowControl.UnconditionalBranch,
      FlowControl.IndirectBranch,
      FlowControl.ConditionalBranch,
    ];
    if (branches.includes(flowControl)) found.push('branches');
    const io: readonly Iced.Mnemonic[] = [
      ...[Mnemonic.In, Mnemonic.Out, Mnemonic.Insb, Mnemonic.Insw, Mnemonic.Insd],
      ...[Mnemonic.Outsb, Mnemonic.Outsw, Mnemonic.Outsd],
    ];
    if (io.includes(mnemonic)) found.push('io');
    if (flowControl === FlowControl.Interrupt) found.push('int');
    if (mnemonic === Mnemonic.Wrmsr || mnemonic === Mnemonic.Rdmsr) found.push('msr');
    const isControl = (register: Iced.Register): boolean =>
      register >= Register.CR0 && register <= Register.CR15;
    const touchesControl = isControl(instruction.op0Register) || isControl(instruction.op1Register);
    if (mnemonic === Mnemonic.Mov && touchesControl) found.push('cr');
    const far =
      mnemonic === Mnemonic.Retf ||
      instruction.op0Kind === OpKind.FarBranch16 ||
      instruction.op0Kind === OpKind.FarBranch32 ||
      instruction.isJmpFarIndirect ||
      instruction.isCallFarIndirect;
    const writesControl = mnemonic === Mnemonic.Mov && isControl(instruction.op0Register);
    if (far || writesControl || this.#systemMnemonics.has(mnemonic)) found.push('mode');
    return found;
  }
}

/**
 * The instructions from a linear address on, as they stand there.
 *
 * @param memory - by linear address
 * @param csBase - what real mode adds to IP; 0 elsewhere
 */
export function disassemble(
  memory: PhysicalMemory,
  from: { readonly address: number; readonly mode: CpuMode; readonly csBase: number },
  count: number,
  syntax: Syntax,
): DecodedInstruction[] {
  const decoder = new InstructionDecoder(syntax, () => null);
  const found: DecodedInstruction[] = [];
  let { address } = from;
  while (found.length < count && memory.contains(address, 1)) {
    const instruction = decoder.decode(memory, address, from.mode, from.csBase);
    found.push(instruction);
    address += instruction.bytes.length;
  }
  return found;
}
