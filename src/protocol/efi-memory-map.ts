// The EFI memory map: its descriptors, what the kernel takes each type for, and the text forms it is found in.

import { BootscopeError } from '../error.ts';
import {
  EFI_MEMORY_RUNTIME,
  EFI_MEMORY_TYPES,
  EFI_PAGE,
  type EfiMemoryType,
  MEMORY_DESCRIPTOR,
  MEMORY_DESCRIPTOR_SIZE,
} from './efi-tables.ts';

/** One descriptor: physical [start, end), whole pages. */
export interface EfiMemoryDescriptor {
  readonly start: number;
  readonly end: number;
  readonly type: EfiMemoryType;
  readonly attributes: bigint;
}

/** The names that the kernel's boot log gives the types (`efi=debug`), by number. */
const LOG_NAMES: readonly string[] = [
  'Reserved',
  'Loader Code',
  'Loader Data',
  'Boot Code',
  'Boot Data',
  'Runtime Code',
  'Runtime Data',
  'Conventional',
  'Unusable',
  'ACPI Reclaim',
  'ACPI Mem NVS',
  'MMIO',
  'MMIO Port',
  'PAL Code',
  'Persistent',
  'Unaccepted',
];

/** Attributes by the columns of the boot log, from left to right. */
const LOG_ATTRIBUTES: readonly (readonly [string, bigint])[] = [
  ['RUN', EFI_MEMORY_RUNTIME],
  ['MR', 0x1_0000n],
  ['SP', 0x4_0000n],
  ['CC', 0x8_0000n],
  ['RP', 0x2000n],
  ['XP', 0x4000n],
  ['NV', 0x8000n],
  ['WP', 0x1000n],
  ['RO', 0x2_0000n],
  ['UCE', 0x10n],
  ['UC', 0x1n],
  ['WC', 0x2n],
  ['WT', 0x4n],
  ['WB', 0x8n],
];

/** Types that the kernel's stub turns into usable RAM (E820 type 1) once boot services are gone. */
const USABLE: readonly EfiMemoryType[] = [
  'LoaderCode',
  'LoaderData',
  'BootServicesCode',
  'BootServicesData',
  'Conventional',
];

/** The E820 type that the EFI stub makes of a memory type. */
export function e820TypeOf(type: EfiMemoryType): number {
  if (USABLE.includes(type)) return 1;
  if (type === 'AcpiReclaim') return 3;
  if (type === 'AcpiNvs') return 4;
  if (type === 'Unusable') return 5;
  if (type === 'Persistent') return 7;
  return 2;
}

export function encodeDescriptors(
  descriptors: readonly EfiMemoryDescriptor[],
  size = MEMORY_DESCRIPTOR_SIZE,
): Uint8Array {
  const bytes = new Uint8Array(descriptors.length * size);
  const view = new DataView(bytes.buffer);
  for (const [index, { start, end, type, attributes }] of descriptors.entries()) {
    const at = index * size;
    view.setUint32(at + MEMORY_DESCRIPTOR.type, EFI_MEMORY_TYPES.indexOf(type), true);
    view.setBigUint64(at + MEMORY_DESCRIPTOR.physicalStart, BigInt(start), true);
    view.setBigUint64(at + MEMORY_DESCRIPTOR.pages, BigInt((end - start) / EFI_PAGE), true);
    view.setBigUint64(at + MEMORY_DESCRIPTOR.attributes, attributes, true);
  }
  return bytes;
}

/** @param size - bytes a descriptor, as the firmware says; types without a name read as Reserved */
export function decodeDescriptors(bytes: Uint8Array, size: number): EfiMemoryDescriptor[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const descriptors: EfiMemoryDescriptor[] = [];
  for (let at = 0; at + size <= bytes.length; at += size) {
    const start = Number(view.getBigUint64(at + MEMORY_DESCRIPTOR.physicalStart, true));
    descriptors.push({
      type: EFI_MEMORY_TYPES[view.getUint32(at + MEMORY_DESCRIPTOR.type, true)] ?? 'Reserved',
      start,
      end: start + Number(view.getBigUint64(at + MEMORY_DESCRIPTOR.pages, true)) * EFI_PAGE,
      attributes: view.getBigUint64(at + MEMORY_DESCRIPTOR.attributes, true),
    });
  }
  return descriptors;
}

