// The magics of files that are no kernel images, and what to do with each.

import type { ByteView } from './byte-view.ts';

/** `[offset, magic as Latin-1, what it is, advice]`; the first that matches wins. */
export type Magic = readonly [offset: number, magic: string, what: string, advice?: string];

const TAKE_KERNEL_OUT = 'take the kernel file out of it';

export const OTHER_MAGICS: readonly Magic[] = [
  [0, '\x89PNG\r\n\x1a\n', 'a PNG picture'],
  [0, '\xff\xd8\xff', 'a JPEG picture'],
  [0, 'GIF8', 'a GIF picture'],
  [0, '%PDF-', 'a PDF document'],
  [0, 'hsqs', 'a squashfs file system', TAKE_KERNEL_OUT],
  [0, 'sqsh', 'a squashfs file system', TAKE_KERNEL_OUT],
  [0, '\x45\x3d\xcd\x28', 'a cramfs file system', TAKE_KERNEL_OUT],
  [0, '\x55\xaa', 'a PC option ROM'],
  [0x28, '_FVH', 'UEFI firmware'],
  [0, '-rom1fs-', 'a romfs file system', TAKE_KERNEL_OUT],
  [0, 'UBI#', 'a UBI image', TAKE_KERNEL_OUT],
  [0, '\x85\x19', 'a JFFS2 file system', TAKE_KERNEL_OUT],
  [0, '!<arch>\ndebian-binary', 'a Debian package', 'unpack it with dpkg-deb -x and boot its boot/vmlinuz-*'],
  [0, '!<arch>\n', 'an ar archive'],
  [0, '\xed\xab\xee\xdb', 'an RPM package', 'unpack it with rpm2cpio and boot its vmlinuz'],
  [0, 'PK\x03\x04', 'a ZIP archive', 'unpack it and boot the kernel in it'],
  [0, '7z\xbc\xaf\x27\x1c', 'a 7-Zip archive', 'unpack it and boot the kernel in it'],
  [257, 'ustar', 'a tar archive', 'unpack it and boot the kernel in it'],
  [
    0x8001,
    'CD001',
    'an ISO 9660 image',
    'take the kernel file (often boot/vmlinuz or casper/vmlinuz) out of it',
  ],
  [0, 'HDR0', 'a TRX firmware image, as Broadcom routers take it', 'take the kernel out of it with binwalk'],
  [0, 'VNDRBOOT', 'an Android vendor_boot image, which has no kernel', 'give the boot.img beside it'],
  [0, '\xd7\xb7\xab\x1e', 'an Android table of device trees (dtbo)'],
  [0, 'AVB0', 'an Android table of verified boot (vbmeta)'],
  [0, '\x3a\xff\x26\xed', 'an Android sparse image', 'unpack it with simg2img'],
  [0x24, 'XNLX', 'a boot image for Xilinx Zynq: boot loaders and the logic’s configuration'],
  [0, 'QFI\xfb', 'a qcow2 disk image', TAKE_KERNEL_OUT],
  [0, 'KDMV', 'a VMDK disk image', TAKE_KERNEL_OUT],
  [0, 'conectix', 'a VHD disk image', TAKE_KERNEL_OUT],
  [0, '\xca\xfe\xba\xbe', 'a Mach-O or Java class file'],
  [0, '\xcf\xfa\xed\xfe', 'a Mach-O program'],
  [0, '\xce\xfa\xed\xfe', 'a Mach-O program'],
  // mov $0x21cd4cfe,%eax or …ff,%eax: a DOS program that ends at once, to SYSLINUX.
  [0, '\xb8\xfe\x4c\xcd\x21', 'a module of SYSLINUX (COM32)'],
  [0, '\xb8\xff\x4c\xcd\x21', 'a module of SYSLINUX (COM32)'],
  [
    0,
    'version https://git-lfs',
    'a Git LFS pointer and not the file it stands for',
    'fetch that with git lfs pull',
  ],
  [0, '#!', 'a script'],
  ...['<!DOCTYPE html', '<!doctype html', '<html', '<HTML'].map(
    (start): Magic => [
      0,
      start,
      'a page of the web',
      'fetch the file itself: this is what a server said instead',
    ],
  ),
  [512, 'EFI PART', 'a GPT disk image', 'take the kernel file out of its EFI or boot partition'],
  [0x438, '\x53\xef', 'an ext2/3/4 file system', TAKE_KERNEL_OUT],
];

/** Texts in programs that have no magic; `[text as Latin-1, what it is]`. */
export const PROGRAM_TEXTS: readonly (readonly [text: string, what: string])[] = [
  ['U-Boot 20', 'U-Boot, a boot loader'],
  ['PXELINUX ', 'PXELINUX, a boot loader that network cards start'],
  ['SeaBIOS (version', 'SeaBIOS, firmware'],
  ['OpenSBI v', 'OpenSBI, RISC-V firmware'],
  [': slof-revision', 'SLOF, Open Firmware for PowerPC'],
  // A file of QEMU's fw_cfg, by which it gives firmware its ACPI tables.
  ['etc/table-loader\0', 'firmware for QEMU'],
];

/** The magics of compressed files and the tool for each. */
export const COMPRESSION_MAGICS: readonly Magic[] = [
  [0, '\x1f\x8b', 'a gzip', 'gzip -dc'],
  [0, 'BZh', 'a bzip2', 'bzip2 -dc'],
  [0, '\xfd7zXZ\x00', 'an xz', 'xz -dc'],
  [0, '\x89LZO\x00\r\n\x1a\n', 'an lzop', 'lzop -dc'],
  [0, '\x02\x21\x4c\x18', 'a legacy lz4', 'lz4 -dc'],
  [0, '\x04\x22\x4d\x18', 'an lz4', 'lz4 -dc'],
  [0, '\x28\xb5\x2f\xfd', 'a zstd', 'zstd -dc'],
];

/** The first row whose magic the bytes have; undefined for none. */
export function findMagic(view: ByteView, magics: readonly Magic[]): Magic | undefined {
  return magics.find(([offset, magic]) => view.startsWith(magic, offset));
}

/** What people call a text file: no control characters, and few bytes that are not ASCII or all of it UTF-8. */
export function isText(bytes: Uint8Array): boolean {
  const sample = bytes.subarray(0, 4096);
  let high = 0;
  for (const byte of sample) {
    if (byte < 0x20 && ![0x09, 0x0a, 0x0c, 0x0d, 0x1b].includes(byte)) return false;
    if (byte === 0x7f) return false;
    if (byte >= 0x80) high++;
  }
  if (high * 10 <= sample.length) return sample.length > 0;
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(sample, { stream: true });
    return true;
  } catch {
    return false;
  }
}
