// 8254 programmable interval timer: three counters that the machine's clock drives.

import { type Clock, PIT_HZ } from './clock.ts';
import type { PortDevice } from './port-bus.ts';

export const PIT_COUNTER_0 = 0x40;
export const PIT_CONTROL = 0x43;

// Control word (Intel 8254 data sheet, "Control Word Format").
const RW_LATCH = 0;
const RW_LSB = 1;
const RW_MSB = 2;
const READ_BACK = 3;
const READ_BACK_NO_COUNT = 0x20;
const READ_BACK_NO_STATUS = 0x10;
const STATUS_OUTPUT = 0x80;
const STATUS_NULL_COUNT = 0x40;

class Counter {
  reload = 0x10000;
  mode = 3;
  access = 3;
  bcd = false;
  gate = true;
  /** Clock pulses since power-on when the count was loaded. */
  loadedAt = 0;
  /** A control word without a count yet. */
  waiting = false;
  writeLatch: number | null = null;
  readHigh = false;
  readonly latched: number[] = [];

  /** @returns the counting element's value, 0 to 0xffff */
  count(pulses: number): number {
    const elapsed = this.gate ? pulses - this.loadedAt : 0;
    switch (this.mode) {
      case 2:
        return (this.reload - (elapsed % this.reload)) & 0xffff;
      case 3: // counts by two, twice in a period
        return (this.reload - ((2 * elapsed) % this.reload)) & 0xfffe;
      default:
        return (this.reload - elapsed) & 0xffff;
    }
  }

  output(pulses: number): boolean {
    const elapsed = pulses - this.loadedAt;
    switch (this.mode) {
      case 0:
      case 1:
        return !this.waiting && this.gate && elapsed >= this.reload;
      case 2:
        return elapsed % this.reload !== this.reload - 1;
      case 3:
        return elapsed % this.reload < this.reload / 2;
      default:
        return elapsed !== this.reload;
    }
  }
}

export class Pit implements PortDevice {
  readonly name = 'PIT';
  readonly #clock: Clock;
  /** Pulses the counters are ahead at power-on, so that the seed shows in what they read. */
  phase: number;
  readonly #counters = [new Counter(), new Counter(), new Counter()] as const;

  /** @param phase - see the field */
  constructor(clock: Clock, phase = 0) {
    this.#clock = clock;
    this.phase = phase;
  }

  /** OUT of counter 2, which port 61h shows. */
  get speakerOutput(): boolean {
    return this.#counters[2].output(this.#pulses);
  }

  /** GATE of counter 2, which port 61h sets; a rising edge starts the count anew. */
  setSpeakerGate(gate: boolean): void {
    const counter = this.#counters[2];
    if (gate && !counter.gate) {
      counter.loadedAt = this.#pulses;
    }
    counter.gate = gate;
  }

  readPort(port: number): number {
    const counter = this.#counters[port - PIT_COUNTER_0];
    if (counter === undefined) {
      return 0xff; // the control register is write-only
    }
    const latched = counter.latched.shift();
    if (latched !== undefined) {
      return latched;
    }
    const count = this.#readCount(counter);
    if (counter.access === RW_LSB) {
      return count & 0xff;
    }
    if (counter.access === RW_MSB) {
      return count >>> 8;
    }
    counter.readHigh = !counter.readHigh;
    return counter.readHigh ? count & 0xff : count >>> 8;
  }

  writePort(port: number, value: number): void {
    if (port === PIT_CONTROL) {
      this.#writeControl(value);
      return;
    }
    const counter = this.#counters[port - PIT_COUNTER_0]!;
    let reload: number;
    if (counter.access === RW_LSB) {
      reload = value;
    } else if (counter.access === RW_MSB) {
      reload = value << 8;
    } else if (counter.writeLatch === null) {
      counter.writeLatch = value;
      return;
    } else {
      reload = counter.writeLatch | (value << 8);
      counter.writeLatch = null;
    }
    if (counter.bcd) {
      reload = fromBcd(reload) || 10_000;
    }
    counter.reload = reload || 0x10000;
    counter.loadedAt = this.#pulses;
    counter.waiting = false;
  }

  get #pulses(): number {
    return this.phase + Math.floor((this.#clock.nanoseconds * PIT_HZ) / 1e9);
  }

  #readCount(counter: Counter): number {
    const count = counter.count(this.#pulses);
    return counter.bcd ? toBcd(count % 10_000) : count;
  }

  #writeControl(value: number): void {
    const select = value >>> 6;
    if (select === READ_BACK) {
      this.#counters.forEach((counter, index) => {
        if (value & (2 << index)) {
          this.#readBack(counter, value);
        }
      });
      return;
    }
    const counter = this.#counters[select as 0 | 1 | 2];
    const access = (value >>> 4) & 3;
    if (access === RW_LATCH) {
      this.#latchCount(counter);
      return;
    }
    const mode = (value >>> 1) & 7;
    counter.access = access;
    counter.mode = mode > 5 ? mode - 4 : mode;
    counter.bcd = (value & 1) !== 0;
    counter.waiting = true;
    counter.writeLatch = null;
    counter.readHigh = false;
    counter.latched.length = 0;
  }

  #readBack(counter: Counter, command: number): void {
    if (counter.latched.length > 0) {
      return; // ignored until what is latched has been read
    }
    if (!(command & READ_BACK_NO_STATUS)) {
      counter.latched.push(
        (counter.output(this.#pulses) ? STATUS_OUTPUT : 0) |
          (counter.waiting ? STATUS_NULL_COUNT : 0) |
          (counter.access << 4) |
          (counter.mode << 1) |
          (counter.bcd ? 1 : 0),
      );
    }
    if (!(command & READ_BACK_NO_COUNT)) {
      this.#pushCount(counter);
    }
  }

  #latchCount(counter: Counter): void {
    if (counter.latched.length === 0) {
      this.#pushCount(counter);
    }
  }

  #pushCount(counter: Counter): void {
    const count = this.#readCount(counter);
    if (counter.access !== RW_MSB) {
      counter.latched.push(count & 0xff);
    }
    if (counter.access !== RW_LSB) {
      counter.latched.push(count >>> 8);
    }
  }
}

function toBcd(value: number): number {
  let bcd = 0;
  for (let shift = 0, rest = value; rest > 0; shift += 4, rest = Math.floor(rest / 10)) {
    bcd |= (rest % 10) << shift;
  }
  return bcd;
}

function fromBcd(value: number): number {
  return (value >>> 12) * 1000 + ((value >>> 8) & 15) * 100 + ((value >>> 4) & 15) * 10 + (value & 15);
}
