// The image as a floppy in drive A: the BIOS has read its first sector to 0x7c00 and jumps there; everything else is
// loaded by the image's own boot sector through INT 13h.

import { enterRealMode } from '../../cpu/enter-mode.ts';
import type { KernelImage } from '../../image/kernel-image.ts';
import type { Machine } from '../../machine/machine.ts';
import { BOOT_SECTOR_ADDRESS, SETUP_ADDRESS, ZIMAGE_RUN_ADDRESS } from '../low-memory.ts';
import { recordImage } from '../record-placements.ts';
import { watchForKernelOfLoader } from '../watch/kernel-from-disk.ts';
import { watchStartup32 } from '../watch/startup.ts';
import { type Entry, speaksBootProtocol } from './entry.ts';
import type { LoadedImage } from './loaded-image.ts';

const SECTOR_SIZE = 512;
const LOW_LOAD_ADDRESS = 0x10000;
const HIGH_LOAD_ADDRESS = 0x100000;

export const bootSector: Entry = {
  name: 'boot-sector',
  summary: 'the image as the floppy that the BIOS boots from',
  accepts: (image) => image.kind === 'floppy' || speaksBootProtocol(image),
  machine: (image, { floppy }) => ({ floppy: floppy ?? image.bytes }),
  load: loadBootSector,
  enter: enterBootSector,
  watch: (boot, { startup32 }) => {
    boot.beginPhase('boot-sector');
    boot.watch(SETUP_ADDRESS + SECTOR_SIZE, () => {
      // Else the CPU has run through empty memory to there.
      if (!boot.record.diskCalled) return;
      recordImage(boot);
      boot.beginPhase('setup');
    });
    if (boot.image.kind === 'floppy' || boot.image.program !== null) watchForKernelOfLoader(boot);
    else watchStartup32(boot, startup32);
  },
};

/** Puts the first sector at 0x7c00. Where the rest goes is the boot sector's choice; the usual places are returned. */
export function loadBootSector(machine: Machine, image: KernelImage): LoadedImage {
  machine.memory.view(BOOT_SECTOR_ADDRESS, SECTOR_SIZE).set(image.bytes.subarray(0, SECTOR_SIZE));
  const low = image.kind === 'zImage';
  const address = low ? LOW_LOAD_ADDRESS : HIGH_LOAD_ADDRESS;
  return {
    entry: 'boot-sector',
    setup: { address: SETUP_ADDRESS, size: image.setupSize },
    heapEnd: null,
    protectedModeCode: { address, size: image.protectedModeCode.length },
    startup32: low ? ZIMAGE_RUN_ADDRESS : address,
    commandLine: null,
    initrd: null,
    bootParams: null,
    kernel: null,
    start: BOOT_SECTOR_ADDRESS,
  };
}

/** CPU at 0000:7c00 with DL = 0, the first floppy drive; the stack below, as BIOSes leave it. */
export function enterBootSector(machine: Machine): void {
  enterRealMode(machine.cpu, {
    cs: 0,
    ip: BOOT_SECTOR_ADDRESS,
    ss: 0,
    sp: BOOT_SECTOR_ADDRESS,
    ds: 0,
    es: 0,
    fs: 0,
    gs: 0,
    rdx: 0n,
    flags: 0x202,
  });
}
