// Snapshots of a guest that decompresses by itself, taken as it runs, so that going back need not run all of it again. A snapshot
// is what has changed since `extract_kernel` began: pages of memory, the CPU, and what the guest asked of the devices, which
// bring themselves to the same state when they are asked again.

import type { Cpu, CpuState } from '../cpu/cpu.ts';
import { equalBytes } from '../host/host.ts';
import type { DeviceUse, Machine } from '../machine/machine.ts';
import { pagingMode, walkPageTables } from '../x86/page-tables.ts';
import type { PhysicalMemory } from '../x86/physical-memory.ts';
import type { BootRecord, RecordState } from './boot-record.ts';

const PAGE = 4096;
const LARGE_PAGE = 0x20_0000;
/** Instructions from snapshot to snapshot. */
const LEAST_DISTANCE = 1_000_000;
/** A snapshot compares what the guest has written so far, and is to take a part of the time of running up to it. */
const BYTES_AN_INSTRUCTION = 8;
/** A guest that uses devices more often than this is run again instead. */
const MOST_DEVICE_USES = 1_000_000;

const PRESENT = 1n;
const DIRTY = 0x40n;
const LARGE = 0x80n;
const FRAME = 0x000f_ffff_ffff_f000n;
/** Bits of a linear address that one level of the tables translates, and that a page has. */
const LEVEL_BITS = 9;
const PAGE_BITS = 12;

export interface Snapshot {
  readonly instructions: number;
  readonly cpu: CpuState;
  /** Pages that have changed since the snapshot before, by number; null for one of zeroes. */
  readonly pages: Map<number, Uint8Array | null>;
  /** Uses of devices before it. */
  readonly deviceUses: number;
  readonly record: RecordState;
}

/** What it takes of a boot. */
export interface SnapshotBoot {
  readonly cpu: Cpu;
  readonly machine: Machine;
  readonly record: BootRecord;
}

/** All snapshots of one boot; they outlive the machines that it runs on. */
export class Snapshots {
  /** In the order of the boot. */
  readonly #snapshots: Snapshot[] = [];
  readonly #limit: number;
  /** The last known content of each page. */
  readonly #latest = new Map<number, Uint8Array | null>();
  #uses: DeviceUse[] = [];
  #bytes = 0;
  #distance = LEAST_DISTANCE;
  /** Null before `extract_kernel` has begun on the machine of now, and where no snapshot can be taken. */
  #boot: SnapshotBoot | null = null;

  /** @param limit - bytes that they may take together; the first ones are given up for it, but not those far apart */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Bytes of memory pages that are kept. */
  get bytes(): number {
    return this.#bytes;
  }

  get count(): number {
    return this.#snapshots.length;
  }

  /** The guest stands at the first instruction of the `extract_kernel` that it does by itself. */
  begin(boot: SnapshotBoot): void {
    const { cr0, cr3, cr4, efer } = paging(boot.cpu);
    // Without pages of the guest's own nothing tells what it writes.
    const paged = pagingMode({ cr0, cr3, cr4, efer }).endsWith('level');
    if (!paged || boot.cpu.instructions === null) return;
    this.#boot = boot;
    if (this.#snapshots.length === 0) this.#uses = [];
    boot.machine.noteDeviceUses([]);
  }

  /** The machine that it ran on is gone. */
  forgetMachine(): void {
    this.#boot = null;
  }

  /** Whether `onSlice` would take one at this count of instructions. */
  isDue(instructions: number): boolean {
    return (
      this.#boot !== null && instructions >= (this.#snapshots.at(-1)?.instructions ?? 0) + this.#distance
    );
  }

  /** The CPU stands between two slices of a run. */
  onSlice(): void {
    if (this.#boot === null) return;
    const { cpu, machine } = this.#boot;
    const uses = machine.deviceUses;
    if (uses === null || uses.length > MOST_DEVICE_USES) {
      this.#boot = null;
      return;
    }
    if (this.isDue(cpu.instructions!)) this.#take(this.#boot, uses);
  }

  #take({ cpu, machine, record }: SnapshotBoot, uses: readonly DeviceUse[]): void {
    const pages = new Map<number, Uint8Array | null>();
    const ranges = dirtyRanges(cpu, machine.memory);
    this.#distance = Math.max(LEAST_DISTANCE, (ranges.length * LARGE_PAGE) / BYTES_AN_INSTRUCTION);
    for (const start of ranges) {
      const bytes = machine.memory.viewUpTo(start, LARGE_PAGE);
      for (let at = 0; at < bytes.length; at += PAGE) {
        const number = (start + at) / PAGE;
        const now = bytes.subarray(at, at + PAGE);
        const known = this.#latest.get(number);
        if (known !== undefined && equalBytes(known ?? ZEROES, now)) continue;
        const kept = equalBytes(ZEROES, now) ? null : now.slice();
        pages.set(number, kept);
        this.#latest.set(number, kept);
        if (kept !== null) this.#bytes += PAGE;
      }
    }
    this.#uses = [...uses];
    this.#snapshots.push({
      ...{ instructions: cpu.instructions!, cpu: cpu.saveState(), pages },
      ...{ deviceUses: uses.length, record: record.saveState() },
    });
    while (this.#bytes > this.#limit && this.#snapshots.length > 2) this.#thin();
  }

