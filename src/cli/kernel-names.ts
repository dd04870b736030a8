// Reads the files with symbols that the options name, or the kernel's own kallsyms where they name none.

import { extractVmlinux } from '../image/extract-vmlinux.ts';
import { readImageFile } from '../image/image-file.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import type { BootTrace } from '../trace/boot-trace.ts';
import { findKallsyms } from '../trace/kallsyms.ts';
import { kernelNames } from '../trace/kernel-symbols.ts';
import { readElfSymbolTable, readSystemMap, type SymbolTable } from '../trace/symbols.ts';
import type { KernelSymbolFlags, StubSymbolFlags } from './symbol-options.ts';

/** Symbols of the boot stub, by offset in the protected-mode code; null where no file was named. */
export async function readStubSymbols(flags: StubSymbolFlags): Promise<SymbolTable | null> {
  const { zoVmlinux } = flags;
  return zoVmlinux === undefined ? null : readElfSymbolTable(zoVmlinux, await readImageFile(zoVmlinux));
}

/** Symbols of the kernel from the file that the flags name; null where they name none. */
export async function readKernelSymbols(flags: KernelSymbolFlags): Promise<SymbolTable | null> {
  const { vmlinux, systemMap } = flags;
  if (vmlinux !== undefined) return readElfSymbolTable(vmlinux, await readImageFile(vmlinux));
  return systemMap === undefined ? null : readSystemMap(systemMap, await readImageFile(systemMap));
}

/**
 * Names of physical addresses in the kernel that was booted.
 * @param symbols - by the addresses it was linked at; null: its own kallsyms
 * @returns null where there are none: no jump into a kernel, or one without kallsyms
 */
export async function readKernelNames(
  symbols: SymbolTable | null,
  image: KernelImage,
  trace: BootTrace,
): Promise<((physical: bigint) => string | null) | null> {
  if (trace.kernel === null || image.payload === null) return null;
  const { elf } = await extractVmlinux(image);
  if (elf === null) return null;
  const names = symbols ?? findKallsyms(elf);
  return names === null ? null : kernelNames(names, elf, trace.kernel.segments);
}
