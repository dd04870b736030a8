// Reads ELF32 and ELF64 files of either byte order: headers, segments, sections, notes, symbols (System V gABI, chapters 4 and 5).

import { BootscopeError } from '../error.ts';
import { hexDigits } from '../host/host.ts';
import { ByteView } from './byte-view.ts';

export const ET_REL = 1;
export const ET_EXEC = 2;
export const ET_DYN = 3;
export const ET_CORE = 4;
export const EM_386 = 3;
export const EM_ARM = 40;
export const EM_X86_64 = 62;
export const EM_AARCH64 = 183;
export const EM_RISCV = 243;

export const PT_LOAD = 1;
export const PT_INTERP = 3;
export const PT_NOTE = 4;

export const PF_X = 1;
export const PF_W = 2;
export const PF_R = 4;

export const SHT_SYMTAB = 2;
export const SHT_NOTE = 7;
export const SHT_NOBITS = 8;

export const SHF_WRITE = 1;
export const SHF_ALLOC = 2;
export const SHF_EXECINSTR = 4;

const MACHINES: ReadonlyMap<number, string> = new Map([
  [EM_386, 'i386'],
  [2, 'SPARC'],
  [4, 'M68K'],
  [8, 'MIPS'],
  [15, 'PA-RISC'],
  [20, 'PowerPC'],
  [21, 'PowerPC64'],
  [22, 's390'],
  [EM_ARM, 'ARM'],
  [42, 'SuperH'],
  [43, 'SPARC64'],
  [50, 'Itanium'],
  [EM_X86_64, 'x86-64'],
  [EM_AARCH64, 'ARM64'],
  [92, 'OpenRISC'],
  [94, 'Xtensa'],
  [113, 'Nios II'],
  [189, 'MicroBlaze'],
  [93, 'ARC'],
  [195, 'ARC'],
  [EM_RISCV, 'RISC-V'],
  [252, 'C-SKY'],
  [258, 'LoongArch'],
  [0x9026, 'Alpha'],
  [0x9041, 'M32R'],
]);

export interface ElfProgramHeader {
  /** PT_LOAD and others. */
  readonly type: number;
  /** PF_X, PF_W, PF_R. */
  readonly flags: number;
  /** Offset in the file, and bytes there; they may lie outside a damaged file. */
  readonly offset: bigint;
  readonly filesz: bigint;
  readonly vaddr: bigint;
  readonly paddr: bigint;
  readonly memsz: bigint;
  readonly align: bigint;
}

export interface ElfSection {
  readonly name: string;
  readonly type: number;
  readonly flags: bigint;
  readonly address: bigint;
  readonly offset: bigint;
  readonly size: bigint;
  readonly link: number;
  /** sh_info: of relocations, the section they apply to. */
  readonly info: number;
  readonly entrySize: bigint;
}

export interface ElfSymbol {
  readonly name: string;
  readonly value: bigint;
  readonly size: bigint;
  /** STT_NOTYPE 0, STT_OBJECT 1, STT_FUNC 2, … */
  readonly type: number;
  readonly sectionIndex: number;
}

export interface ElfNote {
  readonly name: string;
  readonly type: number;
  readonly description: Uint8Array;
}

/** An ELF file, read as far as a boot needs it. */
export interface ElfFile {
  readonly bytes: Uint8Array;
  readonly bits: 32 | 64;
  readonly littleEndian: boolean;
  /** ET_EXEC, ET_DYN, … */
  readonly type: number;
  /** EM_386, EM_X86_64, … */
  readonly machine: number;
  readonly machineName: string;
  readonly entry: bigint;
  readonly programHeaders: readonly ElfProgramHeader[];
  /** Empty where the file has no section headers or they are damaged. */
  readonly sections: readonly ElfSection[];
  /** Where the section header table lies in the file; null where there is none. */
  readonly sectionTable: { readonly offset: bigint; readonly length: bigint } | null;
}

/** Whether the bytes start with ELF's magic number. */
export function isElf(bytes: Uint8Array): boolean {
  return bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46;
}

