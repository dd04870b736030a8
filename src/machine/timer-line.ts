// IRQ 0: when a timer interrupt reaches the guest. There is no way to break into running code at a given
// time, so a tick gets in where the guest comes by: behind a BIOS call, after HLT, or at the end of a slice.

import type { Cpu, Unhook } from '../cpu/cpu.ts';
import { CR0_PE } from '../x86/control-registers.ts';
import { BDA, BDA_END } from './bios/rom.ts';
import { FLAG_IF } from './bios/service.ts';
import type { TickCount } from './bios/time.ts';
import type { Clock } from './clock.ts';
import type { Interrupts } from './interrupts.ts';
import type { Pic } from './pic.ts';

const TIMER_LINE = 0;
const TIMER_VECTOR = 0x08;
const TIMER_HOOK_VECTOR = 0x1c;
const LAST_ADDRESS = 0xffff_ffff_ffff_ffffn;
/** Ticks of doing nothing after which a halted guest is taken to have halted for good: about a minute. */
const IDLE_TICKS = 1092;
/** Slices without a port access or BIOS call after which a guest seems to wait for the timer. */
const STALLED_SLICES = 2;
/** Blocks in which a guest that turned interrupts off may turn them on again to get a waiting tick. */
const WINDOW_BLOCKS = 5_000;

export interface TimerLineParts {
  readonly cpu: Cpu;
  readonly clock: Clock;
  readonly pic: Pic;
  readonly interrupts: Interrupts;
  readonly ticks: TickCount;
  /** Grows with everything the guest does outside the CPU. */
  readonly activity: () => number;
  readonly stop: (reason: string) => void;
}

export class TimerLine {
  readonly #parts: TimerLineParts;
  /** A tick has passed that a handler of the guest's waits for. */
  #pending = false;
  /** Watches for interrupts to be turned on. */
  #window: Unhook | null = null;
  #windowBlocks = 0;
  #idleTicks = 0;
  #activityAtIdle = -1;
  #quietSlices = 0;
  #activityAtSlice = -1;
  #waitedTicks = 0;

  constructor(parts: TimerLineParts) {
    this.#parts = parts;
    parts.clock.onTick = () => this.#onTick();
  }

  /** See `Machine.idle`. */
  idle(): boolean {
    const { clock, pic, activity, stop } = this.#parts;
    if (!this.#interruptsOn) {
      stop('the guest halted with interrupts off');
      return false;
    }
    if (!pic.wouldDeliver(TIMER_LINE)) {
      stop('the guest halted, and no interrupt can wake it: the timer is masked');
      return false;
    }
    const now = activity();
    this.#idleTicks = now === this.#activityAtIdle ? this.#idleTicks + 1 : 0;
    this.#activityAtIdle = now;
    if (this.#idleTicks > IDLE_TICKS) {
      stop('the guest halted, and a minute of timer interrupts did not wake it');
      return false;
    }
    clock.advanceToNextTick();
    if (!this.#deliver()) {
      stop('a timer interrupt came to the halted guest, and its IDT has no gate for it');
      return false;
    }
    return true;
  }

  /** See `Machine.afterSlice`. */
  afterSlice(): void {
    const now = this.#parts.activity();
    this.#quietSlices = now === this.#activityAtSlice ? this.#quietSlices + 1 : 0;
    this.#activityAtSlice = now;
    if (this.#quietSlices === 0) this.#waitedTicks = 0;
    if (!this.#deliverable) {
      return;
    }
    if (this.#pending) {
      this.#deliver();
    } else if (this.#quietSlices >= STALLED_SLICES && !this.#inProtectedMode) {
      this.#parts.clock.advanceToNextTick();
      this.#deliver();
      this.#waitedTicks++;
    }
  }

  /** Whether a tick might be delivered after a slice, so that the CPU has to stand still. */
  get isDue(): boolean {
    return this.#deliverable;
  }

  /** Ticks given to a guest that has done nothing outside the CPU since. */
  get waitedTicks(): number {
    return this.#waitedTicks;
  }

  /**
   * Whether a tick can make a difference to a guest that touches these addresses only: a handler of its own may do anything, and
   * the BIOS notes ticks and keys down in its data area.
   */
  mattersTo(touched: ReadonlySet<number>): boolean {
    const { pic, interrupts } = this.#parts;
    const isBios = [pic.vectorBase + TIMER_LINE, TIMER_HOOK_VECTOR].every((vector) =>
      interrupts.pointsToBios(vector),
    );
    return !isBios || [...touched].some((address) => address >= BDA && address < BDA_END);
  }

  /** The guest goes on behind an `INT n` that the BIOS has served. Call it in the interrupt hook. */
  afterService(): void {
    if (!this.#pending) {
      return;
    }
    if (this.#deliverable) {
      this.#deliver();
    } else if (this.#window === null && !this.#interruptsOn) {
      this.#openWindow();
    }
  }

  #onTick(): void {
    const { interrupts, ticks } = this.#parts;
    if (this.#inProtectedMode) {
      return;
    }
    const biosHandles = interrupts.pointsToBios(TIMER_VECTOR);
    if (biosHandles) {
      ticks.update();
    }
    this.#pending = !biosHandles || !interrupts.pointsToBios(TIMER_HOOK_VECTOR);
  }

  /**
   * Through the guest's handler where it has one, else what the BIOS's handler does.
   * @returns false where the guest is in protected mode without a handler; the tick is lost then
   */
  #deliver(): boolean {
    const { pic, interrupts, ticks } = this.#parts;
    this.#pending = false;
    const vector = pic.acknowledge(TIMER_LINE);
    if (this.#inProtectedMode || !interrupts.pointsToBios(vector)) {
      const delivered = interrupts.deliverHardware(vector);
      if (!delivered) {
        pic.endOfInterrupt(TIMER_LINE);
      }
      return delivered;
    }
    ticks.update();
    pic.endOfInterrupt(TIMER_LINE);
    return interrupts.pointsToBios(TIMER_HOOK_VECTOR) || interrupts.deliverHardware(TIMER_HOOK_VECTOR);
  }

  /** Looks at IF before each block for a while: costly, so only for guests that have a timer handler. */
  #openWindow(): void {
    const { cpu } = this.#parts;
    this.#windowBlocks = 0;
    this.#window = cpu.hookBlock(0n, LAST_ADDRESS, () => {
      this.#windowBlocks++;
      const close = !this.#pending || this.#windowBlocks > WINDOW_BLOCKS;
      if (!close && !this.#deliverable) {
        return;
      }
      this.#window?.();
      this.#window = null;
      if (!close) {
        this.#deliver();
      }
    });
    // Code that has been translated calls the hook only after the engine has been left.
    cpu.writeRegister('rip', cpu.readRegister('rip'));
  }

  get #deliverable(): boolean {
    return this.#interruptsOn && this.#parts.pic.wouldDeliver(TIMER_LINE);
  }

  get #interruptsOn(): boolean {
    return (this.#parts.cpu.readRegister('rflags') & BigInt(FLAG_IF)) !== 0n;
  }

  get #inProtectedMode(): boolean {
    return (this.#parts.cpu.readRegister('cr0') & CR0_PE) !== 0n;
  }
}
