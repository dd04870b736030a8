import { describe, expect, it } from 'vitest';
import { PhysicalMemory } from '../x86/physical-memory.ts';
import { GuestConsole } from './guest-console.ts';

const BOOT_PARAMS = 0x1000;

function screen(x: number, y: number, lines = 25, columns = 80): Uint8Array {
  const ram = new Uint8Array(0x100000);
  ram[BOOT_PARAMS] = x;
  ram[BOOT_PARAMS + 1] = y;
  ram[BOOT_PARAMS + 6] = 3;
  ram[BOOT_PARAMS + 7] = columns;
  ram[BOOT_PARAMS + 0x0e] = lines;
  ram.fill(0x07, 0xb8000, 0xb8000 + lines * columns * 2);
  return ram;
}

function row(ram: Uint8Array, line: number): string {
  const start = 0xb8000 + line * 160;
  return Buffer.from(ram.subarray(start, start + 160).filter((_, index) => index % 2 === 0)).toString(
    'latin1',
  );
}

describe('what the stub prints', () => {
  it('goes to the cursor in boot_params, which moves on', () => {
    const ram = screen(78, 2);
    new GuestConsole(PhysicalMemory.of(ram), BOOT_PARAMS, null).put('abc\nd');
    expect(row(ram, 2).slice(78)).toBe('ab');
    expect(row(ram, 3).slice(0, 1)).toBe('c');
    expect([ram[BOOT_PARAMS], ram[BOOT_PARAMS + 1]]).toEqual([1, 4]);
  });

  it('scrolls at the end, and leaves the attributes of the new line', () => {
    const ram = screen(0, 24);
    new GuestConsole(PhysicalMemory.of(ram), BOOT_PARAMS, null).put('last\n');
    expect(row(ram, 23).slice(0, 4)).toBe('last');
    expect(row(ram, 24)).toBe(' '.repeat(80));
    expect(ram[0xb8000 + 24 * 160 + 1]).toBe(0x07);
    expect(ram[BOOT_PARAMS + 1]).toBe(24);
  });

  it('does not touch the screen without lines or columns', () => {
    const ram = screen(0, 0, 0, 0);
    new GuestConsole(PhysicalMemory.of(ram), BOOT_PARAMS, null).put('text');
    expect(ram[0xb8000]).toBe(0);
    expect(ram[BOOT_PARAMS]).toBe(0);
  });

  it('goes to the serial port that earlyprintk= names, CR before LF', () => {
    const written: number[] = [];
    const ports = {
      read: (port: number) => (port === 0x2f8 + 5 ? 0x20 : 0),
      write: (port: number, value: number) => {
        if (port === 0x2f8) written.push(value);
      },
    };
    const console = new GuestConsole(PhysicalMemory.of(screen(0, 0, 0, 0)), BOOT_PARAMS, ports);
    console.initialiseSerial('earlyprintk=ttyS1,38400');
    expect(written).toEqual([3]);
    console.put('a\n');
    expect(written.slice(1)).toEqual([0x61, 0x0d, 0x0a]);
  });

  it.each([
    ['earlyprintk=serial,0x2e8,9600', 0x2e8],
    ['earlyprintk=serial,ttyS0,115200', 0x3f8],
    ['earlyprintk=serial', 0x3f8],
    ['console=uart8250,io,0x2f8,115200', 0x2f8],
    ['console=tty0', null],
    ['earlyprintk=vga', null],
  ])('finds the port of %s', (commandLine, port) => {
    const touched = new Set<number>();
    const ports = {
      read: (at: number) => {
        touched.add(at);
        return 0x20;
      },
      write: () => {},
    };
    const console = new GuestConsole(PhysicalMemory.of(screen(0, 0, 0, 0)), BOOT_PARAMS, ports);
    console.initialiseSerial(commandLine);
    touched.clear();
    console.put('x');
    expect([...touched]).toEqual(port === null ? [] : [port + 5]);
  });

  /** Registers of a port that are written while a command line is read, the divisor behind DLAB apart. */
  const setUp = (commandLine: string, divisor = 12) => {
    const written = new Map<string, number>();
    let control = 0x03;
    const ports = {
      read: (port: number) =>
        port % 8 === 3 ? control : port % 8 === 0 ? divisor & 0xff : port % 8 === 1 ? divisor >> 8 : 0x20,
      write: (port: number, value: number) => {
        if (port % 8 === 3) control = value;
        else written.set(`${(port & ~7).toString(16)}${control & 0x80 ? ' DLAB' : ''} ${port % 8}`, value);
      },
    };
    const console = new GuestConsole(PhysicalMemory.of(screen(0, 0, 0, 0)), BOOT_PARAMS, ports);
    console.initialiseSerial(commandLine);
    return { ...Object.fromEntries(written), control };
  };
  const divided = (base: string, divisor: number) => ({
    [`${base} 1`]: 0,
    [`${base} 2`]: 0,
    [`${base} 4`]: 3,
    [`${base} DLAB 0`]: divisor & 0xff,
    [`${base} DLAB 1`]: divisor >> 8,
    control: 3,
  });

  it.each([
    ['earlyprintk=ttyS0,115200', '3f8', 1],
    ['earlyprintk=ttyS0', '3f8', 12],
    ['earlyprintk=ttyS1,300', '2f8', 384],
    ['earlyprintk=ttyS2,38400', '3f8', 3],
    ['earlyprintk=,ttyS0,19200', '3f8', 6],
    ['earlyprintk=serial,0x2e8,57600', '2e8', 2],
    ['earlyprintk=serial,0x2e8', '2e8', 12],
    ['earlyprintk=serial,0x0,57600', '3f8', 12],
    ['earlyprintk=serial0x2e8,57600', '3f8', 154],
    ['earlyprintk=serial,ttyS1,57600', '2f8', 2],
    ['console=uart,io,0x2f8,57600', '2f8', 2],
    ['console=uart8250,io,0x2f8,0', '2f8', 12],
    ['earlyprintk=vga console=uart,io,0x2f8,57600', '2f8', 2],
    ['earlyprintk=ttyS0,115200 console=uart,io,0x2f8,57600', '3f8', 1],
  ])('sets up for %s port %s with divisor %i', (commandLine, base, divisor) => {
    expect(setUp(commandLine)).toEqual(divided(base, divisor));
  });

  it('keeps the rate that a port has, where the command line gives none', () => {
    expect(setUp('console=uart,io,0x2f8', 6)).toEqual(divided('2f8', 6));
    expect(setUp('console=uart,io,0x2f8', 0x180)).toEqual(divided('2f8', 384));
    expect(setUp('console=uart,io,0x2f8', 0)).toEqual(divided('2f8', 12));
    expect(setUp('console=uart,io,0', 6)).toEqual({ control: 3 });
    expect(setUp('console=uart,mmio,0x2f8')).toEqual({ control: 3 });
    expect(setUp('earlyprintk=')).toEqual({ control: 3 });
  });

  it('moves the cursor of the display, by characters from the start of its memory', () => {
    const written: (readonly [number, number])[] = [];
    const ports = {
      read: () => 0x20,
      write: (port: number, value: number) => void written.push([port, value]),
    };
    new GuestConsole(PhysicalMemory.of(screen(78, 20)), BOOT_PARAMS, ports).put('a');
    const position = 20 * 80 + 79;
    const [high, low] = [position >> 8, position & 0xff];
    expect(written).toEqual([
      [0x3d4, 14],
      [0x3d5, high],
      [0x3d4, 15],
      [0x3d5, low],
    ]);
    // A monochrome display has its memory and ports elsewhere.
    const ram = screen(0, 0);
    ram[BOOT_PARAMS + 6] = 7;
    written.length = 0;
    new GuestConsole(PhysicalMemory.of(ram), BOOT_PARAMS, ports).put('b');
    expect([ram[0xb0000], ram[0xb8000], written[0]]).toEqual([0x62, 7, [0x3b4, 14]]);
  });

  it('uses the screen where boot_params has its size', () => {
    const uses = (lines: number, columns: number): boolean =>
      new GuestConsole(PhysicalMemory.of(screen(0, 0, lines, columns)), BOOT_PARAMS, null).usesScreen;
    expect([uses(25, 80), uses(0, 80), uses(25, 0)]).toEqual([true, false, false]);
  });
});
