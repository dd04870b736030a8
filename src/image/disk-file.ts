// A disk image in a file: opened for reading only, and read a piece at a time.

import { BootscopeError } from '../error.ts';
import { fileStatus, openFile } from '../host/host.ts';
import { checkDisk, type DiskImage } from './disk-image.ts';
import { unreadable } from './image-file.ts';

/** A disk whose file is open. */
export interface DiskFile extends DiskImage {
  close(): void;
}

/**
 * Opens a raw disk image, of any size, for reading only.
 *
 * @returns what goes into `disks` or `cdrom` of a boot's options; close it when the boot is closed
 * @throws {@link BootscopeError} `image-not-found`, `image-is-directory`, `image-not-readable`, `image-disk-format`, `image-truncated`
 * @example
 * ```ts
 * import { bootDisk, openBoot, openDisk } from 'bootscope';
 *
 * const disk = openDisk('disk.img');
 * using session = await openBoot(bootDisk(disk.path, 'disk'), { disks: [disk], entry: 'boot-sector' });
 * await session.run({ until: 'stage2' });
 * console.log(session.layout().map(({ name }) => name));
 * disk.close();
 * ```
 */
export function openDisk(path: string): DiskFile {
  try {
    return open(path);
  } catch (error) {
    throw error instanceof BootscopeError ? error : unreadable(path, error);
  }
}

function open(path: string): DiskFile {
  // Before opening: the open of a named pipe waits for a writer.
  const { kind } = fileStatus(path);
  if (kind === 'directory') {
    throw new BootscopeError('image-is-directory', `${path} is a directory, not a file that holds a disk`);
  }
  if (kind === 'other') throw new BootscopeError('image-not-readable', `${path} is not a regular file`);
  const disk = { path, ...openFile(path) };
  try {
    checkDisk(disk);
  } catch (error) {
    disk.close();
    throw error;
  }
  return disk;
}
