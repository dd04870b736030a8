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
});
