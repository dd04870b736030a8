// What is told of accesses to a range, on a CPU that is made up.

import { describe, expect, it } from 'vitest';
import type { Cpu } from '../cpu/cpu.ts';
import { PhysicalMemory } from '../x86/physical-memory.ts';
import { AccessObserver, type ObservedAccess, type ObserverParts } from './access-observer.ts';

function observed(access: 'read' | 'write', start = 0x1000, end = 0x1010, engineVersion = '2.1.4') {
  const ram = new Uint8Array(0x12_0000);
  const hooks: Record<string, ((at: bigint, size: number, value?: bigint) => void) | null> = {};
  const ranges: Record<string, readonly [bigint, bigint]> = {};
  const hook = (name: string) => (first: bigint, last: bigint, call: never) => {
    hooks[name] = call;
    ranges[name] = [first, last];
    return () => {
      hooks[name] = null;
    };
  };
  const cpu = {
    ...{ engineVersion, instructions: 42, memory: PhysicalMemory.of(ram) },
    ...{ hookMemoryWrite: hook('write'), hookMemoryRead: hook('read'), hookCode: hook('code') },
  } as unknown as Cpu;
  const told: ObservedAccess[] = [];
  const parts: ObserverParts = {
    cpu,
    address: () => 0x7777,
    mode: () => 'long64',
    phase: () => 'startup_64',
  };
  const observer = new AccessObserver(parts, { start, end }, access, (each) => told.push(each));
  return {
    ...{ ram, hooks, ranges, told, observer },
    guestWrites: (at: number, ...bytes: number[]): void => {
      const value = bytes.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
      hooks.write!(BigInt(at), bytes.length, value);
      ram.set(bytes, at);
    },
  };
}

const ALL = { instructions: 42, phase: 'startup_64', mode: 'long64' };

describe('writes by the guest', () => {
  it('are told with what was there and what is', () => {
    const { guestWrites, told, ranges } = observed('write');
    expect(ranges.write).toEqual([0x1000n, 0x100fn]);
    guestWrites(0x1004, 1, 2, 3, 4);
    guestWrites(0x1006, 9, 8);
    expect(told).toEqual([
      {
        ...{ access: 'write', start: 0x1004, end: 0x1008, instruction: 0x7777n, by: 'guest', ...ALL },
        ...{ before: Uint8Array.of(0, 0, 0, 0), after: Uint8Array.of(1, 2, 3, 4), offset: 0 },
      },
      {
        ...{ access: 'write', start: 0x1006, end: 0x1008, instruction: 0x7777n, by: 'guest', ...ALL },
        ...{ before: Uint8Array.of(3, 4), after: Uint8Array.of(9, 8), offset: 0 },
      },
    ]);
  });

  it('across the ends of the range are told by what lies in it', () => {
    const { guestWrites, told } = observed('write');
    guestWrites(0xffd, 1, 2, 3, 4, 5, 6, 7, 8);
    guestWrites(0x100e, 1, 2, 3, 4);
    expect(told).toMatchObject([
      { start: 0x1000, end: 0x1005, after: Uint8Array.of(4, 5, 6, 7, 8), offset: 3 },
      { start: 0x100e, end: 0x1010, after: Uint8Array.of(1, 2), offset: 0 },
    ]);
  });

  it('are told until it ends', () => {
    const { observer, hooks } = observed('write');
    observer.end();
    expect(hooks.write).toBeNull();
  });
});

