// Which entries an image has, and what is said of one that it has not.

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { bootDisk } from '../../image/boot-disk.ts';
import { type KernelImage, readKernelImage } from '../../image/kernel-image.ts';
import { makeBootImage, makeElfNotes, makeSegmentedElf, noise } from '../../image/test-images.ts';
import { openBoot } from '../session.ts';
import { ENTRIES, findEntry } from './table.ts';

const path = new URL('../../../images/demo/demo-gzip.bzImage', import.meta.url).pathname;
const MIB = 0x100000;
const bzImage = await readKernelImage('bzImage', makeBootImage({ protocol: 0x020f }));
const zImage = await readKernelImage('zImage', makeBootImage({ protocol: 0x0203, fields: { loadflags: 0 } }));
const NOTE = makeElfNotes(['Xen', 18, Uint8Array.of(0, 0, 0x10, 0, 0, 0, 0, 0)]);

function vmlinux(bits: 32 | 64, note?: Uint8Array): KernelImage {
  const text = { paddr: MIB, bytes: noise(0x1000) };
  const segments = note === undefined ? [text] : [text, { type: 4, bytes: note }];
  const bytes = makeSegmentedElf({ bits, machine: bits === 64 ? 62 : 3, entry: MIB, segments });
  return { ...bzImage, path: 'vmlinux', kind: 'vmlinux', bytes };
}

describe('the entries of an image', () => {
  const names = (image: KernelImage): readonly string[] =>
    ENTRIES.filter((entry) => entry.accepts(image)).map(({ name }) => name);

  it('are those of the boot protocol, of firmware, and PVH for what may have the note', () => {
    expect(names(bzImage)).toEqual([
      'real16',
      'boot-sector',
      'prot32',
      'long64',
      'efi',
      'efi-handover',
      'pvh',
    ]);
    expect(names(zImage)).not.toContain('pvh');
    expect(names(bootDisk('disk.img', 'disk'))).toEqual(['boot-sector']);
  });

  it('of a vmlinux are its own width, and PVH if it has the note', () => {
    expect(names(vmlinux(64))).toEqual(['long64']);
    expect(names(vmlinux(32))).toEqual(['prot32']);
    expect(names(vmlinux(64, NOTE))).toEqual(['long64', 'pvh']);
  });

  it('are taken by name, or the first', () => {
    expect(findEntry(bzImage, null).name).toBe('real16');
    expect(findEntry(bzImage, 'long64').name).toBe('long64');
    expect(findEntry(vmlinux(64, NOTE), null).name).toBe('long64');
    expect(() => findEntry(vmlinux(32), 'real16')).toThrow(
      'vmlinux: this vmlinux cannot be entered by real16, only by prot32',
    );
  });
});

describe('what cannot be entered by PVH', () => {
  it('is a kernel without the note', async () => {
    await expect(openBoot(await readKernelImage(path, readFileSync(path)), { entry: 'pvh' })).rejects.toThrow(
      'the kernel in it has no Xen note with a PVH entry (PHYS32_ENTRY)',
    );
  });

  it('is one whose command line a 32-bit entry does not reach', async () => {
    const open = (cmdlineAddress: number) =>
      openBoot(vmlinux(64, NOTE), { entry: 'pvh', memory: 64 * MIB, cmdline: 'quiet', cmdlineAddress });
    await expect(open(2 ** 32 - 5)).rejects.toThrow('the command line would lie at 0xfffffffb');
    const session = await open(2 ** 32 - 6);
    session.close();
  });
});

describe('an initrd', () => {
  it('that is none is a hazard before the first instruction', async () => {
    const image = await readKernelImage(path, readFileSync(path));
    const initrd = { path: 'initrd', bytes: new Uint8Array(0x200) };
    using session = await openBoot(image, { memory: 64 * MIB, initrd });
    expect(session.trace().hazards).toMatchObject([{ code: 'initrd-content' }]);
    using without = await openBoot(image, { memory: 64 * MIB });
    expect(without.trace().hazards).toEqual([]);
  });
});
