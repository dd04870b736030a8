// CMOS memory and the real-time clock in it (MC146818): a fixed date that runs with the machine's clock.

import type { Clock } from './clock.ts';
import type { RamSizes } from './memory-map.ts';
import type { PortDevice } from './port-bus.ts';

export const CMOS_INDEX = 0x70;

// Motorola MC146818 registers, then the places a PC's BIOS uses.
const SECONDS = 0x00;
const MINUTES = 0x02;
const HOURS = 0x04;
const DAY_OF_WEEK = 0x06;
const DAY = 0x07;
const MONTH = 0x08;
const YEAR = 0x09;
const REGISTER_A = 0x0a;
const REGISTER_B = 0x0b;
const REGISTER_C = 0x0c;
const REGISTER_D = 0x0d;
const FLOPPY_TYPES = 0x10;
const EQUIPMENT = 0x14;
const BASE_MEMORY_KB = 0x15;
const EXTENDED_MEMORY_KB = 0x17;
const EXTENDED_MEMORY_KB_COPY = 0x30;
const CENTURY = 0x32;
const MEMORY_ABOVE_16M = 0x34;
/** Three bytes, as QEMU tells SeaBIOS. */
const MEMORY_ABOVE_4G = 0x5b;

const REGISTER_A_32KHZ_1024HZ = 0x26;
const REGISTER_B_24_HOURS = 0x02;
const REGISTER_D_VALID = 0x80;

/** When the machine is switched on: a leap year's first day, a Monday (UTC). */
const POWER_ON = Date.UTC(2024, 0, 1, 0, 0, 0);

export interface CmosOptions {
  /** RAM below and from 4 GiB on. */
  readonly ram: RamSizes;
  /** Equipment byte, as in the BDA at 0x410. */
  readonly equipment: number;
  /** Drive type of the first floppy drive: 0 none, 1 360K, 2 1.2M, 3 720K, 4 1.44M, 5 2.88M. */
  readonly floppyType: number;
}

/** Date and time, each field in BCD. */
export interface BcdTime {
  readonly seconds: number;
  readonly minutes: number;
  readonly hours: number;
  /** 1 is Sunday. */
  readonly dayOfWeek: number;
  readonly day: number;
  readonly month: number;
  readonly year: number;
  readonly century: number;
}

export class Cmos implements PortDevice {
  readonly name = 'RTC';
  readonly #clock: Clock;
  readonly #bytes = new Uint8Array(128);
  #index = 0;

  constructor(clock: Clock, options: CmosOptions) {
    this.#clock = clock;
    const { low, high } = options.ram;
    const extendedKilobytes = Math.min(Math.max(0, low / 1024 - 1024), 0xffff);
    this.#set16(BASE_MEMORY_KB, 640);
    this.#set16(EXTENDED_MEMORY_KB, extendedKilobytes);
    this.#set16(EXTENDED_MEMORY_KB_COPY, extendedKilobytes);
    this.#set16(MEMORY_ABOVE_16M, Math.max(0, low - 0x1000000) / 0x10000);
    this.#set16(MEMORY_ABOVE_4G, high / 0x10000);
    this.#bytes[MEMORY_ABOVE_4G + 2] = high / 2 ** 32;
    this.#bytes[EQUIPMENT] = options.equipment;
    this.#bytes[FLOPPY_TYPES] = options.floppyType << 4;
    this.#bytes[REGISTER_A] = REGISTER_A_32KHZ_1024HZ;
    this.#bytes[REGISTER_B] = REGISTER_B_24_HOURS;
  }

  /** The time of day now. */
  get time(): BcdTime {
    const now = new Date(POWER_ON + Math.floor(this.#clock.nanoseconds / 1e6));
    return {
      seconds: bcd(now.getUTCSeconds()),
      minutes: bcd(now.getUTCMinutes()),
      hours: bcd(now.getUTCHours()),
      dayOfWeek: now.getUTCDay() + 1,
      day: bcd(now.getUTCDate()),
      month: bcd(now.getUTCMonth() + 1),
      year: bcd(now.getUTCFullYear() % 100),
      century: bcd(Math.floor(now.getUTCFullYear() / 100)),
    };
  }

  readPort(port: number): number {
    return port === CMOS_INDEX ? 0xff : this.#read(this.#index);
  }

  writePort(port: number, value: number): void {
    if (port === CMOS_INDEX) {
      this.#index = value & 0x7f; // bit 7 masks NMI
    } else {
      this.#bytes[this.#index] = value;
    }
  }

  #read(index: number): number {
    switch (index) {
      case SECONDS:
        return this.time.seconds;
      case MINUTES:
        return this.time.minutes;
      case HOURS:
        return this.time.hours;
      case DAY_OF_WEEK:
        return this.time.dayOfWeek;
      case DAY:
        return this.time.day;
      case MONTH:
        return this.time.month;
      case YEAR:
        return this.time.year;
      case CENTURY:
        return this.time.century;
      case REGISTER_C:
        return 0;
      case REGISTER_D:
        return REGISTER_D_VALID;
      default:
        return this.#bytes[index]!;
    }
  }

  #set16(index: number, value: number): void {
    this.#bytes[index] = value;
    this.#bytes[index + 1] = value >>> 8;
  }
}

function bcd(value: number): number {
  return (Math.floor(value / 10) << 4) | (value % 10);
}
