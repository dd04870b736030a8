// The PE/COFF container of EFI programs: machine, subsystem, sections (PE Format specification, Microsoft).

import { hex } from '../hex.ts';
import { ByteView } from './byte-view.ts';

/** One section of a PE file. */
export interface PeSection {
  readonly name: string;
  readonly virtualAddress: number;
  /** Bytes in memory. */
  readonly virtualSize: number;
  /** Offset and length of its bytes in the file; the length is padded to the file alignment. */
  readonly fileOffset: number;
  readonly fileSize: number;
  readonly characteristics: number;
}

/** `r-x`, `rw-` … of IMAGE_SCN_MEM_READ, WRITE and EXECUTE. */
export function peSectionFlags({ characteristics }: PeSection): string {
  return (
    ((characteristics & 0x4000_0000) === 0 ? '-' : 'r') +
    ((characteristics & 0x8000_0000) === 0 ? '-' : 'w') +
    ((characteristics & 0x2000_0000) === 0 ? '-' : 'x')
  );
}

/** What is read of a PE/COFF file. */
export interface PeFile {
  /** Offset of the `PE\0\0` signature. */
  readonly headerOffset: number;
  readonly machine: number;
  /** `x86-64`, `i386`, `ARM64`, …; `machine 0x…` for others. */
  readonly machineName: string;
  readonly format: 'PE32' | 'PE32+' | null;
  readonly entryPoint: number;
  readonly subsystem: number;
  readonly subsystemName: string;
  /** Where the image is linked for. */
  readonly imageBase: bigint;
  readonly sizeOfImage: number;
  /** Bytes from the start of the file that are loaded as headers. */
  readonly sizeOfHeaders: number;
  readonly sectionAlignment: number;
  /** IMAGE_DLLCHARACTERISTICS_NX_COMPAT: may be loaded with data that is not executable and code that is not writable. */
  readonly nxCompatible: boolean;
  /** Address and size in the image of the base relocations; null where it has none. */
  readonly relocations: { readonly address: number; readonly size: number } | null;
  /** IMAGE_FILE_RELOCS_STRIPPED: can run at `imageBase` alone. */
  readonly relocationsStripped: boolean;
  readonly fileAlignment: number;
  /** Offset in the file of the CheckSum field; null where the header has none. */
  readonly checksumOffset: number | null;
  /** Offset in the file of the directory entry that names the signatures; null where the header has none. */
  readonly certificateEntryOffset: number | null;
  /** Offset and length in the file of the signatures (Authenticode); null for an unsigned file. */
  readonly certificates: { readonly offset: number; readonly length: number } | null;
  readonly sections: readonly PeSection[];
}

const MACHINES: ReadonlyMap<number, string> = new Map([
  [0x014c, 'i386'],
  [0x8664, 'x86-64'],
  [0x01c0, 'ARM'],
  [0x01c2, 'ARM Thumb'],
  [0x01c4, 'ARM Thumb-2'],
  [0xaa64, 'ARM64'],
  [0x5032, 'RISC-V 32'],
  [0x5064, 'RISC-V 64'],
  [0x6232, 'LoongArch 32'],
  [0x6264, 'LoongArch 64'],
  [0x0200, 'Itanium'],
  [0x0ebc, 'EFI byte code'],
]);

const SUBSYSTEMS: ReadonlyMap<number, string> = new Map([
  [1, 'native'],
  [2, 'Windows GUI'],
  [3, 'Windows console'],
  [10, 'EFI application'],
  [11, 'EFI boot service driver'],
  [12, 'EFI runtime driver'],
  [13, 'EFI ROM'],
]);

const FILE_RELOCS_STRIPPED = 0x0001;
const DLL_NX_COMPAT = 0x0100;

/** More sections than this no EFI program has; PE itself allows 96. */
const MAX_SECTIONS = 96;

/**
 * Reads the PE headers of `bytes`; null where there are none. Section tables that run past the end are
 * read as far as they go.
 */
