// The port space: routing, widths, absent ports, time.

import { describe, expect, it } from 'vitest';
import { Clock } from './clock.ts';
import type { MachineEvent } from './events.ts';
import { NoticeList } from './notices.ts';
import { PortBus, type PortDevice } from './port-bus.ts';
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

  it('hands wide accesses to devices that take them, in their width', () => {
    const { bus, notices } = makeBus();
    const seen: unknown[] = [];
    const device: PortDevice = {
      name: 'wide',
      readPort: (port) => port & 0xff,
      writePort: (port, value) => void seen.push([port, 1, value]),
      readPortWide: (port, size) => -(port + size),
      writePortWide: (port, size, value) => void seen.push([port, size, value]),
    };
    bus.attach(device, 0x20, 0x23);
    expect([bus.read(0x20, 4), bus.read(0x22, 2), bus.read(0x23, 1)]).toEqual([
      2 ** 32 - 0x24,
      2 ** 32 - 0x24,
      0x23,
    ]);
    bus.write(0x20, 4, -1);
    bus.write(0x22, 2, 0x1234);
    bus.write(0x21, 1, 0x1ff);
    expect(seen).toEqual([
      [0x20, 4, 0xffffffff],
      [0x22, 2, 0x1234],
      [0x21, 1, 0xff],
    ]);
    expect(notices.texts).toEqual([]);
  });

  it('gives a port to the device that had it last, and each device its own', () => {
    const { bus } = makeBus();
    const other = new PlainRegisters('other');
    bus.attach(other, 0x12);
    bus.attach(other, 0x14, 0x15);
    bus.write(0x12, 1, 7);
    bus.write(0x11, 1, 8);
    bus.write(0x15, 1, 9);
    expect([other.readPort(0x12), other.readPort(0x11), other.readPort(0x15)]).toEqual([7, 0, 9]);
    bus.attach(new PlainRegisters('third'), 0x14);
    expect([bus.read(0x15, 1), bus.read(0x12, 1)]).toEqual([9, 7]);
    bus.write(0x12, 4, 0x04030201);
    expect([other.readPort(0x12), bus.read(0x13, 1), bus.read(0x14, 1), other.readPort(0x15)]).toEqual([
      1, 2, 3, 4,
    ]);
    // The last port of all is followed by the first.
    bus.attach(other, 0xffff);
    bus.attach(other, 0);
    bus.write(0xffff, 2, 0xbbaa);
    expect([other.readPort(0xffff), other.readPort(0), bus.read(0xffff, 2)]).toEqual([0xaa, 0xbb, 0xbbaa]);
  });

  it('counts accesses, but for writes to one port', () => {
    const { bus } = makeBus();
    bus.uncountedPort = 0x10;
    bus.write(0x10, 1, 0);
    expect(bus.accesses).toBe(0);
    bus.write(0x11, 1, 0);
    bus.read(0x10, 1);
    expect(bus.accesses).toBe(2);
  });

  it('takes a microsecond an access, and more for the same port again and again', () => {
    const { bus, clock } = makeBus();
    const time = (act: () => void): number => {
      const before = clock.nanoseconds;
      act();
      return clock.nanoseconds - before;
    };
    const read = (port = 0x10): number => time(() => bus.read(port, 1));
    const steps = Array.from({ length: 100 }, () => read());
    expect(steps.slice(0, 65)).toEqual(new Array(65).fill(1000));
    expect(steps.slice(65, 68)).toEqual([2000, 3000, 4000]);
    expect(steps.slice(95)).toEqual([32_000, 32_000, 32_000, 32_000, 32_000]);
    // Another port, or a write, ends the waiting.
    expect([read(0x11), read()]).toEqual([1000, 1000]);
    for (let time = 0; time < 100; time++) read();
    expect(read()).toBe(32_000);
    expect([time(() => bus.write(0x10, 1, 0)), read()]).toEqual([1000, 1000]);
  });

  it('gives a device as many ranges as it wants', () => {
    const { bus } = makeBus();
    const other = new PlainRegisters('other');
    for (let range = 0; range < 300; range++) bus.attach(other, 0x1000 + range * 2);
    bus.write(0x1000 + 299 * 2, 1, 7);
    bus.write(0x1000, 1, 8);
    expect([other.readPort(0x1000 + 299 * 2), other.readPort(0x1000)]).toEqual([7, 8]);
  });
});
