// The BIOS interrupts that have little to say: equipment, memory size, serial and parallel ports, boot failure.

import { hex } from '../../hex.ts';
import type { PhysicalMemory } from '../../x86/physical-memory.ts';
import type { Uart } from '../uart.ts';
import { BDA_BASE_MEMORY_KB, BDA_EQUIPMENT } from './rom.ts';
import type { BiosRegisters, BiosService, BiosVector } from './service.ts';

const UART_LSR = 5;
const UART_MSR = 6;
const SERIAL_TIMEOUT = 0x80;
const PRINTER_TIMEOUT = 0x01;

export interface SmallServiceParts {
  readonly memory: PhysicalMemory;
  readonly uart: Uart;
  /** Has the caller come back to what is booted next; its drive, or null where there is nothing more. */
  readonly bootNext: () => number | null;
  /** Ends the run. */
  readonly stop: (reason: string) => void;
}

/** INT 11h, 12h, 14h, 17h, 18h, 19h. */
export function smallVectors(parts: SmallServiceParts): readonly BiosVector[] {
  const { memory, uart, bootNext, stop } = parts;
  const only = (vector: number, name: string, run: BiosService['run']): BiosVector => ({
    vector,
    only: { name, run },
  });
  return [
    only(0x11, 'get equipment list', (r) => {
      r.ax = memory.read16(BDA_EQUIPMENT);
    }),
    only(0x12, 'get conventional memory size', (r) => {
      r.ax = memory.read16(BDA_BASE_MEMORY_KB);
      r.result = `${r.ax} KiB`;
    }),
    { vector: 0x14, byAh: serialServices(uart) },
    {
      vector: 0x17,
      byAh: new Map([
        [0x00, { name: 'print character', run: printer }],
        [0x01, { name: 'initialize printer', run: printer }],
        [0x02, { name: 'get printer status', run: printer }],
      ]),
    },
    {
      vector: 0x18,
      only: {
        name: 'boot failure',
        // What it returns to, the ROM's code alone can reach.
        returnsSegment: true,
        run: (r) => {
          const drive = bootNext();
          if (drive === null) stop('the guest called INT 18h: it found nothing to boot');
          else {
            r.dx = drive;
            r.es = 0;
            r.result = `the next device is booted, drive ${hex(drive)}`;
          }
        },
      },
    },
    only(0x19, 'bootstrap loader', () =>
      stop('the guest called INT 19h: it gave up and asks for another boot'),
    ),
  ];
}

function printer(r: BiosRegisters): void {
  r.ah = PRINTER_TIMEOUT;
}

function serialServices(uart: Uart): ReadonlyMap<number, BiosService> {
  const status = (register: number) => uart.readPort(uart.basePort + register);
  /** Wraps a function of COM1, so that other ports time out. */
  const onCom1 =
    (run: BiosService['run']): BiosService['run'] =>
    (r) => {
      if (r.dx === 0) {
        run(r);
      } else {
        r.ah = SERIAL_TIMEOUT;
      }
    };
  const report = (r: BiosRegisters): void => {
    r.ah = status(UART_LSR);
    r.al = status(UART_MSR);
  };
  return new Map([
    [0x00, { name: 'initialize serial port', run: onCom1(report) }],
    [
      0x01,
      {
        name: 'send character',
        run: onCom1((r) => {
          uart.writePort(uart.basePort, r.al);
          r.ah = status(UART_LSR);
        }),
      },
    ],
    [
      0x02,
      {
        name: 'receive character',
        run: onCom1((r) => {
          r.ah = SERIAL_TIMEOUT | status(UART_LSR);
        }),
      },
    ],
    [0x03, { name: 'get serial port status', run: onCom1(report) }],
  ]);
}
