// The machine boots by its BIOS: that has read the first sector of a disk to 0x7c00, or what a CD's catalog says to where it says, and
// jumps there; everything else is loaded by what it has read, through INT 13h.

import { enterRealMode } from '../../cpu/enter-mode.ts';
import { isBootDisk } from '../../image/boot-disk.ts';
import type { KernelImage } from '../../image/kernel-image.ts';
import { type BootDevice, bootCodeEntry } from '../../machine/drives.ts';
import type { Machine } from '../../machine/machine.ts';
import { SETUP_ADDRESS, ZIMAGE_RUN_ADDRESS } from '../low-memory.ts';
import type { BootOptions } from '../options.ts';
import { recordImage } from '../record-placements.ts';
import { watchForKernelOfLoader } from '../watch/kernel-from-disk.ts';
import { bootedProgram, watchLoaderPrograms } from '../watch/loader-programs.ts';
import { watchForMultiboot } from '../watch/multiboot.ts';
import { watchStartup32 } from '../watch/startup.ts';
import { type Entry, speaksBootProtocol } from './entry.ts';
import type { LoadedImage } from './loaded-image.ts';

const SECTOR_SIZE = 512;
const LOW_LOAD_ADDRESS = 0x10000;
const HIGH_LOAD_ADDRESS = 0x100000;
/** Where the stack of a BIOS ends as it jumps to what it has loaded. */
const STACK_TOP = 0x7c00;
const ONLY_FLOPPY: readonly BootDevice[] = ['floppy'];

export const bootSector: Entry = {
  name: 'boot-sector',
  summary: 'the image as the floppy that the BIOS boots from',
  accepts: (image) => isBootDisk(image) || speaksBootProtocol(image),
  machine: (image, { floppy }) => {
    const disk = floppy ?? (image.bytes.length > 0 ? image.bytes : null);
    return disk === null ? {} : { floppy: disk };
  },
  load: loadBootSector,
  enter: enterBootSector,
  watch: (boot, { startup32 }) => {
    const isLoader = isBootDisk(boot.image) || boot.image.program !== null;
    boot.beginPhase('boot-sector', boot.address, isLoader ? bootedProgram(boot) : null);
    if (isLoader) {
      watchForKernelOfLoader(boot);
      watchForMultiboot(boot);
      watchLoaderPrograms(boot);
      return;
    }
    boot.watch(SETUP_ADDRESS + SECTOR_SIZE, () => {
      // Else the CPU has run through empty memory to there.
      if (!boot.record.diskCalled) return;
      recordImage(boot);
      boot.beginPhase('setup');
    });
    watchStartup32(boot, startup32);
  },
};

/** Has the BIOS load what it boots. Where the rest goes is the boot sector's choice; of a kernel's own the usual places are returned. */
export function loadBootSector(
  machine: Machine,
  image: KernelImage,
  { bootOrder }: Pick<BootOptions, 'bootOrder'>,
): LoadedImage {
  const isDisk = isBootDisk(image);
  const code = machine.loadBootCode(isDisk ? bootOrder : ONLY_FLOPPY);
  const low = image.kind === 'zImage';
  const address = low ? LOW_LOAD_ADDRESS : HIGH_LOAD_ADDRESS;
  return {
    entry: 'boot-sector',
    bootCode: { address: code.address, size: code.bytes.length, drive: code.drive },
    setup: isDisk ? null : { address: SETUP_ADDRESS, size: image.setupSize },
    heapEnd: null,
    protectedModeCode: isDisk ? null : { address, size: image.protectedModeCode.length },
    startup32: low ? ZIMAGE_RUN_ADDRESS : address,
    commandLine: null,
    initrd: null,
    bootParams: null,
    loaderMemory: null,
    kernel: null,
    start: code.address,
  };
}

/** CPU at what was loaded, with CS 0 where that can be, and the drive's number in DL; the stack as BIOSes leave it. */
export function enterBootSector(machine: Machine, { start, bootCode }: LoadedImage): void {
  enterRealMode(machine.cpu, {
    ...bootCodeEntry(start),
    ss: 0,
    sp: STACK_TOP,
    ds: 0,
    es: 0,
    fs: 0,
    gs: 0,
    rdx: BigInt(bootCode?.drive ?? 0),
    flags: 0x202,
  });
}
