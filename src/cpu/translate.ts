// From a linear to a physical address by the guest's own page tables (Intel SDM 3A, chapter 4), for memory the host has to reach.

import type { Cpu, RegisterName } from './cpu.ts';

const NAMES: readonly RegisterName[] = ['cr0', 'cr3', 'cr4', 'efer'];

const CR0_PG = 1n << 31n;
const CR4_PSE = 1n << 4n;
const CR4_PAE = 1n << 5n;
const CR4_LA57 = 1n << 12n;
const EFER_LMA = 1n << 10n;
const PRESENT = 1n;
const LARGE = 1n << 7n;
const FRAME = 0x000f_ffff_ffff_f000n;
const MASK_32 = 0xffff_ffffn;

/** Bits of the linear address that a level's entries leave untranslated, top level first. */
const LEVELS_57 = [48n, 39n, 30n, 21n, 12n] as const;
const LEVELS_48 = LEVELS_57.slice(1);
const LEVELS_PAE = LEVELS_57.slice(2);

/** Null where a table entry isn't present or lies outside `ram`, the block that starts at physical address 0. */
export function linearToPhysical(cpu: Cpu, ram: Uint8Array, linear: bigint): bigint | null {
  const values = new BigUint64Array(NAMES.length);
  cpu.readRegisters(NAMES, values);
  const [cr0, cr3, cr4, efer] = values as unknown as readonly [bigint, bigint, bigint, bigint];
  const long = (efer & EFER_LMA) !== 0n;
  if ((cr0 & CR0_PG) === 0n) return long ? linear : linear & MASK_32;
  const view = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
  if ((cr4 & CR4_PAE) === 0n) return twoLevels(view, Number(cr3 & FRAME), Number(linear & MASK_32), cr4);

  const levels = !long ? LEVELS_PAE : (cr4 & CR4_LA57) !== 0n ? LEVELS_57 : LEVELS_48;
  let table = long ? cr3 & FRAME : cr3 & 0xffff_ffe0n;
  for (const shift of levels) {
    const address = table + ((linear >> shift) & 0x1ffn) * 8n;
    if (address + 8n > BigInt(ram.length)) return null;
    const entry = view.getBigUint64(Number(address), true);
    if ((entry & PRESENT) === 0n) return null;
    const offset = (1n << shift) - 1n;
    const isPage = shift === 12n || ((entry & LARGE) !== 0n && (shift === 21n || (shift === 30n && long)));
    if (isPage) return (entry & FRAME & ~offset) | (linear & offset);
    table = entry & FRAME;
  }
  return null;
}

/** 32-bit paging: 4 KiB and, with CR4.PSE, 4 MiB pages. */
function twoLevels(view: DataView, directory: number, linear: number, cr4: bigint): bigint | null {
  const directoryEntry = directory + (linear >>> 22) * 4;
  if (directoryEntry + 4 > view.byteLength) return null;
  const pde = view.getUint32(directoryEntry, true);
  if ((pde & 1) === 0) return null;
  if ((pde & 0x80) !== 0 && (cr4 & CR4_PSE) !== 0n) {
    return BigInt((pde & 0xffc0_0000) >>> 0) | BigInt(linear & 0x3f_ffff);
  }
  const tableEntry = ((pde & 0xffff_f000) >>> 0) + ((linear >>> 12) & 0x3ff) * 4;
  if (tableEntry + 4 > view.byteLength) return null;
  const pte = view.getUint32(tableEntry, true);
  if ((pte & 1) === 0) return null;
  return BigInt((pte & 0xffff_f000) >>> 0) | BigInt(linear & 0xfff);
}
