// What the stub prints, as its own __putstr does it: to VGA text memory, the cursor in boot_params, and a serial port.

import { bootParamsOffset } from '../protocol/boot-params.ts';
import type { PhysicalMemory } from '../x86/physical-memory.ts';
import { findOption, simpleStrtoull } from './command-line.ts';

/** The ports that printing needs; absent where the caller has no machine. */
export interface ConsolePorts {
  read(port: number): number;
  write(port: number, value: number): void;
}

/** Fields of screen_info, which boot_params starts with. */
const ORIG_X = bootParamsOffset('orig_x');
const ORIG_Y = bootParamsOffset('orig_y');
const ORIG_VIDEO_MODE = bootParamsOffset('orig_video_mode');
const ORIG_VIDEO_COLS = bootParamsOffset('orig_video_cols');
const ORIG_VIDEO_LINES = bootParamsOffset('orig_video_lines');

const DEFAULT_SERIAL_PORT = 0x3f8;
const DEFAULT_BAUD = 9600;
const LINE_STATUS = 5;
const TRANSMIT_READY = 0x20;

/** The console of one run of extract_kernel. */
export class GuestConsole {
  readonly #memory: PhysicalMemory;
  readonly #bootParams: number;
  readonly #ports: ConsolePorts | null;
  readonly #videoMemory: number;
  readonly #videoPort: number;
  readonly #lines: number;
  readonly #columns: number;
  #serialBase = 0;
  /** All text printed. */
  text = '';

  /** @param bootParams - address of boot_params */
  constructor(memory: PhysicalMemory, bootParams: number, ports: ConsolePorts | null) {
    this.#memory = memory;
    this.#bootParams = bootParams;
    this.#ports = ports;
    const monochrome = memory.read8(bootParams + ORIG_VIDEO_MODE) === 7;
    this.#videoMemory = monochrome ? 0xb0000 : 0xb8000;
    this.#videoPort = monochrome ? 0x3b4 : 0x3d4;
    this.#lines = memory.read8(bootParams + ORIG_VIDEO_LINES);
    this.#columns = memory.read8(bootParams + ORIG_VIDEO_COLS);
  }

  /** Whether text goes to the screen's memory, too: stubs without a screen's size in boot_params leave it alone. */
  get usesScreen(): boolean {
    return this.#lines > 0 && this.#columns > 0;
  }

  /** console_init of the stubs that have CONFIG_EARLY_PRINTK (2.6.37 on): sets the port up that the command line names. */
  initialiseSerial(commandLine: string | null): void {
    this.#parseEarlyPrintk(commandLine);
    if (this.#serialBase === 0) {
      this.#parseConsoleUart(commandLine);
    }
  }

