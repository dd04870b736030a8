// How startup_32 and startup_64 are recognised: by their addresses, and by the mode that they run in.

import { CR0_PE, EFER_LMA } from '../../x86/control-registers.ts';
import type { BootRun } from '../boot-run.ts';
import { recordBuiltTables, recordStart } from '../record-placements.ts';
import { watchCopies, watchRelocation } from './copy.ts';
import { watchForExitInPlace } from './exit.ts';
import { watchExtractKernel } from './extract-kernel.ts';
import { stubHead, watchStubEvents } from './stub-code.ts';

/** Where boot.rst puts the 64-bit entry, for stubs whose code does not show it. */
const STARTUP_64 = 0x200;

/** @param address - where the protected-mode code lies when it begins to run */
export function watchStartup32(boot: BootRun, address: number): void {
  boot.watch(address, () => onStartup32(boot, address), { cr0: CR0_PE });
}

/** The CPU stands at startup_32, boot_params in ESI. */
export function onStartup32(boot: BootRun, address: number): void {
  onStart(boot, address);
  boot.found.zo = address;
  boot.beginPhase('startup_32');
  watchStub(boot, address);
}

function onStart(boot: BootRun, address: number): void {
  recordStart(boot, address);
  boot.found.bootParams = Number(boot.cpu.readRegister('rsi') & 0xffff_ffffn);
}

/** What is to come once the protected-mode code runs at `address`. */
export function watchStub(boot: BootRun, address: number): void {
  boot.found.zo = address;
  const { stub } = boot;
  const { startup64, relocated } = stub ?? { startup64: STARTUP_64, relocated: null };
  if (startup64 !== null) {
    const onStartup64 = (): void => {
      // An EFI stub comes here without startup_32.
      if (boot.found.bootParams === null) onStart(boot, address);
      recordBuiltTables(boot);
      boot.beginPhase('startup_64');
    };
    boot.watch(address + startup64, onStartup64, { cr0: CR0_PE, efer: EFER_LMA });
  }
  watchCopies(boot, 0, stubHead(boot));
  watchStubEvents(boot, 'all');
  if (stub === null && boot.holdsKernel) watchForExitInPlace(boot);
  else if (stub === null) return;
  else if (relocated === null) watchExtractKernel(boot);
  else watchRelocation(boot, relocated);
}
