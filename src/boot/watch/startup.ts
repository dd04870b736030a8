// How startup_32 and startup_64 are recognised: by their addresses, and by the mode that they run in.

import { CR0_PE, EFER_LMA } from '../../x86/control-registers.ts';
import type { BootRun } from '../boot-run.ts';
import { recordBuiltTables, recordStart } from '../record-placements.ts';
import { watchCopies, watchRelocation } from './copy.ts';
import { watchForExitInPlace } from './exit.ts';
import { watchExtractKernel } from './extract-kernel.ts';
import { onKernel } from './kernel.ts';
import { stubHead, watchStubEvents, watchTrampoline } from './stub-code.ts';

/** Where boot.rst puts the 64-bit entry, for stubs whose code does not show it. */
const STARTUP_64 = 0x200;

/** What setup moves: 0x10000 to 0x90000. */
const LARGEST_UNCOMPRESSED = 0x80000;

/** @param address - where the protected-mode code lies when it begins to run */
export function watchStartup32(boot: BootRun, address: number): void {
  if (isUncompressed(boot)) {
    boot.whenAtZero = () => onUncompressedKernel(boot);
    return;
  }
  boot.watch(address, () => onStartup32(boot, address), { cr0: CR0_PE });
}

/** Before zImages, setup moved the kernel itself to address 0 and entered it there (0.11 to 0.99). */
function isUncompressed({ image }: BootRun): boolean {
  return image.header.protocol === 0 && image.payload === null && image.kind === 'zImage';
}

function onUncompressedKernel(boot: BootRun): Promise<void> {
  const filesz = BigInt(Math.min(boot.image.protectedModeCode.length, LARGEST_UNCOMPRESSED));
  const segment = { paddr: 0n, vaddr: 0n, filesz, memsz: filesz, flags: 'rwx' };
  return onKernel(boot, 0, { output: 0n, virtualBase: 0n, segments: [segment] });
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
      watchTrampoline(boot);
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
