// Where the protected-mode code lies in a kernel that UEFI firmware has loaded as a program.

import { addressOf } from '../decompressor/find-decompress-kernel.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import { readPe } from '../image/pe.ts';
import type { Placed } from './entries/loaded-image.ts';

/** What an image is called where its addresses are told: its file's name. */
export function codeName({ path }: KernelImage): string {
  return path.replace(/^.*[\\/]/, '');
}

/** Where the protected-mode code lies in a kernel that firmware has loaded at `base`. */
export function codeOf(image: KernelImage, base: number): Placed {
  const pe = readPe(image.bytes);
  const address = (pe === null ? null : addressOf(pe, image.setupSize)) ?? image.setupSize;
  return { address: base + address, size: image.protectedModeCode.length };
}
