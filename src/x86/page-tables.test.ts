import { describe, expect, it } from 'vitest';
import {
  isIdentityMapped,
  markUsed,
  type PagingState,
  pagingMode,
  translate,
  walkPageTables,
} from './page-tables.ts';
import { PhysicalMemory } from './physical-memory.ts';

const PRESENT = 1n;
const WRITABLE = 2n;
const USER = 4n;
const LARGE = 0x80n;
const NO_EXECUTE = 1n << 63n;
const RW = PRESENT | WRITABLE;

const OFF: PagingState = { cr0: 1n, cr3: 0x1000n, cr4: 0n, efer: 0n };
const LEGACY: PagingState = { cr0: 0x8000_0001n, cr3: 0x1000n, cr4: 0n, efer: 0n };
const PSE: PagingState = { ...LEGACY, cr4: 0x10n };
const PAE: PagingState = { ...LEGACY, cr3: 0x1020n, cr4: 0x20n };
const LONG: PagingState = { ...LEGACY, cr4: 0x20n, efer: 0x500n };
const LA57: PagingState = { ...LONG, cr4: 0x1020n };

/** RAM of 64 KiB with entries written at physical addresses. */
function tables(size: 4 | 8, entries: Readonly<Record<number, bigint>>): Uint8Array {
  const ram = new Uint8Array(0x10000);
  const view = new DataView(ram.buffer);
  for (const [address, entry] of Object.entries(entries)) {
    if (size === 8) view.setBigUint64(Number(address), entry, true);
    else view.setUint32(Number(address), Number(entry), true);
  }
  return ram;
}

describe('pagingMode', () => {
  it('names the mode by CR0, CR4 and EFER', () => {
    expect([OFF, LEGACY, PSE, PAE, LONG, LA57].map(pagingMode)).toEqual([
      'off',
      '32-bit',
      '32-bit',
      'pae',
      '4-level',
      '5-level',
    ]);
  });
});

