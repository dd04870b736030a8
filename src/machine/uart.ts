// 16550A serial port: what the guest transmits is its console; nobody ever sends it anything.

import type { PortDevice } from './port-bus.ts';

// Register offsets from the base port (National Semiconductor PC16550D, table II).
const RBR_THR_DLL = 0;
const IER_DLM = 1;
const IIR_FCR = 2;
const LCR = 3;
const MCR = 4;
const LSR = 5;
const MSR = 6;
const SCR = 7;

const IER_ETBEI = 0x02;
const IIR_NO_INTERRUPT = 0x01;
const IIR_THR_EMPTY = 0x02;
const IIR_FIFOS_ENABLED = 0xc0;
const FCR_FIFO_ENABLE = 0x01;
const LCR_DLAB = 0x80;
const MCR_DTR = 0x01;
const MCR_RTS = 0x02;
const MCR_OUT1 = 0x04;
const MCR_OUT2 = 0x08;
const MCR_LOOP = 0x10;
const LSR_DR = 0x01;
const LSR_THRE = 0x20;
const LSR_TEMT = 0x40;
const MSR_CTS = 0x10;
const MSR_DSR = 0x20;
const MSR_RI = 0x40;
const MSR_DCD = 0x80;

export class Uart implements PortDevice {
  readonly name = 'UART';
  readonly basePort: number;
  /** Called with each byte the guest transmits. */
  onByte: ((byte: number) => void) | null = null;

  #divisor = 12; // 9600 baud, as a BIOS leaves it
  #ier = 0;
  #fcr = 0;
  #lcr = 0x03;
  #mcr = 0;
  #scratch = 0;
  #thrInterrupt = false;
  #looped: number | null = null;

  constructor(basePort: number) {
    this.basePort = basePort;
  }

  /** Bits a second, from the divisor latch; 0 where the divisor is 0. */
  get baudRate(): number {
    return this.#divisor === 0 ? 0 : Math.floor(115_200 / this.#divisor);
  }

  readPort(port: number): number {
    switch (port - this.basePort) {
      case RBR_THR_DLL: {
        if (this.#dlab) {
          return this.#divisor & 0xff;
        }
        const received = this.#looped ?? 0;
        this.#looped = null;
        return received;
      }
      case IER_DLM:
        return this.#dlab ? this.#divisor >>> 8 : this.#ier;
      case IIR_FCR: {
        const fifos = this.#fcr & FCR_FIFO_ENABLE ? IIR_FIFOS_ENABLED : 0;
        if (this.#thrInterrupt && this.#ier & IER_ETBEI) {
          this.#thrInterrupt = false;
          return fifos | IIR_THR_EMPTY;
        }
        return fifos | IIR_NO_INTERRUPT;
      }
      case LCR:
        return this.#lcr;
      case MCR:
        return this.#mcr;
      case LSR:
        return LSR_THRE | LSR_TEMT | (this.#looped === null ? 0 : LSR_DR);
      case MSR:
        return this.#modemStatus;
      case SCR:
        return this.#scratch;
      default:
        return 0xff;
    }
  }

  writePort(port: number, value: number): void {
    switch (port - this.basePort) {
      case RBR_THR_DLL:
        if (this.#dlab) {
          this.#divisor = (this.#divisor & 0xff00) | value;
        } else {
          this.#thrInterrupt = true;
          if (this.#mcr & MCR_LOOP) {
            this.#looped = value;
          } else {
            this.onByte?.(value);
          }
        }
        break;
      case IER_DLM:
        if (this.#dlab) {
          this.#divisor = (this.#divisor & 0x00ff) | (value << 8);
        } else {
          this.#thrInterrupt = (value & IER_ETBEI) !== 0;
          this.#ier = value & 0x0f;
        }
        break;
      case IIR_FCR:
        this.#fcr = value;
        break;
      case LCR:
        this.#lcr = value;
        break;
      case MCR:
        this.#mcr = value & 0x1f;
        break;
      case SCR:
        this.#scratch = value;
        break;
      default: // LSR and MSR: factory tests only
        break;
    }
  }

  get #dlab(): boolean {
    return (this.#lcr & LCR_DLAB) !== 0;
  }

  get #modemStatus(): number {
    if (!(this.#mcr & MCR_LOOP)) {
      return MSR_CTS | MSR_DSR | MSR_DCD;
    }
    return (
      (this.#mcr & MCR_RTS ? MSR_CTS : 0) |
      (this.#mcr & MCR_DTR ? MSR_DSR : 0) |
      (this.#mcr & MCR_OUT1 ? MSR_RI : 0) |
      (this.#mcr & MCR_OUT2 ? MSR_DCD : 0)
    );
  }
}
