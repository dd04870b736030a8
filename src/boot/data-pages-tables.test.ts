// The page tables as the CPU has them while data is kept from running: which entries, and that they are the guest's again.

import { describe, expect, it } from 'vitest';
import type { Cpu } from '../cpu/cpu.ts';
import { PhysicalMemory } from '../x86/physical-memory.ts';
import { DataPages } from './data-pages.ts';

const LARGE = 2 * 0x10_0000;
const TABLES = 0x1_0000;
const [PML4, PDPT, DIRECTORY, SMALL] = [TABLES, TABLES + 0x1000, TABLES + 0x2000, TABLES + 0x3000];
const PAGE_FAULT = 14;
const FETCH = 0x11;
const NX = 1n << 63n;
const DIRTY = 0x40n;
/** Where small pages stand in for large ones. */
const SPLIT = 0xff_fff0_0000n;

/** Code runs in the first small page behind 2 MiB; the page directory maps 10 MiB, its last entry by a table of small pages. */
function made({ nxe = 0n, code = LARGE, worthIt = true, shows = true } = {}) {
  const ram = new Uint8Array(0x40_0000);
  const view = new DataView(ram.buffer);
  const entry = (address: number): bigint => view.getBigUint64(address, true);
  const set = (address: number, value: bigint): void => view.setBigUint64(address, value, true);
  set(PML4, BigInt(PDPT) | 3n);
  set(PDPT, BigInt(DIRECTORY) | 3n);
  for (let index = 0; index < 4; index++) set(DIRECTORY + index * 8, BigInt(index * LARGE) | 0x83n);
  set(DIRECTORY + 4 * 8, BigInt(SMALL) | 3n);
  for (let index = 0; index < 512; index++) set(SMALL + index * 8, BigInt(4 * LARGE + index * 0x1000) | 3n);
  const registers: Record<string, bigint> = {
    ...{
      rip: BigInt(code),
      cr0: 0x8000_0001n,
      cr3: BigInt(PML4),
      cr4: 0x20n,
      efer: 0x500n | nxe,
      cr2: 0x1234n,
    },
  };
  const device = new Uint8Array(8 * 0x1000);
  const splits = new DataView(device.buffer);
  const done: string[] = [];
  const cpu = {
    memory: PhysicalMemory.of(ram),
    readRegister: (name: string) => registers[name]!,
    readRegisters: (names: readonly string[], values: BigUint64Array) => {
      for (const [index, name] of names.entries()) values[index] = registers[name]!;
    },
    writeRegister: (name: string, value: bigint) => {
      registers[name] = value;
    },
    setNoExecute: (on: boolean) => {
      done.push(on ? 'on' : 'off');
      return shows;
    },
    invalidateAllCode: () => done.push('dropped'),
    mapDevice: () => device,
  } as unknown as Cpu;
  const pages = new DataPages(cpu, () => worthIt);
  const directory = (): bigint[] => Array.from({ length: 5 }, (_, index) => entry(DIRECTORY + index * 8));
  /** The small page of a table that stands in for a large one. */
  const small = (table: number, page: number): bigint => splits.getBigUint64(table * 0x1000 + page * 8, true);
  return { pages, registers, done, entry, set, directory, small, splits, own: directory() };
}

describe('while the guest runs', () => {
  it('what has no code may not run, and of a large page with code the small pages without', () => {
    const { pages, directory, small, own, done } = made();
    pages.before();
    expect(directory()).toEqual([own[0]! | NX, SPLIT | 3n, own[2]! | NX, own[3]! | NX, own[4]! | NX]);
    expect(small(0, 0)).toBe(BigInt(LARGE) | 3n);
    expect(small(0, 1)).toBe(BigInt(LARGE + 0x1000) | 3n | NX);
    expect(small(0, 511)).toBe(BigInt(2 * LARGE - 0x1000) | 3n | NX);
    expect(done).toEqual(['on', 'dropped']);
    pages.after();
    expect(directory()).toEqual(own);
    expect(done).toEqual(['on', 'dropped', 'off']);
    // Nothing was translated freely in between.
    pages.before();
    pages.after();
    expect(done).toEqual(['on', 'dropped', 'off', 'on', 'off']);
  });

  it('small pages of the guest are told apart by themselves', () => {
    const { pages, directory, entry, own } = made({ code: 4 * LARGE + 0x5123 });
    pages.before();
    expect(directory()).toEqual([own[0]! | NX, own[1]! | NX, own[2]! | NX, own[3]! | NX, own[4]]);
    expect(entry(SMALL + 5 * 8)).toBe(BigInt(4 * LARGE + 0x5000) | 3n);
    expect(entry(SMALL + 4 * 8)).toBe(BigInt(4 * LARGE + 0x4000) | 3n | NX);
    pages.after();
    expect(entry(SMALL + 4 * 8)).toBe(BigInt(4 * LARGE + 0x4000) | 3n);
  });

  it('code is no table: what stands in a small page of it stays', () => {
    const { pages, set, entry } = made({ code: LARGE + 0x5123 });
    set(DIRECTORY + 8, BigInt(SMALL) | 3n);
    for (let index = 0; index < 512; index++) set(SMALL + index * 8, BigInt(LARGE + index * 0x1000) | 3n);
    for (let at = 0; at < 0x1000; at += 8) set(LARGE + 0x5000 + at, 0x12345n);
    pages.before();
    expect(entry(SMALL + 5 * 8)).toBe(BigInt(LARGE + 0x5000) | 3n);
    for (let at = 0; at < 0x1000; at += 8) expect(entry(LARGE + 0x5000 + at)).toBe(0x12345n);
    pages.after();
  });

  it('pages that are not there are left alone', () => {
    const { pages, directory, set } = made();
    set(DIRECTORY + 2 * 8, 0x1234_5000n);
    pages.before();
    expect(directory()[2]).toBe(0x1234_5000n);
    pages.after();
  });

  it.each([
    ['a guest that uses the bit itself', { nxe: 0x800n }],
    ['a run of a few instructions', { worthIt: false }],
    ['an engine that does not show the bit', { shows: false }],
  ])('everything is left alone for %s', (_what, how) => {
    const { pages, directory, own } = made(how);
    pages.before();
    expect(directory()).toEqual(own);
    expect(pages.onException(PAGE_FAULT, FETCH)).toBe(false);
    pages.after();
    expect(directory()).toEqual(own);
  });

  it('what else has the PAT bit keeps it at its place in small pages', () => {
    const { pages, small, set } = made();
    set(DIRECTORY + 8, BigInt(LARGE) | 0x1083n);
    pages.before();
    expect(small(0, 1)).toBe(BigInt(LARGE + 0x1000) | 0x83n | NX);
    pages.after();
  });
});

