import { describe, expect, it } from 'vitest';
import { type MemoryOwner, PhysicalMemory } from './physical-memory.ts';

const GIB = 2 ** 30;

/** 1 MiB from 0 and 2.5 GiB from 4 GiB on, of which the pages that are asked for exist. */
function machine() {
  const windows: [number, number][] = [];
  const pages = new Map<string, Uint8Array>();
  const low = new Uint8Array(0x100000);
  const owner: MemoryOwner = {
    blocks: [
      { start: 0, end: 0x100000 },
      { start: 4 * GIB, end: 6.5 * GIB },
    ],
    ram: (address, length) => {
      windows.push([address, length]);
      if (address + length <= low.length) return low.subarray(address, address + length);
      const key = `${address}+${length}`;
      // Stands for a gigabyte: nothing here looks further.
      const page = pages.get(key) ?? new Uint8Array(Math.min(length, 0x180_0000));
      pages.set(key, page);
      return page;
    },
    invalidateCode: () => {},
  };
  return { memory: new PhysicalMemory(owner), windows };
}

describe('physical memory', () => {
  it('reads and writes numbers, little endian', () => {
    const memory = PhysicalMemory.of(new Uint8Array(0x2000));
    memory.write64(0x1000, 0x1122334455667788n);
    expect(memory.read8(0x1000)).toBe(0x88);
    expect(memory.read16(0x1001)).toBe(0x6677);
    expect(memory.read32(0x1004)).toBe(0x11223344);
    expect(memory.read64(0x1000)).toBe(0x1122334455667788n);
    memory.fill16(0x1000, 2, 0x1234);
    expect(memory.copyOut(0x1000, 5)).toEqual(Uint8Array.of(0x34, 0x12, 0x34, 0x12, 0x44));
  });

  it('shares its views, and copies what is copied out', () => {
    const memory = PhysicalMemory.of(new Uint8Array(0x2000), 0x10_0000_0000);
    const copy = memory.copyOut(0x10_0000_1000, 4);
    memory.view(0x10_0000_1000, 4).set([1, 2, 3, 4]);
    expect(memory.read32(0x10_0000_1000)).toBe(0x04030201);
    expect([...copy]).toEqual([0, 0, 0, 0]);
  });

  it('opens one window for what lies near together above 4 GiB', () => {
    const { memory, windows } = machine();
    memory.write32(4 * GIB + 0x100, 7);
    expect(memory.read32(4 * GIB + 0x100)).toBe(7);
    memory.read8(0x500);
    memory.read8(4 * GIB + 0x200);
    expect(windows).toEqual([
      [4 * GIB, 0x80_0000],
      [0, 0x10_0000],
    ]);
  });

  it('opens a wider window for what crosses ordinary ones, and stays with it', () => {
    const { memory, windows } = machine();
    memory.view(5 * GIB - 0x1000, 0x2000);
    memory.read8(5 * GIB - 0x80_0000);
    expect(windows).toEqual([[5 * GIB - 0x80_0000, 0x100_0000]]);
    memory.view(6 * GIB, 0x1000);
    expect(windows.at(-1)).toEqual([6 * GIB, 0x80_0000]);
    memory.view(6.5 * GIB - 0x180_0000, 0x180_0000);
    expect(windows.at(-1)).toEqual([6.5 * GIB - 0x180_0000, 0x180_0000]);
  });

  it('opens a window of a gibibyte once there are many wide ones, and one of its own for what crosses two', () => {
    const { memory, windows } = machine();
    for (let index = 9; index >= 1; index--) memory.view(4 * GIB + index * 0x100_0000 - 1, 2);
    expect(windows.at(-2)).toEqual([4 * GIB + 0x180_0000, 0x100_0000]);
    expect(windows.at(-1)).toEqual([4 * GIB, GIB]);
    memory.view(4 * GIB + 0x40_0000, 0x100_0000);
    expect(windows).toHaveLength(9);
    for (let index = 1; index <= 7; index++) memory.view(5 * GIB + index * 0x100_0000 - 1, 2);
    memory.view(6 * GIB - 1, 2);
    expect(windows.at(-1)).toEqual([6 * GIB - 1, 2]);
  });

  it('knows where its holes are', () => {
    const { memory } = machine();
    expect(memory.contains(0xff000, 0x1000)).toBe(true);
    expect(memory.contains(0xff000, 0x1001)).toBe(false);
    expect(memory.contains(6.5 * GIB - 1, 1)).toBe(true);
    expect(memory.contains(-1, 1)).toBe(false);
    expect(memory.end).toBe(6.5 * GIB);
    expect([memory.bytesFrom(0xff000), memory.bytesFrom(0x100000)]).toEqual([0x1000, 0]);
    expect(memory.viewUpTo(0xff000, 0x5000)).toHaveLength(0x1000);
    expect(memory.viewUpTo(2 * GIB, 0x5000)).toHaveLength(0);
    expect(() => memory.read32(0xffffe)).toThrow(
      '4 bytes at 0xffffe are not all RAM, which is 0x0..0x100000 and 0x100000000..0x1a0000000',
    );
  });

  it('looks anew at memory that has moved', () => {
    let bytes = new Uint8Array(new ArrayBuffer(16));
    const memory = new PhysicalMemory({
      blocks: [{ start: 0, end: 16 }],
      ram: (address, length) => bytes.subarray(address, address + length),
      invalidateCode: () => {},
    });
    memory.write8(3, 9);
    bytes = structuredClone(bytes, { transfer: [bytes.buffer] });
    expect(memory.read8(3)).toBe(9);
  });
});
