// Loading the protected-mode code of a bzImage as the 32- and 64-bit boot protocols do.

import { BootscopeError } from '../../error.ts';
import { hex } from '../../hex.ts';
import type { KernelImage } from '../../image/kernel-image.ts';
import type { Machine } from '../../machine/machine.ts';
import { formatSize } from '../../size.ts';
import type { BootOptions } from '../options.ts';
import { makeBootParams } from './boot-params.ts';
import type { LoadedImage } from './loaded-image.ts';
import { checkAbove4GiB, placeBytes } from './placement.ts';

/** Where boot.rst has the 32-bit protocol load the protected-mode code of a bzImage. */
const LOAD_ADDRESS = 0x100000;
/** Of the 64-bit entry in the protected-mode code. */
const STARTUP_64_OFFSET = 0x200;

/**
 * Loads the protected-mode code and makes boot_params, command line and initrd, as a loader of the 32- or 64-bit
 * protocol does.
 *
 * @throws BootscopeError where the image or the options do not allow it
 */
export function loadWithBootParams(
  machine: Machine,
  image: KernelImage,
  options: BootOptions,
  entry: 'prot32' | 'long64',
): LoadedImage {
  const { header } = image;
  if (image.kind === 'zImage') {
    throw new BootscopeError(
      'boot-entry',
      `${image.path}: a zImage is loaded low and can only be entered through real mode; use the entry real16 or boot-sector`,
    );
  }
  if (header.protocol < 0x0202) {
    throw new BootscopeError(
      'boot-entry',
      `${image.path}: boot protocol ${header.version ?? 'before 2.00'} takes its command line through setup's segment; ` +
        `the entry ${entry} needs protocol 2.02 or later, use real16`,
    );
  }
  const loadAddress = placeCode(machine, image, options, entry);
  const code = image.protectedModeCode;
  placeBytes(machine.memory, code, loadAddress);

  const made = makeBootParams(machine, image, options, entry, loadAddress, loadAddress + code.length);
  return {
    entry,
    setup: null,
    heapEnd: null,
    protectedModeCode: { address: loadAddress, size: code.length },
    // Where it may move itself to is aligned upwards.
    runSize: Math.max(code.length, header.get('init_size') + header.get('kernel_alignment')),
    startup32: loadAddress,
    ...made,
    kernel: null,
    start: loadAddress + (entry === 'long64' ? STARTUP_64_OFFSET : 0),
  };
}

/** Where the code goes: the load address asked for, taken as it is, else 0x100000. */
function placeCode(
  machine: Machine,
  image: KernelImage,
  options: BootOptions,
  entry: 'prot32' | 'long64',
): number {
  const { header } = image;
  if (entry === 'long64' && (header.get('xloadflags') & 1) === 0) {
    throw new BootscopeError(
      'boot-entry',
      `${image.path}: this kernel has no 64-bit entry point (xloadflags ${hex(header.get('xloadflags'))} without ` +
        'XLF_KERNEL_64); use the entry prot32 or real16',
    );
  }
  if (options.loadAddress !== null) {
    checkAbove4GiB(
      image,
      entry,
      options.loadAddress,
      image.protectedModeCode.length,
      'the protected-mode code',
    );
    return options.loadAddress;
  }
  const address = LOAD_ADDRESS;
  if (!machine.memory.contains(address, image.protectedModeCode.length)) {
    throw new BootscopeError(
      'boot-memory',
      `the protected-mode code has ${image.protectedModeCode.length} bytes and goes to ${hex(address)}, the guest has only ` +
        `${formatSize(options.memory)} of RAM; give it more`,
    );
  }
  return address;
}