describe('writes by the host', () => {
  it('are told with where the bytes come from', () => {
    const { observer, ram, told } = observed('write');
    ram.fill(7, 0x800, 0x1008);
    const write = { start: 0x800, end: 0x1008, instruction: 0x55n, by: 'copy', source: 0x9000 } as const;
    observer.onHostWrite(write);
    expect(told).toEqual([
      {
        ...{ access: 'write', start: 0x1000, end: 0x1008, instruction: 0x55n, by: 'copy', source: 0x9800 },
        ...{ before: new Uint8Array(8), after: new Uint8Array(8).fill(7), offset: 0x800, ...ALL },
      },
    ]);
    observer.onHostWrite({ start: 0x100f, end: 0x2000, instruction: 1n, by: 'fill' });
    expect(told[1]).toMatchObject({ start: 0x100f, end: 0x1010, by: 'fill' });
    expect('source' in told[1]!).toBe(false);
    observer.onHostWrite({ start: 0x1010, end: 0x2000, instruction: 1n, by: 'fill' });
    observer.onHostWrite({ start: 0xf00, end: 0x1000, instruction: 1n, by: 'fill' });
    observer.onHostRead({ start: 0x1000, end: 0x1008, instruction: 1n, by: 'copy' });
    expect(told).toHaveLength(2);
  });

  it('that nobody tells of one by one are seen in what has changed', () => {
    const { observer, ram, told } = observed('write');
    observer.onHostAction('firmware');
    expect(told).toEqual([]);
    ram[0x1003] = 1;
    ram[0x1009] = 2;
    observer.onHostAction('firmware');
    expect(told).toEqual([
      {
        ...{
          access: 'write',
          start: 0x1003,
          end: 0x100a,
          instruction: null,
          by: 'firmware',
          offset: 0,
          ...ALL,
        },
        ...{ before: new Uint8Array(7), after: Uint8Array.of(1, 0, 0, 0, 0, 0, 2) },
      },
    ]);
    // Once.
    observer.onHostAction('extract_kernel');
    expect(told).toHaveLength(1);
  });

  it('of firmware are looked for where real mode reaches', () => {
    const { observer, ram, told } = observed('write', 0x10_fff0, 0x11_0010);
    ram[0x11_0002] = 1;
    observer.onHostAction('firmware');
    expect(told).toEqual([]);
    observer.onHostAction('extract_kernel');
    expect(told).toMatchObject([{ start: 0x11_0002, end: 0x11_0003, by: 'extract_kernel' }]);
    const above = observed('write', 0x11_0000, 0x11_0010);
    above.ram[0x11_0000] = 1;
    above.observer.onHostAction('firmware');
    expect(above.told).toEqual([]);
  });
});

describe('reads', () => {
  it('by guest and host are told with what was read', () => {
    const { observer, hooks, ram, told, ranges } = observed('read');
    expect(ranges.read).toEqual([0x1000n, 0x100fn]);
    ram.set([1, 2, 3, 4], 0x100c);
    hooks.read!(0x100en, 4);
    observer.onHostRead({ start: 0xff0, end: 0x1002, instruction: 0x55n, by: 'copy' });
    observer.onHostRead({ start: 0xff0, end: 0x1000, instruction: 0x55n, by: 'copy' });
    expect(told).toEqual([
      {
        ...{
          access: 'read',
          start: 0x100e,
          end: 0x1010,
          instruction: 0x7777n,
          by: 'guest',
          offset: 0,
          ...ALL,
        },
        ...{ before: Uint8Array.of(3, 4), after: Uint8Array.of(3, 4) },
      },
      {
        ...{
          access: 'read',
          start: 0x1000,
          end: 0x1002,
          instruction: 0x55n,
          by: 'copy',
          offset: 0x10,
          ...ALL,
        },
        ...{ before: Uint8Array.of(0, 0), after: Uint8Array.of(0, 0) },
      },
    ]);
  });

  it('are no writes', () => {
    const { observer, ram, told } = observed('read');
    observer.onHostWrite({ start: 0x1000, end: 0x1008, instruction: 1n, by: 'fill' });
    ram[0x1000] = 1;
    observer.onHostAction('firmware');
    expect(told).toEqual([]);
  });

  it('have every instruction looked at by engines that know some reads only so', () => {
    const old = observed('read', 0x1000, 0x1010, '2.0.1');
    expect(old.hooks.code).toBeTypeOf('function');
    old.observer.end();
    expect([old.hooks.code, old.hooks.read]).toEqual([null, null]);
    expect(observed('read').hooks.code).toBeUndefined();
    expect(observed('write', 0x1000, 0x1010, '2.0.1').hooks.code).toBeUndefined();
  });
});
