// The CPU as the 32- and 64-bit boot protocols demand it, with boot_params in RSI (boot.rst "32-bit Boot Protocol", "64-bit Boot
// Protocol").

import { enterLongMode, enterProtectedMode } from '../../cpu/enter-mode.ts';
import type { Machine } from '../../machine/machine.ts';
import { LOADER_MEMORY } from '../low-memory.ts';
import type { LoadedImage } from './loaded-image.ts';

/** Descriptors of the boot protocol; free low memory that no loader structure uses. */
const GDT_ADDRESS = LOADER_MEMORY.start;
/** Below boot_params: where nothing else lies before the kernel runs. */
const STACK_ADDRESS = 0x8000;
/** PML4, page directory pointers, and four page directories of 2 MiB pages: the first 4 GiB mapped to themselves. */
const PAGE_TABLES = 0x9000;
const PAGE_TABLES_SIZE = LOADER_MEMORY.end - PAGE_TABLES;
const PRESENT_WRITABLE = 3n;
const LARGE_PAGE = 0x80n;

/** 32-bit protected mode at the first instruction, ESI = boot_params. */
export function enterProt32(machine: Machine, loaded: LoadedImage): void {
  enterProtectedMode(machine.cpu, {
    eip: loaded.start,
    gdtAddress: GDT_ADDRESS,
    rsi: BigInt(loaded.bootParams!),
    rsp: BigInt(STACK_ADDRESS),
  });
}

/** 64-bit mode with identity mapping at the first instruction, RSI = boot_params. */
export function enterLong64(machine: Machine, loaded: LoadedImage): void {
  const { ram } = machine;
  const tables = new DataView(ram.buffer, ram.byteOffset + PAGE_TABLES, PAGE_TABLES_SIZE);
  const table = (index: number): bigint => BigInt(PAGE_TABLES + index * 0x1000);
  tables.setBigUint64(0, table(1) | PRESENT_WRITABLE, true);
  for (let gigabyte = 0; gigabyte < 4; gigabyte++) {
    tables.setBigUint64(0x1000 + gigabyte * 8, table(2 + gigabyte) | PRESENT_WRITABLE, true);
  }
  for (let page = 0; page < 4 * 512; page++) {
    tables.setBigUint64(0x2000 + page * 8, (BigInt(page) << 21n) | LARGE_PAGE | PRESENT_WRITABLE, true);
  }
  enterLongMode(machine.cpu, {
    rip: BigInt(loaded.start),
    cr3: BigInt(PAGE_TABLES),
    gdtAddress: GDT_ADDRESS,
    rsi: BigInt(loaded.bootParams!),
    rsp: BigInt(STACK_ADDRESS),
  });
}
