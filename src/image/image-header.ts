// The 64-byte header at the start of ARM64, RISC-V and LoongArch kernel Images (arm64/booting.rst, riscv/boot-image-header.rst,
// arch/loongarch/kernel/head.S).

import { ByteView } from './byte-view.ts';
import { type PeFile, readPe } from './pe.ts';

export interface ImageHeader {
  readonly architecture: 'ARM64' | 'RISC-V' | 'LoongArch';
  /** The first two instructions; `code0` of an EFI image also reads `MZ`. */
  readonly code0: number;
  readonly code1: number;
  /** Where the image goes, from a 2 MiB aligned base (ARM64) or the start of RAM; bytes. */
  readonly textOffset: bigint;
  /** Bytes in memory with bss; 0 in ARM64 kernels before 3.17. */
  readonly imageSize: bigint;
  readonly flags: bigint;
  readonly endianness: 'little' | 'big';
  /** ARM64: the kernel's page size in bytes; null where it does not say. */
  readonly pageSize: 4096 | 16384 | 65536 | null;
  /** ARM64, bit 3: whether the image may lie anywhere in physical memory. */
  readonly anywhere: boolean;
  /** RISC-V: header version, `0.2`. */
  readonly headerVersion: string | null;
  /** Offset of the PE header; 0 for an image without an EFI stub. */
  readonly peOffset: number;
  readonly pe: PeFile | null;
}

const PAGE_SIZES = [null, 4096, 16384, 65536] as const;

/** Reads the header; null where the bytes have none. */
export function readImageHeader(bytes: Uint8Array): ImageHeader | null {
  const view = new ByteView(bytes, 'Image header');
  const arm64 = view.startsWith('ARM\x64', 0x38);
  const riscv = view.startsWith('RSC\x05', 0x38) || view.startsWith('RISCV\0\0\0', 0x30);
  const loongArch = view.startsWith('\xcd\x23\x82\x81', 0x38);
  if ((!arm64 && !riscv && !loongArch) || !view.has(0, 64)) return null;
  // LoongArch has its entry and load offset where the others have text_offset and flags.
  const flags = loongArch ? 0n : view.u64(24);
  const version = view.u32(32);
  return {
    architecture: arm64 ? 'ARM64' : riscv ? 'RISC-V' : 'LoongArch',
    code0: view.u32(0),
    code1: view.u32(4),
    textOffset: view.u64(loongArch ? 24 : 8),
    imageSize: view.u64(16),
    flags,
    endianness: (flags & 1n) === 0n ? 'little' : 'big',
    pageSize: arm64 ? (PAGE_SIZES[Number((flags >> 1n) & 3n)] ?? null) : null,
    anywhere: arm64 && (flags & 8n) !== 0n,
    headerVersion: !riscv ? null : `${version >>> 16}.${version & 0xffff}`,
    peOffset: view.u32(60),
    pe: readPe(bytes),
  };
}