/** `0x900000 0x1500000 BootServicesData 0xf`: start, end (exclusive), type, attributes. */
const TABLE_LINE = /^(0x[0-9a-f]+)\s+(0x[0-9a-f]+)\s+([A-Za-z]+)(?:\s+(0x[0-9a-f]+))?$/i;
/** `efi: mem00: [Boot Code   |   |  |…|WB|WT|WC|UC] range=[0x0-0xfff] (0MB)`, with whatever the log puts before it. */
const LOG_LINE = /efi: mem\d+:\s*\[([^|\]]+)\|([^\]]*)\]\s*range=\[(0x[0-9a-f]+)-(0x[0-9a-f]+)\]/i;

/**
 * Whether a text is an EFI memory map in one of the two forms that `parseEfiMemoryMap` reads.
 */
export function isEfiMemoryMap(text: string): boolean {
  return text.split('\n').some((line) => LOG_LINE.test(line) || isTableLine(line.trim()));
}

function isTableLine(line: string): boolean {
  const match = TABLE_LINE.exec(line);
  return match !== null && EFI_MEMORY_TYPES.includes(match[3] as EfiMemoryType);
}

/**
 * Reads a map as text: lines `start end type attributes`, or a boot log with `efi: mem00: [...]` lines (`efi=debug`), in which
 * every other line is passed over. Sorted by address.
 *
 * @throws BootscopeError `efi-memory-map` for text without a single descriptor, for a line that is none, and for descriptors that
 *   overlap or are no whole pages; the sentence names the line
 */
export function parseEfiMemoryMap(text: string): EfiMemoryDescriptor[] {
  const lines = text.split('\n');
  const isLog = lines.some((line) => LOG_LINE.test(line));
  const descriptors: EfiMemoryDescriptor[] = [];
  for (const [index, raw] of lines.entries()) {
    const line = raw.trim();
    if (isLog) {
      const found = LOG_LINE.exec(line);
      if (found !== null) descriptors.push(fromLogLine(found, index + 1));
    } else if (line !== '' && !line.startsWith('#')) {
      descriptors.push(fromTableLine(line, index + 1));
    }
  }
  if (descriptors.length === 0) {
    throw new BootscopeError('efi-memory-map', 'the text holds no descriptor of an EFI memory map');
  }
  descriptors.sort((a, b) => a.start - b.start);
  for (const [index, { start, end }] of descriptors.entries()) {
    const before = descriptors[index - 1];
    if (before !== undefined && before.end > start) {
      throw new BootscopeError(
        'efi-memory-map',
        `the EFI memory map says two things of 0x${start.toString(16)}..0x${Math.min(before.end, end).toString(16)}: ` +
          `${before.type} and ${descriptors[index]!.type}`,
      );
    }
  }
  return descriptors;
}

function fromTableLine(line: string, number: number): EfiMemoryDescriptor {
  const match = TABLE_LINE.exec(line);
  const type = EFI_MEMORY_TYPES.find((name) => name === match?.[3]);
  if (match === null || type === undefined) {
    throw new BootscopeError(
      'efi-memory-map',
      `line ${number} is no descriptor of an EFI memory map ("0x900000 0x1500000 BootServicesData 0xf"): "${line.slice(0, 60)}"`,
    );
  }
  return checked(Number(match[1]), Number(match[2]), type, BigInt(match[4] ?? '0xf'), number);
}

function fromLogLine(match: RegExpExecArray, number: number): EfiMemoryDescriptor {
  const name = match[1]!.trim();
  const index = LOG_NAMES.indexOf(name);
  if (index < 0) {
    throw new BootscopeError(
      'efi-memory-map',
      `line ${number} names the memory type "${name}", which is none of ${LOG_NAMES.join(', ')}`,
    );
  }
  const columns = match[2]!.split('|').map((column) => column.trim());
  const attributes = LOG_ATTRIBUTES.reduce(
    (sum, [column, bit]) => (columns.includes(column) ? sum | bit : sum),
    0n,
  );
  return checked(Number(match[3]), Number(match[4]) + 1, EFI_MEMORY_TYPES[index]!, attributes, number);
}

function checked(
  start: number,
  end: number,
  type: EfiMemoryType,
  attributes: bigint,
  line: number,
): EfiMemoryDescriptor {
  if (end <= start || start % EFI_PAGE !== 0 || end % EFI_PAGE !== 0) {
    throw new BootscopeError(
      'efi-memory-map',
      `line ${line}: 0x${start.toString(16)}..0x${end.toString(16)} is no range of whole pages`,
    );
  }
  return { start, end, type, attributes };
}
