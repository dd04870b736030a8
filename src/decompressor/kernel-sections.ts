// The sections of a decompressed kernel and the memory each takes once its segments are placed. Read from the ELF file while
// it is whole: parse_elf moves segments over it.

import { elfFileLength, readElf, SHF_ALLOC, SHT_NOBITS } from '../image/elf.ts';

/** A section with its place in memory, physical address and bytes. */
export interface KernelSection {
  /** As the ELF file names it: `.text`, `.data..percpu`. */
  readonly name: string;
  readonly paddr: bigint;
  readonly size: bigint;
  /** Index of the placed segment it is a part of. */
  readonly segment: number;
  /** False for .bss and .brk, which have no bytes in the file. */
  readonly hasBytes: boolean;
}

/** What of the file the relocation lists leave, and the sections. */
export interface KernelFileParts {
  readonly sections: readonly KernelSection[];
  /** Bytes of the ELF file proper; relocation lists follow. Null where its tables do not tell. */
  readonly elfLength: number | null;
}

/** A segment in the order of the PT_LOAD program headers, where it was placed. */
interface PlacedAt {
  readonly paddr: bigint;
  readonly vaddr: bigint;
  readonly memsz: bigint;
}

const PT_LOAD = 1;

/**
 * @param bytes - the ELF file as decompressed, relocation lists behind it do no harm
 * @param placed - its PT_LOAD segments in their order
 * @returns no sections where the file has no (readable) section headers
 */
export function readKernelFileParts(bytes: Uint8Array, placed: readonly PlacedAt[]): KernelFileParts {
  try {
    const elf = readElf(bytes);
    const headers = elf.programHeaders.filter(({ type }) => type === PT_LOAD);
    const sections: KernelSection[] = [];
    for (const section of elf.sections) {
      if ((section.flags & BigInt(SHF_ALLOC)) === 0n || section.size === 0n) continue;
      const hasBytes = section.type !== SHT_NOBITS;
      const segment = headers.findIndex(
        (header) =>
          section.address >= header.vaddr &&
          section.address + section.size <= header.vaddr + header.memsz &&
          (!hasBytes || section.offset - header.offset === section.address - header.vaddr),
      );
      const place = placed[segment];
      if (place === undefined) continue;
      const paddr = place.paddr + (section.address - headers[segment]!.vaddr);
      sections.push({ name: section.name, paddr, size: section.size, segment, hasBytes });
    }
    return { sections, elfLength: elfFileLength(elf) };
  } catch {
    // Headers that cannot be read name nothing; that the kernel has them is no condition for booting.
    return { sections: [], elfLength: null };
  }
}
