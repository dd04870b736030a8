// The 8254 through its ports, driven by the machine's clock.

import { describe, expect, it } from 'vitest';
import { Clock, PIT_HZ } from './clock.ts';
import { Pit } from './pit.ts';

const CONTROL = 0x43;

function makePit(phase = 0) {
  const clock = new Clock();
  const pit = new Pit(clock, phase);
  const count = (counter: number) => {
    const low = pit.readPort(0x40 + counter);
    return low | (pit.readPort(0x40 + counter) << 8);
  };
  /** A little more than `pulses` pulses. */
  const wait = (pulses: number) => clock.advance(((pulses + 0.5) * 1e9) / PIT_HZ);
  return { clock, pit, count, wait };
}

describe('Pit', () => {
  it('counts down from what was loaded, in mode 0, and raises OUT at the end', () => {
    const { pit, count, wait } = makePit();
    pit.setSpeakerGate(true);
    pit.writePort(CONTROL, 0xb0);
    pit.writePort(0x42, 0xe8);
    pit.writePort(0x42, 0x03);
    wait(600);
    pit.writePort(CONTROL, 0x80);
    expect(count(2)).toBe(400);
    expect(pit.speakerOutput).toBe(false);
    wait(400);
    expect(pit.speakerOutput).toBe(true);
  });

  it('keeps a latched count until both bytes were read', () => {
    const { pit, count, wait } = makePit();
    pit.writePort(CONTROL, 0x34);
    pit.writePort(0x40, 0);
    pit.writePort(0x40, 0);
    wait(1000);
    pit.writePort(CONTROL, 0x00);
    wait(1000);
    pit.writePort(CONTROL, 0x00);
    expect(count(0)).toBe(0x10000 - 1000);
    pit.writePort(CONTROL, 0x00);
    expect(count(0)).toBeLessThan(0x10000 - 1999);
  });

  it('answers a read-back of status and count with the status first', () => {
    const { pit, wait } = makePit();
    pit.writePort(CONTROL, 0x34);
    pit.writePort(0x40, 0x00);
    pit.writePort(0x40, 0x10);
    wait(16);
    pit.writePort(CONTROL, 0xc2);
    expect(pit.readPort(0x40) & 0x7f).toBe(0x34);
    expect(pit.readPort(0x40)).toBe(0xf0);
    expect(pit.readPort(0x40)).toBe(0x0f);
  });

  it('says "null count" between a control word and its count', () => {
    const { pit } = makePit();
    pit.writePort(CONTROL, 0x34);
    pit.writePort(CONTROL, 0xe2);
    expect(pit.readPort(0x40) & 0x40).toBe(0x40);
  });

  it('wraps by itself in modes 2 and 3, the latter by two', () => {
    const { pit, count, wait } = makePit();
    pit.writePort(CONTROL, 0x36);
    pit.writePort(0x40, 100);
    pit.writePort(0x40, 0);
    wait(30);
    expect(count(0)).toBe(40);
    wait(39);
    expect(count(0)).toBe(60);
  });

  it('starts elsewhere with another phase, and stops counter 2 without its gate', () => {
    expect(makePit(1).count(0)).not.toBe(makePit(1001).count(0));
    const { pit, count, wait } = makePit();
    pit.writePort(CONTROL, 0xb0);
    pit.setSpeakerGate(false);
    pit.writePort(0x42, 0x10);
    pit.writePort(0x42, 0x00);
    wait(10);
    expect(count(2)).toBe(16);
  });

  it.each([
    // Mode 2 is low for the last pulse of a period; mode 3 high for its first half; mode 4 low for the pulse at the end.
    [2, 10, [0, 8, 9, 10, 19], [true, true, false, true, false]],
    [3, 10, [0, 4, 5, 9, 10], [true, true, false, false, true]],
    [4, 10, [0, 9, 10, 11], [true, true, false, true]],
    [0, 10, [0, 9, 10, 30], [false, false, true, true]],
    [1, 10, [0, 9, 10, 30], [false, false, true, true]],
  ])('has in mode %i with a count of %i its output so', (mode, count, pulses, outputs) => {
    const { pit, clock } = makePit();
    pit.writePort(CONTROL, 0xb0 | (mode << 1));
    pit.writePort(0x42, count);
    pit.writePort(0x42, 0);
    const seen = pulses.map((pulse) => {
      clock.advance(((pulse + 0.5) * 1e9) / PIT_HZ - clock.nanoseconds);
      return pit.speakerOutput;
    });
    expect(seen).toEqual(outputs);
  });

  it('keeps its output low in mode 0 until it has a count, and without its gate', () => {
    const { pit, wait } = makePit();
    pit.writePort(CONTROL, 0xb0);
    wait(100_000);
    expect(pit.speakerOutput).toBe(false);
    pit.writePort(0x42, 5);
    pit.writePort(0x42, 0);
    wait(10);
    expect(pit.speakerOutput).toBe(true);
    pit.setSpeakerGate(false);
    expect(pit.speakerOutput).toBe(false);
    // The edge of the gate begins the count anew.
    pit.setSpeakerGate(true);
    expect(pit.speakerOutput).toBe(false);
    wait(3);
    pit.setSpeakerGate(true);
    wait(3);
    expect(pit.speakerOutput).toBe(true);
  });

  it.each([
    ['low', 0x14, [0x34], 0x34 - 2, 0x34 - 2],
    ['high', 0x24, [0x12], 0x11, 0x11],
  ])('is written and read by its %s byte alone', (_, control, bytes, first, second) => {
    const { pit, wait } = makePit();
    pit.writePort(CONTROL, control);
    for (const byte of bytes) pit.writePort(0x40, byte);
    wait(2);
    expect([pit.readPort(0x40), pit.readPort(0x40)]).toEqual([first, second]);
    pit.writePort(CONTROL, 0x00);
    wait(300);
    expect(pit.readPort(0x40)).toBe(first);
    expect(pit.readPort(0x40)).not.toBe(first);
  });

  it('counts in BCD, from 10000 where it is given 0', () => {
    const { pit, count, wait } = makePit();
    const load = (low: number, high: number): void => {
      pit.writePort(CONTROL, 0x35);
      pit.writePort(0x40, low);
      pit.writePort(0x40, high);
    };
    load(0x34, 0x12);
    wait(35);
    expect(count(0)).toBe(0x1199);
    load(0, 0);
    wait(0.5);
    expect(count(0)).toBe(0x9999);
    load(0, 0);
    expect(count(0)).toBe(0);
  });

  it('gives a read-back of several counters, and of the status or the count alone', () => {
    const { pit, wait } = makePit();
    for (const [port, control] of [
      [0x40, 0x34],
      [0x42, 0xb6],
    ] as const) {
      pit.writePort(CONTROL, control);
      pit.writePort(port, 100);
      pit.writePort(port, 0);
    }
    wait(10);
    pit.writePort(CONTROL, 0xea); // status of 0 and 2
    expect([pit.readPort(0x40), pit.readPort(0x42)]).toEqual([0xb4, 0xb6]);
    pit.writePort(CONTROL, 0xd2); // count of 0
    wait(9.5);
    pit.writePort(CONTROL, 0xc2); // ignored until that was read
    expect([pit.readPort(0x40), pit.readPort(0x40)]).toEqual([90, 0]);
    expect(pit.readPort(0x40)).toBe(80);
    expect(pit.readPort(0x43)).toBe(0xff);
  });

  it('takes mode 6 and 7 for 2 and 3, and a control word ends what was half done', () => {
    const { pit } = makePit();
    const mode = (control: number): number => {
      pit.writePort(CONTROL, control);
      pit.writePort(0x40, 1);
      pit.writePort(CONTROL, control);
      pit.writePort(0x40, 0x34);
      pit.writePort(0x40, 0x12);
      pit.writePort(CONTROL, 0xe2);
      return (pit.readPort(0x40) >> 1) & 7;
    };
    expect([0x30, 0x32, 0x38, 0x3a, 0x3c, 0x3e].map(mode)).toEqual([0, 1, 4, 5, 2, 3]);
    pit.writePort(CONTROL, 0x34);
    pit.writePort(0x40, 0x34);
    pit.writePort(0x40, 0x12);
    pit.readPort(0x40);
    pit.writePort(CONTROL, 0x34);
    expect(pit.readPort(0x40)).toBe(0x34);
  });
});