/** The name of an ELF machine, `x86-64`; `machine N` for those no kernel image of interest has. */
export function elfMachineName(machine: number): string {
  return MACHINES.get(machine) ?? `machine ${machine}`;
}

/**
 * Reads the headers of an ELF file. Section headers may be missing or damaged (kernels are stripped in
 * many ways); program headers must be readable.
 *
 * @param bytes - the file; bytes behind its end (relocation lists) do no harm
 * @throws BootscopeError `image-elf` for what is no ELF file, `image-truncated` for one cut in its headers
 */
export function readElf(bytes: Uint8Array): ElfFile {
  const identification = new ByteView(bytes, 'ELF header');
  if (!isElf(bytes))
    throw new BootscopeError('image-elf', 'there is no ELF file: its magic 7f 45 4c 46 is missing');
  const fileClass = identification.u8(4);
  const encoding = identification.u8(5);
  if (fileClass !== 1 && fileClass !== 2) {
    throw new BootscopeError('image-elf', `ELF class ${fileClass} is neither 1 (32-bit) nor 2 (64-bit)`);
  }
  if (encoding !== 1 && encoding !== 2) {
    throw new BootscopeError(
      'image-elf',
      `ELF data encoding ${encoding} is neither 1 (little endian) nor 2 (big endian)`,
    );
  }
  const littleEndian = encoding === 1;
  const view = new ByteView(bytes, 'ELF header', littleEndian);
  const wide = fileClass === 2;
  const word = (offset: number): bigint => (wide ? view.u64(offset) : BigInt(view.u32(offset)));
  const entry = word(24);
  const programOffset = word(wide ? 32 : 28);
  const sectionOffset = word(wide ? 40 : 32);
  const tail = wide ? 54 : 42;
  const programEntrySize = view.u16(tail);
  const programCount = view.u16(tail + 2);
  const sectionEntrySize = view.u16(tail + 4);
  const sectionCount = view.u16(tail + 6);
  const nameIndex = view.u16(tail + 8);
  const machine = view.u16(18);

  const programHeaders: ElfProgramHeader[] = [];
  const leastProgramEntry = wide ? 56 : 32;
  if (programCount > 0) {
    if (programEntrySize < leastProgramEntry) {
      throw new BootscopeError(
        'image-elf',
        `an ELF program header has ${programEntrySize} bytes, ${leastProgramEntry} are needed`,
      );
    }
    const table = new ByteView(bytes, 'ELF program header table', littleEndian);
    for (let index = 0; index < programCount; index++) {
      const at = toOffset(programOffset) + index * programEntrySize;
      const number = (offset32: number, offset64: number): bigint =>
        wide ? table.u64(at + offset64) : BigInt(table.u32(at + offset32));
      programHeaders.push({
        type: table.u32(at),
        flags: table.u32(at + (wide ? 4 : 24)),
        offset: number(4, 8),
        vaddr: number(8, 16),
        paddr: number(12, 24),
        filesz: number(16, 32),
        memsz: number(20, 40),
        align: number(28, 48),
      });
    }
  }
  const sectionTable =
    sectionOffset !== 0n && sectionCount > 0
      ? { offset: sectionOffset, length: BigInt(sectionEntrySize) * BigInt(sectionCount) }
      : null;
  return {
    bytes,
    bits: wide ? 64 : 32,
    littleEndian,
    type: view.u16(16),
    machine,
    machineName: elfMachineName(machine),
    entry,
    programHeaders,
    sections:
      sectionTable === null
        ? []
        : readSections(view, wide, sectionOffset, sectionEntrySize, sectionCount, nameIndex),
    sectionTable,
  };
}

/** A file number as an offset; what is too large lies outside of every file and stays so. */
function toOffset(value: bigint): number {
  return value > 0xffff_ffff_ffffn ? 0xffff_ffff_ffff : Number(value);
}

