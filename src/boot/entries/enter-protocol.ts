// The CPU as the 32- and 64-bit boot protocols demand it, with boot_params in RSI (boot.rst "32-bit Boot Protocol", "64-bit Boot
// Protocol").

import { enterLongMode, enterProtectedMode } from '../../cpu/enter-mode.ts';
import { BootscopeError } from '../../error.ts';
import type { Machine } from '../../machine/machine.ts';
import { BOOT_PARAMS_SIZE } from '../../protocol/boot-params.ts';
import { formatSize } from '../../size.ts';
import { LOADER_HIGH_TABLES, LOADER_MEMORY } from '../low-memory.ts';
import type { LoadedImage } from './loaded-image.ts';

/** Descriptors of the boot protocol; free low memory that no loader structure uses. */
const GDT_ADDRESS = LOADER_MEMORY.start;
/** Below boot_params: where nothing else lies before the kernel runs. */
const STACK_ADDRESS = 0x8000;
/** PML4, page directory pointers, and four page directories of 2 MiB pages: the first 4 GiB mapped to themselves. */
const PAGE_TABLES = 0x9000;
/** Page directories of what the loader has put higher, one a GiB. */
const HIGH_TABLES = LOADER_HIGH_TABLES.start;
const MAX_HIGH_TABLES = (LOADER_HIGH_TABLES.end - LOADER_HIGH_TABLES.start) / 0x1000;
const GIB = 2 ** 30;
/** What one table of page directory pointers maps. */
const MAPPABLE = 512 * GIB;
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

/** The gigabytes from 4 GiB on in which the kernel, boot_params or the command line lie, which boot.rst wants mapped. */
function highGigabytes({
  protectedModeCode,
  runSize,
  kernel,
  bootParams,
  commandLine,
}: LoadedImage): number[] {
  const code =
    protectedModeCode === null ? null : { ...protectedModeCode, size: runSize ?? protectedModeCode.size };
  const segments = (kernel?.segments ?? []).map(({ paddr, memsz }) => ({
    address: Number(paddr),
    size: Number(memsz),
  }));
  const page = bootParams === null ? null : { address: bootParams, size: BOOT_PARAMS_SIZE };
  const found = new Set<number>();
  for (const placed of [code, page, commandLine, ...segments]) {
    if (placed === null) continue;
    const last = Math.floor((placed.address + placed.size - 1) / GIB);
    for (let at = Math.max(4, Math.floor(placed.address / GIB)); at <= last; at++) found.add(at);
  }
  if (found.size > MAX_HIGH_TABLES || Math.max(0, ...found) * GIB >= MAPPABLE) {
    throw new BootscopeError(
      'boot-page-tables',
      `kernel, boot_params and command line lie in ${found.size} different GiB from 4 GiB on, the loader's page tables reach ` +
        `${MAX_HIGH_TABLES} of them below ${formatSize(MAPPABLE)}`,
    );
  }
  return [...found].sort((a, b) => a - b);
}

/** 64-bit mode with identity mapping at the first instruction, RSI = boot_params. */
export function enterLong64(machine: Machine, loaded: LoadedImage): void {
  const { memory } = machine;
  const table = (index: number): number => PAGE_TABLES + index * 0x1000;
  memory.write64(table(0), BigInt(table(1)) | PRESENT_WRITABLE);
  const mapGigabyte = (gigabyte: number, directory: number): void => {
    memory.write64(table(1) + gigabyte * 8, BigInt(directory) | PRESENT_WRITABLE);
    for (let page = 0; page < 512; page++) {
      const frame = BigInt(gigabyte * 512 + page) << 21n;
      memory.write64(directory + page * 8, frame | LARGE_PAGE | PRESENT_WRITABLE);
    }
  };
  for (let gigabyte = 0; gigabyte < 4; gigabyte++) mapGigabyte(gigabyte, table(2 + gigabyte));
  for (const [index, gigabyte] of highGigabytes(loaded).entries()) {
    mapGigabyte(gigabyte, HIGH_TABLES + index * 0x1000);
  }
  enterLongMode(machine.cpu, {
    rip: BigInt(loaded.start),
    cr3: BigInt(PAGE_TABLES),
    gdtAddress: GDT_ADDRESS,
    rsi: BigInt(loaded.bootParams!),
    rsp: BigInt(STACK_ADDRESS),
  });
}
