// What firmware that keeps data from running would not let happen: code in memory that nobody has said to be executable. It would be a
// page fault; here each block is looked at before it runs.

import { hex } from '../../hex.ts';
import type { UefiFirmware } from '../../machine/uefi/firmware.ts';
import { EFI_MEMORY_XP } from '../../protocol/efi-tables.ts';
import type { BootRun } from '../boot-run.ts';

/** To be called before the first image's first instruction; ends the run where the guest goes into data. */
export function watchNx(boot: BootRun, firmware: UefiFirmware): void {
  if (!firmware.parts.enforcesNx) return;
  const unhook = boot.hookBlocks(0, null, (address) => {
    if (firmware.nxFault !== null || firmware.isTrap(address + 1)) return;
    if ((firmware.memoryAttributes.get(address) & EFI_MEMORY_XP) === 0n) return;
    firmware.nxFault = address;
    boot.machine.halt(`the guest goes on at ${hex(address)}, which the firmware maps as data: a page fault`);
  });
  boot.keep(unhook);
}