function readSections(
  view: ByteView,
  wide: boolean,
  tableOffset: bigint,
  entrySize: number,
  count: number,
  nameIndex: number,
): ElfSection[] {
  if (entrySize < (wide ? 64 : 40)) return [];
  const start = toOffset(tableOffset);
  const raw: { nameOffset: number; section: Omit<ElfSection, 'name'> }[] = [];
  for (let index = 0; index < count; index++) {
    const at = start + index * entrySize;
    if (!view.has(at, wide ? 64 : 40)) return [];
    const number = (offset32: number, offset64: number): bigint =>
      wide ? view.u64(at + offset64) : BigInt(view.u32(at + offset32));
    raw.push({
      nameOffset: view.u32(at),
      section: {
        type: view.u32(at + 4),
        flags: number(8, 8),
        address: number(12, 16),
        offset: number(16, 24),
        size: number(20, 32),
        link: view.u32(at + (wide ? 40 : 24)),
        info: view.u32(at + (wide ? 44 : 28)),
        entrySize: number(36, 56),
      },
    });
  }
  const names = raw[nameIndex]?.section;
  const nameBase = names === undefined || names.type === SHT_NOBITS ? -1 : toOffset(names.offset);
  return raw.map(({ nameOffset, section }) => ({
    name: nameBase >= 0 && view.has(nameBase + nameOffset, 1) ? view.text(nameBase + nameOffset, 256) : '',
    ...section,
  }));
}

/**
 * The bytes of a segment in the file (not a copy).
 * @throws BootscopeError `image-truncated` where they lie outside the file
 */
export function elfSegmentBytes(elf: ElfFile, header: ElfProgramHeader): Uint8Array {
  if (header.filesz === 0n) return elf.bytes.subarray(0, 0);
  return new ByteView(elf.bytes, 'ELF segment').slice(toOffset(header.offset), toOffset(header.filesz));
}

/**
 * A clause for each segment whose bytes the file does not have whole: which one, and how many are missing. Empty for a
 * file that is whole.
 */
export function missingSegmentBytes(elf: ElfFile): string[] {
  const there = BigInt(elf.bytes.length);
  return elf.programHeaders.flatMap(({ offset, filesz }, index) => {
    const end = offset + filesz;
    if (filesz === 0n || end <= there) return [];
    const missing = end - (offset > there ? offset : there);
    return [
      `segment ${index} needs ${filesz} bytes at offset ${offset}, ${missing} of them lie behind the end of the file ` +
        `of ${there} bytes`,
    ];
  });
}

/** The same for segments and the section header table, which stands at the end of most files. */
export function missingElfBytes(elf: ElfFile): string[] {
  const there = BigInt(elf.bytes.length);
  const { offset, length } = elf.sectionTable ?? { offset: 0n, length: 0n };
  const end = offset + length;
  const table =
    end > there
      ? [
          `its section headers end at ${end}, ${end - there} bytes behind the end of the file of ${there} bytes`,
        ]
      : [];
  return [...missingSegmentBytes(elf), ...table];
}

/** The bytes of a section (not a copy); null for one without bytes (`.bss`) or outside the file. */
export function elfSectionBytes(elf: ElfFile, section: ElfSection): Uint8Array | null {
  const offset = toOffset(section.offset);
  const size = toOffset(section.size);
  if (section.type === SHT_NOBITS || !new ByteView(elf.bytes, 'ELF section').has(offset, size)) return null;
  return elf.bytes.subarray(offset, offset + size);
}

/**
 * Length of the ELF file proper by its own tables: the largest end of header, tables, segments and
 * sections. A kernel's payload has its relocation lists right behind that.
 *
 * @throws BootscopeError `image-truncated` where that is beyond the end of the bytes
 */
