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
}

/** A register that the instruction changed; 64 bits as two halves, which are cheaper than a bigint. */
export interface RegisterChange {
  readonly name: RegisterName;
  readonly high: number;
  readonly low: number;
}

/** Whoever is told of each executed instruction. */
export interface InstructionListener<T> {
  readonly syntax: Syntax;
  /** What to keep with an instruction, made once; null leaves it out, which is several times faster. */
  describe(instruction: DecodedInstruction): T | null;
  /**
   * @param iterations - of a repeated string instruction, which may be 0; 1 for all others
   * @param changes - only valid during the call
   */
  executed(described: T, iterations: number, changes: readonly RegisterChange[]): void;
  /** Called instead of executing the instruction at this linear address. */
  readonly end?: { readonly address: number; readonly reached: () => void };
}

export type Syntax = 'gas' | 'intel';

/** Read at every step; RIP is known from the address. */
const GENERAL: readonly RegisterName[] = REGISTER_NAMES.slice(0, REGISTER_NAMES.indexOf('rip')).concat(
  'rflags',
);
/** Read again only after instructions that can change them. */
const SYSTEM: readonly RegisterName[] = REGISTER_NAMES.slice(REGISTER_NAMES.indexOf('cs'));
/** Where the count of string instructions stands in the words of the general registers. */
const RCX_LOW = GENERAL.indexOf('rcx') * 2;
const RCX_HIGH = RCX_LOW + 1;
const TWO_32 = 2 ** 32;
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

/** A decoded instruction, the same object each time it is executed. */
interface KnownInstruction<T> extends DecodedInstruction {
  readonly described: T | null;
}

/** Hooks every instruction of a CPU between `start` and `stop`. */
export class InstructionStream<T> {
  readonly #cpu: Cpu;
  readonly #machine: Machine;
  readonly #mode: CpuModeReader;
  readonly #listener: InstructionListener<T>;
  readonly #decoder: InstructionDecoder<T>;
  readonly #general = bank(GENERAL);
  readonly #system = bank(SYSTEM);
  readonly #changes: RegisterChange[] = [];
  readonly #end: number;
  #unhook: Unhook | null = null;
  #last: KnownInstruction<T> | null = null;
  #currentMode: CpuMode = 'real16';
  #csBase = 0;
  /** The registers were not looked at since an instruction that nobody is told of, or since the host changed them. */
  #stale = true;
  #resumed = false;
  /** Instructions seen, iterations included. */
  count = 0;

  constructor(machine: Machine, listener: InstructionListener<T>) {
    this.#machine = machine;
    this.#cpu = machine.cpu;
    this.#mode = new CpuModeReader(machine.cpu, () => machine.ram);
    this.#listener = listener;
    this.#decoder = new InstructionDecoder(listener.syntax, (instruction) => listener.describe(instruction));
    this.#end = listener.end?.address ?? -1;
  }

  get running(): boolean {
    return this.#unhook !== null;
  }

