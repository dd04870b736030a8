// The tables of other specifications that firmware points to: ACPI's root pointer and SMBIOS's entry point, each valid and empty.

import type { UefiFirmware } from './firmware.ts';

const OEM = 'BOCHS ';
const RSDP_1_SIZE = 20;
const RSDP_2_SIZE = 36;
const XSDT_SIZE = 36;

/**
 * RSDPs of both versions and an XSDT without entries (ACPI 6.5, 5.2.5). They lie at the end of the AcpiReclaim bin, as OVMF's do.
 */
export function acpiTables(firmware: UefiFirmware): { readonly version1: bigint; readonly version2: bigint } {
  const { memory } = firmware;
  const page = firmware.parts.map.findLast(({ type }) => type === 'AcpiReclaim');
  const version1 = page === undefined ? firmware.runtimeData(0x100) : page.end - 0x1000;
  const version2 = version1 + RSDP_1_SIZE;
  const xsdt = version1 + 0x40;
  memory.copyIn(xsdt, withChecksum(header('XSDT', XSDT_SIZE), 9, XSDT_SIZE));
  memory.copyIn(version1, withChecksum(rsdp(0, xsdt).subarray(0, RSDP_1_SIZE), 8, RSDP_1_SIZE));
  const extended = withChecksum(rsdp(2, xsdt), 8, RSDP_1_SIZE);
  memory.copyIn(version2, withChecksum(extended, 32, RSDP_2_SIZE));
  return { version1: BigInt(version1), version2: BigInt(version2) };
}

function rsdp(revision: number, xsdt: number): Uint8Array {
  const bytes = new Uint8Array(RSDP_2_SIZE);
  const view = new DataView(bytes.buffer);
  write(bytes, 0, 'RSD PTR ');
  write(bytes, 9, OEM);
  bytes[15] = revision;
  view.setUint32(20, RSDP_2_SIZE, true);
  view.setBigUint64(24, BigInt(xsdt), true);
  return bytes;
}

/** System description table header (ACPI 6.5, 5.2.6). */
function header(signature: string, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  write(bytes, 0, signature);
  view.setUint32(4, size, true);
  bytes[8] = 1;
  write(bytes, 10, OEM);
  write(bytes, 16, 'BXPC    ');
  return bytes;
}

const SMBIOS_ENTRY_SIZE = 31;

/** An SMBIOS 2.8 entry point (SMBIOS 3.6, 5.2.1) with the structure that ends the table and nothing else. */
export function smbiosTables(firmware: UefiFirmware): bigint {
  const address = firmware.runtimeData(SMBIOS_ENTRY_SIZE);
  const end = Uint8Array.of(127, 4, 0xff, 0xfe, 0, 0);
  const table = firmware.runtimeData(end.length);
  firmware.memory.copyIn(table, end);
  const bytes = new Uint8Array(SMBIOS_ENTRY_SIZE);
  const view = new DataView(bytes.buffer);
  write(bytes, 0, '_SM_');
  bytes.set([SMBIOS_ENTRY_SIZE, 2, 8], 5);
  view.setUint16(8, end.length, true);
  write(bytes, 16, '_DMI_');
  view.setUint16(22, end.length, true);
  view.setUint32(24, table, true);
  view.setUint16(28, 1, true);
  bytes[30] = 0x28;
  const intermediate = bytes.subarray(16);
  intermediate[5] = checksum(intermediate);
  firmware.memory.copyIn(address, withChecksum(bytes, 4, SMBIOS_ENTRY_SIZE));
  return BigInt(address);
}

function write(bytes: Uint8Array, at: number, text: string): void {
  for (let index = 0; index < text.length; index++) bytes[at + index] = text.charCodeAt(index);
}

function checksum(bytes: Uint8Array): number {
  return -bytes.reduce((sum, byte) => sum + byte, 0) & 0xff;
}

/** The bytes with a byte at `at` that makes the first `length` of them sum to 0. */
function withChecksum(bytes: Uint8Array, at: number, length: number): Uint8Array {
  const result = bytes.slice();
  result[at] = 0;
  result[at] = checksum(result.subarray(0, length));
  return result;
}
