// What systemd-stub hands to the kernel in a Unified Kernel Image, for the entries that start that kernel without the stub: the
// same command line and initial RAM disk, unless the caller has others.

import { hex } from '../hex.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import { findPeSection, readPe } from '../image/pe.ts';
import { readUkiSections, runAreaSentence, sectionsInRunArea } from '../image/uki.ts';
import type { Hazard } from '../trace/boot-trace.ts';
import type { BootOptions } from './options.ts';

/** The options with `.cmdline` and `.initrd` where the caller gave none. */
export function withUkiSections(image: KernelImage, options: BootOptions): BootOptions {
  const pe = image.uki === undefined ? null : readPe(image.uki);
  if (pe === null || image.uki === undefined) return options;
  const { cmdline, initrd } = readUkiSections(image.uki, pe);
  return {
    ...options,
    cmdline: options.cmdline === '' ? (cmdline ?? '') : options.cmdline,
    initrd:
      options.initrd === null && initrd !== null
        ? { path: initrdName(image), bytes: initrd }
        : options.initrd,
  };
}

function initrdName(image: KernelImage): string {
  return `section .initrd of ${image.path}`;
}

/** What of the sections is used and what not. */
export function ukiNotices(image: KernelImage, options: BootOptions): string[] {
  const pe = image.uki === undefined ? null : readPe(image.uki);
  if (pe === null || image.uki === undefined) return [];
  const { cmdline } = readUkiSections(image.uki, pe);
  const notices: string[] = [];
  if (cmdline !== null) {
    notices.push(
      options.cmdline === cmdline
        ? `the command line is that of section .cmdline: ${cmdline}`
        : `section .cmdline is not used, another command line was given: ${cmdline}`,
    );
  }
  if (findPeSection(pe, '.initrd') !== undefined) {
    notices.push(
      options.initrd?.path === initrdName(image)
        ? `the initial RAM disk is that of section .initrd, ${options.initrd.bytes.length} bytes`
        : 'section .initrd is not used, another initial RAM disk was given',
    );
  }
  return notices;
}

/**
 * What the stub of a UKI loses that starts the kernel where its section lies: systemd-stub before 252 does, and later ones where
 * they use the handover protocol. The entries that leave the stub out cannot see it happen; `efi` runs the stub.
 */
export function ukiHazards(image: KernelImage, entry: BootOptions['entry']): Hazard[] {
  const pe = image.uki === undefined || entry === 'efi' ? null : readPe(image.uki);
  if (pe === null) return [];
  return sectionsInRunArea(pe, image.header.get('init_size')).map((section) => ({
    code: 'uki-section-in-run-area',
    text: runAreaSentence(section),
    advice:
      `let .linux be the last section, or ${section.name} lie at ${hex(section.linux.end)} or above; what this image's own stub ` +
      'does, the entry efi shows',
    start: 0n,
    end: 0n,
  }));
}
