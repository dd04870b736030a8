// The machine's own time: it moves only when the guest does something that takes time, never with the host's.

/** How long one port access takes, in nanoseconds: about what an ISA bus needs. */
export const PORT_ACCESS_NANOSECONDS = 1_000;
/** Frequency of the quartz behind the PIT, in Hz (Intel 8254 in a PC). */
export const PIT_HZ = 1_193_182;
/** Frequency of the time stamp counter, in Hz. */
export const TSC_HZ = 1_000_000_000;
/** Length of a timer tick (65536 counts of the PIT), in nanoseconds. */
export const TICK_NANOSECONDS = (65_536 / PIT_HZ) * 1e9;

/** Deterministic time since power-on. Devices derive what they count from it; nothing else is a clock. */
export class Clock {
  /** Nanoseconds since power-on; exact up to 2^53 (104 days). */
  nanoseconds = 0;
  /** Called when `advance` passed at least one timer tick (18.2 a second). */
  onTick: (() => void) | null = null;
  #nextTick = TICK_NANOSECONDS;

  /** Timer ticks since power-on. */
  get ticks(): number {
    return Math.floor(this.nanoseconds / TICK_NANOSECONDS);
  }

  /** Lets `nanoseconds` pass. */
  advance(nanoseconds: number): void {
    this.nanoseconds += nanoseconds;
    if (this.nanoseconds >= this.#nextTick) {
      this.#nextTick = (this.ticks + 1) * TICK_NANOSECONDS;
      this.onTick?.();
    }
  }

  /** Lets time pass up to the next timer tick. */
  advanceToNextTick(): void {
    this.advance(Math.ceil(this.#nextTick - this.nanoseconds));
  }
}
