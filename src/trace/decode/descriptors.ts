// Descriptor tables: the segments of a GDT and the gates of an IDT (Intel SDM 3A 3.4.5, 6.11, 6.14.1, 7.2.3).

import { hex } from '../../hex.ts';
import { type DecodedField, type MemoryReader, viewOf } from './decoded.ts';

export interface TableRegister {
  readonly base: number;
  /** Bytes minus one. */
  readonly limit: number;
}

/** Names of system segments by their type, in and outside of long mode alike where they mean the same. */
const SYSTEM_TYPES: Readonly<Record<number, string>> = {
  1: '16-bit TSS (available)',
  2: 'LDT',
  3: '16-bit TSS (busy)',
  4: '16-bit call gate',
  5: 'task gate',
  6: '16-bit interrupt gate',
  7: '16-bit trap gate',
  9: 'TSS (available)',
  11: 'TSS (busy)',
  12: 'call gate',
  14: 'interrupt gate',
  15: 'trap gate',
};
const LDT = 2;
const TSS: readonly number[] = [9, 11];
const CALL_GATE = 12;

/** @param longMode - EFER.LMA: descriptors of system segments then have 16 bytes */
export function decodeGdt(
  memory: MemoryReader,
  { base, limit }: TableRegister,
  longMode: boolean,
): DecodedField[] {
  const table = memory.read(base, limit + 1 - ((limit + 1) % 8));
  const view = viewOf(table);
  const fields: DecodedField[] = [];
  for (let at = 0; at + 8 <= table.length; ) {
    const descriptor = view.getBigUint64(at, true);
    const type = Number((descriptor >> 40n) & 15n);
    const system = ((descriptor >> 44n) & 1n) === 0n && descriptor !== 0n;
    const wide = longMode && system && (type === LDT || type === CALL_GATE || TSS.includes(type));
    const high = wide && at + 16 <= table.length ? view.getUint32(at + 8, true) : 0;
    const size = wide && at + 16 <= table.length ? 16 : 8;
    fields.push({
      ...{ name: `[${hex(at)}]`, address: base + at, size, value: hex(descriptor) },
      // The first is never loaded: some keep the table's own register there.
      text: `${hex(descriptor).padEnd(18)}  ${at === 0 ? 'null' : describeSegment(descriptor, BigInt(high))}`,
    });
    at += size;
  }
  return fields;
}

/** `code64, base 0x0, limit 0xffffffff, DPL 0`. */
export function describeSegment(descriptor: bigint, baseHigh = 0n): string {
  if (descriptor === 0n) return 'null';
  const bit = (number: bigint): boolean => ((descriptor >> number) & 1n) === 1n;
  const base =
    ((descriptor >> 16n) & 0xff_ffffn) | (((descriptor >> 56n) & 0xffn) << 24n) | (baseHigh << 32n);
  const units = (descriptor & 0xffffn) | (((descriptor >> 48n) & 15n) << 16n);
  const limit = bit(55n) ? (units << 12n) | 0xfffn : units;
  const type = Number((descriptor >> 40n) & 15n);
  const parts = [`base ${hex(base)}`, `limit ${hex(limit)}`, `DPL ${(descriptor >> 45n) & 3n}`];
  if (!bit(47n)) parts.push('not present');
  if (!bit(44n)) return [SYSTEM_TYPES[type] ?? `system type ${type}`, ...parts].join(', ');
  const code = (type & 8) !== 0;
  const width = bit(53n) && code ? '64' : bit(54n) ? '32' : '16';
  const rights = code ? `${type & 2 ? 'r' : '-'}x` : `r${type & 2 ? 'w' : '-'}`;
  const extra = (type & 4) === 0 ? [] : [code ? 'conforming' : 'expand-down'];
  return [`${code ? 'code' : 'data'}${width} ${rights}`, ...parts, ...extra].join(', ');
}

/** @param longMode - EFER.LMA: gates then have 16 bytes, else 8 */
export function decodeIdt(
  memory: MemoryReader,
  { base, limit }: TableRegister,
  longMode: boolean,
): DecodedField[] {
  const size = longMode ? 16 : 8;
  const count = Math.floor((limit + 1) / size);
  const view = viewOf(memory.read(base, count * size));
  return Array.from({ length: count }, (_, vector) => {
    const at = vector * size;
    const low = view.getBigUint64(at, true);
    const high = longMode ? BigInt(view.getUint32(at + 8, true)) : 0n;
    const offset = (high << 32n) | (((low >> 48n) & 0xffffn) << 16n) | (low & 0xffffn);
    return {
      ...{ name: `[${hex(vector)}]`, address: base + at, size, value: hex(offset) },
      text: describeGate(low, offset),
    };
  });
}

function describeGate(low: bigint, offset: bigint): string {
  if (low === 0n && offset === 0n) return 'empty';
  const type = Number((low >> 40n) & 15n);
  const parts = [
    `${hex((low >> 16n) & 0xffffn)}:${hex(offset)}`,
    SYSTEM_TYPES[type] ?? `type ${type}`,
    `DPL ${(low >> 45n) & 3n}`,
  ];
  if (((low >> 47n) & 1n) === 0n) parts.push('not present');
  return parts.join(', ');
}
