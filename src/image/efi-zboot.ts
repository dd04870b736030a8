// EFI zboot images: a PE program that carries a compressed kernel and unpacks it itself (libstub/zboot-header.S).

import { ByteView } from './byte-view.ts';
import { type PeFile, readPe } from './pe.ts';

export interface EfiZboot {
  /** The compression by the header's own word: `gzip`, `zstd`, `xzkern`, … */
  readonly compression: string;
  /** Offset and length of the compressed kernel in the file; bytes. */
  readonly payloadOffset: number;
  readonly payloadLength: number;
  readonly pe: PeFile | null;
}

/** Reads the header; null where the bytes have none. */
export function readEfiZboot(bytes: Uint8Array): EfiZboot | null {
  const view = new ByteView(bytes, 'zboot header');
  if (!view.startsWith('MZ') || !view.startsWith('zimg', 4) || !view.has(0, 64)) return null;
  return {
    compression: view.text(24, 32),
    payloadOffset: view.u32(8),
    payloadLength: view.u32(12),
    pe: readPe(bytes),
  };
}
