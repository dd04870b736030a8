// The checksums that compressed streams carry: CRC-32, CRC-64, Adler-32, SHA-256.

import { nativeZlib } from '../host/host.ts';

/** CRC-32 of IEEE 802.3 (gzip, xz, lzop), continued from `previous`. */
export function crc32(bytes: Uint8Array, previous = 0): number {
  return nativeZlib()?.crc32?.(bytes, previous) ?? portableCrc32(bytes, previous);
}

/** CRC-32 without native code: eight tables, eight bytes a step (Kounavis and Berry, "slicing-by-8"). */
export function portableCrc32(bytes: Uint8Array, previous = 0): number {
  crc32Tables ??= makeCrc32Tables();
  const t = crc32Tables;
  let crc = ~previous;
  let i = 0;
  for (const end = bytes.length - 7; i < end; i += 8) {
    crc ^= bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24);
    crc =
      t[0x700 | (crc & 0xff)]! ^
      t[0x600 | ((crc >>> 8) & 0xff)]! ^
      t[0x500 | ((crc >>> 16) & 0xff)]! ^
      t[0x400 | (crc >>> 24)]! ^
      t[0x300 | bytes[i + 4]!]! ^
      t[0x200 | bytes[i + 5]!]! ^
      t[0x100 | bytes[i + 6]!]! ^
      t[bytes[i + 7]!]!;
  }
  for (; i < bytes.length; i++) crc = (crc >>> 8) ^ t[(crc ^ bytes[i]!) & 0xff]!;
  return ~crc >>> 0;
}

let crc32Tables: Int32Array | null = null;

function makeCrc32Tables(): Int32Array {
  const tables = new Int32Array(8 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
    tables[byte] = crc;
  }
  for (let i = 256; i < tables.length; i++) {
    const before = tables[i - 256]!;
    tables[i] = (before >>> 8) ^ tables[before & 0xff]!;
  }
  return tables;
}

/** CRC-64 of ECMA-182, bit-reversed, as .xz uses it; in two 32-bit halves, since a BigInt per byte is slow. */
export function crc64(bytes: Uint8Array): bigint {
  crc64Table ??= makeCrc64Table();
  const t = crc64Table;
  let low = -1;
  let high = -1;
  for (let i = 0; i < bytes.length; i++) {
    const entry = ((low ^ bytes[i]!) & 0xff) << 1;
    low = (low >>> 8) ^ (high << 24) ^ t[entry]!;
    high = (high >>> 8) ^ t[entry + 1]!;
  }
  return (BigInt(~high >>> 0) << 32n) | BigInt(~low >>> 0);
}

let crc64Table: Int32Array | null = null;

function makeCrc64Table(): Int32Array {
  const table = new Int32Array(512);
  for (let byte = 0; byte < 256; byte++) {
    let crc = BigInt(byte);
    for (let bit = 0; bit < 8; bit++) crc = (crc >> 1n) ^ (crc & 1n ? 0xc96c5795d7870f42n : 0n);
    table[byte * 2] = Number(crc & 0xffffffffn) | 0;
    table[byte * 2 + 1] = Number(crc >> 32n) | 0;
  }
  return table;
}

/** Adler-32 (RFC 1950 8.2), continued from `previous`; four bytes a step, whose sums do not wait for each other. */
export function adler32(bytes: Uint8Array, previous = 1): number {
  let a = previous & 0xffff;
  let b = previous >>> 16;
  for (let i = 0; i < bytes.length; ) {
    // The sums of 3800 bytes fit in 31 bits before the remainder has to be taken.
    const end = Math.min(i + 3800, bytes.length);
    for (; i + 4 <= end; i += 4) {
      const b0 = bytes[i]!;
      const b1 = bytes[i + 1]!;
      const b2 = bytes[i + 2]!;
      const b3 = bytes[i + 3]!;
      b += 4 * (a + b0) + 3 * b1 + 2 * b2 + b3;
      a += b0 + b1 + b2 + b3;
    }
    for (; i < end; i++) {
      a += bytes[i]!;
      b += a;
    }
    a %= 65521;
    b %= 65521;
  }
  return ((b << 16) | a) >>> 0;
}

export async function sha256(bytes: Uint8Array): Promise<Uint8Array> {
  // The copy makes it an array that the Web Crypto API takes whatever memory `bytes` lies in.
  return new Uint8Array(await globalThis.crypto.subtle.digest('SHA-256', new Uint8Array(bytes)));
}