  /** Gives up the one whose neighbours are nearest to each other, for how long ago it is. */
  #thin(): void {
    const now = this.#snapshots.at(-1)!.instructions;
    const all = this.#snapshots;
    let victim = 1;
    let least = Number.POSITIVE_INFINITY;
    for (let index = 1; index < all.length - 1; index++) {
      const gap = all[index + 1]!.instructions - all[index - 1]!.instructions;
      const share = gap / (now - all[index]!.instructions + LEAST_DISTANCE);
      if (share >= least) continue;
      least = share;
      victim = index;
    }
    const [given] = all.splice(victim, 1);
    const next = all[victim]!;
    for (const [number, bytes] of given!.pages) {
      if (!next.pages.has(number)) next.pages.set(number, bytes);
      else if (bytes !== null) this.#bytes -= PAGE;
    }
  }

  /** The last one at or before a count of instructions; null where there is none. */
  before(instructions: number): Snapshot | null {
    return this.#snapshots.findLast((snapshot) => snapshot.instructions <= instructions) ?? null;
  }

  /** @param boot - on a machine where `begin` was called, that has run no further */
  restore(boot: SnapshotBoot, snapshot: Snapshot): void {
    const { cpu, machine, record } = boot;
    const pages = new Map<number, Uint8Array | null>();
    for (const each of this.#snapshots) {
      if (each.instructions > snapshot.instructions) break;
      for (const [number, bytes] of each.pages) pages.set(number, bytes);
    }
    for (const [number, bytes] of pages) machine.memory.view(number * PAGE, PAGE).set(bytes ?? ZEROES);
    for (const [start, end] of runs([...pages.keys()].sort((a, b) => a - b))) {
      cpu.invalidateCode(start * PAGE, (end - start) * PAGE);
    }
    machine.repeatDeviceUses(this.#uses.slice(0, snapshot.deviceUses));
    cpu.restoreState(snapshot.cpu);
    record.restoreState(snapshot.record);
  }
}

const ZEROES = new Uint8Array(PAGE);

function paging(cpu: Cpu) {
  const [cr0, cr3, cr4, efer] = (['cr0', 'cr3', 'cr4', 'efer'] as const).map((name) =>
    cpu.readRegister(name),
  );
  return { cr0: cr0!, cr3: cr3!, cr4: cr4!, efer: efer! };
}

/**
 * Starts of the 2-MiB ranges of RAM that the guest may have written to: the CPU notes in the page tables what is written through
 * them (Intel SDM 3A 4.8), and in the tables' own pages that they were used.
 */
function dirtyRanges(cpu: Cpu, memory: PhysicalMemory): readonly number[] {
  const found = new Set<number>();
  const add = (address: number, size: number): void => {
    for (let at = address - (address % LARGE_PAGE); at < address + size; at += LARGE_PAGE) {
      if (memory.contains(at, PAGE)) found.add(at);
    }
  };
  for (const { address, size, level } of walkPageTables(memory, paging(cpu)).tables) {
    add(Number(address), size);
    for (let entry = 0; entry < size; entry += 8) {
      const value = memory.read64(Number(address) + entry);
      const leaf = level === 1 || (value & LARGE) !== 0n;
      if (!leaf || (value & PRESENT) === 0n || (value & DIRTY) === 0n) continue;
      const bits = BigInt(PAGE_BITS + LEVEL_BITS * (level - 1));
      add(Number(((value & FRAME) >> bits) << bits), Number(1n << bits));
    }
  }
  return [...found].sort((a, b) => a - b);
}

/** Neighbouring numbers as [start, end). */
function runs(numbers: readonly number[]): [start: number, end: number][] {
  const found: [number, number][] = [];
  for (const number of numbers) {
    const last = found.at(-1);
    if (last !== undefined && last[1] === number) last[1]++;
    else found.push([number, number + 1]);
  }
  return found;
}
