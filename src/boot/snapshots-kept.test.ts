// Which snapshots are taken, which are given up for their limit, and what putting one back does, on a machine that is made up.

import { describe, expect, it } from 'vitest';
import { PhysicalMemory } from '../x86/physical-memory.ts';
import { type SnapshotBoot, Snapshots } from './snapshots.ts';

const PAGE = 0x1000;
const TABLES = 0x1_0000;
const LARGE = 0x20_0000;
const DIRTY = 0x40n;

/** A guest with 8 MiB in pages of 2 MiB, mapped to themselves. */
function made({ paged = true, counted = true } = {}) {
  const ram = new Uint8Array(4 * LARGE);
  const view = new DataView(ram.buffer);
  view.setBigUint64(TABLES, BigInt(TABLES + PAGE) | 3n, true);
  view.setBigUint64(TABLES + PAGE, BigInt(TABLES + 2 * PAGE) | 3n, true);
  const entry = (index: number): number => TABLES + 2 * PAGE + index * 8;
  for (let index = 0; index < 4; index++)
    view.setBigUint64(entry(index), BigInt(index * LARGE) | 0x83n, true);
  const registers: Record<string, bigint> = {
    ...{ cr0: paged ? 0x8000_0001n : 1n, cr3: BigInt(TABLES), cr4: 0x20n, efer: paged ? 0x500n : 0n },
  };
  const state = { instructions: 0, uses: [] as number[], done: [] as unknown[] };
  const boot = {
    cpu: {
      get instructions() {
        return counted ? state.instructions : null;
      },
      readRegister: (name: string) => registers[name]!,
      saveState: () => `cpu at ${state.instructions}`,
      restoreState: (kept: unknown) => state.done.push(kept),
      invalidateCode: (address: number, length: number) => state.done.push([address, length]),
    },
    machine: {
      memory: PhysicalMemory.of(ram),
      noteDeviceUses: (uses: readonly number[]) => state.done.push(['noted', uses.length]),
      get deviceUses() {
        return state.uses;
      },
      repeatDeviceUses: (uses: readonly number[]) => state.done.push(['repeated', ...uses]),
    },
    record: {
      saveState: () => `record at ${state.instructions}`,
      restoreState: (kept: unknown) => state.done.push(kept),
    },
  } as unknown as SnapshotBoot;
  return {
    ...{ ram, state, boot },
    /** The guest has run to a count and written a byte on the way. */
    write: (at: number, address: number, value: number): void => {
      state.instructions = at;
      ram[address] = value;
      const place = entry(Math.floor(address / LARGE));
      view.setBigUint64(place, view.getBigUint64(place, true) | DIRTY, true);
    },
  };
}

const MILLION = 1_000_000;