describe('code that comes to a page of data', () => {
  it('in a large page that has code runs on, with CR2 as it was', () => {
    const { pages, registers, small, directory } = made();
    pages.before();
    registers.cr2 = BigInt(LARGE + 0x3000);
    const before = directory();
    expect(pages.onException(PAGE_FAULT, FETCH)).toBe(true);
    expect(registers.cr2).toBe(0x1234n);
    expect(small(0, 3)).toBe(BigInt(LARGE + 0x3000) | 3n);
    expect(small(0, 4)).toBe(BigInt(LARGE + 0x4000) | 3n | NX);
    expect(directory()).toEqual(before);
    pages.after();
  });

  it('in another large page has everything put back, and is known in the next run', () => {
    const { pages, registers, directory, small, own, done } = made();
    pages.before();
    registers.cr2 = BigInt(3 * LARGE + 0x7000);
    expect(pages.onException(PAGE_FAULT, FETCH)).toBe(true);
    expect(directory()).toEqual(own);
    done.length = 0;
    pages.before();
    expect(done).toEqual(['on', 'dropped']);
    expect(directory()).toEqual([
      own[0]! | NX,
      SPLIT | 3n,
      own[2]! | NX,
      (SPLIT + 0x1000n) | 3n,
      own[4]! | NX,
    ]);
    expect(small(1, 7)).toBe(BigInt(3 * LARGE + 0x7000) | 3n);
    expect(small(1, 6)).toBe(BigInt(3 * LARGE + 0x6000) | 3n | NX);
    pages.after();
    expect(directory()).toEqual(own);
  });

  it('is told from faults that are the guest’s, before which its tables are put back', () => {
    for (const [vector, code] of [
      [PAGE_FAULT, 0x10],
      [PAGE_FAULT, 0x03],
      [13, FETCH],
    ] as const) {
      const { pages, registers, directory, own } = made();
      pages.before();
      registers.cr2 = 0x5555n;
      expect(pages.onException(vector, code)).toBe(false);
      expect(registers.cr2).toBe(0x5555n);
      expect(directory()).toEqual(own);
    }
  });
});

describe('when the guest stands', () => {
  it('a large page has been used and written to where one of its small ones has', () => {
    const { pages, splits, directory, own } = made();
    pages.before();
    splits.setUint32(9 * 8, splits.getUint32(9 * 8, true) | 0x60, true);
    pages.after();
    expect(directory()[1]).toBe(own[1]! | 0x60n);
    // What the guest clears since is clear the next time.
    pages.before();
    pages.after();
    expect(directory()[1]).toBe(own[1]! | 0x60n);
  });

  it('what the guest has put into an entry stays there', () => {
    const { pages, set, entry } = made();
    pages.before();
    set(DIRECTORY + 2 * 8, 0x40_0083n | DIRTY);
    set(DIRECTORY + 3 * 8, 0xa0_0083n | NX);
    set(DIRECTORY + 8, 0xc0_0083n);
    pages.after();
    expect(entry(DIRECTORY + 2 * 8)).toBe(0x40_0083n | DIRTY);
    expect(entry(DIRECTORY + 3 * 8)).toBe(0xa0_0083n | NX);
    expect(entry(DIRECTORY + 8)).toBe(0xc0_0083n);
  });

  it('the bits that the CPU sets in an entry stay, too', () => {
    const { pages, set, entry, own } = made();
    pages.before();
    set(DIRECTORY, own[0]! | NX | 0x60n);
    pages.after();
    expect(entry(DIRECTORY)).toBe(own[0]! | 0x60n);
  });

  it('its tables can be read through, the small pages among them', () => {
    const { pages, own } = made();
    const { tables } = pages;
    expect(tables.contains(Number(SPLIT), 8)).toBe(false);
    pages.before();
    expect(tables.contains(Number(SPLIT), 8)).toBe(true);
    expect(tables.contains(Number(SPLIT) + 8 * 0x1000, 8)).toBe(false);
    expect(tables.read64(Number(SPLIT))).toBe(BigInt(LARGE) | 3n);
    tables.write64(Number(SPLIT), BigInt(LARGE) | 0x63n);
    expect(tables.read64(Number(SPLIT))).toBe(BigInt(LARGE) | 0x63n);
    pages.giveBack();
    expect(tables.read64(DIRECTORY + 8)).toBe(own[1]! | 0x60n);
  });
});
