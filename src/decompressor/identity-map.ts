// What extract_kernel's accesses leave in a 64-bit stub's page tables: pages mapped by its page-fault handler (5.10 on), and the
// accessed and dirty bits that the CPU sets. Nothing of that comes by itself where the accesses are not the guest's.

import { BootscopeError } from '../error.ts';
import type { PhysicalMemory } from '../x86/physical-memory.ts';

const PAGE = 4096;
const TWO_MIB = 0x200000;
const PRESENT = 1n;
const LARGE = 0x80n;
/** __PAGE_KERNEL_LARGE_EXEC and _KERNPG_TABLE. */
const LARGE_PAGE_FLAGS = 0x1e3n;
const TABLE_FLAGS = 0x63n;
const ACCESSED = 0x20n;
const DIRTY = 0x40n;
const ADDRESS_MASK = 0x000f_ffff_ffff_f000n;

/** Page tables in guest memory. */
export interface IdentityMapInput {
  readonly memory: PhysicalMemory;
  readonly cr3: bigint;
  /** Whether CR4.LA57 is set. */
  readonly fiveLevels: boolean;
  /** The stub in memory: new tables are taken behind the highest that lies in it. */
  readonly stubStart: number;
  readonly stubEnd: number;
  /** Whether the stub maps what is missing; otherwise that is left as it is. */
  readonly maps: boolean;
}

/** Memory that was touched, [start, end). */
export interface TouchedRange {
  readonly start: number;
  readonly end: number;
  readonly written: boolean;
}

/**
 * Maps every 2 MiB page that `ranges` touch, if it is not mapped yet, and marks it as accessed and, where it was written, dirty.
 *
 * @returns pages mapped
 * @throws BootscopeError `stub-page-tables` when the stub's page buffer is used up
 */
export function mapIdentity(input: IdentityMapInput, ranges: readonly TouchedRange[]): number {
  const { memory } = input;
  const top = Number(input.cr3 & ADDRESS_MASK);
  const levels = input.fiveLevels ? 5 : 4;
  let mapped = 0;
  let nextTable = 0;
  const allocate = (): number => {
    if (nextTable === 0) {
      nextTable = highestTable(top, levels, input) + PAGE;
    }
    const table = nextTable;
    if (table <= input.stubStart || table + PAGE > input.stubEnd) {
      throw new BootscopeError(
        'stub-page-tables',
        `the stub's page tables end at 0x${input.stubEnd.toString(16)}, a new one would lie at 0x${table.toString(16)}`,
      );
    }
    nextTable += PAGE;
    memory.fill(table, PAGE, 0);
    return table;
  };
  for (const { start, end, written } of ranges) {
    const bits = written ? ACCESSED | DIRTY : ACCESSED;
    for (let address = Math.floor(start / TWO_MIB) * TWO_MIB; address < end; address += TWO_MIB) {
      let table = top;
      for (let level = levels; level >= 2; level--) {
        const slot = table + 8 * (Math.floor(address / 2 ** (12 + 9 * (level - 1))) % 512);
        if (!memory.contains(slot, 8)) {
          break;
        }
        const entry = memory.read64(slot);
        if ((entry & PRESENT) !== 0n) {
          const leaf = level === 2 || (entry & LARGE) !== 0n;
          // A 2 MiB page split into small ones is left alone.
          const marked = entry | ((entry & LARGE) !== 0n ? bits : ACCESSED);
          if (marked !== entry) {
            memory.write64(slot, marked);
          }
          if (leaf) {
            break;
          }
          table = Number(entry & ADDRESS_MASK);
        } else if (!input.maps) {
          break;
        } else if (level === 2) {
          memory.write64(slot, BigInt(address) | LARGE_PAGE_FLAGS);
          mapped++;
        } else {
          table = allocate();
          memory.write64(slot, BigInt(table) | TABLE_FLAGS);
        }
      }
    }
  }
  return mapped;
}

/** The highest table within the stub that can be reached from `top`; the stub takes its tables one after the other. */
function highestTable(top: number, levels: number, input: IdentityMapInput): number {
  let highest = top >= input.stubStart && top < input.stubEnd ? top : 0;
  const visit = (table: number, level: number): void => {
    for (let slot = 0; slot < 512 && level > 2; slot++) {
      const entry = input.memory.read64(table + 8 * slot);
      const next = Number(entry & ADDRESS_MASK);
      if ((entry & PRESENT) === 0n || (entry & LARGE) !== 0n || !input.memory.contains(next, PAGE)) {
        continue;
      }
      if (next >= input.stubStart && next < input.stubEnd) {
        highest = Math.max(highest, next);
      }
      visit(next, level - 1);
    }
  };
  visit(top, levels);
  return highest;
}