describe('snapshots', () => {
  it('are a million instructions apart', () => {
    const { boot, state } = made();
    const snapshots = new Snapshots(2 ** 28);
    snapshots.begin(boot);
    for (const at of [
      10,
      999_999,
      MILLION,
      MILLION + 1,
      2 * MILLION - 1,
      2 * MILLION,
      3 * MILLION + 5,
      4 * MILLION,
    ]) {
      state.instructions = at;
      snapshots.onSlice();
    }
    expect(snapshots.count).toBe(3);
    const counts = [0, MILLION, 2 * MILLION - 1, 2 * MILLION, 9 * MILLION].map(
      (at) => snapshots.before(at)?.instructions ?? null,
    );
    expect(counts).toEqual([null, MILLION, MILLION, 2 * MILLION, 3 * MILLION + 5]);
  });

  it('are farther apart where more has to be compared for one', () => {
    const { boot, state, write } = made();
    const snapshots = new Snapshots(2 ** 28);
    snapshots.begin(boot);
    for (let index = 0; index < 4; index++) write(MILLION, index * LARGE, 1);
    snapshots.onSlice();
    const next = MILLION + (4 * LARGE) / 8;
    expect([2 * MILLION, next - 1, next].map((at) => snapshots.isDue(at))).toEqual([false, false, true]);
    state.instructions = next - 1;
    snapshots.onSlice();
    expect(snapshots.count).toBe(1);
    state.instructions = next;
    snapshots.onSlice();
    expect(snapshots.count).toBe(2);
  });

  it('are none of a guest without pages, or whose instructions nobody counts', () => {
    for (const how of [{ paged: false }, { counted: false }]) {
      const { boot, state } = made(how);
      const snapshots = new Snapshots(2 ** 28);
      snapshots.begin(boot);
      state.instructions = 5 * MILLION;
      snapshots.onSlice();
      expect(snapshots.count).toBe(0);
      expect(state.done).toEqual([]);
    }
  });

  it('end where a guest asks devices more often than is worth repeating, or its machine is gone', () => {
    const most = new Array<number>(MILLION);
    const countAfter = (
      change: (state: ReturnType<typeof made>['state'], snapshots: Snapshots) => void,
    ): number => {
      const { boot, state } = made();
      const snapshots = new Snapshots(2 ** 28);
      snapshots.begin(boot);
      change(state, snapshots);
      state.instructions = MILLION;
      snapshots.onSlice();
      return snapshots.count;
    };
    expect(
      countAfter((state) => {
        state.uses = most;
      }),
    ).toBe(1);
    expect(
      countAfter((state) => {
        state.uses = [...most, 1];
      }),
    ).toBe(0);
    expect(
      countAfter((state) => {
        state.uses = null as never;
      }),
    ).toBe(0);
    expect(countAfter((_, snapshots) => snapshots.forgetMachine())).toBe(0);
  });

  it('keep the pages that have changed since the one before, zeroes for nothing', () => {
    const { boot, write } = made();
    const snapshots = new Snapshots(2 ** 28);
    snapshots.begin(boot);
    write(MILLION, LARGE + 5 * PAGE, 1);
    snapshots.onSlice();
    // The page, and of the first 2 MiB the three tables, as walking them has it.
    const tables = 3;
    expect(snapshots.bytes).toBe((1 + tables) * PAGE);
    const first = snapshots.before(MILLION)!;
    expect(first.pages.get((LARGE + 5 * PAGE) / PAGE)![0]).toBe(1);
    expect(first.pages.get((LARGE + 6 * PAGE) / PAGE)).toBeNull();
    expect(first.pages.has((2 * LARGE) / PAGE)).toBe(false);
    write(2 * MILLION, LARGE + 6 * PAGE, 2);
    write(2 * MILLION, LARGE + 5 * PAGE, 0);
    snapshots.onSlice();
    const second = snapshots.before(2 * MILLION)!;
    expect([...second.pages.keys()].filter((page) => page >= LARGE / PAGE)).toEqual([
      LARGE / PAGE + 5,
      LARGE / PAGE + 6,
    ]);
    expect(second.pages.get(LARGE / PAGE + 5)).toBeNull();
    // The bit in the page directory was there before.
    expect(snapshots.bytes).toBe((2 + tables) * PAGE);
  });

  it('put memory, devices, the CPU and the record back, and tell of code that was written over', () => {
    const { boot, write, state } = made();
    const snapshots = new Snapshots(2 ** 28);
    snapshots.begin(boot);
    state.uses = [1];
    write(MILLION, LARGE + 5 * PAGE, 1);
    snapshots.onSlice();
    state.uses = [1, 2, 3];
    write(2 * MILLION, LARGE + 5 * PAGE, 2);
    write(2 * MILLION, 2 * LARGE, 7);
    snapshots.onSlice();
    write(3 * MILLION, LARGE + 5 * PAGE, 3);
    snapshots.onSlice();

    const other = made();
    other.ram[LARGE + 9 * PAGE] = 0x55;
    snapshots.forgetMachine();
    snapshots.begin(other.boot);
    other.state.done.length = 0;
    snapshots.restore(other.boot, snapshots.before(2 * MILLION)!);
    expect(other.ram[LARGE + 5 * PAGE]).toBe(2);
    expect(other.ram[2 * LARGE]).toBe(7);
    expect(other.ram[LARGE + 9 * PAGE]).toBe(0);
    // All of the first 6 MiB in one piece: each 2 MiB that was written to is looked at as a whole.
    expect(other.state.done).toEqual([
      [0, 3 * LARGE],
      ['repeated', 1, 2, 3],
      'cpu at 2000000',
      'record at 2000000',
    ]);
    other.state.done.length = 0;
    snapshots.restore(other.boot, snapshots.before(MILLION)!);
    expect(other.ram[LARGE + 5 * PAGE]).toBe(1);
    expect(other.state.done.slice(-3)).toEqual([['repeated', 1], 'cpu at 1000000', 'record at 1000000']);
  });

  it('tell of pieces of code apart from each other, by address', () => {
    const { boot, write, state } = made();
    const snapshots = new Snapshots(2 ** 28);
    snapshots.begin(boot);
    write(MILLION, 3 * LARGE, 1);
    snapshots.onSlice();
    write(2 * MILLION, LARGE, 1);
    snapshots.onSlice();
    state.done.length = 0;
    snapshots.restore(boot, snapshots.before(2 * MILLION)!);
    expect(state.done.slice(0, -3)).toEqual([
      [0, 2 * LARGE],
      [3 * LARGE, LARGE],
    ]);
  });

  it('are given up for their limit, the first and the last never, and pages are kept for the next', () => {
    const { boot, write, ram } = made();
    const snapshots = new Snapshots(5 * PAGE);
    snapshots.begin(boot);
    for (let index = 1; index <= 8; index++) {
      write(index * MILLION, LARGE + index * PAGE, index);
      snapshots.onSlice();
    }
    expect(snapshots.count).toBe(2);
    expect(snapshots.before(7 * MILLION)!.instructions).toBe(MILLION);
    const last = snapshots.before(8 * MILLION)!;
    expect(last.instructions).toBe(8 * MILLION);
    ram.fill(0, LARGE, 2 * LARGE);
    snapshots.restore(boot, last);
    expect([1, 2, 5, 8].map((index) => ram[LARGE + index * PAGE])).toEqual([1, 2, 5, 8]);
  });

  it('that are given up are those whose neighbours are near, for how long ago they are', () => {
    const { boot, write } = made();
    // The tables take three pages, and each snapshot one of its own.
    const snapshots = new Snapshots(7 * PAGE);
    snapshots.begin(boot);
    for (let index = 1; index <= 6; index++) {
      write(index * MILLION, LARGE, index);
      snapshots.onSlice();
    }
    expect(snapshots.bytes).toBeLessThanOrEqual(7 * PAGE);
    const kept = [1, 2, 3, 4, 5, 6].map((at) => snapshots.before(at * MILLION)!.instructions / MILLION);
    expect([...new Set(kept)]).toEqual([1, 3, 5, 6]);
  });
});
