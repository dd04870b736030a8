// Which codec goes by which name or magic; loads a codec's code only when it is asked for.

import type { Codec, CodecName } from './codec.ts';
import { MATCHERS } from './magic.ts';

export const CODEC_NAMES: readonly CodecName[] = ['gzip', 'bzip2', 'lzma', 'xz', 'lzo', 'lz4', 'zstd'];

/** Loads the codec of that name; its library is loaded by the first `decompress`. */
export async function codecByName(name: CodecName): Promise<Codec> {
  switch (name) {
    case 'gzip':
      return (await import('./gzip.ts')).gzip;
    case 'bzip2':
      return (await import('./bzip2.ts')).bzip2;
    case 'lzma':
      return (await import('./lzma.ts')).lzma;
    case 'xz':
      return (await import('./xz.ts')).xz;
    case 'lzo':
      return (await import('./lzo.ts')).lzo;
    case 'lz4':
      return (await import('./lz4.ts')).lz4;
    case 'zstd':
      return (await import('./zstd.ts')).zstd;
  }
}

/**
 * Names the format whose magic `bytes` starts with, null for none; 16 bytes are enough. Loads nothing.
 * The magics are longer than those of the kernel's `lib/decompress.c`, which tells the formats apart by
 * two bytes, so that searching an image for them finds few impostors.
 */
export function detectCodec(bytes: Uint8Array): CodecName | null {
  return CODEC_NAMES.find((name) => MATCHERS[name](bytes)) ?? null;
}
