// The ACPI tables of QEMU 7.2's machines, where their firmware puts them: those with one processor and no devices but the PC's own.
// The DSDT is a header alone: the names of devices are bytecode, which nothing runs before the kernel has left its boot code.

import type { PhysicalMemory } from '../x86/physical-memory.ts';
import { ACPI_TABLES_SIZE, type MachineModel, type RamSizes } from './memory-map.ts';

const OEM = 'BOCHS ';
const OEM_TABLE = 'BXPC    ';
const HEADER_SIZE = 36;
const FACS_SIZE = 64;
export const RSDP_1_SIZE = 20;
export const RSDP_2_SIZE = 36;
/** The root pointer is in the BIOS area, the tables of a machine without PCI below it (E820 tells of them as NVS). */
const ROOT_POINTER = 0xf5000;
const MICROVM_TABLES = 0xef000;

/** A field of a table: where, how wide, and what it says. */
type Field = readonly [offset: number, size: 1 | 2 | 4 | 8, value: number];

/** FADT (ACPI 6.5, 5.2.9), but for the addresses of FACS and DSDT. */
const PC_FADT: readonly Field[] = [
  [44, 1, 1], // INT_MODEL: multiple APIC
  [46, 2, 9], // SCI_INT
  [48, 4, 0xb2], // SMI_CMD
  [52, 1, 0xf1], // ACPI_ENABLE
  [53, 1, 0xf0], // ACPI_DISABLE
  [56, 4, 0x600], // PM1a_EVT_BLK
  [64, 4, 0x604], // PM1a_CNT_BLK
  [76, 4, 0x608], // PM_TMR_BLK
  [80, 4, 0xafe0], // GPE0_BLK
  [88, 1, 4], // PM1_EVT_LEN
  [89, 1, 2], // PM1_CNT_LEN
  [91, 1, 4], // PM_TMR_LEN
  [92, 1, 4], // GPE0_BLK_LEN
  [96, 2, 0xfff], // P_LVL2_LAT
  [98, 2, 0xfff], // P_LVL3_LAT
  [108, 1, 0x32], // CENTURY
  [112, 4, 0x80a5], // Flags
];
const Q35_FADT: readonly Field[] = [
  ...PC_FADT,
  [52, 1, 2],
  [53, 1, 3],
  [80, 4, 0x620],
  [92, 1, 16],
  [109, 2, 2], // IAPC_BOOT_ARCH: a keyboard controller
  [112, 4, 0x84a5], // Flags, with RESET_REG_SUP
  ...address(116, 1, 8, 0xcf9), // RESET_REG
  [128, 1, 0x0f], // RESET_VALUE
  ...address(148, 1, 32, 0x600), // X_PM1a_EVT_BLK
  ...address(172, 1, 16, 0x604), // X_PM1a_CNT_BLK
  ...address(208, 1, 32, 0x608), // X_PM_TMR_BLK
  ...address(220, 1, 128, 0x620), // X_GPE0_BLK
];
const MICROVM_FADT: readonly Field[] = [
  [112, 4, 0x10_0400], // Flags: HW_REDUCED_ACPI, RESET_REG_SUP
  ...address(116, 0, 8, 0xfea0_0202), // RESET_REG
  [128, 1, 0x42], // RESET_VALUE
  ...address(244, 0, 8, 0xfea0_0200), // SLEEP_CONTROL_REG
  ...address(256, 0, 8, 0xfea0_0201), // SLEEP_STATUS_REG
];
const FADTS: Readonly<Record<MachineModel, { revision: number; size: number; fields: readonly Field[] }>> = {
  pc: { revision: 1, size: 116, fields: PC_FADT },
  q35: { revision: 3, size: 244, fields: Q35_FADT },
  microvm: { revision: 5, size: 268, fields: MICROVM_FADT },
};

/** Generic Address Structure (ACPI 6.5, 5.2.3.2); space 0 is memory, 1 ports. */
function address(at: number, space: 0 | 1, bits: number, value: number): readonly Field[] {
  return [
    [at, 1, space],
    [at + 1, 1, bits],
    [at + 4, 8, value],
  ];
}

const LOCAL_APIC = 0xfee0_0000;
const IO_APIC = 0xfec0_0000;
const SECOND_IO_APIC = 0xfec1_0000;

/** MADT (ACPI 6.5, 5.2.12). */
function madt(model: MachineModel): Uint8Array {
  const ioApic = (id: number, base: number, firstInterrupt: number) => [
    ...[1, 12, id, 0, ...littleEndian(base, 4), ...littleEndian(firstInterrupt, 4)],
  ];
  /** Edge-triggered as ISA has it, or level-triggered and active high. */
  const override = (interrupt: number, global: number, flags: 0 | 0xd) => [
    ...[2, 10, 0, interrupt, ...littleEndian(global, 4), flags, 0],
  ];
  const more =
    model === 'microvm'
      ? ioApic(1, SECOND_IO_APIC, 24)
      : [override(0, 2, 0), ...[5, 9, 10, 11].map((line) => override(line, line, 0xd))].flat();
  return table('APIC', 1, [
    ...[...littleEndian(LOCAL_APIC, 4), ...littleEndian(1, 4)],
    ...[0, 8, 0, 0, ...littleEndian(1, 4)],
    ...ioApic(0, IO_APIC, 0),
    ...more,
    // NMI of all processors comes in at LINT1.
    ...[4, 6, 0xff, 0, 0, 1],
  ]);
}

