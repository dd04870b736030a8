// The motherboard's loose ends: port 61h (speaker, refresh), 92h (fast A20 and reset), 80h (POST code), CF9h, the FPU's error latch.

import type { Clock } from './clock.ts';
import type { Pit } from './pit.ts';
import type { PortDevice } from './port-bus.ts';

export const SYSTEM_CONTROL_B = 0x61;
export const SYSTEM_CONTROL_A = 0x92;
export const RESET_CONTROL = 0xcf9;

const CONTROL_B_SPEAKER_GATE = 0x01;
const CONTROL_B_REFRESH = 0x10;
const CONTROL_B_SPEAKER_OUT = 0x20;
const CONTROL_A_RESET = 0x01;
const CONTROL_A_A20 = 0x02;
const RESET_CPU = 0x04;

/** Half the period of the refresh toggle in bit 4 of port 61h, which old code counts to wait 15 us. */
const REFRESH_NANOSECONDS = 15_085;

/** Port 61h, System Control Port B. */
export class SystemControlB implements PortDevice {
  readonly name = 'system control';
  readonly #clock: Clock;
  readonly #pit: Pit;
  #written = 0;

  constructor(clock: Clock, pit: Pit) {
    this.#clock = clock;
    this.#pit = pit;
  }

  readPort(): number {
    const refresh = Math.floor(this.#clock.nanoseconds / REFRESH_NANOSECONDS) & 1;
    return (
      this.#written |
      (refresh ? CONTROL_B_REFRESH : 0) |
      (this.#pit.speakerOutput ? CONTROL_B_SPEAKER_OUT : 0)
    );
  }

  writePort(_port: number, value: number): void {
    this.#written = value & 0x0f;
    this.#pit.setSpeakerGate((value & CONTROL_B_SPEAKER_GATE) !== 0);
  }
}

/** Port 92h, System Control Port A, and the reset register at CF9h. */
export class SystemControlA implements PortDevice {
  readonly name = 'system control';
  onA20: ((enabled: boolean) => void) | null = null;
  onReset: (() => void) | null = null;
  #controlA = CONTROL_A_A20;
  #resetControl = 0;

  setA20(enabled: boolean): void {
    this.#controlA = enabled ? this.#controlA | CONTROL_A_A20 : this.#controlA & ~CONTROL_A_A20;
  }

  readPort(port: number): number {
    return port === RESET_CONTROL ? this.#resetControl : this.#controlA & ~CONTROL_A_RESET;
  }

  writePort(port: number, value: number): void {
    if (port === RESET_CONTROL) {
      this.#resetControl = value;
      if (value & RESET_CPU) {
        this.onReset?.();
      }
      return;
    }
    this.#controlA = value;
    this.onA20?.((value & CONTROL_A_A20) !== 0);
    if (value & CONTROL_A_RESET) {
      this.onReset?.();
    }
  }
}

/** Ports that take a byte and keep it: POST codes, DMA controllers and pages, FPU error latch. */
export class PlainRegisters implements PortDevice {
  readonly name: string;
  readonly #values = new Map<number, number>();

  constructor(name: string) {
    this.name = name;
  }

  readPort(port: number): number {
    return this.#values.get(port) ?? 0;
  }

  writePort(port: number, value: number): void {
    this.#values.set(port, value);
  }
}
