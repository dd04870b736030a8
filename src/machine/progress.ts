// Tells a guest that works from one that will never do anything again: loops that change nothing, waiting that nothing ends,
// and printing the same text without end. It looks at fixed counts of instructions, so that a boot is told the same each time.

import { type Cpu, REGISTER_NAMES, type RunEnd } from '../cpu/cpu.ts';
import { hex } from '../hex.ts';
import type { Clock } from './clock.ts';

/** Instructions between two looks. */
export const SLICE = 500_000;
/** The first look at whether a guest that does nothing outside the CPU goes round in a loop; the later ones at twice as many. */
const FIRST_PROBE = 4;
/**
 * Instructions after which a loop is taken for endless that changes registers only, and one that changes the same few bytes, too,
 * which takes an engine several times as long.
 */
const ENDLESS = 64e6;
const ENDLESS_IN_MEMORY = 10e6;
/** Rounds after which a probe has seen enough, and how few are enough where the probe ends before. */
const ENOUGH_ROUNDS = 1000;
const FEWEST_ROUNDS = 16;
/** Bytes of memory that a loop which gets nowhere may be about: a counter, what a call or an interrupt leaves on the stack. */
const FEW_BYTES = 32;
/** Time of the machine's own that a guest may poll a port without any change: longer than a clock chip's second. */
const POLLING_NANOSECONDS = 1.2e9;
/** Timer ticks that a loop may wait for: a minute. */
const WAITING_TICKS = 1092;
/** Instructions of a loop that are looked at for where it lies. */
const LONGEST_LOOP = 20_000;
/** Characters that have to repeat, from look to look, how many may make the text that does, and different ones in it (dots are progress). */
const REPEATED_TEXT = 2048;
const CHARACTERS_A_LOOK = 256;
const LONGEST_LINE = 512;
const FEWEST_LETTERS = 4;

export interface ProgressParts {
  readonly cpu: Cpu;
  readonly clock: Clock;
  readonly ram: () => Uint8Array;
  /** Counts of what the guest did outside the CPU; the time stamp counter is a port. */
  readonly activity: () => { readonly ports: number; readonly biosCalls: number };
  /** Timer ticks that a guest waiting in a loop has been given without doing anything. */
  readonly waitedTicks: () => number;
  /** Whether a tick can make a difference to a guest that touches these addresses only. */
  readonly ticksMatterTo: (touched: ReadonlySet<number>) => boolean;
  /** What it printed on all its ways. */
  readonly printed: () => string;
  readonly stop: (reason: string) => void;
}

export class Progress {
  readonly #parts: ProgressParts;
  #ports = -1;
  #biosCalls = -1;
  #quietSlices = 0;
  /** The count of instructions, and what it was when the guest last did something outside the CPU. */
  #instructions = 0;
  #quietSince = 0;
  /** Slices with port accesses and nothing else, and when they began. */
  #pollingSlices = 0;
  #pollingSince = 0;
  /** Printed since the text was looked at. */
  #characters = 0;
  #isProbeDue = false;

  constructor(parts: ProgressParts) {
    this.#parts = parts;
  }

