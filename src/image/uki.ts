// Unified Kernel Images (UAPI.5, systemd-stub(7)): what systemd-stub's sections hold, and what it does with them.

import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import { ByteView } from './byte-view.ts';
import { findPeSection, type PeFile, type PeSection, peSectionBytes } from './pe.ts';

/** Sections that hold text. */
const TEXT_SECTIONS = [
  '.cmdline',
  '.osrel',
  '.uname',
  '.sbat',
  '.pcrpkey',
  '.pcrsig',
  '.profile',
  '.dtbauto',
];

/** Text of `.cmdline`, `.osrel`, `.uname`, `.sbat`, …, by section name; what lies outside the file is left out. */
export function ukiTexts(bytes: Uint8Array, pe: PeFile): Record<string, string> {
  const texts: Record<string, string> = {};
  for (const section of pe.sections) {
    if (!TEXT_SECTIONS.includes(section.name) || section.name in texts) continue;
    const content = sectionBytes(bytes, section);
    if (content === null) continue;
    texts[section.name] = new ByteView(content, section.name).text(0, 0x10000).trimEnd();
  }
  return texts;
}

function sectionBytes(bytes: Uint8Array, section: PeSection): Uint8Array | null {
  try {
    return peSectionBytes(bytes, section);
  } catch (error) {
    if (error instanceof BootscopeError) return null;
    throw error;
  }
}

/** What systemd-stub hands to the kernel from sections of its own. */
export interface UkiSections {
  /** The command line where the loader gives none; null for a UKI without `.cmdline`. */
  readonly cmdline: string | null;
  /** Null for a UKI without `.initrd`. */
  readonly initrd: Uint8Array | null;
}

export function readUkiSections(bytes: Uint8Array, pe: PeFile): UkiSections {
  const initrd = findPeSection(pe, '.initrd');
  return {
    cmdline: ukiTexts(bytes, pe)['.cmdline'] ?? null,
    initrd: initrd === undefined ? null : sectionBytes(bytes, initrd),
  };
}

/** Sections that are read when the kernel has taken its memory: what is in the others the stub has copied by then. */
const READ_LATE = ['.initrd', '.ucode', '.dtb'];

/** A section that a kernel started where `.linux` lies writes over; addresses count from the start of the image. */
export interface SectionInRunArea {
  readonly name: string;
  readonly start: number;
  readonly end: number;
  /** Of these the part within `init_size` bytes from `.linux`. */
  readonly lost: number;
  /** Where the kernel's memory begins and ends. */
  readonly linux: { readonly start: number; readonly end: number };
}

/**
 * The sections within init_size bytes from `.linux`.
 *
 * @param initSize - of the kernel in `.linux`, in bytes
 */
export function sectionsInRunArea(pe: PeFile, initSize: number): SectionInRunArea[] {
  const linux = findPeSection(pe, '.linux');
  if (linux === undefined || initSize === 0) return [];
  const area = { start: linux.virtualAddress, end: linux.virtualAddress + initSize };
  return pe.sections.flatMap(({ name, virtualAddress: start, virtualSize }) => {
    const end = start + virtualSize;
    const lost = Math.min(end, area.end) - start;
    return READ_LATE.includes(name) && start > area.start && lost > 0
      ? [{ name, start, end, lost, linux: area }]
      : [];
  });
}

/** What is lost, as a clause. */
export function runAreaSentence({ name, start, end, lost, linux }: SectionInRunArea): string {
  return (
    `section ${name} lies at ${hex(start)}..${hex(end)} of the image, and the kernel in .linux takes ` +
    `${hex(linux.start)}..${hex(linux.end)} (init_size ${hex(linux.end - linux.start)}): a stub that starts it where its section ` +
    `lies loses ${hex(lost)} bytes of ${name}`
  );
}
