// What is booted without an image: the first drive that holds something, in the order of the firmware.

import { describe, expect, it } from 'vitest';
import { diskOfBytes } from '../image/disk-image.ts';
import { makeBootImage } from '../image/test-images.ts';
import { imageOfDrives } from './image-of-drives.ts';
import { DEFAULT_BOOT_OPTIONS } from './options.ts';

const sector = new Uint8Array(2880 * 512);
sector.set([0x55, 0xaa], 510);
const [disk, cdrom] = [diskOfBytes('disk.img', sector), diskOfBytes('cd.iso', sector)];

async function found(options: Partial<Parameters<typeof imageOfDrives>[0]>, floppyPath?: string) {
  const image = await imageOfDrives({ ...DEFAULT_BOOT_OPTIONS, ...options }, floppyPath);
  return image === null ? null : [image.kind, image.path];
}

describe('without an image', () => {
  it('nothing is booted where no drive holds anything', async () => {
    expect(await found({})).toBeNull();
  });

  it.each([
    ['the only disk', { disks: [disk] }, ['disk', 'disk.img']],
    ['the only CD', { cdrom }, ['cdrom', 'cd.iso']],
    ['the only floppy', { floppy: sector }, ['floppy', 'a.img']],
    ['the disk first', { disks: [disk], cdrom, bootOrder: ['disk', 'cdrom'] }, ['disk', 'disk.img']],
    ['the CD first', { disks: [disk], cdrom, bootOrder: ['cdrom', 'disk'] }, ['cdrom', 'cd.iso']],
    [
      'the floppy first',
      { floppy: sector, disks: [disk], bootOrder: ['floppy', 'disk'] },
      ['floppy', 'a.img'],
    ],
    ['past an empty drive', { cdrom, bootOrder: ['floppy', 'disk', 'cdrom'] }, ['cdrom', 'cd.iso']],
    ['past the network', { disks: [disk], bootOrder: ['network', 'disk'] }, ['disk', 'disk.img']],
    ['a drive that no order names', { cdrom, bootOrder: ['floppy'] }, ['disk', 'cd.iso']],
  ] as const)('%s is booted', async (_name, options, image) => {
    expect(await found(options, 'a.img')).toEqual(image);
  });

  it('a floppy that a kernel was written to is that kernel, if nothing else is there', async () => {
    const kernel = makeBootImage({ protocol: 0x0203 });
    expect(await found({ floppy: kernel, bootOrder: ['floppy', 'disk'] }, 'kernel.img')).toEqual([
      'bzImage',
      'kernel.img',
    ]);
    expect(
      await found({ floppy: kernel, disks: [disk], bootOrder: ['floppy', 'disk'] }, 'kernel.img'),
    ).toEqual(['floppy', 'kernel.img']);
  });
});
