// VGA registers as text-mode code uses them: each indexed register can be read back, the cursor is real, the retrace bit moves.

import type { PortDevice } from './port-bus.ts';

export const VGA_FIRST_PORT = 0x3b4;
export const VGA_LAST_PORT = 0x3df;

// IBM VGA ports; the monochrome ones (3B4h, 3B5h, 3BAh) answer only when the Miscellaneous Output register selects them.
const ATTRIBUTE_ADDRESS = 0x3c0;
const ATTRIBUTE_DATA_READ = 0x3c1;
const MISC_OUTPUT_WRITE_STATUS_0 = 0x3c2;
const SEQUENCER_INDEX = 0x3c4;
const DAC_READ_INDEX = 0x3c7;
const DAC_WRITE_INDEX = 0x3c8;
const DAC_DATA = 0x3c9;
const MISC_OUTPUT_READ = 0x3cc;
const GRAPHICS_INDEX = 0x3ce;
const CRTC_INDEX = 0x3d4;
const STATUS_1 = 0x3da;

const CRTC_START_ADDRESS_HIGH = 0x0c;
const CRTC_CURSOR_HIGH = 0x0e;
const CRTC_CURSOR_LOW = 0x0f;
const MISC_COLOR_PORTS = 0x01;
const STATUS_1_RETRACE = 0x09;

/** CRTC registers of mode 3 with 400 lines and 9-dot characters (IBM VGA, mode 3+). */
const CRTC_MODE_3: readonly number[] = [
  0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00, 0x00, 0x00, 0x00, 0x9c, 0x8e,
  0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff,
];
const SEQUENCER_MODE_3: readonly number[] = [0x03, 0x00, 0x03, 0x00, 0x02];
const GRAPHICS_MODE_3: readonly number[] = [0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0e, 0x0f, 0xff];
const ATTRIBUTE_MODE_3: readonly number[] = [
  0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x0c, 0x00,
  0x0f, 0x08, 0x00,
];

class IndexedRegisters {
  readonly values = new Uint8Array(256);
  index = 0;

  constructor(initial: readonly number[]) {
    this.values.set(initial);
  }
}

/** Red, green and blue, 0 to 63. */
export type Color = readonly [number, number, number];

export class Vga implements PortDevice {
  readonly name = 'VGA';
  readonly #crtc = new IndexedRegisters(CRTC_MODE_3);
  readonly #sequencer = new IndexedRegisters(SEQUENCER_MODE_3);
  readonly #graphics = new IndexedRegisters(GRAPHICS_MODE_3);
  readonly #attribute = new IndexedRegisters(ATTRIBUTE_MODE_3);
  readonly #dac = new Uint8Array(768);
  #attributeTakesData = false;
  #dacIndex = 0;
  #miscOutput = 0x67;
  #status1 = 0;

  /** Cursor position in characters from the start of video memory. */
  get cursorOffset(): number {
    return (this.#crtc.values[CRTC_CURSOR_HIGH]! << 8) | this.#crtc.values[CRTC_CURSOR_LOW]!;
  }

  set cursorOffset(offset: number) {
    this.#crtc.values[CRTC_CURSOR_HIGH] = offset >>> 8;
    this.#crtc.values[CRTC_CURSOR_LOW] = offset;
  }

  /** First character shown, from the start of video memory. */
  get startOffset(): number {
    return (
      (this.#crtc.values[CRTC_START_ADDRESS_HIGH]! << 8) | this.#crtc.values[CRTC_START_ADDRESS_HIGH + 1]!
    );
  }

  set startOffset(offset: number) {
    this.#crtc.values[CRTC_START_ADDRESS_HIGH] = offset >>> 8;
    this.#crtc.values[CRTC_START_ADDRESS_HIGH + 1] = offset;
  }

  /** Entry of the palette in the DAC; `index` counts modulo 256. */
  readColor(index: number): Color {
    const at = (index & 0xff) * 3;
    return [this.#dac[at]!, this.#dac[at + 1]!, this.#dac[at + 2]!];
  }

  writeColor(index: number, color: Color): void {
    this.#dac.set(
      color.map((part) => part & 0x3f),
      (index & 0xff) * 3,
    );
  }

  readPort(port: number): number {
    const color = this.#colorPort(port);
    if (color === null) {
      return 0xff;
    }
    switch (color) {
      case ATTRIBUTE_ADDRESS:
        return this.#attribute.index;
      case ATTRIBUTE_DATA_READ:
        return this.#attribute.values[this.#attribute.index & 0x1f]!;
      case MISC_OUTPUT_WRITE_STATUS_0:
        return 0x10; // the monitor's sense line
      case SEQUENCER_INDEX:
        return this.#sequencer.index;
      case SEQUENCER_INDEX + 1:
        return this.#sequencer.values[this.#sequencer.index]!;
      case 0x3c6: // PEL mask
        return 0xff;
      case DAC_READ_INDEX:
        return 0x03;
      case DAC_WRITE_INDEX:
        return Math.floor(this.#dacIndex / 3);
      case DAC_DATA: {
        const value = this.#dac[this.#dacIndex]!;
        this.#dacIndex = (this.#dacIndex + 1) % 768;
        return value;
      }
      case MISC_OUTPUT_READ:
        return this.#miscOutput;
      case GRAPHICS_INDEX:
        return this.#graphics.index;
      case GRAPHICS_INDEX + 1:
        return this.#graphics.values[this.#graphics.index]!;
      case CRTC_INDEX:
        return this.#crtc.index;
      case CRTC_INDEX + 1:
        return this.#crtc.values[this.#crtc.index]!;
      case STATUS_1:
        this.#attributeTakesData = false;
        this.#status1 ^= STATUS_1_RETRACE;
        return this.#status1;
      default:
        return 0xff;
    }
  }

  writePort(port: number, value: number): void {
    const color = this.#colorPort(port);
    switch (color) {
      case ATTRIBUTE_ADDRESS:
        if (this.#attributeTakesData) {
          this.#attribute.values[this.#attribute.index & 0x1f] = value;
        } else {
          this.#attribute.index = value & 0x3f;
        }
        this.#attributeTakesData = !this.#attributeTakesData;
        break;
      case MISC_OUTPUT_WRITE_STATUS_0:
        this.#miscOutput = value;
        break;
      case SEQUENCER_INDEX:
        this.#sequencer.index = value & 0x07;
        break;
      case SEQUENCER_INDEX + 1:
        this.#sequencer.values[this.#sequencer.index] = value;
        break;
      case DAC_READ_INDEX:
      case DAC_WRITE_INDEX:
        this.#dacIndex = value * 3;
        break;
      case DAC_DATA:
        this.#dac[this.#dacIndex] = value & 0x3f;
        this.#dacIndex = (this.#dacIndex + 1) % 768;
        break;
      case GRAPHICS_INDEX:
        this.#graphics.index = value & 0x0f;
        break;
      case GRAPHICS_INDEX + 1:
        this.#graphics.values[this.#graphics.index] = value;
        break;
      case CRTC_INDEX:
        this.#crtc.index = value;
        break;
      case CRTC_INDEX + 1:
        this.#crtc.values[this.#crtc.index] = value;
        break;
      default:
        break;
    }
  }

  /** The colour port that `port` stands for now, or null where nothing answers. */
  #colorPort(port: number): number | null {
    const usesColorPorts = (this.#miscOutput & MISC_COLOR_PORTS) !== 0;
    if (port < 0x3c0) {
      return usesColorPorts ? null : port + 0x20;
    }
    if (port >= 0x3d0) {
      return usesColorPorts ? port : null;
    }
    return port;
  }
}
