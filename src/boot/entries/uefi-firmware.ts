// The firmware's code, loaded when an entry needs it: most boots do without, and it takes longer than the rest of the table.

import type { KernelImage } from '../../image/kernel-image.ts';

type Firmware = typeof import('../../machine/uefi/start.ts');

let loaded: Firmware | null = null;

/** For an entry's `prepare`. */
export async function loadUefiFirmware(image: KernelImage): Promise<KernelImage> {
  loaded ??= await import('../../machine/uefi/start.ts');
  return image;
}

/** Once `loadUefiFirmware` has been awaited. */
export function uefiFirmware(): Firmware {
  if (loaded === null) throw new Error('the firmware was not loaded');
  return loaded;
}
