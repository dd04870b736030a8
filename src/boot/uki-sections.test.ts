// What of a Unified Kernel Image's sections a boot uses that leaves its stub out, and what is lost where its kernel runs in place.

import { describe, expect, it } from 'vitest';
import { readKernelImage } from '../image/kernel-image.ts';
import { makeBootImage, makePe, noise } from '../image/test-images.ts';
import type { BootRun } from './boot-run.ts';
import { DEFAULT_BOOT_OPTIONS } from './options.ts';
import { ukiHazards, ukiNotices, withUkiSections } from './uki-sections.ts';

const text = (line: string): Uint8Array => new TextEncoder().encode(line);
const kernel = makeBootImage({
  ...{ protocol: 0x020f, code: noise(0x400) },
  fields: { init_size: 0x3000, kernel_alignment: 0x1000 },
});
const uki = await readKernelImage(
  'uki',
  makePe({ '.cmdline': text('quiet'), '.linux': kernel, '.initrd': text('070701'.padEnd(0x400, '0')) }),
);
const bare = await readKernelImage('bare', makePe({ '.linux': kernel }));
const plain = await readKernelImage('plain', kernel);

describe('the sections of a UKI', () => {
  it('are taken where the caller gave nothing', () => {
    const { cmdline, initrd } = withUkiSections(uki, DEFAULT_BOOT_OPTIONS);
    expect([cmdline, initrd!.path, initrd!.bytes.length]).toEqual(['quiet', 'section .initrd of uki', 0x400]);
    const mine = { path: 'mine', bytes: text('x') };
    expect(withUkiSections(uki, { ...DEFAULT_BOOT_OPTIONS, cmdline: 'debug', initrd: mine })).toMatchObject({
      ...{ cmdline: 'debug', initrd: mine },
    });
    expect(withUkiSections(bare, DEFAULT_BOOT_OPTIONS)).toEqual(DEFAULT_BOOT_OPTIONS);
    expect(withUkiSections(plain, DEFAULT_BOOT_OPTIONS)).toBe(DEFAULT_BOOT_OPTIONS);
  });

  it('are told of, used or not', () => {
    const notices = (options: Partial<typeof DEFAULT_BOOT_OPTIONS>) =>
      ukiNotices(uki, { ...DEFAULT_BOOT_OPTIONS, ...options });
    expect(notices(withUkiSections(uki, DEFAULT_BOOT_OPTIONS))).toEqual([
      'the command line is that of section .cmdline: quiet',
      'the initial RAM disk is that of section .initrd, 1024 bytes',
    ]);
    expect(notices({})).toEqual([
      'section .cmdline is not used, another command line was given: quiet',
      'section .initrd is not used, another initial RAM disk was given',
    ]);
    expect(ukiNotices(bare, DEFAULT_BOOT_OPTIONS)).toEqual([]);
    expect(ukiNotices(plain, DEFAULT_BOOT_OPTIONS)).toEqual([]);
  });
});

describe('what is lost behind a kernel that runs where its section lies', () => {
  const BASE = 0x1_0000_0000;
  const hazards = (image: typeof uki, base: number | null, zo: number | null) =>
    ukiHazards({
      ...{ image, found: { zo } },
      machine: { uefi: base === null ? null : { images: [{ base }] } },
    } as unknown as BootRun);
  /** Sections lie a page apart: the kernel's is the second, its code behind setup. */
  const code = 0x2000 + uki.setupSize;

  it('is told for an image that lies nowhere yet, with what shows it', () => {
    const [found, ...others] = hazards(uki, null, 0x100000);
    expect(others).toEqual([]);
    expect(found).toMatchObject({ code: 'uki-section-in-run-area', start: 0n, end: 0n });
    expect(found!.advice).toMatch(
      /^let \.linux be the last section, .*; what this image's own stub does, the entry efi shows$/,
    );
  });

  it('is told with its place where the kernel was started there, and not where it was moved', () => {
    const [found] = hazards(uki, BASE, BASE + code);
    expect(found!.start).toBe(BigInt(BASE + 0x3000));
    expect(found!.end).toBe(BigInt(BASE + 0x3400));
    expect(found!.advice).not.toContain('the entry efi shows');
    expect(hazards(uki, BASE, BASE + code + 0x1000)).toEqual([]);
    expect(hazards(uki, BASE, null)).toEqual([]);
  });

  it('is nothing of an image without sections behind it', () => {
    expect(hazards(bare, null, null)).toEqual([]);
    expect(hazards(plain, null, null)).toEqual([]);
  });
});
