// boot_params and what it leads to: the E820 map in it, the list of setup_data, the memory map of EFI.

import { BootscopeError } from '../../error.ts';
import { hex } from '../../hex.ts';
import {
  BOOT_PARAMS_FIELDS,
  BOOT_PARAMS_SIZE,
  BootParams,
  bootParamsOffset,
} from '../../protocol/boot-params.ts';
import { E820_ENTRY_SIZE, e820TypeName } from '../../protocol/e820.ts';
import { decodeDescriptors, type EfiMemoryDescriptor } from '../../protocol/efi-memory-map.ts';
import { SETUP_HEADER_FIELDS } from '../../protocol/setup-header.ts';
import type { PhysicalMemory } from '../../x86/physical-memory.ts';
import type { BootParamsAtJump } from '../boot-trace.ts';
import {
  type DecodedField,
  decodeFields,
  type FieldRow,
  hexBytes,
  type MemoryReader,
  viewOf,
} from './decoded.ts';

/** setup_data types (uapi/asm/setup_data.h). */
const SETUP_DATA_TYPES: Readonly<Record<number, string>> = {
  0: 'SETUP_NONE',
  1: 'SETUP_E820_EXT',
  2: 'SETUP_DTB',
  3: 'SETUP_PCI',
  4: 'SETUP_EFI',
  5: 'SETUP_APPLE_PROPERTIES',
  6: 'SETUP_JAILHOUSE',
  7: 'SETUP_CC_BLOB',
  8: 'SETUP_IMA',
  9: 'SETUP_RNG_SEED',
  10: 'SETUP_KEXEC_KHO',
};
const SETUP_DATA_HEADER = 16;
const SETUP_DATA_SHOWN = 16;
/** A longer list is taken for a circle. */
const MAX_SETUP_DATA = 1000;

const HEADER_ROWS: readonly FieldRow[] = SETUP_HEADER_FIELDS.map(
  ({ name, offset, size, format, meaning }) => ({
    ...{ name: `hdr.${name}`, offset, size, format, meaning },
  }),
);
const OTHER_ROWS: readonly FieldRow[] = BOOT_PARAMS_FIELDS.map(({ name, offset, size, meaning }) => ({
  ...{ name, offset, size, meaning },
  // Numbers of things; all else are addresses, codes and bits.
  format: /(_entries|_k|_size|_lines|_cols|_width|_height|_depth|_points)$/.test(name) ? 'decimal' : 'hex',
}));
const ROWS = [...OTHER_ROWS, ...HEADER_ROWS].toSorted((a, b) => a.offset - b.offset);

/** Every number in it, the setup header's as `hdr.NAME`, and the entries of the E820 map. */
export function decodeBootParams(memory: MemoryReader, address: number): readonly DecodedField[] {
  return [...decodeFields(memory, address, ROWS), ...decodeE820(memory, address)];
}

/** @param address - of boot_params */
export function decodeE820(memory: MemoryReader, address: number): readonly DecodedField[] {
  const table = address + bootParamsOffset('e820_table');
  return bootParamsAt(memory, address).memoryMap.map(({ address: start, size, type }, index) => ({
    name: `e820_table[${index}]`,
    address: table + index * E820_ENTRY_SIZE,
    size: E820_ENTRY_SIZE,
    value: hex(start),
    text: `${hex(start)}..${hex(start + size)} ${e820TypeName(type)}`,
  }));
}

/** What the kernel is handed; null where its address is not RAM. */
export function bootParamsAtJump(memory: PhysicalMemory, address: bigint): BootParamsAtJump | null {
  const at = Number(address);
  if (!memory.contains(at, BOOT_PARAMS_SIZE)) return null;
  const reader = { read: (from: number, length: number) => memory.copyOut(from, length) };
  const fields = decodeFields(reader, at, ROWS).filter(({ value }) => value !== 0 && value !== '0x0');
  return {
    address,
    fields: Object.fromEntries(fields.map(({ name, value }) => [name, value as number | string])),
    memoryMap: bootParamsAt(reader, at).memoryMap.map(({ address: start, size, type }) => ({
      ...{ start, end: start + size, type: e820TypeName(type) },
    })),
  };
}

/** The linked list that `hdr.setup_data` begins. @param address - of boot_params */
export function decodeSetupData(memory: MemoryReader, address: number): readonly DecodedField[] {
  const fields: DecodedField[] = [];
  const row = SETUP_HEADER_FIELDS.find(({ name }) => name === 'setup_data')!;
  let at = Number(viewOf(memory.read(address + row.offset, 8)).getBigUint64(0, true));
  while (at !== 0) {
    if (fields.length === MAX_SETUP_DATA) {
      throw new BootscopeError(
        'debug-setup-data',
        `the list of setup_data has more than ${MAX_SETUP_DATA} entries: it goes in a circle`,
      );
    }
    const header = viewOf(memory.read(at, SETUP_DATA_HEADER));
    const type = header.getUint32(8, true);
    const length = header.getUint32(12, true);
    const start = hexBytes(memory.read(at + SETUP_DATA_HEADER, Math.min(length, SETUP_DATA_SHOWN)));
    fields.push({
      ...{ name: `setup_data[${fields.length}]`, address: at, size: SETUP_DATA_HEADER + length, value: type },
      text: `${SETUP_DATA_TYPES[type] ?? `type ${type}`}, ${length} bytes: ${start}${length > SETUP_DATA_SHOWN ? ' …' : ''}`,
    });
    at = Number(header.getBigUint64(0, true));
  }
  return fields;
}

/** What `efi_memmap` points to. @param address - of boot_params */
export function decodeEfiMemoryMap(memory: MemoryReader, address: number): readonly DecodedField[] {
  const parameters = bootParamsAt(memory, address);
  const start = parameters.get('efi_memmap') + parameters.get('efi_memmap_hi') * 2 ** 32;
  const size = parameters.get('efi_memmap_size');
  const each = parameters.get('efi_memdesc_size');
  if (size === 0 || each < 40) {
    throw new BootscopeError(
      'debug-efi-memory-map',
      `boot_params at ${hex(address)} names no memory map of EFI: efi_memmap_size is ${size}, efi_memdesc_size ${each}`,
    );
  }
  return decodeDescriptors(memory.read(start, size), each).map((descriptor, index) => ({
    ...{ name: `[${index}]`, address: start + index * each, size: each },
    ...described(descriptor),
  }));
}

/** The map that firmware has, which is nowhere in memory yet. */
export function decodeEfiMap(map: readonly EfiMemoryDescriptor[]): readonly DecodedField[] {
  return map.map((descriptor, index) => ({
    ...{ name: `[${index}]`, address: descriptor.start, size: 0 },
    ...described(descriptor),
  }));
}

function described({
  start,
  end,
  type,
  attributes,
}: EfiMemoryDescriptor): Pick<DecodedField, 'value' | 'text'> {
  return { value: hex(start), text: `${hex(start)}..${hex(end)} ${type}, attributes ${hex(attributes)}` };
}

function bootParamsAt(memory: MemoryReader, address: number): BootParams {
  return new BootParams(memory.read(address, BOOT_PARAMS_SIZE));
}