describe('walkPageTables', () => {
  it('finds no tables with paging off, where every address is its own', () => {
    const walk = walkPageTables(PhysicalMemory.of(new Uint8Array(0x2000)), OFF);
    expect(walk).toMatchObject({ mode: 'off', levels: 0, ranges: [], tables: [], identity: true });
  });

  it('merges the pages of 32-bit tables that follow each other', () => {
    const ram = tables(4, {
      4096: 0x2000n | RW,
      8192: 0x0n | RW,
      8196: 0x1000n | RW,
      8204: 0x3000n | PRESENT,
    });
    const walk = walkPageTables(PhysicalMemory.of(ram), LEGACY);
    expect(walk.ranges).toEqual([
      {
        start: 0n,
        end: 0x2000n,
        physical: 0n,
        writable: true,
        user: false,
        executable: true,
        pageSize: 0x1000,
      },
      {
        start: 0x3000n,
        end: 0x4000n,
        physical: 0x3000n,
        writable: false,
        user: false,
        executable: true,
        pageSize: 0x1000,
      },
    ]);
    expect(walk.tables).toEqual([
      { address: 0x1000n, size: 4096, level: 2 },
      { address: 0x2000n, size: 4096, level: 1 },
    ]);
    expect(walk).toMatchObject({ levels: 2, root: 0x1000n, identity: true, truncated: false });
  });

  it('takes the size bit of a 32-bit directory for a large page only with PSE', () => {
    const ram = tables(4, { 4096: 0x40_0000n | LARGE | RW });
    expect(walkPageTables(PhysicalMemory.of(ram), PSE).ranges).toMatchObject([
      { start: 0n, end: 0x40_0000n, physical: 0x40_0000n, pageSize: 0x40_0000 },
    ]);
    expect(walkPageTables(PhysicalMemory.of(ram), LEGACY).ranges).toEqual([]);
  });

  it('finds address bits above 32 in a PSE-36 entry', () => {
    const ram = tables(4, { 4096: (0x5n << 13n) | LARGE | RW });
    expect(walkPageTables(PhysicalMemory.of(ram), PSE).ranges[0]?.physical).toBe(0x5_0000_0000n);
    expect(translate(PhysicalMemory.of(ram), PSE, 0x1234n)).toBe(0x5_0000_1234n);
  });

  it('starts PAE tables at a root of four entries that have no rights of their own', () => {
    const ram = tables(8, { 4136: 0x2000n | PRESENT, 8200: 0x20_0000n | LARGE | RW | USER });
    const walk = walkPageTables(PhysicalMemory.of(ram), PAE);
    expect(walk.tables[0]).toEqual({ address: 0x1020n, size: 32, level: 3 });
    expect(walk.ranges).toEqual([
      {
        start: 0x4020_0000n,
        end: 0x4040_0000n,
        physical: 0x20_0000n,
        writable: true,
        user: true,
        executable: true,
        pageSize: 0x20_0000,
      },
    ]);
    expect(walk.identity).toBe(false);
  });

  it('takes the rights of all levels together, and execute-disable of any', () => {
    const ram = tables(8, {
      4096: 0x2000n | RW | USER,
      8192: 0x3000n | PRESENT | USER | NO_EXECUTE,
      12288: 0x4000n | RW | USER,
      16384: 0x0n | RW,
    });
    expect(walkPageTables(PhysicalMemory.of(ram), LONG).ranges).toMatchObject([
      { writable: false, user: false, executable: false },
    ]);
  });

  it('gives the upper half in canonical form and splits a range that reaches into it', () => {
    const ram = tables(8, {
      [0x1000 + 255 * 8]: 0x2000n | RW,
      [0x2000 + 511 * 8]: 0x0n | LARGE | RW,
      [0x1000 + 256 * 8]: 0x3000n | RW,
      12288: 0x4000_0000n | LARGE | RW,
    });
    expect(
      walkPageTables(PhysicalMemory.of(ram), LONG).ranges.map(({ start, end, physical }) => [
        start,
        end,
        physical,
      ]),
    ).toEqual([
      [0x7fff_c000_0000n, 0x8000_0000_0000n, 0n],
      [0xffff_8000_0000_0000n, 0xffff_8000_4000_0000n, 0x4000_0000n],
    ]);
  });

  it('walks five levels, and reports the smallest page of a range', () => {
    const entries: Record<number, bigint> = {
      4096: 0x2000n | RW,
      8192: 0x3000n | RW,
      12288: 0x4000n | RW,
      16384: 0x5000n | RW,
      16392: 0x20_0000n | LARGE | RW,
    };
    for (let page = 0; page < 512; page++) entries[0x5000 + page * 8] = BigInt(page << 12) | RW;
    const walk = walkPageTables(PhysicalMemory.of(tables(8, entries)), LA57);
    expect(walk.levels).toBe(5);
    expect(walk.tables.map(({ level }) => level)).toEqual([5, 4, 3, 2, 1]);
    expect(walk.ranges).toMatchObject([{ start: 0n, end: 0x40_0000n, physical: 0n, pageSize: 0x1000 }]);
  });

  it('maps the last page of the upper half up to 2^64', () => {
    const entry = (table: number): number => table + 511 * 8;
    const ram = tables(8, {
      [entry(0x1000)]: 0x2000n | RW,
      [entry(0x2000)]: 0x3000n | RW,
      [entry(0x3000)]: 0x4000n | RW,
      [entry(0x4000)]: 0x7000n | RW,
    });
    const last = walkPageTables(PhysicalMemory.of(ram), LONG).ranges[0];
    expect([last?.start, last?.end]).toEqual([0xffff_ffff_ffff_f000n, 1n << 64n]);
  });

  it('ends at tables that point at themselves, and says that there is more', () => {
    const entries: Record<number, bigint> = {};
    for (let index = 0; index < 512; index++) entries[0x1000 + index * 8] = 0x1000n | RW;
    const walk = walkPageTables(PhysicalMemory.of(tables(8, entries)), LONG);
    expect(walk.truncated).toBe(true);
    expect(walk.tables).toHaveLength(1);
  });

  it('lists one self-referencing entry as the window of page tables that it is', () => {
    const ram = tables(8, { 4096: 0x2000n | RW, [0x1000 + 510 * 8]: 0x1000n | RW });
    const walk = walkPageTables(PhysicalMemory.of(ram), LONG);
    expect(walk.truncated).toBe(false);
    expect(walk.ranges.some(({ physical }) => physical === 0x1000n)).toBe(true);
  });

  it('reads tables outside RAM as empty', () => {
    const ram = tables(8, { 4096: 0x7000_0000n | RW });
    expect(walkPageTables(PhysicalMemory.of(ram), LONG).ranges).toEqual([]);
    expect(walkPageTables(PhysicalMemory.of(ram), { ...LONG, cr3: 0x9000_0000n }).ranges).toEqual([]);
  });
});

