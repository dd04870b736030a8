// hvm_start_info and what it points to, as tables of fields: what a virtual machine monitor hands a kernel that it enters by PVH
// (xen/include/public/arch-x86/hvm/start_info.h, and docs/misc/pvh.pandoc for the state of the CPU).

import type { PhysicalMemory } from '../x86/physical-memory.ts';
import type { E820Entry } from './e820.ts';

/** One field: bytes from the start of its structure, and its width. */
export interface PvhFieldRow {
  readonly name: string;
  readonly offset: number;
  readonly size: 4 | 8;
  readonly meaning: string;
}

/** `xEn3` with the highest bit of its first letter set. */
export const HVM_START_MAGIC = 0x336ec578;
/** Version 1 has the memory map. */
export const HVM_START_VERSION = 1;

export const HVM_START_INFO = [
  { name: 'magic', offset: 0x00, size: 4, meaning: '0x336ec578' },
  { name: 'version', offset: 0x04, size: 4, meaning: '1: with a memory map' },
  { name: 'flags', offset: 0x08, size: 4, meaning: 'SIF_xxx flags' },
  { name: 'nr_modules', offset: 0x0c, size: 4, meaning: 'entries of the module list' },
  { name: 'modlist_paddr', offset: 0x10, size: 8, meaning: 'address of the module list' },
  { name: 'cmdline_paddr', offset: 0x18, size: 8, meaning: 'address of the command line' },
  { name: 'rsdp_paddr', offset: 0x20, size: 8, meaning: 'address of the ACPI root pointer; 0 for none' },
  { name: 'memmap_paddr', offset: 0x28, size: 8, meaning: 'address of the memory map' },
  { name: 'memmap_entries', offset: 0x30, size: 4, meaning: 'entries of the memory map' },
  { name: 'reserved', offset: 0x34, size: 4, meaning: '0' },
] as const satisfies readonly PvhFieldRow[];
export const HVM_START_INFO_SIZE = 0x38;

export const HVM_MODULE = [
  { name: 'paddr', offset: 0x00, size: 8, meaning: 'address of the module; the first is the initrd' },
  { name: 'size', offset: 0x08, size: 8, meaning: 'its bytes' },
  { name: 'cmdline_paddr', offset: 0x10, size: 8, meaning: 'address of its command line; 0 for none' },
  { name: 'reserved', offset: 0x18, size: 8, meaning: '0' },
] as const satisfies readonly PvhFieldRow[];
export const HVM_MODULE_SIZE = 0x20;

export const HVM_MEMMAP_ENTRY = [
  { name: 'addr', offset: 0x00, size: 8, meaning: 'where it begins' },
  { name: 'size', offset: 0x08, size: 8, meaning: 'its bytes' },
  { name: 'type', offset: 0x10, size: 4, meaning: 'as in E820' },
  { name: 'reserved', offset: 0x14, size: 4, meaning: '0' },
] as const satisfies readonly PvhFieldRow[];
export const HVM_MEMMAP_ENTRY_SIZE = 0x18;

/** What a kernel is told. Addresses are physical. */
export interface HvmStartInfo {
  readonly flags: number;
  readonly modules: readonly { readonly address: number; readonly size: number }[];
  readonly commandLine: number;
  readonly rsdp: number;
  readonly memoryMap: readonly E820Entry[];
}

/** Where its parts go. */
export interface HvmStartInfoPlaces {
  readonly startInfo: number;
  readonly modules: number;
  readonly memoryMap: number;
}

function write<Row extends PvhFieldRow>(
  memory: PhysicalMemory,
  table: readonly Row[],
  base: number,
  values: Readonly<Partial<Record<Row['name'], number | bigint>>>,
): void {
  for (const { name, offset, size } of table) {
    const value = BigInt(values[name as Row['name']] ?? 0);
    if (size === 8) memory.write64(base + offset, value);
    else memory.write32(base + offset, Number(value));
  }
}

function read<Row extends PvhFieldRow>(
  memory: PhysicalMemory,
  table: readonly Row[],
  base: number,
): Readonly<Record<Row['name'], bigint>> {
  const values = table.map(({ name, offset, size }) => [
    name,
    size === 8 ? memory.read64(base + offset) : BigInt(memory.read32(base + offset)),
  ]);
  return Object.fromEntries(values) as Record<Row['name'], bigint>;
}

/** @throws BootscopeError `machine-address` where a part does not lie in RAM */
export function writeHvmStartInfo(
  memory: PhysicalMemory,
  info: HvmStartInfo,
  places: HvmStartInfoPlaces,
): void {
  info.modules.forEach(({ address, size }, index) => {
    write(memory, HVM_MODULE, places.modules + index * HVM_MODULE_SIZE, { paddr: address, size });
  });
  info.memoryMap.forEach(({ address, size, type }, index) => {
    write(memory, HVM_MEMMAP_ENTRY, places.memoryMap + index * HVM_MEMMAP_ENTRY_SIZE, {
      addr: address,
      size,
      type,
    });
  });
  write(memory, HVM_START_INFO, places.startInfo, {
    magic: HVM_START_MAGIC,
    version: HVM_START_VERSION,
    flags: info.flags,
    nr_modules: info.modules.length,
    modlist_paddr: info.modules.length === 0 ? 0 : places.modules,
    cmdline_paddr: info.commandLine,
    rsdp_paddr: info.rsdp,
    memmap_paddr: places.memoryMap,
    memmap_entries: info.memoryMap.length,
  });
}

/** What lies at `address`; null where the magic does not. */
export function readHvmStartInfo(memory: PhysicalMemory, address: number): HvmStartInfo | null {
  if (!memory.contains(address, HVM_START_INFO_SIZE)) return null;
  const info = read(memory, HVM_START_INFO, address);
  if (Number(info.magic) !== HVM_START_MAGIC) return null;
  const entries = info.version >= 1n ? Number(info.memmap_entries) : 0;
  return {
    flags: Number(info.flags),
    modules: Array.from({ length: Number(info.nr_modules) }, (_, index) => {
      const { paddr, size } = read(memory, HVM_MODULE, Number(info.modlist_paddr) + index * HVM_MODULE_SIZE);
      return { address: Number(paddr), size: Number(size) };
    }),
    commandLine: Number(info.cmdline_paddr),
    rsdp: Number(info.rsdp_paddr),
    memoryMap: Array.from({ length: entries }, (_, index) => {
      const at = Number(info.memmap_paddr) + index * HVM_MEMMAP_ENTRY_SIZE;
      const { addr, size, type } = read(memory, HVM_MEMMAP_ENTRY, at);
      return { address: addr, size, type: Number(type) };
    }),
  };
}
