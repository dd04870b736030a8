// The header words of a 32-bit ARM zImage, which begin at offset 0x24 (arch/arm/boot/compressed/head.S).

import { ByteView } from './byte-view.ts';

const MAGIC = 0x016f2818;

export interface ArmZImage {
  readonly endianness: 'little' | 'big';
  /** Addresses the image was linked for; 0 for one that runs anywhere. */
  readonly start: number;
  readonly end: number;
  /** Bytes of the image by its own header, `end - start`. */
  readonly length: number;
}

/** Reads the header; null where the bytes have none. */
export function readArmZImage(bytes: Uint8Array): ArmZImage | null {
  if (bytes.length < 0x34) return null;
  const littleEndian = new ByteView(bytes, 'zImage header').u32(0x24) === MAGIC;
  const view = new ByteView(bytes, 'zImage header', littleEndian);
  if (view.u32(0x24) !== MAGIC) return null;
  const start = view.u32(0x28);
  const end = view.u32(0x2c);
  return {
    // The flag word says what the kernel is; the header's own words follow it in all but old big-endian images.
    endianness: littleEndian ? 'little' : 'big',
    start,
    end,
    length: Math.max(end - start, 0),
  };
}
