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
});
