// Single-stepping: every instruction that the CPU executes in a span of the boot, disassembled, with the registers it
// changed. Iterations of a repeated string instruction are folded into one.

import { createRequire } from 'node:module';
import type * as Iced from 'iced-x86';
import { type Cpu, REGISTER_NAMES, type RegisterName, type Unhook } from '../cpu/cpu.ts';
import type { Machine } from '../machine/machine.ts';
import type { CpuMode } from '../trace/boot-trace.ts';
import { CpuModeReader } from './cpu-mode.ts';

/** What an instruction does that one may look for. */
export const INSTRUCTION_CLASSES = ['calls', 'branches', 'io', 'int', 'mode', 'msr', 'cr'] as const;
export type InstructionClass = (typeof INSTRUCTION_CLASSES)[number];

/** A decoded instruction, the same object each time it is executed. */
export interface DecodedInstruction {
  /** Linear. */
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly text: string;
  readonly mode: CpuMode;
  readonly classes: readonly InstructionClass[];
  /** Changes segment, control or descriptor table registers, or comes back by another way than it went. */
  readonly system: boolean;
  readonly repeated: boolean;
}

/** A register that the instruction changed; 64 bits as two halves, which are cheaper than a bigint. */
export interface RegisterChange {
  readonly name: RegisterName;
  readonly high: number;
  readonly low: number;
}

export interface InstructionSink {
  /**
   * @param iterations - above 1 for folded string instructions
   * @param changes - only valid during the call
   */
  (instruction: DecodedInstruction, iterations: number, changes: readonly RegisterChange[]): void;
}

export type Syntax = 'gas' | 'intel';

/** Read at every step; RIP is known from the address. */
const GENERAL: readonly RegisterName[] = REGISTER_NAMES.slice(0, REGISTER_NAMES.indexOf('rip')).concat(
  'rflags',
);
/** Read again only after instructions that can change them. */
const SYSTEM: readonly RegisterName[] = REGISTER_NAMES.slice(REGISTER_NAMES.indexOf('cs'));
const MAX_INSTRUCTION_LENGTH = 15;
const ALL_ADDRESSES = 0xffff_ffff_ffff_ffffn;

interface Bank {
  readonly names: readonly RegisterName[];
  readonly now: BigUint64Array;
  readonly words: Uint32Array;
  readonly before: Uint32Array;
}

function bank(names: readonly RegisterName[]): Bank {
  const now = new BigUint64Array(names.length);
  return { names, now, words: new Uint32Array(now.buffer), before: new Uint32Array(names.length * 2) };
}

/** Hooks every instruction of a CPU between `start` and `stop`. */
export class InstructionStream {
  readonly #cpu: Cpu;
  readonly #machine: Machine;
  readonly #mode: CpuModeReader;
  readonly #sink: InstructionSink;
  readonly #decoder: InstructionDecoder;
  readonly #general = bank(GENERAL);
  readonly #system = bank(SYSTEM);
  readonly #changes: RegisterChange[] = [];
  #unhook: Unhook | null = null;
  #last: DecodedInstruction | null = null;
  #iterations = 0;
  #currentMode: CpuMode = 'real16';
  /** Instructions seen, iterations included. */
  count = 0;

  constructor(machine: Machine, syntax: Syntax, sink: InstructionSink) {
    this.#machine = machine;
    this.#cpu = machine.cpu;
    this.#mode = new CpuModeReader(machine.cpu, () => machine.ram);
    this.#sink = sink;
    this.#decoder = new InstructionDecoder(syntax);
  }

  get running(): boolean {
    return this.#unhook !== null;
  }

