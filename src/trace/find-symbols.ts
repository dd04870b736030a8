// Symbols of the kernel that was booted, by name and by where they lie in memory: out of its own kallsyms.

import { PT_LOAD } from '../image/elf.ts';
import { extractVmlinux } from '../image/extract-vmlinux.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import type { BootTrace } from './boot-trace.ts';
import { findKallsyms } from './kallsyms.ts';
import { kernelNames } from './kernel-symbols.ts';

export interface KernelSymbols {
  /** Of a physical address; null outside of the kernel. */
  nameAt(physical: bigint): string | null;
  /** At most `most` symbols that have `text`, in lower case, in their names; the shortest names first. */
  named(text: string, most: number): readonly { readonly name: string; readonly physical: bigint }[];
}

/** Null where there are none: no jump into a kernel, or one without kallsyms. */
export async function readKernelSymbols(image: KernelImage, trace: BootTrace): Promise<KernelSymbols | null> {
  if (trace.kernel === null || image.payload === null) return null;
  const { elf } = await extractVmlinux(image);
  const symbols = elf === null ? null : findKallsyms(elf);
  if (elf === null || symbols === null) return null;
  const { segments } = trace.kernel;
  const headers = elf.programHeaders.filter(({ type }) => type === PT_LOAD);
  const physicalOf = (address: bigint): bigint | null => {
    const index = headers.findIndex(({ vaddr, memsz }) => address >= vaddr && address < vaddr + memsz);
    const segment = segments[index];
    return segment === undefined ? null : segment.paddr + (address - headers[index]!.vaddr);
  };
  return {
    nameAt: kernelNames(symbols, elf, segments),
    named(text, most) {
      const found: { name: string; physical: bigint }[] = [];
      for (let index = 0; index < symbols.size; index++) {
        const { name, address } = symbols.symbol(index);
        if (!name.toLowerCase().includes(text)) continue;
        const physical = physicalOf(address);
        if (physical !== null) found.push({ name, physical });
      }
      return found.sort((a, b) => a.name.length - b.name.length).slice(0, most);
    },
  };
}