  /** After each `SLICE` instructions, or a tick for a guest that waits. */
  afterSlice(instructions: number): void {
    const { activity, clock, waitedTicks } = this.#parts;
    const { ports, biosCalls } = activity();
    const isQuiet = ports === this.#ports && biosCalls === this.#biosCalls;
    const polls = !isQuiet && biosCalls === this.#biosCalls;
    this.#quietSlices = isQuiet ? this.#quietSlices + 1 : 0;
    const before = this.#quiet;
    this.#instructions = instructions;
    if (!isQuiet) this.#quietSince = instructions;
    const isLong = before < ENDLESS_IN_MEMORY && this.#quiet >= ENDLESS_IN_MEMORY;
    if (!polls) this.#pollingSince = clock.nanoseconds;
    this.#pollingSlices = polls ? this.#pollingSlices + 1 : 0;
    this.#ports = ports;
    this.#biosCalls = biosCalls;
    const waited = waitedTicks();
    if (isQuiet)
      this.#isProbeDue =
        (this.#quietSlices >= FIRST_PROBE && isPowerOfTwo(this.#quietSlices)) ||
        isLong ||
        (waited > 0 && waited % WAITING_TICKS === 0);
    else this.#isProbeDue = polls && clock.nanoseconds - this.#pollingSince > POLLING_NANOSECONDS;
  }

  /** After each character that the guest prints. */
  afterCharacter(): void {
    if (++this.#characters < CHARACTERS_A_LOOK) return;
    this.#characters = 0;
    const text = this.#parts.printed();
    if (text.length < REPEATED_TEXT) return;
    const tail = text.slice(-REPEATED_TEXT);
    const period = periodOf(tail);
    if (period === null) return;
    const line = tail.slice(-period);
    if (new Set(line.replace(/\s/g, '')).size < FEWEST_LETTERS) return;
    this.#parts.stop(
      `the guest prints the same text over and over (${Math.floor(REPEATED_TEXT / period)} times in a row): ${JSON.stringify(inOrder(line))}`,
    );
  }

  /** Instructions since the guest last did something outside the CPU. */
  get #quiet(): number {
    return this.#instructions - this.#quietSince;
  }

  /** Whether `probe` is to be called for what comes next. */
  get isProbeDue(): boolean {
    return this.#isProbeDue;
  }

  /**
   * Runs the CPU as `run` does and watches whether it comes back to where it is with everything as it was, or, where it has
   * been quiet for long, whether all that it touches are a few bytes.
   * @param instructions - at most so many
   * @param milliseconds - of the host's, at most
   */
  probe(instructions: number, milliseconds = Number.POSITIVE_INFINITY): RunEnd {
    this.#isProbeDue = false;
    const { cpu } = this.#parts;
    const before = registers(cpu);
    const start = linearRip(cpu, before);
    const quiet = this.#quiet;
    const watchesChanges = quiet >= ENDLESS_IN_MEMORY;
    const touched = new Set<number>();
    let changed = false;
    let rounds = -1;
    let isBack = false;
    const touch = (address: bigint, size: number): void => {
      if (touched.size > FEW_BYTES) return;
      for (let at = 0; at < size; at++) touched.add(Number(address) + at);
    };
    const unhookWrites = cpu.hookMemoryWrite(0n, LAST_ADDRESS, (address, size, value) => {
      touch(address, size);
      changed ||= !this.#holds(Number(address), size, value);
      if (changed && !(watchesChanges && touched.size <= FEW_BYTES)) cpu.stop();
    });
    const unhookReads = cpu.hookMemoryRead(0n, LAST_ADDRESS, touch);
    const unhookStart = cpu.hookCode(start, start, () => {
      rounds++;
      if (rounds === 0 || isBack) return;
      isBack = !changed && isSame(before, registers(cpu));
      if (isBack || rounds >= ENOUGH_ROUNDS) cpu.stop();
    });
    const end = cpu.run({ instructions, sliceMilliseconds: Math.max(milliseconds, 1) });
    unhookWrites();
    unhookReads();
    unhookStart();
    const isSeen = rounds >= ENOUGH_ROUNDS || (end.kind === 'slice' && rounds >= FEWEST_ROUNDS);
    const isConfined =
      isSeen && touched.size <= FEW_BYTES && (touched.size === 0 ? quiet >= ENDLESS : watchesChanges);
    if (isBack || isConfined) this.#judgeLoop(start, touched, isBack);
    // A stop of ours is the end of a slice to whoever runs the machine, unless it had a reason of its own.
    return end.kind === 'stopped' && (changed || rounds > 0) ? { kind: 'slice' } : end;
  }

