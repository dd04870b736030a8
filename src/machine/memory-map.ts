// The memory map of the machine, as firmware tells it: E820, and the older calls derived from it.

import { E820_RAM, E820_RESERVED, type E820Entry } from '../protocol/e820.ts';

/** Start of the EBDA, which ends conventional memory. */
export const EBDA_ADDRESS = 0x9fc00;
const ONE_MIB = 0x100000;
const SIXTEEN_MIB = 0x1000000;
/** What SeaBIOS keeps at the end of RAM for ACPI tables. */
const ACPI_SIZE = 0x20000;
const FIRMWARE_ROM = 0xfffc0000;

/**
 * The map of a QEMU i440fx PC with SeaBIOS and `memory` bytes of RAM: the last 128 KiB of RAM and the last 256 KiB
 * below 4 GiB are reserved, so that a guest's choices compare with QEMU's.
 */
export function pcMemoryMap(memory: number): readonly E820Entry[] {
  return [
    entry(0, EBDA_ADDRESS, E820_RAM),
    entry(EBDA_ADDRESS, 0xa0000, E820_RESERVED),
    entry(0xf0000, ONE_MIB, E820_RESERVED),
    entry(ONE_MIB, memory - ACPI_SIZE, E820_RAM),
    entry(memory - ACPI_SIZE, memory, E820_RESERVED),
    entry(FIRMWARE_ROM, 0x1_0000_0000, E820_RESERVED),
  ];
}

/** Bytes of RAM without a hole from 1 MiB on, by the map. */
export function extendedMemory(map: readonly E820Entry[]): number {
  let end = BigInt(ONE_MIB);
  const ram = map
    .filter((each) => each.type === E820_RAM)
    .toSorted((a, b) => (a.address < b.address ? -1 : 1));
  for (const each of ram) {
    if (each.address <= end && each.address + each.size > end) {
      end = each.address + each.size;
    }
  }
  const below4GiB = end < 0x1_0000_0000n ? end : 0x1_0000_0000n;
  return Number(below4GiB) - ONE_MIB;
}

/** INT 15h AX=E801h: KiB between 1 and 16 MiB, and 64-KiB blocks from 16 MiB on. */
export function e801(map: readonly E820Entry[]): { readonly kilobytes: number; readonly blocks: number } {
  const extended = extendedMemory(map);
  const above16 = extended + ONE_MIB - SIXTEEN_MIB;
  return above16 > 0
    ? { kilobytes: (SIXTEEN_MIB - ONE_MIB) / 1024, blocks: Math.floor(above16 / 0x10000) }
    : { kilobytes: Math.floor(extended / 1024), blocks: 0 };
}

/** INT 15h AH=88h: KiB above 1 MiB, at most 63 MiB as SeaBIOS answers. */
export function extendedKilobytes88(map: readonly E820Entry[]): number {
  return Math.min(Math.floor(extendedMemory(map) / 1024), 63 * 1024);
}

function entry(start: number, end: number, type: number): E820Entry {
  return { address: BigInt(start), size: BigInt(end - start), type };
}
