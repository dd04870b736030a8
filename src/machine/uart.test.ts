// The 16550 through its registers.

import { describe, expect, it } from 'vitest';
import { Uart } from './uart.ts';

const BASE = 0x3f8;

function makeUart() {
  const uart = new Uart(BASE);
  const sent: number[] = [];
  uart.onByte = (byte) => sent.push(byte);
  const read = (register: number) => uart.readPort(BASE + register);
  const write = (register: number, value: number) => uart.writePort(BASE + register, value);
  return { uart, sent, read, write };
}

describe('Uart', () => {
  it('hands out each byte written to THR', () => {
    const { sent, write } = makeUart();
    for (const character of 'ok\n') {
      write(0, character.charCodeAt(0));
    }
    expect(String.fromCharCode(...sent)).toBe('ok\n');
  });

  it('is always ready to send and never has received anything', () => {
    const { read } = makeUart();
    expect(read(5)).toBe(0x60);
    expect(read(0)).toBe(0);
  });

  it('shows the divisor latch in registers 0 and 1 while DLAB is set', () => {
    const { uart, sent, read, write } = makeUart();
    write(3, 0x83);
    write(0, 0x01);
    write(1, 0x00);
    expect([read(0), read(1), read(3)]).toEqual([0x01, 0x00, 0x83]);
    write(3, 0x03);
    expect(uart.baudRate).toBe(115_200);
    expect(read(1)).toBe(0);
    expect(sent).toEqual([]);
  });

  it('is recognised as a 16550A with working FIFOs', () => {
    const { read, write } = makeUart();
    expect(read(2)).toBe(0x01);
    write(2, 0x07);
    expect(read(2)).toBe(0xc1);
  });

  it('reports an empty THR once as interrupt identification when ETBEI is set', () => {
    const { read, write } = makeUart();
    write(1, 0x02);
    expect(read(2)).toBe(0x02);
    expect(read(2)).toBe(0x01);
  });

  it('keeps the scratch register and loops modem lines and data back', () => {
    const { sent, read, write } = makeUart();
    write(7, 0x5a);
    expect(read(7)).toBe(0x5a);
    expect(read(6)).toBe(0xb0);
    write(4, 0x1a);
    expect(read(6) & 0xf0).toBe(0x90);
    write(0, 0x41);
    expect(read(5) & 1).toBe(1);
    expect(read(0)).toBe(0x41);
    expect(sent).toEqual([]);
  });

  it('has a rate by its divisor, and none without one', () => {
    const { uart, read, write } = makeUart();
    expect(uart.baudRate).toBe(9600);
    const divide = (low: number, high: number): number => {
      write(3, 0x80);
      write(0, low);
      write(1, high);
      return uart.baudRate;
    };
    expect([divide(7, 0), divide(0, 1), divide(0x80, 1), divide(0, 0)]).toEqual([16_457, 450, 300, 0]);
    divide(0x34, 0x12);
    expect([read(0), read(1)]).toEqual([0x34, 0x12]);
    write(0, 0x56);
    expect([read(0), read(1)]).toEqual([0x56, 0x12]);
  });

  it('keeps of its registers what a 16550 keeps', () => {
    const { read, write, uart } = makeUart();
    write(1, 0xfd);
    write(4, 0xef);
    write(5, 0);
    write(6, 0);
    expect([read(1), read(4), read(5), read(6)]).toEqual([0x0d, 0x0f, 0x60, 0xb0]);
    expect(uart.readPort(BASE + 8)).toBe(0xff);
    write(2, 0xc0);
    expect(read(2)).toBe(0x01);
  });

  it('says that THR is empty after each byte, where that is asked for', () => {
    const { read, write } = makeUart();
    write(0, 0x41);
    expect(read(2)).toBe(0x01);
    write(1, 0x02);
    expect([read(2), read(2)]).toEqual([0x02, 0x01]);
    write(0, 0x41);
    expect([read(2), read(2)]).toEqual([0x02, 0x01]);
    write(1, 0x02);
    write(1, 0x00);
    expect(read(2)).toBe(0x01);
  });

  it.each([
    [0x11, 0x20], // DTR to DSR
    [0x12, 0x10], // RTS to CTS
    [0x14, 0x40], // OUT1 to RI
    [0x18, 0x80], // OUT2 to DCD
  ])('loops modem line %i back as %i', (lines, status) => {
    const { read, write } = makeUart();
    write(4, lines);
    expect(read(6)).toBe(status);
  });
});