  #holds(address: number, size: number, value: bigint): boolean {
    const ram = this.#parts.ram();
    for (let at = 0; at < size; at++) {
      if (ram[address + at] !== Number((value >> BigInt(8 * at)) & 0xffn)) return false;
    }
    return true;
  }

  /**
   * @param touched - addresses of what it reads or writes
   * @param isSame - whether all is as it was a round ago
   */
  #judgeLoop(start: bigint, touched: ReadonlySet<number>, isSame: boolean): void {
    const { stop, waitedTicks, ticksMatterTo } = this.#parts;
    const waited = waitedTicks();
    const waits = waited > 0 && ticksMatterTo(touched);
    if (waits && (!isSame || waited % WAITING_TICKS !== 0)) return;
    const { lowest, highest, length } = this.#extent(start);
    const where = lowest === highest ? `at ${hex(lowest)}` : `from ${hex(lowest)} to ${hex(highest)}`;
    const quiet = this.#quiet;
    // It was quiet, or polled, for so long; before that it may have been elsewhere.
    const past = Math.max(quiet, this.#pollingSlices * SLICE);
    const times = length === null || past === 0 ? '' : rounds(Math.floor(past / length), length);
    if (waits) stop(`the guest waits in a loop ${where}, and a minute of timer interrupts did not end it`);
    else if (!isSame)
      stop(
        `the guest goes round in a loop ${where} that has changed nothing but ${names(touched)} in ${Math.floor(quiet / 1e6)} million instructions${times}`,
      );
    else if (this.#pollingSlices > 0)
      stop(
        `the guest waits for a device in a loop ${where}, and what it reads there does not change${times}`,
      );
    else stop(`the guest goes round in a loop ${where} for ever: nothing changes in it${times}`);
  }

  /** One round of the loop, watched instruction by instruction: where it lies, and its instructions; null for very many. */
  #extent(start: bigint): { lowest: bigint; highest: bigint; length: number | null } {
    const { cpu } = this.#parts;
    const before = cpu.instructions ?? 0;
    let lowest = start;
    let highest = start;
    let length: number | null = null;
    const unhook = cpu.hookCode(0n, LAST_ADDRESS, (address) => {
      const done = (cpu.instructions ?? 0) - before;
      if (done > 0 && address === start) {
        length ??= done;
        cpu.stop();
      }
      if (address < lowest) lowest = address;
      if (address > highest) highest = address;
    });
    cpu.run({ instructions: LONGEST_LOOP });
    unhook();
    return { lowest, highest, length };
  }
}

function rounds(number: number, length: number): string {
  return ` (${length} ${length === 1 ? 'instruction' : 'instructions'} a round, ${number} rounds and more)`;
}

/** What a loop changes. */
function names(touched: ReadonlySet<number>): string {
  if (touched.size === 0) return 'registers';
  const [lowest, highest] = [Math.min(...touched), Math.max(...touched)];
  return `registers and ${touched.size === 1 ? `the byte at ${hex(lowest)}` : `${touched.size} bytes from ${hex(lowest)} to ${hex(highest)}`}`;
}

const LAST_ADDRESS = 0xffff_ffff_ffff_ffffn;
const CR0_PE = 1n;

function registers(cpu: Cpu): BigUint64Array {
  const values = new BigUint64Array(REGISTER_NAMES.length);
  cpu.readRegisters(REGISTER_NAMES, values);
  return values;
}

function isSame(a: BigUint64Array, b: BigUint64Array): boolean {
  return a.every((value, index) => value === b[index]);
}

function linearRip(cpu: Cpu, values: BigUint64Array): bigint {
  const rip = values[REGISTER_NAMES.indexOf('rip')]!;
  if (cpu.readRegister('cr0') & CR0_PE) return rip;
  return (values[REGISTER_NAMES.indexOf('cs')]! << 4n) + (rip & 0xffffn);
}

function isPowerOfTwo(number: number): boolean {
  return (number & (number - 1)) === 0;
}

/** The least number of characters after which all of the text repeats; null where none of at most `LONGEST_LINE` does. */
function periodOf(text: string): number | null {
  for (let period = 1; period <= LONGEST_LINE; period++) {
    if (text.startsWith(text.slice(period), 0)) return period;
  }
  return null;
}

/** A line that was cut somewhere, from its beginning. */
function inOrder(line: string): string {
  const end = line.indexOf('\n');
  return end < 0 ? line : line.slice(end + 1) + line.slice(0, end + 1);
}
