// The E820 memory map: what an entry is, and how it lies in memory (ACPI 6.5, 15.1; zero-page.rst, "e820_table").

/** Usable RAM, and what firmware keeps. */
export const E820_RAM = 1;
export const E820_RESERVED = 2;
export const E820_ACPI = 3;
export const E820_NVS = 4;
export const E820_UNUSABLE = 5;
export const E820_PMEM = 7;

const TYPE_NAMES: Readonly<Record<number, string>> = {
  [E820_RAM]: 'usable',
  [E820_RESERVED]: 'reserved',
  [E820_ACPI]: 'ACPI data',
  [E820_NVS]: 'ACPI NVS',
  [E820_UNUSABLE]: 'unusable',
  [E820_PMEM]: 'persistent',
  12: 'persistent (legacy)',
};

/** As the kernel names it in its log: `usable`, `reserved`, …; `type 42` for one without a name. */
export function e820TypeName(type: number): string {
  return TYPE_NAMES[type] ?? `type ${type}`;
}

/** Bytes of an entry: address and size of 64 bits, a type of 32. */
export const E820_ENTRY_SIZE = 20;
/** E820_MAX_ENTRIES_ZEROPAGE: what boot_params has room for. */
export const E820_TABLE_ENTRIES = 128;

/** Addresses [address, address + size), physical. */
export interface E820Entry {
  readonly address: bigint;
  readonly size: bigint;
  readonly type: number;
}

/** The entry in the 20 bytes at `offset`. */
export function readE820Entry(view: DataView, offset: number): E820Entry {
  return {
    address: view.getBigUint64(offset, true),
    size: view.getBigUint64(offset + 8, true),
    type: view.getUint32(offset + 16, true),
  };
}

export function writeE820Entry(view: DataView, offset: number, entry: E820Entry): void {
  view.setBigUint64(offset, entry.address, true);
  view.setBigUint64(offset + 8, entry.size, true);
  view.setUint32(offset + 16, entry.type, true);
}
