// How the kernel is recognised that a boot loader has put into memory and jumps to, one on a disk or a program such as MEMDISK:
// the code that runs at one of the two places for it, with boot_params in ESI. Loaders run code of their own there, too.

import { readKernelInMemory } from '../../image/floppy-image.ts';
import { holdsSetupHeader } from '../../image/rebuild-image.ts';
import { BOOT_PARAMS_SIZE } from '../../protocol/boot-params.ts';
import type { BootRun } from '../boot-run.ts';
import { ZIMAGE_RUN_ADDRESS } from '../low-memory.ts';
import { onStartup32 } from './startup.ts';

const HIGH_LOAD_ADDRESS = 0x100000;

export function watchForKernelOfLoader(boot: BootRun): void {
  const loader = boot.image;
  for (const address of [ZIMAGE_RUN_ADDRESS, HIGH_LOAD_ADDRESS]) {
    boot.hookInstruction(address, () => {
      if (boot.image !== loader) return;
      const bootParams = Number(boot.cpu.readRegister('rsi') & 0xffff_ffffn);
      if (!holdsSetupHeader(boot.machine.memory.viewUpTo(bootParams, BOOT_PARAMS_SIZE))) return;
      boot.defer(async () => {
        const image = await readKernelInMemory(boot.image, boot.machine.memory, bootParams, address);
        if (image === null || image.program !== null) return;
        boot.changeImage(image);
        boot.found.loaded = {
          ...boot.found.loaded!,
          protectedModeCode: { address, size: image.protectedModeCode.length },
        };
        onStartup32(boot, address);
      });
    });
  }
}
