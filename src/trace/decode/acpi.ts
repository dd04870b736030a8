// ACPI's tables from the root pointer down: the header of each, and whether its checksum holds (ACPI 6.5, 5.2.5 to 5.2.8).

import { BootscopeError } from '../../error.ts';
import { hex } from '../../hex.ts';
import { type DecodedField, littleEndian, type MemoryReader, printable } from './decoded.ts';

const SIGNATURE = [...'RSD PTR '].map((letter) => letter.charCodeAt(0));
const ROM_START = 0xe0000;
const ROM_END = 0x100000;
const EBDA_SEGMENT = 0x40e;
const EBDA_SEARCHED = 0x400;
const RSDP_SIZE = 20;
const RSDP_2_SIZE = 36;
const HEADER_SIZE = 36;
/** A longer table is taken for damaged. */
const MAX_TABLE = 0x10_0000;

/** Whether these bytes begin with a root pointer whose checksum holds. */
export function isRsdp(bytes: Uint8Array): boolean {
  return (
    bytes.length >= RSDP_SIZE &&
    SIGNATURE.every((byte, index) => bytes[index] === byte) &&
    sum(bytes.subarray(0, RSDP_SIZE)) === 0
  );
}

/**
 * Physical address of the root pointer: in the first KiB of the EBDA, or in the BIOS ROM.
 * @returns null where there is none
 */
export function findRsdp(memory: MemoryReader): number | null {
  const ebda = Number(littleEndian(memory.read(EBDA_SEGMENT, 2))) * 16;
  const areas: readonly (readonly [number, number])[] = [
    ...(ebda >= 0x80000 && ebda < 0xa0000 ? [[ebda, ebda + EBDA_SEARCHED] as const] : []),
    [ROM_START, ROM_END],
  ];
  for (const [start, end] of areas) {
    const bytes = memory.read(start, end - start);
    for (let at = 0; at + RSDP_SIZE <= bytes.length; at += 16) {
      if (isRsdp(bytes.subarray(at, at + RSDP_SIZE))) return start + at;
    }
  }
  return null;
}

/**
 * @param rsdp - physical address of the root pointer; null: where firmware of a PC puts it
 * @throws BootscopeError `debug-acpi` where there is none
 */
export function decodeAcpi(memory: MemoryReader, rsdp: number | null): DecodedField[] {
  const root = rsdp ?? findRsdp(memory);
  if (root === null) {
    throw new BootscopeError(
      'debug-acpi',
      `no ACPI root pointer stands in the EBDA or in ${hex(ROM_START)}..${hex(ROM_END)}: this machine has no ACPI tables there`,
    );
  }
  const pointer = memory.read(root, RSDP_SIZE);
  const revision = pointer[15]!;
  const rsdt = Number(littleEndian(pointer.subarray(16, 20)));
  const xsdt = revision >= 2 ? Number(littleEndian(memory.read(root + 24, 8))) : 0;
  const size = revision >= 2 ? RSDP_2_SIZE : RSDP_SIZE;
  const fields: DecodedField[] = [
    {
      ...{ name: 'RSDP', address: root, size, value: hex(xsdt !== 0 ? xsdt : rsdt) },
      text: `revision ${revision}, OEM "${printable(pointer.subarray(9, 15)).trimEnd()}", RSDT ${hex(rsdt)}${xsdt === 0 ? '' : `, XSDT ${hex(xsdt)}`}`,
    },
  ];
  const [table, entrySize] = xsdt !== 0 ? [xsdt, 8] : [rsdt, 4];
  const header = decodeHeader(memory, table);
  fields.push(header);
  const entries = memory.read(table, header.size).subarray(HEADER_SIZE);
  for (let at = 0; at + entrySize <= entries.length; at += entrySize) {
    const address = Number(littleEndian(entries.subarray(at, at + entrySize)));
    const each = decodeHeader(memory, address);
    fields.push(each);
    // The DSDT and the FACS hang on the FADT alone.
    if (each.name === 'FACP') {
      const dsdt = Number(littleEndian(memory.read(address + 40, 4)));
      if (dsdt !== 0) fields.push(decodeHeader(memory, dsdt));
    }
  }
  return fields;
}

function decodeHeader(memory: MemoryReader, address: number): DecodedField {
  const header = memory.read(address, HEADER_SIZE);
  const name = printable(header.subarray(0, 4));
  const length = Number(littleEndian(header.subarray(4, 8)));
  const damaged = length < HEADER_SIZE || length > MAX_TABLE;
  const checksum = damaged
    ? `a length of ${length} is no table's`
    : sum(memory.read(address, length)) === 0
      ? 'checksum ok'
      : 'checksum wrong';
  return {
    ...{ name, address, size: damaged ? HEADER_SIZE : length, value: null },
    text: `${length} bytes, revision ${header[8]}, OEM "${printable(header.subarray(10, 16)).trimEnd()}" "${printable(header.subarray(16, 24)).trimEnd()}", ${checksum}`,
  };
}

function sum(bytes: Uint8Array): number {
  return bytes.reduce((total, byte) => (total + byte) & 0xff, 0);
}
