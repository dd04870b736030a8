// What decoding memory gives: named fields with their place and value, the same for every structure, for text and JSON.

import { hex } from '../../hex.ts';

/** A field of a structure in memory, read. */
export interface DecodedField {
  /** `e820_entries`, `[2]`; nested ones with dots: `hdr.code32_start`. */
  readonly name: string;
  /** Physical. */
  readonly address: number;
  /** Bytes. */
  readonly size: number;
  /** Addresses and registers are hex strings; null where the value is told by `text` alone. */
  readonly value: string | number | boolean | null;
  /** For people: the value again in the words of its kind, `0x0..0x9fc00 usable`. */
  readonly text: string;
}

/** Physical memory; throws outside of RAM. */
export interface MemoryReader {
  read(address: number, length: number): Uint8Array;
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** One field of a structure that is described by a table of them. */
export interface FieldRow {
  readonly name: string;
  /** Bytes from the start of the structure. */
  readonly offset: number;
  /** Bytes; little-endian numbers have 1, 2, 4 or 8. */
  readonly size: number;
  readonly format: 'decimal' | 'hex' | 'text' | 'bytes';
  readonly meaning?: string;
}

/** Reads `rows` of the structure at `address`. */
export function decodeFields(
  memory: MemoryReader,
  address: number,
  rows: readonly FieldRow[],
): readonly DecodedField[] {
  return rows.map((row) => {
    const bytes = memory.read(address + row.offset, row.size);
    const value = fieldValue(bytes, row.format);
    return {
      ...{ name: row.name, address: address + row.offset, size: row.size, value },
      text: row.meaning === undefined ? String(value) : `${value}  ${row.meaning}`,
    };
  });
}

function fieldValue(bytes: Uint8Array, format: FieldRow['format']): string | number {
  if (format === 'text') return printable(bytes);
  if (format === 'bytes' || ![1, 2, 4, 8].includes(bytes.length)) return hexBytes(bytes);
  const number = littleEndian(bytes);
  return format === 'decimal' && number <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(number) : hex(number);
}

export function littleEndian(bytes: Uint8Array): bigint {
  return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

/** Up to the first zero; what is no printable ASCII as a dot. */
export function printable(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return Array.from(end < 0 ? bytes : bytes.subarray(0, end), (byte) =>
    byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.',
  ).join('');
}

export function hexBytes(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
}

/** A line a field: address, name, value. */
export function formatDecoded(fields: readonly DecodedField[]): string {
  const width = Math.max(0, ...fields.map(({ name }) => name.length));
  const addressWidth = Math.max(0, ...fields.map(({ address }) => hex(address).length));
  return fields
    .map(({ name, address, text }) =>
      `${hex(address).padStart(addressWidth)}  ${name.padEnd(width)}  ${text}`.trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join('');
}
