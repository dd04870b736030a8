// What a vmlinux is made of: its sections added up as text, rodata, data, init, percpu and bss, its segments and notes.

import {
  type ElfFile,
  elfBuildId,
  readElfNotes,
  readElfSymbols,
  SHF_ALLOC,
  SHF_EXECINSTR,
  SHF_WRITE,
  SHT_NOBITS,
} from './elf.ts';
import { findLinuxBanner } from './kernel-version.ts';

export const SECTION_GROUPS = ['text', 'rodata', 'data', 'init', 'percpu', 'bss'] as const;
export type SectionGroup = (typeof SECTION_GROUPS)[number];

export interface Vmlinux {
  readonly elf: ElfFile;
  /** Bytes in memory of each group; null for a file without section headers. */
  readonly groups: Readonly<Record<SectionGroup, bigint>> | null;
  /** Lower-case hex; null where the linker wrote none. */
  readonly buildId: string | null;
  /** `Linux version …`; null where there is none. */
  readonly banner: string | null;
  readonly symbolCount: number;
  /** Physical address of the 32-bit PVH entry (Xen ELF note 18); null where there is none. */
  readonly pvhEntry: bigint | null;
}

const XEN_ELFNOTE_PHYS32_ENTRY = 18;

/**
 * Sections the kernel frees after its start, or that only its start reads: those of the linker script
 * between `__init_begin` and `__init_end`, by name.
 */
const INIT_SECTIONS =
  /^\.(init|exit|x86_cpu_dev\.init|x86_intel_mid_dev\.init|altinstr|parainstructions|iommu_table|apicdrivers|retpoline_sites|return_sites|call_sites|ibt_endbr_seal|cfi_sites|con_initcall|security_initcall|initcall|setup|taglist|pv_table|arch\.info|smpalt|rela|hyp\.reloc|data\.rel\.ro\.init)/;

/** Sections between the kernel's text and data that it makes read-only later; the link may still mark them writable. */
const RODATA_SECTIONS =
  /^(\.rodata|\.data\.rel\.ro|\.data\.\.ro_after_init|\.pci_fixup|\.builtin_fw|\.tracedata|\.notes|\.BTF|\.orc_|\.eh_frame|__ksymtab|__kcrctab|__param|__modver|__ex_table|__init_rodata)/;

/** Which group an allocated section counts to. */
export function sectionGroup(name: string, flags: bigint, type: number): SectionGroup {
  if (/^\.(data\.*percpu|percpu)/.test(name)) return 'percpu';
  if (INIT_SECTIONS.test(name)) return 'init';
  if ((flags & BigInt(SHF_EXECINSTR)) !== 0n) return 'text';
  if (type === SHT_NOBITS) return 'bss';
  if (RODATA_SECTIONS.test(name)) return 'rodata';
  return (flags & BigInt(SHF_WRITE)) === 0n ? 'rodata' : 'data';
}

/** Adds a vmlinux up. */
export function describeVmlinux(elf: ElfFile): Vmlinux {
  const allocated = elf.sections.filter((section) => (section.flags & BigInt(SHF_ALLOC)) !== 0n);
  const groups = { text: 0n, rodata: 0n, data: 0n, init: 0n, percpu: 0n, bss: 0n };
  for (const section of allocated)
    groups[sectionGroup(section.name, section.flags, section.type)] += section.size;
  const pvh = readElfNotes(elf).find(({ name, type }) => name === 'Xen' && type === XEN_ELFNOTE_PHYS32_ENTRY);
  return {
    elf,
    groups: allocated.length === 0 ? null : groups,
    buildId: elfBuildId(elf),
    banner: findLinuxBanner(elf.bytes),
    symbolCount: readElfSymbols(elf).length,
    pvhEntry: pvh === undefined ? null : littleEndian(pvh.description),
  };
}

function littleEndian(bytes: Uint8Array): bigint {
  return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}
