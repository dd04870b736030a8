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

/**
 * Names of physical addresses in the kernel that was booted.
 * @returns null where there are none: no jump into a kernel, or one without kallsyms
 */
export async function readKernelNames(
  flags: KernelSymbolFlags,
  image: KernelImage,
  trace: BootTrace,
): Promise<((physical: bigint) => string | null) | null> {
  const { vmlinux, systemMap } = flags;
  if (trace.kernel === null || image.payload === null) return null;
  const { elf } = await extractVmlinux(image);
  if (elf === null) return null;
  let names = null;
  if (vmlinux !== undefined) names = readElfSymbolTable(vmlinux, await readImageFile(vmlinux));
  else if (systemMap !== undefined) names = readSystemMap(systemMap, await readImageFile(systemMap));
  else names = findKallsyms(elf);
  return names === null ? null : kernelNames(names, elf, trace.kernel.segments);
}
