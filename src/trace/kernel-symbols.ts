// Names of physical addresses in a kernel as it was placed: undoes where it was loaded and what KASLR added.

import { type ElfFile, PT_LOAD } from '../image/elf.ts';
import type { KernelSegment } from './boot-trace.ts';
import type { SymbolNames } from './symbols.ts';

/**
 * @param symbols - by the addresses the kernel was linked at
 * @param elf - the kernel's own headers, which say those
 * @param segments - its segments as they lie in memory, in the order of the headers
 * @returns the name of a physical address; null outside the segments
 */
export function kernelNames(
  symbols: SymbolNames,
  elf: ElfFile,
  segments: readonly KernelSegment[],
): (physical: bigint) => string | null {
  const headers = elf.programHeaders.filter(({ type }) => type === PT_LOAD);
  return (physical) => {
    const index = segments.findIndex(({ paddr, memsz }) => physical >= paddr && physical < paddr + memsz);
    const header = headers[index];
    if (header === undefined) return null;
    return symbols.name(header.vaddr + (physical - segments[index]!.paddr));
  };
}
