import { describe, expect, it } from 'vitest';
import { BootscopeError } from '../error.ts';
import { PhysicalMemory } from '../x86/physical-memory.ts';
import { mapIdentity } from './identity-map.ts';

const STUB = 0x10000;
const TOP = STUB;

/** A four-level map of the first 2 MiB, in tables that follow each other from `TOP`. */
function tables(): { ram: Uint8Array; entry: (table: number, slot: number) => bigint } {
  const ram = new Uint8Array(0x100000);
  const view = new DataView(ram.buffer);
  view.setBigUint64(TOP, BigInt(TOP + 0x1000) | 0x63n, true);
  view.setBigUint64(TOP + 0x1000, BigInt(TOP + 0x2000) | 0x63n, true);
  view.setBigUint64(TOP + 0x2000, 0x183n, true);
  return { ram, entry: (table, slot) => view.getBigUint64(table + 8 * slot, true) };
}

function map(ram: Uint8Array, maps: boolean, start: number, end: number, stubEnd = STUB + 0x10000): number {
  const input = {
    memory: PhysicalMemory.of(ram),
    cr3: BigInt(TOP),
    fiveLevels: false,
    stubStart: STUB,
    stubEnd,
    maps,
  };
  return mapIdentity(input, [{ start, end, written: true }]);
}

describe('page tables after extract_kernel', () => {
  it('map the 2 MiB pages that were touched, and mark those that were there', () => {
    const { ram, entry } = tables();
    expect(map(ram, true, 0x1ff000, 0x400001)).toBe(2);
    expect(entry(TOP + 0x2000, 0)).toBe(0x1e3n);
    expect(entry(TOP + 0x2000, 1)).toBe(0x2001e3n);
    expect(entry(TOP + 0x2000, 2)).toBe(0x4001e3n);
    expect(entry(TOP + 0x2000, 3)).toBe(0n);
  });

  it('take a new table behind the last one for another gigabyte', () => {
    const { ram, entry } = tables();
    expect(map(ram, true, 0x40000000, 0x40200000)).toBe(1);
    expect(entry(TOP + 0x1000, 1)).toBe(BigInt(TOP + 0x3000) | 0x63n);
    expect(entry(TOP + 0x3000, 0)).toBe(0x400001e3n);
  });

  it('only get accessed and dirty bits in stubs that map nothing', () => {
    const { ram, entry } = tables();
    expect(map(ram, false, 0, 0x400000)).toBe(0);
    expect(entry(TOP + 0x2000, 0)).toBe(0x1e3n);
    expect(entry(TOP + 0x2000, 1)).toBe(0n);
  });

  it('are refused where the stub’s buffer is used up', () => {
    const { ram } = tables();
    expect(() => map(ram, true, 0x40000000, 0x40200000, STUB + 0x3000)).toThrow(BootscopeError);
  });

  it('mark tables on the way as accessed and not as dirty, and a page that is only read as accessed', () => {
    const { ram, entry } = tables();
    const view = new DataView(ram.buffer);
    view.setBigUint64(TOP, BigInt(TOP + 0x1000) | 3n, true);
    view.setBigUint64(TOP + 0x1000, BigInt(TOP + 0x2000) | 3n, true);
    mapIdentity(
      {
        ...{ memory: PhysicalMemory.of(ram), cr3: BigInt(TOP), fiveLevels: false },
        ...{ stubStart: STUB, stubEnd: STUB + 0x10000, maps: true },
      },
      [{ start: 0, end: 1, written: false }],
    );
    expect([entry(TOP, 0) & 0xfffn, entry(TOP + 0x1000, 0) & 0xfffn]).toEqual([0x23n, 0x23n]);
    expect(entry(TOP + 0x2000, 0)).toBe(0x1a3n);
  });

  it('end at a page of 1 GiB, and leave one of 2 MiB alone that is split', () => {
    const { ram, entry } = tables();
    const view = new DataView(ram.buffer);
    view.setBigUint64(TOP + 0x1000 + 8, 0x40000083n, true);
    view.setBigUint64(TOP + 0x2000 + 8, BigInt(TOP + 0x5000) | 3n, true);
    expect(map(ram, true, 0x200000, 0x200001)).toBe(0);
    expect(entry(TOP + 0x2000, 1)).toBe(BigInt(TOP + 0x5000) | 0x23n);
    expect(map(ram, true, 0x40000000, 0x40400000)).toBe(0);
    expect(entry(TOP + 0x1000, 1)).toBe(0x400000e3n);
  });

  it('reach above 4 GiB and 512 GiB, each with empty tables behind the highest there is, wherever it hangs', () => {
    const { ram, entry } = tables();
    const view = new DataView(ram.buffer);
    // The table of the second gigabyte lies highest.
    view.setBigUint64(TOP + 0x1000 + 8, BigInt(TOP + 0x6000) | 0x63n, true);
    ram.fill(0xee, TOP + 0x7000, TOP + 0xa000);
    expect(map(ram, true, 0x1_4000_0000, 0x1_4000_0001)).toBe(1);
    expect(entry(TOP + 0x1000, 5)).toBe(BigInt(TOP + 0x7000) | 0x63n);
    expect(entry(TOP + 0x7000, 0)).toBe(0x1_4000_01e3n);
    expect(entry(TOP + 0x7000, 1)).toBe(0n);
    expect(map(ram, true, 0x80_0000_0000, 0x80_0000_0001)).toBe(1);
    expect(entry(TOP, 1)).toBe(BigInt(TOP + 0x8000) | 0x63n);
    expect(entry(TOP + 0x8000, 0)).toBe(BigInt(TOP + 0x9000) | 0x63n);
    expect(entry(TOP + 0x9000, 0)).toBe(0x80_0000_01e3n);
  });

  it('have a fifth level with LA57', () => {
    const { ram, entry } = tables();
    const top = STUB + 0x5000;
    new DataView(ram.buffer).setBigUint64(top, BigInt(TOP) | 0x63n, true);
    const mapped = mapIdentity(
      {
        ...{ memory: PhysicalMemory.of(ram), cr3: BigInt(top) | 0x18n, fiveLevels: true },
        ...{ stubStart: STUB, stubEnd: STUB + 0x10000, maps: true },
      },
      [{ start: 0x200000, end: 0x200001, written: true }],
    );
    expect(mapped).toBe(1);
    expect(entry(TOP + 0x2000, 1)).toBe(0x2001e3n);
  });

  it('end at a page of 1 GiB, which is marked', () => {
    const { ram, entry } = tables();
    new DataView(ram.buffer).setBigUint64(TOP + 0x1008, 0x40000083n, true);
    expect(map(ram, true, 0x40000000, 0x40200000)).toBe(0);
    expect(entry(TOP + 0x1000, 1)).toBe(0x400000e3n);
    expect(entry(0x40000, 0)).toBe(0n);
  });

  it('leave alone what small pages map', () => {
    const { ram, entry } = tables();
    new DataView(ram.buffer).setBigUint64(TOP + 0x2008, 0x30003n, true);
    expect(map(ram, true, 0x200000, 0x400000)).toBe(0);
    expect([entry(TOP + 0x2000, 1), entry(0x30000, 0)]).toEqual([0x30023n, 0n]);
  });
});
