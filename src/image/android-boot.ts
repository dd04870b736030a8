// Android boot images, header versions 0 to 4 (AOSP, system/tools/mkbootimg/include/bootimg/bootimg.h): pages of header, kernel,
// ramdisk, and in versions before 3 a second stage and a device tree.

import { ByteView } from './byte-view.ts';

const MAGIC = 'ANDROID!';
const PAGE_SIZE_SINCE_3 = 4096;

export interface AndroidBootImage {
  readonly headerVersion: number;
  readonly pageSize: number;
  readonly name: string;
  readonly cmdline: string;
  /** Offsets in the file and bytes. */
  readonly kernel: { readonly offset: number; readonly length: number };
  readonly ramdisk: { readonly offset: number; readonly length: number };
}

/** Reads the header; null where the bytes have none that makes sense. */
export function readAndroidBoot(bytes: Uint8Array): AndroidBootImage | null {
  const view = new ByteView(bytes, 'Android boot header');
  if (!view.startsWith(MAGIC) || !view.has(0, 1660)) return null;
  const version = view.u32(40);
  const since3 = version >= 3 && version <= 4;
  const pageSize = since3 ? PAGE_SIZE_SINCE_3 : view.u32(36);
  if (pageSize < 512 || pageSize > 0x20000) return null;
  const [kernelLength, ramdiskLength] = since3 ? [view.u32(8), view.u32(12)] : [view.u32(8), view.u32(16)];
  const cmdline = since3 ? view.text(44, 1536) : view.text(64, 512) + view.text(608, 1024);
  const kernel = { offset: pageSize, length: kernelLength };
  const ramdiskOffset = pageSize + Math.ceil(kernelLength / pageSize) * pageSize;
  return {
    // Before version 1 the word holds the length of a device tree, in vendors' own images.
    headerVersion: version > 4 ? 0 : version,
    pageSize,
    name: since3 ? '' : view.text(48, 16),
    cmdline: cmdline.trim(),
    kernel,
    ramdisk: { offset: ramdiskOffset, length: ramdiskLength },
  };
}
