// 82077AA floppy controller as far as boot code touches it: the motor is switched off, the status is ready. Data comes through INT 13h.

import type { PortDevice } from './port-bus.ts';

export const FDC_DIGITAL_OUTPUT = 0x3f2;
export const FDC_MAIN_STATUS = 0x3f4;
export const FDC_DIGITAL_INPUT = 0x3f7;

const DOR_NOT_RESET_DMA = 0x0c;
const DOR_MOTORS = 0xf0;
const MSR_REQUEST_FOR_MASTER = 0x80;

export class FloppyController implements PortDevice {
  readonly name = 'FDC';
  #digitalOutput = DOR_NOT_RESET_DMA;

  /** Whether any drive's motor is on. */
  get motorOn(): boolean {
    return (this.#digitalOutput & DOR_MOTORS) !== 0;
  }

  /** As the BIOS does for a disk access. */
  startMotor(): void {
    this.#digitalOutput |= 0x10;
  }

  readPort(port: number): number {
    switch (port) {
      case FDC_DIGITAL_OUTPUT:
        return this.#digitalOutput;
      case FDC_MAIN_STATUS:
        return MSR_REQUEST_FOR_MASTER;
      default: // no data waits, and the disk has not been changed
        return 0;
    }
  }

  writePort(port: number, value: number): void {
    if (port === FDC_DIGITAL_OUTPUT) {
      this.#digitalOutput = value;
    }
  }
}