function hpet(): Uint8Array {
  return table('HPET', 1, [
    ...[...littleEndian(0x8086_a201, 4), ...littleEndian(0, 4), ...littleEndian(0xfed0_0000, 8)],
    ...[0, 0, 0, 0],
  ]);
}

function mcfg(): Uint8Array {
  const reserved = littleEndian(0, 8);
  return table('MCFG', 1, [
    ...reserved,
    ...littleEndian(0xb000_0000, 8),
    0,
    0,
    0,
    0xff,
    ...littleEndian(0, 4),
  ]);
}

function waet(): Uint8Array {
  return table('WAET', 1, littleEndian(2, 4));
}

/**
 * Writes the tables of a machine.
 *
 * @returns physical address of the root pointer (RSDP)
 */
export function writeAcpiTables(memory: PhysicalMemory, model: MachineModel, { low }: RamSizes): number {
  let next = model === 'microvm' ? MICROVM_TABLES : low - ACPI_TABLES_SIZE;
  const place = (bytes: Uint8Array): number => {
    const at = next;
    memory.copyIn(at, bytes);
    next += bytes.length;
    return at;
  };
  const facs = model === 'microvm' ? 0 : place(firmwareControl());
  const dsdt = place(table('DSDT', model === 'microvm' ? 2 : 1, []));
  const tables = [place(fadt(model, facs, dsdt)), place(madt(model))];
  if (model !== 'microvm') tables.push(place(hpet()));
  if (model === 'q35') tables.push(place(mcfg()));
  if (model !== 'microvm') tables.push(place(waet()));
  const [signature, width] = model === 'microvm' ? (['XSDT', 8] as const) : (['RSDT', 4] as const);
  const root = place(
    table(
      signature,
      1,
      tables.flatMap((at) => littleEndian(at, width)),
    ),
  );
  memory.copyIn(ROOT_POINTER, model === 'microvm' ? rootPointer(2, 0, root) : rootPointer(0, root, 0));
  return ROOT_POINTER;
}

function fadt(model: MachineModel, facs: number, dsdt: number): Uint8Array {
  const { revision, size, fields } = FADTS[model];
  const body: Field[] = [...fields, [40, 4, dsdt]];
  if (facs !== 0) body.push([36, 4, facs]);
  if (size > PC_FADT_SIZE) body.push([140, 8, dsdt]); // X_DSDT
  const bytes = new Uint8Array(size - HEADER_SIZE);
  for (const [offset, width, value] of body) bytes.set(littleEndian(value, width), offset - HEADER_SIZE);
  return table('FACP', revision, bytes);
}
const PC_FADT_SIZE = FADTS.pc.size;

/** FACS of version 0 (ACPI 6.5, 5.2.10), which has no checksum. */
function firmwareControl(): Uint8Array {
  const bytes = new Uint8Array(FACS_SIZE);
  writeText(bytes, 0, 'FACS');
  bytes[4] = FACS_SIZE;
  return bytes;
}

/**
 * A root pointer (RSDP; ACPI 6.5, 5.2.5.3), of 36 bytes from revision 2 on.
 *
 * @param rsdt - physical address, 0 for none; an XSDT there is from revision 2 on
 */
export function rootPointer(revision: 0 | 2, rsdt: number, xsdt: number): Uint8Array {
  const bytes = new Uint8Array(revision === 0 ? RSDP_1_SIZE : RSDP_2_SIZE);
  writeText(bytes, 0, 'RSD PTR ');
  writeText(bytes, 9, OEM);
  bytes[15] = revision;
  bytes.set(littleEndian(rsdt, 4), 16);
  if (revision === 0) return withChecksum(bytes, 8, RSDP_1_SIZE);
  bytes[20] = RSDP_2_SIZE;
  bytes.set(littleEndian(xsdt, 8), 24);
  return withChecksum(withChecksum(bytes, 8, RSDP_1_SIZE), 32, RSDP_2_SIZE);
}

/** A table with its header (ACPI 6.5, 5.2.6) and checksum. */
export function table(signature: string, revision: number, body: ArrayLike<number>): Uint8Array {
  const bytes = new Uint8Array(HEADER_SIZE + body.length);
  writeText(bytes, 0, signature);
  bytes.set(littleEndian(bytes.length, 4), 4);
  bytes[8] = revision;
  writeText(bytes, 10, OEM);
  writeText(bytes, 16, OEM_TABLE);
  bytes.set(littleEndian(1, 4), 24);
  writeText(bytes, 28, 'BXPC');
  bytes.set(littleEndian(1, 4), 32);
  bytes.set(body, HEADER_SIZE);
  return withChecksum(bytes, 9, bytes.length);
}

function littleEndian(value: number, size: number): number[] {
  return Array.from({ length: size }, (_, index) => Math.floor(value / 256 ** index) % 256);
}

export function writeText(bytes: Uint8Array, at: number, text: string): void {
  for (let index = 0; index < text.length; index++) bytes[at + index] = text.charCodeAt(index);
}

export function checksum(bytes: Uint8Array): number {
  return -bytes.reduce((sum, byte) => sum + byte, 0) & 0xff;
}

/** The bytes with a byte at `at` that makes the first `length` of them sum to 0. */
export function withChecksum(bytes: Uint8Array, at: number, length: number): Uint8Array {
  const result = bytes.slice();
  result[at] = 0;
  result[at] = checksum(result.subarray(0, length));
  return result;
}
