// A disk that is read where and when somebody needs it: of a file of many gigabytes only that costs anything.

import { BootscopeError } from '../error.ts';
import { formatSize } from '../size.ts';

export const SECTOR_SIZE = 512;

/** The bytes of a disk, which nobody changes. */
export interface DiskImage {
  /** As the user named it. */
  readonly path: string;
  /** In bytes. */
  readonly size: number;
  /** Fills `target` with the bytes from `offset` on; what lies behind the end reads as zeroes. */
  read(offset: number, target: Uint8Array): void;
}

/** A disk whose bytes are all in memory. */
export function diskOfBytes(path: string, bytes: Uint8Array): DiskImage {
  return {
    path,
    size: bytes.length,
    read: (offset, target) => {
      const part = bytes.subarray(Math.min(offset, bytes.length), offset + target.length);
      target.set(part);
      target.fill(0, part.length);
    },
  };
}

/** The disk from `start` on as one of its own. */
export function diskView(disk: DiskImage, start: number): DiskImage {
  if (start === 0) return disk;
  return {
    path: disk.path,
    size: Math.max(0, disk.size - start),
    read: (offset, target) => disk.read(start + offset, target),
  };
}

/** `length` bytes from `offset` on, in a new array. */
export function readDisk(disk: DiskImage, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  disk.read(offset, bytes);
  return bytes;
}

/** The formats of other programs, by how their files begin: a disk in them is no disk byte for byte. */
const FORMATS: readonly (readonly [magic: string, name: string, format: string])[] = [
  ['QFI\xfb', 'qcow2', 'qcow2'],
  ['QED\0', 'QED', 'qed'],
  ['KDMV', 'VMDK', 'vmdk'],
  ['COWD', 'VMDK', 'vmdk'],
  ['vhdxfile', 'VHDX', 'vhdx'],
  ['conectix', 'VHD', 'vpc'],
  ['<<< ', 'VDI', 'vdi'],
];

/**
 * Refuses what is no disk byte for byte.
 *
 * @throws BootscopeError `image-disk-format`, `image-truncated`
 */
export function checkDisk(disk: DiskImage): void {
  const { path, size } = disk;
  if (size < SECTOR_SIZE) {
    throw new BootscopeError(
      'image-truncated',
      `${path} has ${size} bytes, a disk has at least a sector of ${SECTOR_SIZE}`,
    );
  }
  const start = new TextDecoder('latin1').decode(readDisk(disk, 0, 8));
  const found = FORMATS.find(([magic]) => start.startsWith(magic));
  if (found === undefined) return;
  const [, name, format] = found;
  throw new BootscopeError(
    'image-disk-format',
    `${path} is a ${name} image of ${formatSize(size)}, and only raw disks are read: ` +
      `qemu-img convert -f ${format} -O raw ${path} disk.img makes one`,
  );
}
