// Types of the E820 memory map (ACPI 6.5, 15.1), named as the kernel names them in its log.

const TYPE_NAMES: Readonly<Record<number, string>> = {
  1: 'usable',
  2: 'reserved',
  3: 'ACPI data',
  4: 'ACPI NVS',
  5: 'unusable',
  7: 'persistent',
  12: 'persistent (legacy)',
};

/** `usable`, `reserved`, …; `type 42` for one without a name. */
export function e820TypeName(type: number): string {
  return TYPE_NAMES[type] ?? `type ${type}`;
}
