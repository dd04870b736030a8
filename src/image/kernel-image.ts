// A bootable x86 Linux image as the rest of Bootscope sees it, whatever it was wrapped in.

import type { CodecName } from '../codecs/codec.ts';
import type { SetupHeader } from './setup-header.ts';

/** The compressed kernel inside a bzImage or zImage. */
export interface Payload {
  readonly codec: CodecName;
  /** Offset of its first byte in `KernelImage.protectedModeCode`. */
  readonly offset: number;
  /** Bytes, with the 4-byte decompressed length that the build appends (gzip carries its own). */
  readonly length: number;
  /** Decompressed length in bytes, read from its last 4 bytes; with the relocation lists. Null where unknown. */
  readonly outputLength: number | null;
  /** `header` from payload_offset/payload_length (protocol 2.08 on), `magic` found by searching. */
  readonly source: 'header' | 'magic';
}

export interface KernelImage {
  /** As the user named it. */
  readonly path: string;
  /** The image proper, boot sector first, unwrapped. */
  readonly bytes: Uint8Array;
  /** What it was taken out of, outermost first: `gzip`, `UKI section .linux`; empty for a plain image. */
  readonly wrappers: readonly string[];
  /** By LOADED_HIGH in loadflags. */
  readonly kind: 'bzImage' | 'zImage';
  readonly header: SetupHeader;
  /** Bytes of boot sector and setup, (setup_sects + 1) * 512, with 0 sectors meaning 4. */
  readonly setupSize: number;
  /** Boot sector and setup. */
  readonly setup: Uint8Array;
  /** All that follows setup: ZO, the compressed kernel with its stub. */
  readonly protectedModeCode: Uint8Array;
  /** The string kernel_version points to. */
  readonly kernelVersion: string | null;
  readonly payload: Payload | null;
}