export function elfFileLength(elf: ElfFile): number {
  let end = elf.bits === 64 ? 64n : 52n;
  const grow = (offset: bigint, length: bigint): void => {
    if (length > 0n && offset + length > end) end = offset + length;
  };
  const view = new ByteView(elf.bytes, 'ELF header', elf.littleEndian);
  const programOffset = elf.bits === 64 ? view.u64(32) : BigInt(view.u32(28));
  grow(programOffset, BigInt(view.u16(elf.bits === 64 ? 54 : 42)) * BigInt(elf.programHeaders.length));
  for (const header of elf.programHeaders) grow(header.offset, header.filesz);
  if (elf.sectionTable !== null) grow(elf.sectionTable.offset, elf.sectionTable.length);
  for (const section of elf.sections) {
    if (section.type !== SHT_NOBITS && section.type !== 0) grow(section.offset, section.size);
  }
  if (end > BigInt(elf.bytes.length)) {
    throw new BootscopeError(
      'image-truncated',
      `the ELF file's tables reach to byte ${end}, there are ${elf.bytes.length}`,
    );
  }
  return Number(end);
}

/** The notes of all PT_NOTE segments, or of SHT_NOTE sections where there are no such segments. */
export function readElfNotes(elf: ElfFile): ElfNote[] {
  const notes: ElfNote[] = [];
  const areas: { bytes: Uint8Array; align: number }[] = [];
  for (const header of elf.programHeaders) {
    if (header.type !== PT_NOTE) continue;
    const offset = toOffset(header.offset);
    const size = toOffset(header.filesz);
    if (!new ByteView(elf.bytes, 'ELF notes').has(offset, size)) continue;
    areas.push({ bytes: elf.bytes.subarray(offset, offset + size), align: header.align === 8n ? 8 : 4 });
  }
  if (areas.length === 0) {
    for (const section of elf.sections) {
      const bytes = section.type === SHT_NOTE ? elfSectionBytes(elf, section) : null;
      if (bytes !== null) areas.push({ bytes, align: 4 });
    }
  }
  for (const { bytes, align } of areas) {
    const view = new ByteView(bytes, 'ELF note', elf.littleEndian);
    let at = 0;
    while (view.has(at, 12)) {
      const nameSize = view.u32(at);
      const descriptionSize = view.u32(at + 4);
      const nameAt = at + 12;
      const descriptionAt = nameAt + Math.ceil(nameSize / align) * align;
      if (!view.has(nameAt, nameSize) || !view.has(descriptionAt, descriptionSize)) break;
      notes.push({
        name: view.text(nameAt, nameSize),
        type: view.u32(at + 8),
        description: view.slice(descriptionAt, descriptionSize),
      });
      at = descriptionAt + Math.ceil(descriptionSize / align) * align;
    }
  }
  return notes;
}

/** The linker's build id in lower-case hex (note `GNU`, type 3); null where there is none. */
export function elfBuildId(elf: ElfFile): string | null {
  const note = readElfNotes(elf).find(({ name, type }) => name === 'GNU' && type === 3);
  return note === undefined ? null : hexDigits(note.description);
}

/** The symbols of `.symtab`, nameless ones left out; empty for a stripped file. */
export function readElfSymbols(elf: ElfFile): ElfSymbol[] {
  const table = elf.sections.find((section) => section.type === SHT_SYMTAB);
  const strings = table === undefined ? undefined : elf.sections[table.link];
  if (table === undefined || strings === undefined) return [];
  const tableBytes = elfSectionBytes(elf, table);
  const stringBytes = elfSectionBytes(elf, strings);
  if (tableBytes === null || stringBytes === null) return [];
  const view = new ByteView(tableBytes, 'ELF symbol table', elf.littleEndian);
  const names = new ByteView(stringBytes, 'ELF string table');
  const wide = elf.bits === 64;
  const entrySize = wide ? 24 : 16;
  const symbols: ElfSymbol[] = [];
  for (let at = 0; view.has(at, entrySize); at += entrySize) {
    const nameOffset = view.u32(at);
    if (nameOffset === 0 || !names.has(nameOffset, 1)) continue;
    symbols.push({
      name: names.text(nameOffset, 512),
      value: wide ? view.u64(at + 8) : BigInt(view.u32(at + 4)),
      size: wide ? view.u64(at + 16) : BigInt(view.u32(at + 8)),
      type: view.u8(at + (wide ? 4 : 12)) & 0xf,
      sectionIndex: view.u16(at + (wide ? 6 : 14)),
    });
  }
  return symbols;
}