export function readPe(bytes: Uint8Array): PeFile | null {
  const view = new ByteView(bytes, 'PE header');
  if (!view.startsWith('MZ') || !view.has(0x3c, 4)) return null;
  const headerOffset = view.u32(0x3c);
  if (headerOffset < 2 || !view.startsWith('PE\0\0', headerOffset) || !view.has(headerOffset, 24))
    return null;
  const coff = headerOffset + 4;
  const machine = view.u16(coff);
  const sectionCount = Math.min(view.u16(coff + 2), MAX_SECTIONS);
  const optionalSize = view.u16(coff + 16);
  const optional = coff + 20;
  const magic = view.has(optional, 2) && optionalSize >= 2 ? view.u16(optional) : 0;
  const format = magic === 0x10b ? 'PE32' : magic === 0x20b ? 'PE32+' : null;
  const field = (offset: number, size: 2 | 4): number => {
    if (format === null || offset + size > optionalSize || !view.has(optional + offset, size)) return 0;
    return size === 2 ? view.u16(optional + offset) : view.u32(optional + offset);
  };
  const directories = format === 'PE32+' ? 112 : 96;
  const directoryCount = field(directories - 4, 4);
  const certificateOffset = directoryCount > 4 ? field(directories + 32, 4) : 0;
  const certificateLength = directoryCount > 4 ? field(directories + 36, 4) : 0;
  const subsystem = field(68, 2);
  const relocationAddress = directoryCount > 5 ? field(directories + 40, 4) : 0;
  const relocationSize = directoryCount > 5 ? field(directories + 44, 4) : 0;
  const imageBase =
    format === 'PE32+' ? BigInt(field(24, 4)) | (BigInt(field(28, 4)) << 32n) : BigInt(field(28, 4));
  const sections: PeSection[] = [];
  for (let index = 0; index < sectionCount; index++) {
    const at = optional + optionalSize + index * 40;
    if (!view.has(at, 40)) break;
    sections.push({
      name: view.text(at, 8),
      virtualSize: view.u32(at + 8),
      virtualAddress: view.u32(at + 12),
      fileSize: view.u32(at + 16),
      fileOffset: view.u32(at + 20),
      characteristics: view.u32(at + 36),
    });
  }
  return {
    headerOffset,
    machine,
    machineName: MACHINES.get(machine) ?? `machine ${hex(machine)}`,
    format,
    entryPoint: field(16, 4),
    subsystem,
    subsystemName: SUBSYSTEMS.get(subsystem) ?? `subsystem ${subsystem}`,
    imageBase,
    sizeOfImage: field(56, 4),
    sizeOfHeaders: field(60, 4),
    sectionAlignment: field(32, 4),
    nxCompatible: (field(70, 2) & DLL_NX_COMPAT) !== 0,
    relocations:
      relocationAddress !== 0 && relocationSize !== 0
        ? { address: relocationAddress, size: relocationSize }
        : null,
    relocationsStripped: (view.u16(coff + 18) & FILE_RELOCS_STRIPPED) !== 0,
    fileAlignment: field(36, 4),
    checksumOffset: format !== null && optionalSize >= 68 ? optional + 64 : null,
    certificateEntryOffset: directoryCount > 4 ? optional + directories + 32 : null,
    certificates:
      certificateOffset !== 0 && certificateLength !== 0
        ? { offset: certificateOffset, length: certificateLength }
        : null,
    sections,
  };
}

/** A clause for each section whose bytes the file does not have whole; empty for a file that is whole. */
export function missingSectionBytes(pe: PeFile, length: number): string[] {
  return pe.sections.flatMap(({ name, fileOffset, fileSize }) => {
    const end = fileOffset + fileSize;
    if (fileSize === 0 || end <= length) return [];
    const missing = end - Math.max(fileOffset, length);
    return [
      `section ${name} has ${fileSize} bytes at offset ${fileOffset}, ${missing} of them lie behind the end of the file ` +
        `of ${length} bytes`,
    ];
  });
}

/** The section of that name; undefined where there is none. */
export function findPeSection(pe: PeFile, name: string): PeSection | undefined {
  return pe.sections.find((section) => section.name === name);
}

/**
 * A section's bytes without the padding behind them (not a copy).
 * @throws BootscopeError `image-truncated` where the file ends before them
 */
export function peSectionBytes(bytes: Uint8Array, section: PeSection): Uint8Array {
  const length =
    section.virtualSize === 0 ? section.fileSize : Math.min(section.virtualSize, section.fileSize);
  return new ByteView(bytes, `section ${section.name}`).slice(section.fileOffset, length);
}
