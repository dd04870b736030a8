// The tables of other specifications that firmware points to: ACPI's root pointer and SMBIOS's entry point, each valid and empty.

import { checksum, RSDP_1_SIZE, rootPointer, table, withChecksum, writeText } from '../acpi-tables.ts';
import type { UefiFirmware } from './firmware.ts';

/**
 * RSDPs of both versions and an XSDT without entries (ACPI 6.5, 5.2.5). They lie at the end of the AcpiReclaim bin, as OVMF's do.
 */
export function acpiTables(firmware: UefiFirmware): { readonly version1: bigint; readonly version2: bigint } {
  const { memory } = firmware;
  const page = firmware.parts.map.findLast(({ type }) => type === 'AcpiReclaim');
  const version1 = page === undefined ? firmware.runtimeData(0x100) : page.end - 0x1000;
  const version2 = version1 + RSDP_1_SIZE;
  const xsdt = version1 + 0x40;
  memory.copyIn(xsdt, table('XSDT', 1, []));
  memory.copyIn(version1, rootPointer(0, 0, xsdt));
  memory.copyIn(version2, rootPointer(2, 0, xsdt));
  return { version1: BigInt(version1), version2: BigInt(version2) };
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
  writeText(bytes, 0, '_SM_');
  bytes.set([SMBIOS_ENTRY_SIZE, 2, 8], 5);
  view.setUint16(8, end.length, true);
  writeText(bytes, 16, '_DMI_');
  view.setUint16(22, end.length, true);
  view.setUint32(24, table, true);
  view.setUint16(28, 1, true);
  bytes[30] = 0x28;
  const intermediate = bytes.subarray(16);
  intermediate[5] = checksum(intermediate);
  firmware.memory.copyIn(address, withChecksum(bytes, 4, SMBIOS_ENTRY_SIZE));
  return BigInt(address);
}
