// 8042 keyboard controller: its commands, the A20 gate and the reset line on its output port, and a keyboard that nobody types on.

import type { PortDevice } from './port-bus.ts';

export const KBC_DATA = 0x60;
export const KBC_STATUS_COMMAND = 0x64;

// Status register (IBM PS/2 Technical Reference, "Keyboard and Auxiliary Device Controller").
const STATUS_OUTPUT_FULL = 0x01;
const STATUS_SYSTEM_FLAG = 0x04;
const STATUS_LAST_WAS_COMMAND = 0x08;
const STATUS_NOT_LOCKED = 0x10;

const OUTPUT_PORT_NOT_RESET = 0x01;
const OUTPUT_PORT_A20 = 0x02;

const KEYBOARD_ACK = 0xfa;

export class KeyboardController implements PortDevice {
  readonly name = 'keyboard controller';
  /** Called when the guest opens or closes the A20 gate. */
  onA20: ((enabled: boolean) => void) | null = null;
  /** Called when the guest pulses the CPU's reset line. */
  onReset: (() => void) | null = null;

  readonly #output: number[] = [];
  #commandByte = 0x61; // translation on, mouse off, keyboard interrupt on
  #outputPort = 0xcf;
  /** Command that takes its parameter from port 60h. */
  #pending = 0;
  #keyboardParameter = false;
  #lastWasCommand = false;

  /** Reflects an A20 gate that something else moved. */
  setA20(enabled: boolean): void {
    this.#outputPort = enabled ? this.#outputPort | OUTPUT_PORT_A20 : this.#outputPort & ~OUTPUT_PORT_A20;
  }

  readPort(port: number): number {
    if (port === KBC_DATA) {
      return this.#output.shift() ?? 0;
    }
    return (
      STATUS_NOT_LOCKED |
      STATUS_SYSTEM_FLAG |
      (this.#lastWasCommand ? STATUS_LAST_WAS_COMMAND : 0) |
      (this.#output.length > 0 ? STATUS_OUTPUT_FULL : 0)
    );
  }

  writePort(port: number, value: number): void {
    this.#lastWasCommand = port === KBC_STATUS_COMMAND;
    if (this.#lastWasCommand) {
      this.#command(value);
    } else if (this.#pending !== 0) {
      const command = this.#pending;
      this.#pending = 0;
      this.#parameter(command, value);
    } else {
      this.#keyboard(value);
    }
  }

  #command(command: number): void {
    this.#pending = 0;
    switch (command) {
      case 0x20: // read command byte
        this.#output.push(this.#commandByte);
        break;
      case 0x60: // write command byte
      case 0xd1: // write output port
      case 0xd2: // write keyboard output buffer
      case 0xd3:
      case 0xd4: // write to the mouse
        this.#pending = command;
        break;
      case 0xa7: // disable, enable, test the mouse port
        this.#commandByte |= 0x20;
        break;
      case 0xa8:
        this.#commandByte &= ~0x20;
        break;
      case 0xa9:
        this.#output.push(0x00);
        break;
      case 0xaa: // self-test
        this.#output.push(0x55);
        break;
      case 0xab: // keyboard interface test
        this.#output.push(0x00);
        break;
      case 0xad: // disable, enable the keyboard
        this.#commandByte |= 0x10;
        break;
      case 0xae:
        this.#commandByte &= ~0x10;
        break;
      case 0xc0: // read input port
        this.#output.push(0x80);
        break;
      case 0xd0: // read output port
        this.#output.push(this.#outputPort);
        break;
      case 0xdd: // A20 off and on without a parameter, on some controllers
        this.#moveA20(false);
        break;
      case 0xdf:
        this.#moveA20(true);
        break;
      default:
        if (command >= 0xf0 && !(command & 0x01)) {
          this.onReset?.(); // pulses the output port bits that are 0 in the command
        }
        break; // FFh pulses nothing: it only waits
    }
  }

  #parameter(command: number, value: number): void {
    switch (command) {
      case 0x60:
        this.#commandByte = value;
        break;
      case 0xd1:
        this.#outputPort = value;
        this.onA20?.((value & OUTPUT_PORT_A20) !== 0);
        if (!(value & OUTPUT_PORT_NOT_RESET)) {
          this.onReset?.();
        }
        break;
      case 0xd2:
      case 0xd3:
        this.#output.push(value);
        break;
      default: // D4: there is no mouse to answer
        break;
    }
  }

  #keyboard(value: number): void {
    if (this.#keyboardParameter) {
      this.#keyboardParameter = false;
      this.#output.push(KEYBOARD_ACK);
      return;
    }
    switch (value) {
      case 0xed: // LEDs, scan code set, typematic rate take a parameter
      case 0xf0:
      case 0xf3:
        this.#keyboardParameter = true;
        this.#output.push(KEYBOARD_ACK);
        break;
      case 0xee: // echo
        this.#output.push(0xee);
        break;
      case 0xf2: // identify: an MF2 keyboard behind the translation
        this.#output.push(KEYBOARD_ACK, 0xab, 0x41);
        break;
      case 0xff: // reset and self-test
        this.#output.push(KEYBOARD_ACK, 0xaa);
        break;
      default:
        this.#output.push(KEYBOARD_ACK);
        break;
    }
  }

  #moveA20(enabled: boolean): void {
    this.setA20(enabled);
    this.onA20?.(enabled);
  }
}
