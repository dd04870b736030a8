// Where GRUB's boot.img says that core.img lies: its own sectors, apart from any file (grub-core/boot/i386/pc/boot.S, diskboot.S).

import { type DiskImage, readDisk, SECTOR_SIZE } from './disk-image.ts';
import type { DiskRange } from './file-tree.ts';

/** The name of what it loads. */
export const GRUB_CORE = 'core.img';

/** What boot.img prints, which lies in one piece in each of its versions. */
const MESSAGES = 'GRUB \0Geom\0';
/** GRUB_BOOT_MACHINE_KERNEL_SECTOR: number of core.img's first sector. */
const KERNEL_SECTOR = 0x5c;
/** GRUB_BOOT_MACHINE_LIST_SIZE: the list of blocks grows downwards from the end of core.img's first sector. */
const BLOCK = 12;
const MOST_BLOCKS = 30;

/** The ranges of core.img, its first sector before the others; none where the sector at `start` is not GRUB's. */
export function grubCore(disk: DiskImage, start: number): readonly DiskRange[] {
  const sector = readDisk(disk, start, SECTOR_SIZE);
  if (!new TextDecoder('latin1').decode(sector).includes(MESSAGES)) return [];
  const first = Number(new DataView(sector.buffer).getBigUint64(KERNEL_SECTOR, true));
  if (first === 0 || first * SECTOR_SIZE >= disk.size) return [];
  const ranges: DiskRange[] = [{ start: first * SECTOR_SIZE, end: (first + 1) * SECTOR_SIZE }];
  const list = new DataView(readDisk(disk, first * SECTOR_SIZE, SECTOR_SIZE).buffer);
  for (let index = 1; index <= MOST_BLOCKS; index++) {
    const at = SECTOR_SIZE - index * BLOCK;
    const [block, count] = [Number(list.getBigUint64(at, true)), list.getUint16(at + 8, true)];
    if (count === 0 || (block + count) * SECTOR_SIZE > disk.size) break;
    ranges.push({ start: block * SECTOR_SIZE, end: (block + count) * SECTOR_SIZE });
  }
  return ranges;
}

/** GRUB_DECOMPRESSOR_MACHINE_UNCOMPRESSED_SIZE, behind core.img's first sector. */
const UNCOMPRESSED_SIZE = 0x0c;
const LARGEST_UNPACKED = 2 ** 24;

/**
 * How large what is packed in core.img is: its kernel.img and the modules.
 *
 * @param start - core.img's first two sectors
 * @returns null where that is no size
 */
export function grubUnpackedSize(start: Uint8Array): number | null {
  if (start.length < SECTOR_SIZE + UNCOMPRESSED_SIZE + 4) return null;
  const size = new DataView(start.buffer, start.byteOffset).getUint32(SECTOR_SIZE + UNCOMPRESSED_SIZE, true);
  return size === 0 || size > LARGEST_UNPACKED ? null : size;
}