describe('translate', () => {
  it('agrees with the walk in every mode', () => {
    const ram = tables(8, {
      4096: 0x2000n | RW,
      8192: 0x3000n | RW,
      12288: 0x4000n | RW,
      16392: 0x9000n | RW,
    });
    expect(translate(PhysicalMemory.of(ram), LONG, 0x1abcn)).toBe(0x9abcn);
    expect(translate(PhysicalMemory.of(ram), LONG, 0x2000n)).toBeNull();
    expect(translate(PhysicalMemory.of(ram), OFF, 0x1234n)).toBe(0x1234n);
    expect(translate(PhysicalMemory.of(ram), OFF, 0x1_0000_1234n)).toBe(0x1234n);
  });
});

describe('isIdentityMapped', () => {
  it('is true only where every page of the range leads to itself', () => {
    const ram = tables(8, {
      4096: 0x2000n | RW,
      8192: 0x3000n | RW,
      12288: 0x0n | LARGE | RW,
      12296: 0x20_0000n | LARGE | RW,
      12304: 0x80_0000n | LARGE | RW,
    });
    expect(isIdentityMapped(PhysicalMemory.of(ram), LONG, 0x1000n, 0x40_0000n)).toBe(true);
    expect(isIdentityMapped(PhysicalMemory.of(ram), LONG, 0x3f_ffffn, 0x40_0001n)).toBe(false);
    expect(isIdentityMapped(PhysicalMemory.of(ram), OFF, 0n, 1n << 40n)).toBe(true);
  });
});

describe('markUsed', () => {
  const entries = (ram: Uint8Array, size: 4 | 8): Record<string, bigint> => {
    const view = new DataView(ram.buffer);
    const found: Record<string, bigint> = {};
    for (let at = 0; at < ram.length; at += size) {
      const entry = size === 8 ? view.getBigUint64(at, true) : BigInt(view.getUint32(at, true));
      if (entry !== 0n) found[`0x${at.toString(16)}`] = entry;
    }
    return found;
  };

  it('sets accessed on the way and in each page that is read, and dirty in those that are written', () => {
    const ram = tables(8, {
      4096: 0x2000n | RW,
      8192: 0x3000n | RW,
      12288: 0x4000n | RW,
      12296: 0x20_0000n | RW | LARGE,
      16384: 0x0n | RW,
      16392: 0x1000n | RW,
      16400: 0x2000n | RW,
      20472: 0x1f_f000n | RW,
    });
    markUsed(PhysicalMemory.of(ram), LONG, { start: 0xfffn, end: 0x1001n }, 'read');
    markUsed(PhysicalMemory.of(ram), LONG, { start: 0x1f_ffffn, end: 0x20_0001n }, 'write');
    expect(entries(ram, 8)).toEqual({
      '0x1000': 0x2023n,
      '0x2000': 0x3023n,
      '0x3000': 0x4023n,
      '0x3008': 0x20_00e3n,
      '0x4000': 0x23n,
      '0x4008': 0x1023n,
      '0x4010': 0x2003n,
      '0x4ff8': 0x1f_f063n,
    });
  });

  it('knows 32-bit tables, and the pointers of PAE, which have no such bits', () => {
    const legacy = tables(4, { 4096: 0x2000n | RW, 8192: 0x0n | RW });
    markUsed(PhysicalMemory.of(legacy), LEGACY, { start: 0n, end: 4n }, 'write');
    expect(entries(legacy, 4)).toEqual({ '0x1000': 0x2023n, '0x2000': 0x63n });
    const pae = tables(8, { 4128: 0x2000n | PRESENT, 8192: 0x0n | RW | LARGE });
    markUsed(PhysicalMemory.of(pae), PAE, { start: 0n, end: 4n }, 'write');
    expect(entries(pae, 8)).toEqual({ '0x1020': 0x2001n, '0x2000': 0xe3n });
  });

  it('changes nothing with paging off', () => {
    const ram = tables(8, { 4096: 0x2000n | RW });
    markUsed(PhysicalMemory.of(ram), OFF, { start: 0n, end: 4n }, 'write');
    expect(entries(ram, 8)).toEqual({ '0x1000': 0x2003n });
  });
});
