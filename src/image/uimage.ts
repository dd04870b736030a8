// U-Boot's legacy uImage: a 64-byte big-endian header with two CRC-32s, one or several images behind it (U-Boot, include/image.h).

import { crc32 } from '../codecs/checksums.ts';
import { ByteView } from './byte-view.ts';

const MAGIC = 0x27051956;
const HEADER_LENGTH = 64;
const TYPE_MULTI = 4;
const TYPE_SCRIPT = 6;

const OPERATING_SYSTEMS: Readonly<Record<number, string>> = {
  0: 'invalid',
  1: 'OpenBSD',
  2: 'NetBSD',
  3: 'FreeBSD',
  4: '4.4BSD',
  5: 'Linux',
  6: 'SVR4',
  7: 'Esix',
  8: 'Solaris',
  9: 'Irix',
  10: 'SCO',
  11: 'Dell',
  12: 'NCR',
  13: 'LynxOS',
  14: 'VxWorks',
  15: 'pSOS',
  16: 'QNX',
  17: 'U-Boot',
  18: 'RTEMS',
  19: 'ARTOS',
  20: 'Unity OS',
  21: 'INTEGRITY',
  22: 'OSE',
  23: 'Plan 9',
  24: 'OpenRTOS',
  25: 'ARM Trusted Firmware',
  26: 'Trusted Execution Environment',
  27: 'OpenSBI',
  28: 'EFI',
};
const ARCHITECTURES: Readonly<Record<number, string>> = {
  0: 'invalid',
  1: 'Alpha',
  2: 'ARM',
  3: 'x86',
  4: 'IA-64',
  5: 'MIPS',
  6: 'MIPS64',
  7: 'PowerPC',
  8: 's390',
  9: 'SuperH',
  10: 'SPARC',
  11: 'SPARC64',
  12: 'M68K',
  13: 'Nios',
  14: 'MicroBlaze',
  15: 'Nios II',
  16: 'Blackfin',
  17: 'AVR32',
  18: 'ST200',
  19: 'sandbox',
  20: 'NDS32',
  21: 'OpenRISC',
  22: 'ARM64',
  23: 'ARC',
  24: 'x86-64',
  25: 'Xtensa',
  26: 'RISC-V',
};
const TYPES: Readonly<Record<number, string>> = {
  0: 'invalid',
  1: 'standalone program',
  2: 'kernel',
  3: 'RAM disk',
  4: 'multi-file',
  5: 'firmware',
  6: 'script',
  7: 'file system',
  8: 'flat device tree',
  14: 'kernel that runs at any address',
};
const COMPRESSIONS: Readonly<Record<number, string>> = {
  0: 'none',
  1: 'gzip',
  2: 'bzip2',
  3: 'lzma',
  4: 'lzo',
  5: 'lz4',
  6: 'zstd',
};

export interface UImage {
  readonly name: string;
  /** Seconds since 1970. */
  readonly time: number;
  /** Bytes of data behind the header. */
  readonly dataLength: number;
  readonly loadAddress: number;
  readonly entryPoint: number;
  readonly operatingSystem: string;
  readonly architecture: string;
  readonly type: string;
  readonly compression: string;
  /** As stated, and as computed: over the header with this field 0, and over the data. */
  readonly headerCrc: { readonly stated: number; readonly computed: number };
  /** `computed` is null where the file ends before the data does. */
  readonly dataCrc: { readonly stated: number; readonly computed: number | null };
  /** The images inside: one, or those of a multi-file image; offsets in the file. */
  readonly parts: readonly { readonly offset: number; readonly length: number }[];
}

/** Reads the header and checks both CRCs; null where the bytes have no such header. */
export function readUImage(bytes: Uint8Array): UImage | null {
  const view = new ByteView(bytes, 'uImage header', false);
  if (!view.has(0, HEADER_LENGTH) || view.u32(0) !== MAGIC) return null;
  const header = Uint8Array.from(view.slice(0, HEADER_LENGTH));
  header.fill(0, 4, 8);
  const dataLength = view.u32(12);
  const type = view.u8(30);
  return {
    name: view.text(32, 32),
    time: view.u32(8),
    dataLength,
    loadAddress: view.u32(16),
    entryPoint: view.u32(20),
    operatingSystem: nameOf(OPERATING_SYSTEMS, view.u8(28), 'operating system'),
    architecture: nameOf(ARCHITECTURES, view.u8(29), 'architecture'),
    type: nameOf(TYPES, type, 'type'),
    compression: nameOf(COMPRESSIONS, view.u8(31), 'compression'),
    headerCrc: { stated: view.u32(4), computed: crc32(header) },
    dataCrc: {
      stated: view.u32(24),
      computed: view.has(HEADER_LENGTH, dataLength) ? crc32(view.slice(HEADER_LENGTH, dataLength)) : null,
    },
    parts:
      type === TYPE_MULTI || type === TYPE_SCRIPT
        ? readParts(view, dataLength)
        : [{ offset: HEADER_LENGTH, length: dataLength }],
  };
}

function nameOf(names: Readonly<Record<number, string>>, value: number, what: string): string {
  return names[value] ?? `${what} ${value}`;
}

/** A list of lengths ended by 0, then the images, each but the last padded to 4 bytes. */
function readParts(view: ByteView, dataLength: number): { offset: number; length: number }[] {
  const lengths: number[] = [];
  const end = HEADER_LENGTH + dataLength;
  let at = HEADER_LENGTH;
  for (;;) {
    if (at + 4 > end || !view.has(at, 4) || lengths.length >= 4096) return [];
    const length = view.u32(at);
    at += 4;
    if (length === 0) break;
    lengths.push(length);
  }
  return lengths.map((length) => {
    const part = { offset: at, length };
    at += Math.ceil(length / 4) * 4;
    return part;
  });
}