  #parseEarlyPrintk(commandLine: string | null): void {
    const option = findOption(commandLine, 'earlyprintk', 32);
    if (option === null || option === '') {
      return;
    }
    let port = 0;
    let at = 0;
    if (option.startsWith('serial')) {
      port = DEFAULT_SERIAL_PORT;
      at = 6;
    }
    if (option[at] === ',') {
      at++;
    }
    if (at === 7 && option.startsWith('0x', at)) {
      const number = simpleStrtoull(option, at, 16);
      if (number.value !== 0n && number.end > at) {
        port = Number(number.value & 0xffffn);
        at = number.end;
      }
    } else if (option.startsWith('ttyS', at)) {
      at += 4;
      port = option[at] === '1' ? 0x2f8 : 0x3f8;
      at++;
    }
    if (option[at] === ',') {
      at++;
    }
    const baud = Number(simpleStrtoull(option, at).value);
    if (port !== 0) {
      this.#setUpPort(port, baud === 0 ? DEFAULT_BAUD : baud);
    }
  }

  #parseConsoleUart(commandLine: string | null): void {
    const option = findOption(commandLine, 'console', 64);
    const prefix = ['uart8250,io,', 'uart,io,'].find((text) => option?.startsWith(text));
    if (option === null || prefix === undefined) {
      return;
    }
    const number = simpleStrtoull(option, prefix.length);
    const port = Number(number.value & 0xffffn);
    const baud =
      option[number.end] === ','
        ? Number(simpleStrtoull(option, number.end + 1).value)
        : this.#probeBaud(port);
    if (port !== 0) {
      this.#setUpPort(port, baud === 0 ? DEFAULT_BAUD : baud);
    }
  }

  #probeBaud(port: number): number {
    const ports = this.#ports;
    if (ports === null) {
      return 0;
    }
    const control = ports.read(port + 3);
    ports.write(port + 3, control | 0x80);
    const divisor = ports.read(port) | (ports.read(port + 1) << 8);
    ports.write(port + 3, control);
    return divisor === 0 ? 0 : Math.trunc(115200 / divisor);
  }

  #setUpPort(port: number, baud: number): void {
    this.#serialBase = port;
    const ports = this.#ports;
    if (ports === null) {
      return;
    }
    ports.write(port + 3, 0x03);
    ports.write(port + 1, 0);
    ports.write(port + 2, 0);
    ports.write(port + 4, 0x03);
    const divisor = Math.trunc(115200 / baud);
    const control = ports.read(port + 3);
    ports.write(port + 3, control | 0x80);
    ports.write(port, divisor & 0xff);
    ports.write(port + 1, (divisor >> 8) & 0xff);
    ports.write(port + 3, control & ~0x80);
  }

  /** warn() of the stub. */
  warn(text: string): void {
    this.put('\n\n');
    this.put(text);
    this.put('\n\n');
  }

  /** __puthex: each digit is a string of its own, which moves the cursor and takes its time. */
  putHex(value: number | bigint, digits: number): void {
    for (const digit of value.toString(16).padStart(digits, '0')) this.put(digit);
  }

  /** __putstr. */
  put(text: string): void {
    this.text += text;
    for (const character of this.#serialBase === 0 ? '' : text) {
      if (character === '\n') {
        this.#sendSerial(0x0d);
      }
      this.#sendSerial(character.charCodeAt(0));
    }
    const lines = this.#lines;
    const columns = this.#columns;
    if (lines === 0 || columns === 0) {
      return;
    }
    const memory = this.#memory;
    let x = memory.read8(this.#bootParams + ORIG_X);
    let y = memory.read8(this.#bootParams + ORIG_Y);
    const nextLine = (): void => {
      x = 0;
      y++;
      if (y >= lines) {
        this.#scroll();
        y--;
      }
    };
    for (const character of text) {
      if (character === '\n') {
        nextLine();
        continue;
      }
      memory.write8(this.#videoMemory + (x + columns * y) * 2, character.charCodeAt(0));
      x++;
      if (x >= columns) {
        nextLine();
      }
    }
    memory.write8(this.#bootParams + ORIG_X, x);
    memory.write8(this.#bootParams + ORIG_Y, y);
    const position = (x + columns * y) * 2;
    this.#ports?.write(this.#videoPort, 14);
    this.#ports?.write(this.#videoPort + 1, (position >> 9) & 0xff);
    this.#ports?.write(this.#videoPort, 15);
    this.#ports?.write(this.#videoPort + 1, (position >> 1) & 0xff);
  }

  /** Moves all lines up by one; of the last only the characters are cleared, not their attributes. */
  #scroll(): void {
    const bytes = this.#columns * 2;
    const base = this.#videoMemory;
    const last = base + (this.#lines - 1) * bytes;
    this.#memory.copyWithin(base, base + bytes, last - base);
    for (let at = last; at < last + bytes; at += 2) {
      this.#memory.write8(at, 0x20);
    }
  }

  #sendSerial(byte: number): void {
    const ports = this.#ports;
    if (ports === null) {
      return;
    }
    for (
      let tries = 0xffff;
      tries > 0 && (ports.read(this.#serialBase + LINE_STATUS) & TRANSMIT_READY) === 0;
    ) {
      tries--;
    }
    ports.write(this.#serialBase, byte);
  }
}
