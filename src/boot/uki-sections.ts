// What systemd-stub hands to the kernel in a Unified Kernel Image, for the entries that start that kernel without the stub: the
// same command line and initial RAM disk, unless the caller has others.

import { hex } from '../hex.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import { findPeSection, readPe } from '../image/pe.ts';
import { readUkiSections, runAreaSentence, sectionsInRunArea } from '../image/uki.ts';
import type { Hazard } from '../trace/boot-trace.ts';
import type { BootRun } from './boot-run.ts';
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
 * What is lost where the kernel of a UKI runs where its section lies. By the entry `efi`, it was seen to; the others leave the stub
 * out that might have it so: systemd-stub before 252 does, through the handover protocol.
 */
export function ukiHazards({ image, machine, found }: BootRun): Hazard[] {
  const pe = image.uki === undefined ? null : readPe(image.uki);
  const linux = pe === null ? undefined : findPeSection(pe, '.linux');
  if (pe === null || linux === undefined) return [];
  const base = machine.uefi?.images[0]?.base ?? null;
  if (base !== null && found.zo !== base + linux.virtualAddress + image.setupSize) return [];
  return sectionsInRunArea(pe, image.header.get('init_size')).map((section) => ({
    code: 'uki-section-in-run-area',
    text: runAreaSentence(section),
    advice:
      `let .linux be the last section, or ${section.name} lie at ${hex(section.linux.end)} or above` +
      (base === null ? "; what this image's own stub does, the entry efi shows" : ''),
    start: BigInt(base === null ? 0 : base + section.start),
    end: BigInt(base === null ? 0 : base + section.start + section.lost),
  }));
}
