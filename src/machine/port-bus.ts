// The I/O port space: routes IN and OUT to the device that owns the port, and notes what nobody owns.

import { type Clock, PORT_ACCESS_NANOSECONDS } from './clock.ts';
import type { MachineEvent } from './events.ts';
import type { NoticeList } from './notices.ts';

export type PortSize = 1 | 2 | 4;

/** A device with ports. Accesses of 2 and 4 bytes reach a device without the wide methods byte by byte. */
export interface PortDevice {
  /** For events: `UART`, `PIT`. */
  readonly name: string;
  /** Returns a byte. */
  readPort(port: number): number;
  writePort(port: number, value: number): void;
  readPortWide?(port: number, size: 2 | 4): number;
  writePortWide?(port: number, size: 2 | 4, value: number): void;
}

/**
 * Each access takes `PORT_ACCESS_NANOSECONDS`. A guest that reads the same port again and again waits
 * for time to pass, so the steps grow up to `MAXIMUM_POLL_NANOSECONDS`: it waits as long, in fewer reads.
 */
const MAXIMUM_POLL_NANOSECONDS = 32_000;
const POLLS_BEFORE_STEPS_GROW = 64;

export class PortBus {
  onEvent: ((event: MachineEvent) => void) | null = null;
  /** Accesses so far, but for writes to `uncountedPort`. */
  accesses = 0;
  /** Reads so far: what is written changes nothing for a guest that reads nothing back. */
  reads = 0;
  /** A port whose writes show no progress of the guest's: the interrupt controller's. */
  uncountedPort = -1;
  readonly #clock: Clock;
  readonly #notices: NoticeList;
  readonly #owners = new Uint8Array(0x10000);
  readonly #devices: (PortDevice | null)[] = [null];
  #lastRead = -1;
  #repeats = 0;

  constructor(clock: Clock, notices: NoticeList) {
    this.#clock = clock;
    this.#notices = notices;
  }

  /** Gives `device` the ports [first, last]; a port given twice belongs to the later device. */
  attach(device: PortDevice, first: number, last = first): void {
    let index = this.#devices.indexOf(device);
    if (index < 0) {
      index = this.#devices.push(device) - 1;
    }
    this.#owners.fill(index, first, last + 1);
  }

  /** IN: the value, unsigned, `size` bytes wide. Ports without a device read all ones. */
  read(port: number, size: PortSize): number {
    this.#clock.advance(this.#readTime(port));
    this.accesses++;
    this.reads++;
    const device = this.#devices[this.#owners[port]!] ?? null;
    let value: number;
    if (size === 1) {
      value = device === null ? 0xff : device.readPort(port) & 0xff;
    } else if (device?.readPortWide !== undefined) {
      value = device.readPortWide(port, size) >>> 0;
    } else {
      value = 0;
      for (let i = 0; i < size; i++) {
        const part = this.#devices[this.#owners[(port + i) & 0xffff]!] ?? null;
        value |= (part === null ? 0xff : part.readPort((port + i) & 0xffff) & 0xff) << (8 * i);
      }
      value >>>= 0;
    }
    if (device === null) {
      this.#notices.addRead(port);
    }
    this.#report('in', port, size, value, device);
    return value;
  }

  /** OUT. What is written to a port without a device is lost. */
  write(port: number, size: PortSize, value: number): void {
    this.#clock.advance(PORT_ACCESS_NANOSECONDS);
    this.#lastRead = -1;
    if (port !== this.uncountedPort) {
      this.accesses++;
    }
    const device = this.#devices[this.#owners[port]!] ?? null;
    this.#report('out', port, size, value >>> 0, device);
    if (device === null) {
      this.#notices.addWrite(port);
    }
    if (size === 1) {
      device?.writePort(port, value & 0xff);
    } else if (device?.writePortWide !== undefined) {
      device.writePortWide(port, size, value >>> 0);
    } else {
      for (let i = 0; i < size; i++) {
        const part = this.#devices[this.#owners[(port + i) & 0xffff]!] ?? null;
        part?.writePort((port + i) & 0xffff, (value >>> (8 * i)) & 0xff);
      }
    }
  }

  #readTime(port: number): number {
    if (port !== this.#lastRead) {
      this.#lastRead = port;
      this.#repeats = 0;
      return PORT_ACCESS_NANOSECONDS;
    }
    this.#repeats++;
    const step = this.#repeats - POLLS_BEFORE_STEPS_GROW;
    return step <= 0
      ? PORT_ACCESS_NANOSECONDS
      : Math.min(PORT_ACCESS_NANOSECONDS * (1 + step), MAXIMUM_POLL_NANOSECONDS);
  }

  #report(
    direction: 'in' | 'out',
    port: number,
    size: PortSize,
    value: number,
    device: PortDevice | null,
  ): void {
    this.onEvent?.({ kind: 'port', direction, port, size, value, device: device?.name ?? 'unknown' });
  }
}
