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

/**
 * The sections that a kernel started where its section lies would write over: those that begin within init_size bytes
 * from `.linux`. One sentence each.
 *
 * @param initSize - of the kernel in `.linux`, in bytes
 */
export function sectionsInsideInitSize(pe: PeFile, initSize: number): string[] {
  const linux = findPeSection(pe, '.linux');
  if (linux === undefined || initSize === 0) return [];
  const start = linux.virtualAddress;
  return pe.sections
    .filter(({ virtualAddress }) => virtualAddress > start && virtualAddress < start + initSize)
    .map(
      ({ name, virtualAddress, virtualSize }) =>
        `section ${name} lies at ${hex(virtualAddress)} to ${hex(virtualAddress + virtualSize)}, within the ${hex(initSize)} ` +
        `bytes of init_size from .linux at ${hex(start)}: a kernel that is started where its section lies writes over it`,
    );
}
