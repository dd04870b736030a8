// Addresses that KASLR draws, and the values of the time stamp counter with which it draws given ones.

import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { readEfiImage } from '../image/efi-program.ts';
import { readKernelImage } from '../image/kernel-image.ts';
import { boot } from './boot.ts';
import { entropyFor, surveyKaslr } from './kaslr-slots.ts';
import { DEFAULT_BOOT_OPTIONS } from './options.ts';

const IMAGES = new URL('../../images/', import.meta.url);
const DEBIAN = fileURLToPath(new URL('cache/debian/vmlinuz-6.12.111+deb12-amd64', IMAGES));
const why = existsSync(DEBIAN) ? '' : ' (skipped: Debian 6.12 is not in images/cache)';
const OPTIONS = { ...DEFAULT_BOOT_OPTIONS, memory: 512 << 20, hash: false, events: false, pageTables: false };

it('a kernel without KASLR draws nothing that could be asked for', async () => {
  const path = fileURLToPath(new URL('demo/demo-gzip.bzImage', IMAGES));
  const demo = await readKernelImage(path, readFileSync(path));
  await expect(entropyFor(demo, OPTIONS, { physical: 0x2000000, virtual: 0x2000000 })).rejects.toMatchObject({
    code: 'kaslr-none',
  });
  await expect(surveyKaslr(demo, OPTIONS, 1)).rejects.toMatchObject({ code: 'kaslr-none' });
});

describe.skipIf(why !== '')(`KASLR of a kernel${why}`, () => {
  it('draws the addresses that entropy was found for, and no half of them', async () => {
    const image = await readKernelImage(DEBIAN, readFileSync(DEBIAN));
    const { draws } = await surveyKaslr(image, OPTIONS, 1);
    const wanted = draws[0]!;
    const rdtsc = await entropyFor(image, OPTIONS, wanted);
    expect(rdtsc).toHaveLength(2);
    const finished = await boot(image, { ...OPTIONS, kaslr: { kind: 'entropy', rdtsc } });
    finished.close();
    expect(finished.trace.kernel).toMatchObject({
      physicalBase: BigInt(wanted.physical!),
      virtualBase: 0xffff_ffff_8000_0000n + BigInt(wanted.virtual!),
    });
    for (const half of [
      { physical: wanted.physical, virtual: null },
      { physical: null, virtual: wanted.virtual },
    ]) {
      await expect(entropyFor(image, OPTIONS, half)).rejects.toThrow(
        "the guest's own code draws a physical and a virtual address: give both",
      );
    }
  });

  it('in the EFI stub is not reached where the boot ends before, and the reason is told', async () => {
    const efi = await readEfiImage(DEBIAN, readFileSync(DEBIAN));
    const why = async (options: Partial<typeof OPTIONS>): Promise<string> => {
      const survey = surveyKaslr(efi, { ...OPTIONS, entry: 'efi', ...options }, 1);
      return survey.then(
        () => '',
        ({ code, message }) => `${code}: ${message}`,
      );
    };
    expect(await why({ maxInstructions: 1000 })).toMatch(
      /^kaslr-not-reached: .*: the EFI stub asks for no memory for the kernel: it had executed 1000 instructions/,
    );
    expect(await why({ memory: 64 << 20 })).toMatch(
      /^kaslr-not-reached: .*the EFI stub asks for no memory for the kernel: the kernel needs 0x\w+ bytes or more in one free piece/,
    );
  });
});
