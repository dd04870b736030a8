// What a machine boots that is given no image: the first device in the order of its BIOS, or what UEFI firmware takes from its disk.

import { bootDisk, readFloppyImage } from '../image/boot-disk.ts';
import { readEfiImage } from '../image/efi-program.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import { bootProgramOf } from '../machine/uefi/boot-manager.ts';
import type { BootOptions } from './options.ts';

/**
 * @param floppyPath - of the disk in drive A, for people
 * @returns null where there is nothing in any drive
 * @throws BootscopeError `image-esp`, `image-floppy` and those of `readEfiImage`
 */
export async function imageOfDrives(
  options: Pick<BootOptions, 'floppy' | 'disks' | 'cdrom' | 'esp' | 'efiVariables' | 'bootOrder'>,
  floppyPath = 'the floppy disk',
): Promise<KernelImage | null> {
  const { floppy, disks, cdrom, esp, efiVariables, bootOrder } = options;
  if (esp !== null) return readEfiImage(esp.path, bootProgramOf(esp, efiVariables));
  const paths = {
    floppy: floppy === null ? undefined : floppyPath,
    disk: disks[0]?.path,
    cdrom: cdrom?.path,
    network: undefined,
  };
  const there = Object.values(paths).filter((path) => path !== undefined);
  if (there.length === 0) return null;
  const first = bootOrder.find((device) => paths[device] !== undefined) ?? 'disk';
  const path = paths[first] ?? there[0]!;
  if (first === 'floppy' && there.length === 1 && floppy !== null) return readFloppyImage(path, floppy);
  return bootDisk(path, first === 'network' ? 'disk' : first);
}
