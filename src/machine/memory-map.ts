// The memory map of the machine, as firmware tells it: E820, and the older calls derived from it.

import { E820_NVS, E820_RAM, E820_RESERVED, type E820Entry } from '../protocol/e820.ts';

/** Start of the EBDA, which ends conventional memory. */
export const EBDA_ADDRESS = 0x9fc00;
const ONE_MIB = 0x100000;
const SIXTEEN_MIB = 0x1000000;
const FOUR_GIB = 2 ** 32;
const PAGE = 4096;
const FIRMWARE_ROM = 0xfffc0000;
/** Where AMD processors have HyperTransport: no RAM below 1 TiB reaches into it. */
const HYPERTRANSPORT = { start: 0xfd_0000_0000, end: 0x100_0000_0000 } as const;

/** Machines of QEMU: i440fx, Q35, and the one without PCI that VMMs resemble. */
export const MACHINE_MODELS = ['pc', 'q35', 'microvm'] as const;
export type MachineModel = (typeof MACHINE_MODELS)[number];

/** How RAM lies: so many bytes from 0 on, below the hole for devices, and so many from 4 GiB on. */
export interface RamSizes {
  readonly low: number;
  readonly high: number;
}

/** Where QEMU 7.2 ends RAM below 4 GiB: what fits below `whole` is not split, else `split` bytes stay below. */
const HOLES: Readonly<Record<MachineModel, { readonly whole: number; readonly split: number }>> = {
  pc: { whole: 0xe000_0000, split: 0xc000_0000 },
  q35: { whole: 0xb000_0000, split: 0x8000_0000 },
  microvm: { whole: 0xc000_0000, split: 0xc000_0000 },
};

/** The end of low RAM, from where on a machine with PCI has its ACPI tables. */
export const ACPI_TABLES_SIZE = 0x20000;
/** What the firmware keeps at the end of low RAM, for its ACPI tables above all. */
const ACPI_SIZES: Readonly<Record<MachineModel, number>> = {
  pc: ACPI_TABLES_SIZE,
  q35: 0x1000 + ACPI_TABLES_SIZE,
  microvm: 0,
};

export function ramSizes(model: MachineModel, memory: number): RamSizes {
  const { whole, split } = HOLES[model];
  return memory < whole || memory <= split ? { low: memory, high: 0 } : { low: split, high: memory - split };
}

/** The RAM that a map tells of, below and from 4 GiB on; all that is not merely reserved is RAM. */
export function ramOfMap(map: readonly E820Entry[]): RamSizes {
  let [low, high] = [0, 0];
  for (const { address, size, type } of map) {
    if (type === E820_RESERVED) continue;
    const end = Math.ceil(Number(address + size) / PAGE) * PAGE;
    if (Number(address) < FOUR_GIB) low = Math.max(low, Math.min(end, FOUR_GIB));
    if (end > FOUR_GIB) high = Math.max(high, end - FOUR_GIB);
  }
  return { low, high };
}

/**
 * The map that QEMU's machine gives out with SeaBIOS (microvm: with its own firmware), so that a guest's choices compare with
 * QEMU's.
 *
 * @param amd - whether the processor is AMD's, whose HyperTransport range is reserved where there is RAM above 4 GiB
 */
export function machineMemoryMap(
  model: MachineModel,
  { low, high }: RamSizes,
  amd = true,
): readonly E820Entry[] {
  const map = [entry(0, EBDA_ADDRESS, E820_RAM), entry(EBDA_ADDRESS, 0xa0000, E820_RESERVED)];
  if (model === 'microvm') map.push(entry(0xd0000, 0xf0000, E820_NVS));
  map.push(entry(0xf0000, ONE_MIB, E820_RESERVED));
  const acpi = ACPI_SIZES[model];
  map.push(entry(ONE_MIB, low - acpi, E820_RAM));
  if (acpi > 0) map.push(entry(low - acpi, low, E820_RESERVED));
  if (model === 'q35') {
    // PCI's configuration space, and the registers of the chipset.
    map.push(entry(0xb000_0000, 0xc000_0000, E820_RESERVED), entry(0xfed1_c000, 0xfed2_0000, E820_RESERVED));
  }
  if (model !== 'microvm') map.push(entry(FIRMWARE_ROM, FOUR_GIB, E820_RESERVED));
  if (high > 0) map.push(entry(FOUR_GIB, FOUR_GIB + high, E820_RAM));
  if (high > 0 && amd && model !== 'microvm') {
    map.push(entry(HYPERTRANSPORT.start, HYPERTRANSPORT.end, E820_RESERVED));
  }
  return map;
}

/** The highest address behind RAM that a processor's address bits, and AMD's HyperTransport, allow. */
export function highestRam(physicalBits: number, amd: boolean): number {
  return Math.min(2 ** physicalBits, amd ? HYPERTRANSPORT.start : Number.POSITIVE_INFINITY);
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
