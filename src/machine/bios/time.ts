// INT 1Ah and INT 08h: timer ticks and the real-time clock. There is no PCI BIOS.

import type { PhysicalMemory } from '../../x86/physical-memory.ts';
import type { Clock } from '../clock.ts';
import type { Cmos } from '../cmos.ts';
import type { Pic } from '../pic.ts';
import { BDA_MIDNIGHT, BDA_TICKS } from './rom.ts';
import type { BiosRegisters, BiosService, BiosVector } from './service.ts';

const TICKS_PER_DAY = 0x1800b0;
/** A guest that asks for the time is usually waiting for it to pass. */
const POLL_NANOSECONDS = 100_000;
const PCI_UNSUPPORTED = 0x81;

export interface TimeParts {
  readonly memory: PhysicalMemory;
  readonly clock: Clock;
  readonly cmos: Cmos;
  readonly pic: Pic;
}

/** Keeps the tick count in the BDA, which INT 1Ah AH=01h can set. */
export class TickCount {
  readonly #memory: PhysicalMemory;
  readonly #clock: Clock;
  #base = 0;

  constructor(memory: PhysicalMemory, clock: Clock) {
    this.#memory = memory;
    this.#clock = clock;
  }

  /** Ticks since midnight. */
  get value(): number {
    return (this.#clock.ticks + this.#base) % TICKS_PER_DAY;
  }

  set value(ticks: number) {
    this.#base = ticks - this.#clock.ticks;
    this.update();
  }

  /** Brings the BDA up to date. */
  update(): void {
    const ticks = this.value;
    if (ticks < this.#memory.read32(BDA_TICKS)) {
      this.#memory.write8(BDA_MIDNIGHT, 1);
    }
    this.#memory.write32(BDA_TICKS, ticks);
  }
}

/** The services of INT 1Ah. */
export function timeVector(parts: TimeParts, ticks: TickCount): BiosVector {
  const { memory, clock, cmos } = parts;

  function getTicks(r: BiosRegisters): void {
    clock.advance(POLL_NANOSECONDS);
    ticks.update();
    r.cx = ticks.value >>> 16;
    r.dx = ticks.value & 0xffff;
    r.ah = 0;
    r.al = memory.read8(BDA_MIDNIGHT);
    memory.write8(BDA_MIDNIGHT, 0);
    r.carry = false;
  }

  function setTicks(r: BiosRegisters): void {
    ticks.value = (r.cx * 0x10000 + r.dx) % TICKS_PER_DAY;
    memory.write8(BDA_MIDNIGHT, 0);
    r.ah = 0;
    r.carry = false;
  }

  function readTime(r: BiosRegisters): void {
    clock.advance(POLL_NANOSECONDS);
    const { hours, minutes, seconds } = cmos.time;
    r.cx = (hours << 8) | minutes;
    r.dx = seconds << 8;
    r.ax = hours;
    r.carry = false;
  }

  function readDate(r: BiosRegisters): void {
    clock.advance(POLL_NANOSECONDS);
    const { century, year, month, day } = cmos.time;
    r.cx = (century << 8) | year;
    r.dx = (month << 8) | day;
    r.ax = century;
    r.carry = false;
  }

  function setClock(r: BiosRegisters): void {
    r.ah = 0;
    r.carry = false;
  }

  function noPciBios(r: BiosRegisters): void {
    r.ah = PCI_UNSUPPORTED;
    r.carry = true;
  }

  const byAh: readonly (readonly [number, BiosService])[] = [
    [0x00, { name: 'get timer ticks', run: getTicks }],
    [0x01, { name: 'set timer ticks', run: setTicks }],
    [0x02, { name: 'get time of day', run: readTime }],
    [0x03, { name: 'set time of day', run: setClock }],
    [0x04, { name: 'get date', run: readDate }],
    [0x05, { name: 'set date', run: setClock }],
    [0xb1, { name: 'PCI BIOS', run: noPciBios }],
    [
      0xbb,
      {
        name: 'TCG BIOS',
        run: (r) => {
          r.carry = true;
        },
      },
    ],
  ];
  return {
    vector: 0x1a,
    byAh: new Map(byAh),
    unknown: (r) => {
      r.carry = true;
    },
  };
}

/** INT 08h and 1Ch: the timer's own interrupt, and the hook that programs may take. */
export function timerVectors(parts: TimeParts, ticks: TickCount): readonly BiosVector[] {
  const tick: BiosService = {
    name: 'timer tick',
    run: () => {
      ticks.update();
      parts.pic.endOfInterrupt(0);
    },
  };
  return [
    { vector: 0x08, only: tick },
    { vector: 0x1c, only: { name: 'timer tick for programs', run: () => {} } },
  ];
}
