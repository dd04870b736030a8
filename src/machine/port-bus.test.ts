// The port space: routing, widths, absent ports, time.

import { describe, expect, it } from 'vitest';
import { Clock } from './clock.ts';
import type { MachineEvent } from './events.ts';
import { NoticeList } from './notices.ts';
import { PortBus } from './port-bus.ts';
import { PlainRegisters } from './system-control.ts';

function makeBus() {
  const clock = new Clock();
  const notices = new NoticeList();
  const bus = new PortBus(clock, notices);
  bus.attach(new PlainRegisters('latch'), 0x10, 0x13);
  return { bus, clock, notices };
}

describe('PortBus', () => {
  it('reads all ones, in the width asked for, where nothing is, and notes the port once', () => {
    const { bus, notices } = makeBus();
    expect([bus.read(0x999, 1), bus.read(0x999, 2), bus.read(0x999, 4)]).toEqual([0xff, 0xffff, 0xffffffff]);
    bus.write(0x998, 1, 1);
    expect(notices.texts).toEqual([
      'port 0x999 has no device (read 3 times)',
      'port 0x998 has no device (written once)',
    ]);
  });

  it('tells of many absent ports in one line', () => {
    const { bus, notices } = makeBus();
    for (const port of [0x300, 0x302, 0x301, 0x1c80, 0x2c80, 0x3c80, 0x4c80, 0x5c80, 0x6c80]) {
      bus.read(port, 1);
    }
    expect(notices.texts).toEqual([
      '9 ports have no device (read 9 times, written 0 times): 0x300-0x302, 0x1c80, 0x2c80, 0x3c80, 0x4c80, 0x5c80, 0x6c80',
    ]);
  });

  it('splits wide accesses into bytes for byte-wide devices', () => {
    const { bus } = makeBus();
    bus.write(0x10, 4, 0xaabbccdd);
    expect([bus.read(0x10, 1), bus.read(0x13, 1), bus.read(0x11, 2)]).toEqual([0xdd, 0xaa, 0xbbcc]);
    expect(bus.read(0x13, 2)).toBe(0xffaa);
  });

  it('lets time pass with each access, faster for a guest that polls', () => {
    const { bus, clock } = makeBus();
    bus.read(0x10, 1);
    const once = clock.nanoseconds;
    for (let i = 0; i < 200; i++) {
      bus.read(0x10, 1);
    }
    expect(clock.nanoseconds).toBeGreaterThan(once * 201);
  });

  it('tells a listener the port, direction, width, value and device', () => {
    const { bus } = makeBus();
    const events: MachineEvent[] = [];
    bus.onEvent = (event) => events.push(event);
    bus.write(0x10, 1, 7);
    bus.read(0x999, 2);
    expect(events).toEqual([
      { kind: 'port', direction: 'out', port: 0x10, size: 1, value: 7, device: 'latch' },
      { kind: 'port', direction: 'in', port: 0x999, size: 2, value: 0xffff, device: 'unknown' },
    ]);
  });
});
