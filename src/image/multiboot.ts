// The header by which Multiboot loaders recognise a kernel (Multiboot Specification 0.6.96, 3.1; Multiboot2 2.0, 3.1).

import { ByteView } from './byte-view.ts';

export interface MultibootHeader {
  readonly version: 1 | 2;
  /** Offset in the file. */
  readonly offset: number;
  /** Multiboot 1: the flags word; Multiboot 2: the architecture, 0 for i386 in protected mode, 4 for MIPS. */
  readonly flags: number;
}

const MAGIC_1 = 0x1badb002;
const SEARCH_1 = 0x2000;
const MAGIC_2 = 0xe85250d6;
const SEARCH_2 = 0x8000;

/** The first header whose checksum is right; null where there is none. Multiboot 2 is preferred, as loaders do. */
export function readMultibootHeader(bytes: Uint8Array): MultibootHeader | null {
  const view = new ByteView(bytes, 'Multiboot header');
  for (let at = 0; at < SEARCH_2 && view.has(at, 16); at += 8) {
    if (view.u32(at) !== MAGIC_2) continue;
    const sum = view.u32(at) + view.u32(at + 4) + view.u32(at + 8) + view.u32(at + 12);
    if (sum % 2 ** 32 === 0) return { version: 2, offset: at, flags: view.u32(at + 4) };
  }
  for (let at = 0; at < SEARCH_1 && view.has(at, 12); at += 4) {
    if (view.u32(at) !== MAGIC_1) continue;
    const sum = view.u32(at) + view.u32(at + 4) + view.u32(at + 8);
    if (sum % 2 ** 32 === 0) return { version: 1, offset: at, flags: view.u32(at + 4) };
  }
  return null;
}
