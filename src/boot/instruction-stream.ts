// Single-stepping: every instruction that the CPU executes in a span of the boot, disassembled, with the registers it
// changed. Iterations of a repeated string instruction are folded into one.

import { type Cpu, REGISTER_NAMES, type RegisterName, type Steps, type Unhook } from '../cpu/cpu.ts';
import { QUIET, REPEATS } from '../cpu/step-buffer.ts';
import type { Machine } from '../machine/machine.ts';
import type { CpuMode } from '../trace/boot-trace.ts';
import { FLAGS_PLACE } from './changed-registers.ts';
import { CpuModeReader, codeSegmentBase } from './cpu-mode.ts';
import {
  type DecodedInstruction,
  InstructionDecoder,
  type KnownInstruction,
  type Syntax,
} from './instruction-decoder.ts';
import { type MemoryOperand, OperandWatch, REGISTERS_BY_NUMBER } from './memory-operands.ts';

/** Registers that an instruction changed, in parallel lists of `count`; 64 bits as two halves, which are cheaper than a bigint. */
export interface RegisterChanges {
  readonly count: number;
  /** Places in `REGISTER_NAMES`. */
  readonly registers: Uint8Array;
  readonly high: Uint32Array;
  readonly low: Uint32Array;
}

/** A call of a BIOS service by INT n. */
export interface ServiceCall {
  readonly ah: number;
  /** `INT 15h E820: query system address map`; null where the guest has put a handler of its own there. */
  readonly service: string | null;
}

/** What else is told of an executed instruction; only valid during the call. */
export interface InstructionDetails {
  /** Those in memory; empty where they were not asked for. */
  readonly operands: readonly MemoryOperand[];
  /** Of INT n in real mode; null of all others. */
  readonly call: ServiceCall | null;
}

/** Whoever tells of many instructions at once that the CPU noted without a call; of others the listener is told one by one. */
export interface InstructionBatch<T> {
  /** Values of NOTED_REGISTERS before the instruction that is executed next, as words, low and high: kept by whoever tells. */
  readonly registers: Uint32Array;
  /** Instructions noted at an address that ends in these 16 bits are this one; null of one to be told by the listener. */
  remember(slot: number, described: T | null): void;
  /** Takes over what was noted, which the calls of `executed` that follow go through. */
  load(steps: Steps): void;
  /**
   * Tells of the noted instructions before those at `index` to `count`, up to one that it cannot tell of.
   * @param words - of the values, which belong to earlier ones
   * @returns the index that it came to and the words that it used, these included
   */
  executed(index: number, count: number, words: number): { readonly index: number; readonly words: number };
}

/** Whoever is told of each executed instruction. */
export interface InstructionListener<T> {
  readonly syntax: Syntax;
  /** Whether it wants to know operands in memory, which is several times slower. */
  readonly operands?: boolean;
  /** What to keep with an instruction, made once; null leaves it out, which is several times faster. */
  describe(instruction: DecodedInstruction): T | null;
  /** Tells the more frequent ones instead of `executed`. */
  readonly batch?: InstructionBatch<T>;
  /**
   * @param iterations - of a repeated string instruction, which may be 0; 1 for all others
   * @param changes - only valid during the call
   */
  executed(described: T, iterations: number, changes: RegisterChanges, details: InstructionDetails): void;
}

/** Read at every step; RIP is known from the address. */
export const NOTED_REGISTERS: readonly RegisterName[] = REGISTER_NAMES.slice(
  0,
  REGISTER_NAMES.indexOf('rip'),
).concat('rflags');
/** Read again only after instructions that can change them. */
const SYSTEM: readonly RegisterName[] = REGISTER_NAMES.slice(REGISTER_NAMES.indexOf('cs'));
/** Where the count of string instructions stands in the words of the general registers. */
const RCX_LOW = NOTED_REGISTERS.indexOf('rcx') * 2;
const RCX_HIGH = RCX_LOW + 1;
/** Places of the general registers, by their numbers. */
const REGISTER_PLACES = REGISTERS_BY_NUMBER.map((name) => NOTED_REGISTERS.indexOf(name));
const RFLAGS = NOTED_REGISTERS.indexOf('rflags');
const NOTED_NUMBERS = Uint8Array.from(NOTED_REGISTERS, (name) => REGISTER_NAMES.indexOf(name));
/** The bit of each register of a decoded instruction's changes, in the order of NOTED_REGISTERS. */
const CHANGE_BITS = NOTED_REGISTERS.map((_, place) =>
  place === RFLAGS ? 1 << FLAGS_PLACE : 1 << REGISTER_PLACES.indexOf(place),
);
/** INT n, and the vector of the INT of one byte. */
const INT = 0xcd;
const BREAKPOINT = 3;
const TWO_32 = 2 ** 32;
/** Of instructions whose addresses end in the same bits one is noted. */
const NOTED_MASK = 0xffff;
const ALL_ADDRESSES = 0xffff_ffff_ffff_ffffn;

