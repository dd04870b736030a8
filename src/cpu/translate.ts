// From a linear to a physical address by the page tables that the CPU uses now, for memory the host has to reach.

import { type PagingState, translate } from '../x86/page-tables.ts';
import type { Cpu, RegisterName } from './cpu.ts';

const NAMES: readonly RegisterName[] = ['cr0', 'cr3', 'cr4', 'efer'];

/** The registers that decide how linear addresses are translated. */
export function readPagingState(cpu: Cpu): PagingState {
  const values = new BigUint64Array(NAMES.length);
  cpu.readRegisters(NAMES, values);
  const [cr0, cr3, cr4, efer] = values as unknown as readonly [bigint, bigint, bigint, bigint];
  return { cr0, cr3, cr4, efer };
}

/** @returns null where nothing is mapped, or a table lies outside RAM */
export function linearToPhysical(cpu: Cpu, linear: bigint): bigint | null {
  return translate(cpu.memory, readPagingState(cpu), linear);
}
