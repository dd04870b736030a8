// How the jump into the kernel is recognised where the guest decompresses by itself: the first block outside the stub and above
// 1 MiB is the kernel's.

import type { BootRun } from '../boot-run.ts';
import { SETUP_ADDRESS, ZIMAGE_RUN_ADDRESS } from '../low-memory.ts';
import { onKernel } from './kernel.ts';

const ONE_MIB = 0x100000;

/** All other hooks go. */
export function watchForExit(boot: BootRun, stubStart: number, stubEnd: number): void {
  boot.dropHooks();
  boot.beginDataPages();
  const leave = (address: number): void => onLeft(boot, address);
  if (stubStart > ONE_MIB) boot.hookBlocks(ONE_MIB, stubStart - 1, leave);
  boot.hookBlocks(stubEnd, null, leave);
}

/**
 * A stub that does not copy itself: a zImage's runs below 1 MiB and leaves upward; a bzImage's leaves through a routine
 * in low memory that moves the kernel over it, and from there upward, or, where it is not recognised, behind itself.
 */
export function watchForExitInPlace(boot: BootRun): void {
  const zo = boot.found.zo!;
  if (zo < ONE_MIB) {
    watchForExit(boot, ONE_MIB, ONE_MIB);
    return;
  }
  const unhook = boot.hookBlocks(ZIMAGE_RUN_ADDRESS, SETUP_ADDRESS - 1, () => {
    if (boot.busy || boot.mode.read() !== 'prot32') return;
    boot.defer(() => {
      unhook();
      watchForExit(boot, ONE_MIB, ONE_MIB);
    });
  });
  boot.hookBlocks(zo + boot.image.protectedModeCode.length, null, (address) => {
    if (boot.found.copyAddress === null) onLeft(boot, address);
  });
}

function onLeft(boot: BootRun, address: number): void {
  if (!boot.busy) boot.defer(() => onKernel(boot, address));
}
