// What a vmlinux is made of: the segments a loader puts into memory, its entries and Xen notes, its sections added up as
// text, rodata, data, init, percpu and bss.

import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import { ByteView } from './byte-view.ts';
import {
  type ElfFile,
  EM_386,
  EM_X86_64,
  elfBuildId,
  elfSegmentBytes,
  isElf,
  missingSegmentBytes,
  PT_LOAD,
  readElf,
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
  /** Physical address of the first instruction: `e_entry`, translated where the link gave a virtual address. */
  readonly physicalEntry: bigint;
  readonly xen: XenNotes;
}

/** The entries that a kernel offers Xen and other loaders in its ELF notes (xen/include/public/elfnote.h). */
export interface XenNotes {
  /** Virtual address at which a paravirtualised guest starts (note ENTRY); null for a kernel that is none. */
  readonly pvEntry: bigint | null;
  /** Physical address of the 32-bit PVH entry (note PHYS32_ENTRY); null where there is none. */
  readonly pvhEntry: bigint | null;
  /** What the notes say besides: `GUEST_OS`, `XEN_VERSION`, …, text or `0x…`. */
  readonly others: Readonly<Record<string, string>>;
}

/** One PT_LOAD segment as a loader of a vmlinux places it. */
export interface LoadSegment {
  /** Among all program headers. */
  readonly index: number;
  readonly paddr: bigint;
  readonly vaddr: bigint;
  /** What goes to `paddr`; not a copy. */
  readonly bytes: Uint8Array;
  /** Bytes in memory; those behind `bytes` are zero. */
  readonly memsz: bigint;
  /** PF_X, PF_W, PF_R. */
  readonly flags: number;
}

const XEN_NOTE_ENTRY = 1;
const XEN_NOTE_PHYS32_ENTRY = 18;
const XEN_NOTE_NAMES: Readonly<Record<number, string>> = {
  0: 'INFO',
  [XEN_NOTE_ENTRY]: 'ENTRY',
  2: 'HYPERCALL_PAGE',
  3: 'VIRT_BASE',
  4: 'PADDR_OFFSET',
  5: 'XEN_VERSION',
  6: 'GUEST_OS',
  7: 'GUEST_VERSION',
  8: 'LOADER',
  9: 'PAE_MODE',
  10: 'FEATURES',
  11: 'BSD_SYMTAB',
  12: 'HV_START_LOW',
  13: 'L1_MFN_VALID',
  14: 'SUSPEND_CANCEL',
  15: 'INIT_P2M',
  16: 'MOD_START_PFN',
  17: 'SUPPORTED_FEATURES',
  [XEN_NOTE_PHYS32_ENTRY]: 'PHYS32_ENTRY',
  19: 'PHYS32_RELOC',
};

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
  return {
    elf,
    groups: allocated.length === 0 ? null : groups,
    buildId: elfBuildId(elf),
    banner: findLinuxBanner(elf.bytes),
    symbolCount: readElfSymbols(elf).length,
    physicalEntry: physicalEntry(elf),
    xen: readXenNotes(elf),
  };
}

/** Whether it is an x86 kernel's own ELF file: by its banner, a Xen note, or segments that are linked elsewhere than they lie. */
export function isX86Vmlinux(bytes: Uint8Array): boolean {
  if (!isElf(bytes)) return false;
  let elf: ElfFile;
  try {
    elf = readElf(bytes);
  } catch {
    return false;
  }
  const loads = elf.programHeaders.filter(({ type }) => type === PT_LOAD);
  if ((elf.machine !== EM_386 && elf.machine !== EM_X86_64) || loads.length === 0) return false;
  return (
    loads.some(({ paddr, vaddr }) => paddr !== vaddr) ||
    readXenNotes(elf).pvhEntry !== null ||
    findLinuxBanner(bytes) !== null
  );
}

/** `e_entry` is physical in x86-64 and 32-bit relocatable kernels, virtual in others. */
function physicalEntry(elf: ElfFile): bigint {
  const { entry } = elf;
  const loads = elf.programHeaders.filter(({ type }) => type === PT_LOAD);
  if (loads.some(({ paddr, memsz }) => entry >= paddr && entry < paddr + memsz)) return entry;
  const holder = loads.find(({ vaddr, memsz }) => entry >= vaddr && entry < vaddr + memsz);
  return holder === undefined ? entry : entry - holder.vaddr + holder.paddr;
}

/**
 * The segments that a loader places, in the order of the file.
 *
 * @param path - how to name the file in messages
 * @throws BootscopeError `image-truncated` where the file ends before the bytes of one
 */
export function loadSegments(path: string, elf: ElfFile): LoadSegment[] {
  const [missing] = missingSegmentBytes(elf);
  if (missing !== undefined) {
    throw new BootscopeError('image-truncated', `${path} is cut: ${missing}`);
  }
  return elf.programHeaders.flatMap((header, index) => {
    const { paddr, vaddr, memsz, flags } = header;
    if (header.type !== PT_LOAD || memsz === 0n) return [];
    return [{ index, paddr, vaddr, bytes: elfSegmentBytes(elf, header), memsz, flags }];
  });
}

/** Reads what Xen's notes in an ELF file say. */
export function readXenNotes(elf: ElfFile): XenNotes {
  const others: Record<string, string> = {};
  let pvEntry: bigint | null = null;
  let pvhEntry: bigint | null = null;
  for (const { name, type, description } of readElfNotes(elf)) {
    if (name !== 'Xen') continue;
    if (type === XEN_NOTE_ENTRY) pvEntry = littleEndian(description);
    else if (type === XEN_NOTE_PHYS32_ENTRY) pvhEntry = littleEndian(description);
    else others[XEN_NOTE_NAMES[type] ?? `note ${type}`] = noteText(description);
  }
  return { pvEntry, pvhEntry, others };
}

/** Xen's notes are strings ended by a NUL, or numbers of 4 or 8 bytes. */
function noteText(description: Uint8Array): string {
  const text = new ByteView(description, 'Xen note').text(0, description.length);
  const isText = text.length === description.length - 1 && /^[\x20-\x7e]+$/.test(text);
  return isText ? text : hex(littleEndian(description));
}

function littleEndian(bytes: Uint8Array): bigint {
  return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}