  /** Begins with the next instruction. */
  start(): void {
    if (this.#unhook !== null) return;
    this.#last = null;
    this.#stale = true;
    this.#readSystem();
    this.#unhook = this.#cpu.hookCode(0n, ALL_ADDRESSES, (address) => this.#onInstruction(Number(address)));
  }

  /** Hands over the instruction that was executed last and ends. */
  stop(): void {
    this.#unhook?.();
    this.#unhook = null;
    this.#finishLast();
  }

  /** The CPU runs again after a stop: the hook may be called again for the instruction it stopped before. */
  resumed(): void {
    this.#resumed = true;
    if (this.#last !== null || this.#unhook === null) return;
    this.#stale = true;
    this.#readSystem();
  }

  /** The CPU stands before the instruction at `address`: what it executed before that is handed over. */
  arrive(address: number): void {
    if (this.#last?.address !== address) this.#finishLast();
  }

  /** What was about to be executed at `address` will not be: the host does it, or the boot ends here. */
  drop(address: number): void {
    if (this.#last?.address !== address) return;
    this.#last = null;
    this.count--;
  }

  #onInstruction(address: number): void {
    const last = this.#last;
    if (this.#resumed) {
      this.#resumed = false;
      if (last !== null && last.address === address) return;
    }
    if (last !== null) {
      if (last.repeated && last.address === address) {
        this.count++;
        return;
      }
      this.#finishLast();
    }
    if (address === this.#end) {
      this.#unhook?.();
      this.#unhook = null;
      this.#listener.end?.reached();
      return;
    }
    this.count++;
    const next = this.#decoder.decode(this.#machine.ram, address, this.#currentMode, this.#csBase);
    if (this.#stale && next.described !== null) {
      this.#sync(this.#general);
      this.#sync(this.#system);
      this.#stale = false;
    }
    this.#last = next;
  }

  /** What an instruction changed is seen when the next one is about to run. */
  #finishLast(): void {
    const last = this.#last;
    if (last === null) return;
    this.#last = null;
    if (last.described === null) {
      this.#stale = true;
      if (last.system) this.#readSystem();
      return;
    }
    this.#changes.length = 0;
    const { words, before } = this.#general;
    const counted = before[RCX_LOW]! + before[RCX_HIGH]! * TWO_32;
    this.#compare(this.#general);
    // The engine calls the hook once more to see that the count is used up, so the calls are not the iterations.
    const iterations = last.repeated ? counted - (words[RCX_LOW]! + words[RCX_HIGH]! * TWO_32) : 1;
    if (last.system) {
      this.#compare(this.#system);
      this.#readSystem();
    }
    this.#listener.executed(last.described, iterations, this.#changes);
  }

  #readSystem(): void {
    this.#currentMode = this.#mode.read();
    this.#csBase = this.#currentMode === 'real16' ? Number(this.#cpu.readRegister('cs')) * 16 : 0;
  }

  #sync({ names, now, words, before }: Bank): void {
    this.#cpu.readRegisters(names, now);
    before.set(words);
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
class InstructionDecoder<T> {
  readonly #describe: (instruction: DecodedInstruction) => T | null;
  readonly #iced: typeof Iced;
  readonly #formatter: Iced.Formatter;
  readonly #instruction: Iced.Instruction;
  readonly #systemMnemonics: ReadonlySet<Iced.Mnemonic>;
  readonly #known: Readonly<Record<16 | 32 | 64, Map<number, KnownInstruction<T>>>> = {
    16: new Map(),
    32: new Map(),
    64: new Map(),
  };

  constructor(syntax: Syntax, describe: (instruction: DecodedInstruction) => T | null) {
    this.#describe = describe;
    // CommonJS, and large: loaded only when somebody steps.
    this.#iced = createRequire(import.meta.url)('iced-x86') as typeof Iced;
    const { Formatter, FormatterSyntax, Instruction, Mnemonic } = this.#iced;
    this.#formatter = new Formatter(syntax === 'gas' ? FormatterSyntax.Gas : FormatterSyntax.Intel);
    this.#formatter.hexPrefix = '0x';
    this.#formatter.hexSuffix = '';
    this.#formatter.uppercaseHex = false;
    this.#formatter.branchLeadingZeros = false;
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

  decode(ram: Uint8Array, address: number, mode: CpuMode, csBase: number): KnownInstruction<T> {
    const bits = mode === 'long64' ? 64 : mode === 'real16' || mode === 'prot16' ? 16 : 32;
    const known = this.#known[bits].get(address);
    if (known !== undefined && known.mode === mode && known.offset === address - csBase) {
      if (this.#unchanged(ram, known)) return known;
    }
    const instruction = this.#decodeAnew(ram, address, mode, bits, csBase);
    const decoded = { ...instruction, described: this.#describe(instruction) };
    this.#known[bits].set(address, decoded);
    return decoded;
  }

  #unchanged(ram: Uint8Array, { address, bytes }: DecodedInstruction): boolean {
    for (let index = 0; index < bytes.length; index++) {
      if (ram[address + index] !== bytes[index]) return false;
    }
    return true;
  }

  #decodeAnew(
    ram: Uint8Array,
    address: number,
    mode: CpuMode,
    bits: 16 | 32 | 64,
    csBase: number,
  ): DecodedInstruction {
    const { Decoder, DecoderOptions } = this.#iced;
    const decoder = new Decoder(
      bits,
      ram.slice(address, address + MAX_INSTRUCTION_LENGTH),
      DecoderOptions.None,
    );
    decoder.ip = BigInt(address - csBase);
    const instruction = this.#instruction;
    decoder.decodeOut(instruction);
    decoder.free();
    const length = Math.max(1, instruction.length);
    const classes = this.#classes(instruction);
    return {
      address,
      offset: address - csBase,
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