  /** Begins with the next instruction. */
  start(): void {
    if (this.#unhook !== null) return;
    this.#last = null;
    for (const each of [this.#general, this.#system]) {
      this.#cpu.readRegisters(each.names, each.now);
      each.before.set(each.words);
    }
    this.#currentMode = this.#mode.read();
    this.#unhook = this.#cpu.hookCode(0n, ALL_ADDRESSES, (address) => this.#onInstruction(Number(address)));
  }

  /** Hands over the instruction that was executed last and ends. */
  stop(): void {
    this.#unhook?.();
    this.#unhook = null;
    this.#finishLast();
  }

  #onInstruction(address: number): void {
    this.count++;
    const last = this.#last;
    if (last?.repeated && last.address === address) {
      this.#iterations++;
      return;
    }
    this.#finishLast();
    this.#last = this.#decoder.decode(this.#machine.ram, address, this.#currentMode);
    this.#iterations = 1;
  }

  /** What an instruction changed is seen when the next one is about to run. */
  #finishLast(): void {
    const last = this.#last;
    if (last === null) return;
    this.#last = null;
    this.#changes.length = 0;
    this.#compare(this.#general);
    if (last.system) {
      this.#compare(this.#system);
      this.#currentMode = this.#mode.read();
    }
    this.#sink(last, this.#iterations, this.#changes);
  }

  #compare({ names, now, words, before }: Bank): void {
    this.#cpu.readRegisters(names, now);
    for (let index = 0; index < words.length; index += 2) {
      const low = words[index]!;
      const high = words[index + 1]!;
      if (low === before[index] && high === before[index + 1]) continue;
      before[index] = low;
      before[index + 1] = high;
      this.#changes.push({ name: names[index >> 1]!, high, low });
    }
  }
}

/** Decodes each instruction once, and again when its bytes have changed. */
class InstructionDecoder {
  readonly #iced: typeof Iced;
  readonly #formatter: Iced.Formatter;
  readonly #instruction: Iced.Instruction;
  readonly #systemMnemonics: ReadonlySet<Iced.Mnemonic>;
  readonly #known: Readonly<Record<16 | 32 | 64, Map<number, DecodedInstruction>>> = {
    16: new Map(),
    32: new Map(),
    64: new Map(),
  };

  constructor(syntax: Syntax) {
    // CommonJS, and large: loaded only when somebody steps.
    this.#iced = createRequire(import.meta.url)('iced-x86') as typeof Iced;
    const { Formatter, FormatterSyntax, Instruction, Mnemonic } = this.#iced;
    this.#formatter = new Formatter(syntax === 'gas' ? FormatterSyntax.Gas : FormatterSyntax.Intel);
    this.#instruction = new Instruction();
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

  decode(ram: Uint8Array, address: number, mode: CpuMode): DecodedInstruction {
    const bits = mode === 'long64' ? 64 : mode === 'real16' || mode === 'prot16' ? 16 : 32;
    const known = this.#known[bits].get(address);
    if (known !== undefined && known.mode === mode && this.#unchanged(ram, known)) return known;
    const decoded = this.#decodeAnew(ram, address, mode, bits);
    this.#known[bits].set(address, decoded);
    return decoded;
  }

  #unchanged(ram: Uint8Array, { address, bytes }: DecodedInstruction): boolean {
    for (let index = 0; index < bytes.length; index++) {
      if (ram[address + index] !== bytes[index]) return false;
    }
    return true;
  }

  #decodeAnew(ram: Uint8Array, address: number, mode: CpuMode, bits: 16 | 32 | 64): DecodedInstruction {
    const { Decoder, DecoderOptions } = this.#iced;
    const decoder = new Decoder(
      bits,
      ram.slice(address, address + MAX_INSTRUCTION_LENGTH),
      DecoderOptions.None,
    );
    decoder.ip = BigInt(address);
    const instruction = this.#instruction;
    decoder.decodeOut(instruction);
    decoder.free();
    const length = Math.max(1, instruction.length);
    const classes = this.#classes(instruction);
    return {
      address,
      bytes: ram.slice(address, address + length),
      text: this.#formatter.format(instruction),
      mode,
      classes,
      system:
        classes.includes('mode') ||
        classes.includes('cr') ||
        classes.includes('int') ||
        this.#loadsSegment(instruction),
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
      instruction.op0Kind === OpKind.FarBranch32;
    const writesControl = mnemonic === Mnemonic.Mov && isControl(instruction.op0Register);
    if (far || writesControl || this.#systemMnemonics.has(mnemonic)) found.push('mode');
    return found;
  }
}
