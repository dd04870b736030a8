// The two cascaded 8259A interrupt controllers: what the guest programs can be read back; the timer is their only line.

import type { PortDevice } from './port-bus.ts';

export const MASTER_PIC = 0x20;
export const SLAVE_PIC = 0xa0;

// Intel 8259A data sheet, "Initialization Command Words" and "Operation Command Words".
const ICW1 = 0x10;
const ICW1_IC4 = 0x01;
const ICW1_SNGL = 0x02;
const OCW3 = 0x08;
const OCW3_READ_REGISTER = 0x02;
const OCW3_ISR = 0x01;
const OCW2_EOI = 0x20;
const OCW2_SPECIFIC = 0x40;

export class Pic implements PortDevice {
  readonly name = 'PIC';
  readonly basePort: number;
  /** Vector of the first line, from ICW2. */
  vectorBase: number;
  /** Masked lines (IMR). */
  mask: number;
  #inService = 0;
  #initializing: ('icw2' | 'icw3' | 'icw4')[] = [];
  #readsInService = false;

  /**
   * @param vectorBase - 0x08 for the master and 0x70 for the slave, as a BIOS programs them
   * @param mask - lines that are masked at first
   */
  constructor(basePort: number, vectorBase: number, mask: number) {
    this.basePort = basePort;
    this.vectorBase = vectorBase;
    this.mask = mask;
  }

  /** Whether `line` (0 to 7) would get through to the CPU now. */
  wouldDeliver(line: number): boolean {
    const higherOrSame = (2 << line) - 1;
    return !(this.mask & (1 << line)) && !(this.#inService & higherOrSame);
  }

  /** Takes `line` into service and returns its vector. */
  acknowledge(line: number): number {
    this.#inService |= 1 << line;
    return this.vectorBase + line;
  }

  /** End of interrupt for `line`, as the BIOS handler sends it. */
  endOfInterrupt(line: number): void {
    this.#inService &= ~(1 << line);
  }

  readPort(port: number): number {
    if (port !== this.basePort) {
      return this.mask;
    }
    return this.#readsInService ? this.#inService : 0;
  }

  writePort(port: number, value: number): void {
    if (port !== this.basePort) {
      this.#writeData(value);
    } else if (value & ICW1) {
      this.mask = 0;
      this.#inService = 0;
      this.#readsInService = false;
      this.#initializing = ['icw2'];
      if (!(value & ICW1_SNGL)) {
        this.#initializing.push('icw3');
      }
      if (value & ICW1_IC4) {
        this.#initializing.push('icw4');
      }
    } else if (value & OCW3) {
      if (value & OCW3_READ_REGISTER) {
        this.#readsInService = (value & OCW3_ISR) !== 0;
      }
    } else if (value & OCW2_EOI) {
      const line = value & OCW2_SPECIFIC ? value & 7 : lowestBit(this.#inService);
      this.endOfInterrupt(line);
    }
  }

  #writeData(value: number): void {
    switch (this.#initializing.shift()) {
      case 'icw2':
        this.vectorBase = value & 0xf8;
        break;
      case undefined:
        this.mask = value;
        break;
      default: // ICW3 and ICW4: the wiring of a PC, taken as given
        break;
    }
  }
}

function lowestBit(bits: number): number {
  return bits === 0 ? 0 : 31 - Math.clz32(bits & -bits);
}