interface Bank {
  readonly names: readonly RegisterName[];
  /** Place of the first in REGISTER_NAMES, where the others follow. */
  readonly numbers: Uint8Array;
  readonly now: BigUint64Array;
  readonly words: Uint32Array;
  readonly before: Uint32Array;
}

function bank(names: readonly RegisterName[], before: Uint32Array = new Uint32Array(names.length * 2)): Bank {
  const now = new BigUint64Array(names.length);
  return {
    ...{ names, now, words: new Uint32Array(now.buffer), before },
    numbers: Uint8Array.from(names, (name) => REGISTER_NAMES.indexOf(name)),
  };
}

/** Hooks every instruction of a CPU between `start` and `stop`. */
export class InstructionStream<T> {
  readonly #cpu: Cpu;
  readonly #machine: Machine;
  readonly #mode: CpuModeReader;
  readonly #listener: InstructionListener<T>;
  readonly #decoder: InstructionDecoder<T>;
  readonly #operands: OperandWatch | null;
  readonly #details: { operands: readonly MemoryOperand[]; call: ServiceCall | null } = {
    operands: [],
    call: null,
  };
  readonly #batch: InstructionBatch<T> | null;
  readonly #general: Bank;
  readonly #system = bank(SYSTEM);
  readonly #changes = {
    count: 0,
    registers: new Uint8Array(REGISTER_NAMES.length),
    high: new Uint32Array(REGISTER_NAMES.length),
    low: new Uint32Array(REGISTER_NAMES.length),
  };
  #unhook: Unhook | null = null;
  /** Notes what is known, where the host can; its instructions are those of the same place in `noted`. */
  #steps: Steps | null = null;
  readonly #noted: (KnownInstruction<T> | undefined)[];
  /** Numbers of the modes and CS bases seen. */
  readonly #modes = new Map<string, number>();
  #last: KnownInstruction<T> | null = null;
  #currentMode: CpuMode = 'real16';
  #csBase = 0;
  /** The registers were not looked at since an instruction that nobody is told of, or since the host changed them. */
  #stale = true;
  #resumed = false;
  /** Instructions handed over, or left out because nobody wants them described; repeated ones count once. */
  count = 0;

  constructor(machine: Machine, listener: InstructionListener<T>) {
    this.#machine = machine;
    // Filled, for V8 looks up what stands far apart in an array by hashes.
    this.#noted = new Array(NOTED_MASK + 1).fill(undefined);
    this.#cpu = machine.cpu;
    this.#mode = new CpuModeReader(machine.cpu);
    this.#listener = listener;
    this.#batch = listener.batch ?? null;
    this.#general = bank(NOTED_REGISTERS, listener.batch?.registers);
    this.#operands = listener.operands === true ? new OperandWatch(machine.cpu) : null;
    this.#decoder = new InstructionDecoder(listener.syntax, (instruction) => listener.describe(instruction), {
      operands: listener.operands === true,
      changes: listener.operands !== true,
    });
  }

  get running(): boolean {
    return this.#unhook !== null;
  }

  /** Begins with the next instruction. */
  start(): void {
    if (this.#unhook !== null) return;
    this.#last = null;
    this.#stale = true;
    // What is noted is seen when memory has changed again.
    const steps =
      this.#operands !== null
        ? null
        : this.#cpu.hookSteps(
            NOTED_REGISTERS,
            (address) => this.#onStep(Number(address)),
            () => this.#handOver(),
          );
    this.#steps = steps;
    this.#readSystem();
    this.#unhook =
      steps !== null
        ? () => steps.unhook()
        : this.#cpu.hookCode(0n, ALL_ADDRESSES, (address) => this.#onInstruction(Number(address)));
  }

  /** Hands over the instruction that was executed last and ends. The CPU stands before the one at `address`. */
  finish(address: number): void {
    this.arrive(address);
    this.drop(address);
    this.#unhook?.();
    this.#unhook = null;
  }

  /** The CPU runs again after a stop: the hook may be called again for the instruction it stopped before. */
  resumed(): void {
    this.#handOver();
    this.#resumed = true;
    if (this.#last !== null || this.#unhook === null) return;
    this.#stale = true;
    this.#steps?.readAll();
    this.#readSystem();
  }

  /** The CPU stands before the instruction at `address`: what it executed before that is handed over. */
  arrive(address: number): void {
    this.#handOver();
    if (this.#last?.address !== address) this.#finishLast();
  }

  /** What was about to be executed at `address` will not be: the host does it, or the boot ends here. */
  drop(address: number): void {
    this.#handOver();
    if (this.#last?.address !== address) return;
    this.#last = null;
    this.count--;
  }

  /** Of those that were noted, all but the last have been executed. */
  #handOver(): void {
    const steps = this.#steps;
    if (steps === null) return;
    const { count, addresses, changes, values } = steps;
    const noted = this.#noted;
    const batch = count > 1 ? this.#batch : null;
    batch?.load(steps);
    let last = this.#last;
    let at = 0;
    for (let index = 0; index < count; index++) {
      if (batch !== null && index > 0 && !this.#stale) {
        const told = batch.executed(index, count, at);
        if (told.index > index) {
          ({ index, words: at } = told);
          last = noted[addresses[index - 1]! & NOTED_MASK]!;
          if (index === count) break;
        }
      }
      const next = noted[addresses[index]! & NOTED_MASK]!;
      const read = changes[index]!;
      if (last !== null && last.described !== null) {
        at = this.#emitNoted(last, last.described, read, values, at);
      } else {
        if (last !== null) this.#stale = true;
        // All of them were read then. System registers are looked at only around instructions that can change them, which
        // are never noted.
        if (this.#stale && next.described !== null) {
          at = this.#take(read, values, at);
          this.#stale = false;
        } else {
          for (let rest = read; rest !== 0; rest &= rest - 1) at += 2;
        }
      }
      last = next;
    }
    this.count += count;
    this.#last = last;
    steps.clear();
  }

  /** Takes over the registers that were read; returns where the next values are. */
  #take(read: number, values: Uint32Array, from: number): number {
    const { before } = this.#general;
    let at = from;
    for (let rest = read; rest !== 0; rest &= rest - 1) {
      const word = 2 * (31 - Math.clz32(rest & -rest));
      before[word] = values[at++]!;
      before[word + 1] = values[at++]!;
    }
    return at;
  }

  /** @param read - the registers whose values stand from `from` on; returns where the next are */
  #emitNoted(
    last: KnownInstruction<T>,
    described: T,
    read: number,
    values: Uint32Array,
    from: number,
  ): number {
    const { before } = this.#general;
    const changes = this.#changes;
    const rcxLow = before[RCX_LOW]!;
    const rcxHigh = before[RCX_HIGH]!;
    let at = from;
    let count = 0;
    for (let rest = read; rest !== 0; rest &= rest - 1) {
      const place = 31 - Math.clz32(rest & -rest);
      const low = values[at++]!;
      const high = values[at++]!;
      if (low === before[2 * place] && high === before[2 * place + 1]) continue;
      before[2 * place] = low;
      before[2 * place + 1] = high;
      changes.registers[count] = NOTED_NUMBERS[place]!;
      changes.high[count] = high;
      changes.low[count++] = low;
    }
    changes.count = count;
    const iterations = last.repeated
      ? rcxLow + rcxHigh * TWO_32 - (before[RCX_LOW]! + before[RCX_HIGH]! * TWO_32)
      : 1;
    this.#listener.executed(described, iterations, changes, this.#details);
    this.#details.call = null;
    return at;
  }

  /** For an instruction that is not noted, or not yet. */
  #onStep(address: number): void {
    this.#handOver();
    const steps = this.#steps!;
    this.#onInstruction(address);
    const last = this.#last;
    // What a system instruction changed is looked at before the next one runs.
    if (last === null || last.address !== address || last.system) {
      steps.setLast(address, null, steps.all);
      return;
    }
    const flags = (last.repeated ? REPEATS : 0) | (last.described === null ? QUIET : 0);
    let changes = 0;
    for (let place = 0; place < CHANGE_BITS.length; place++) {
      if ((last.changes & CHANGE_BITS[place]!) !== 0) changes |= 1 << place;
    }
    if (last.described === null) changes = steps.all;
    this.#noted[address & NOTED_MASK] = last;
    this.#batch?.remember(address & NOTED_MASK, last.repeated ? null : last.described);
    steps.remember(address, last.bytes, flags, changes);
    steps.setLast(address, flags, changes);
  }

  #onInstruction(address: number): void {
    const last = this.#last;
    if (this.#resumed) {
      this.#resumed = false;
      if (last !== null && last.address === address) return;
    }
    if (last !== null) {
      if (last.repeated && last.address === address) return;
      this.#finishLast();
    }
    this.count++;
    const next = this.#decoder.decode(this.#machine.memory, address, this.#currentMode, this.#csBase);
    if (this.#stale && next.described !== null) {
      this.#sync(this.#general);
      this.#sync(this.#system);
      this.#stale = false;
    }
    if (next.described !== null) this.#lookBefore(next);
    this.#last = next;
  }

  /** The general registers are known. */
  #lookBefore(next: KnownInstruction<T>): void {
    this.#operands?.before(
      next.operands,
      (number) => this.#register(REGISTER_PLACES[number]!),
      this.#register(RFLAGS),
    );
    if (next.classes.includes('int')) this.#details.call = this.#callOf(next);
  }

  #register(place: number): bigint {
    const { before } = this.#general;
    return (BigInt(before[2 * place + 1]!) << 32n) | BigInt(before[2 * place]!);
  }

  #callOf({ bytes, mode }: KnownInstruction<T>): ServiceCall | null {
    if (mode !== 'real16') return null;
    const vector = bytes.at(-2) === INT ? bytes.at(-1)! : BREAKPOINT;
    const ax = Number(this.#register(REGISTER_PLACES[0]!) & 0xffffn);
    const { bios, interrupts } = this.#machine;
    return { ah: ax >>> 8, service: interrupts.pointsToBios(vector) ? bios.nameOf(vector, ax) : null };
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
    this.#cpu.readRegisters(this.#general.names, this.#general.now);
    this.#emit(last);
  }

  /** The registers after it have been read. */
  #emit(last: KnownInstruction<T>): void {
    const { before, words } = this.#general;
    // The engine calls the hook once more to see that the count is used up, so the calls are not the iterations.
    const iterations = last.repeated
      ? before[RCX_LOW]! + before[RCX_HIGH]! * TWO_32 - (words[RCX_LOW]! + words[RCX_HIGH]! * TWO_32)
      : 1;
    this.#changes.count = 0;
    this.#compare(this.#general);
    if (last.system) {
      this.#cpu.readRegisters(this.#system.names, this.#system.now);
      this.#compare(this.#system);
      this.#readSystem();
    }
    if (this.#operands !== null)
      this.#details.operands = this.#operands.after(last.repeated ? iterations : null);
    this.#listener.executed(last.described!, iterations, this.#changes, this.#details);
    this.#details.call = null;
  }

  #readSystem(): void {
    this.#currentMode = this.#mode.read();
    this.#csBase = Number(codeSegmentBase(this.#cpu, this.#currentMode));
    const key = `${this.#currentMode} ${this.#csBase}`;
    if (!this.#modes.has(key)) this.#modes.set(key, this.#modes.size);
    this.#steps?.setMode(this.#modes.get(key)!);
    this.#operands?.system(this.#currentMode === 'long64');
  }

  #sync({ names, now, words, before }: Bank): void {
    this.#cpu.readRegisters(names, now);
    before.set(words);
  }

  #compare({ numbers, before, words }: Bank): void {
    const changes = this.#changes;
    for (let index = 0; index < before.length; index += 2) {
      const low = words[index]!;
      const high = words[index + 1]!;
      if (low === before[index] && high === before[index + 1]) continue;
      before[index] = low;
      before[index + 1] = high;
      const place = changes.count++;
      changes.registers[place] = numbers[index >> 1]!;
      changes.high[place] = high;
      changes.low[place] = low;
    }
  }
}
