// A machine's memory map in the forms that people have it in: lines of numbers, the kernel's log, /proc/iomem, the files of
// /sys/firmware/memmap, a recorded boot_params, a map of EFI. The form is recognised by its lines.

import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import { BOOT_PARAMS_SIZE, BootParams } from './boot-params.ts';
import {
  E820_ACPI,
  E820_NVS,
  E820_PMEM,
  E820_RAM,
  E820_RESERVED,
  E820_TABLE_ENTRIES,
  E820_UNUSABLE,
  type E820Entry,
} from './e820.ts';
import { type EfiMemoryDescriptor, e820TypeOf, isEfiMemoryMap, parseEfiMemoryMap } from './efi-memory-map.ts';

/** The texts and files that a memory map is read from. */
export type MemoryMapForm = 'table' | 'log' | 'iomem' | 'firmware' | 'boot-params' | 'efi';

/** A map, and what else its source tells of the boot it is from. */
export interface DescribedMemoryMap {
  readonly form: MemoryMapForm;
  /** In the order of the source, which is the order that KASLR looks at it in; of EFI's map as the EFI stub makes them. */
  readonly entries: readonly E820Entry[];
  /** EFI's map, where the source has it. */
  readonly efiMap: readonly EfiMemoryDescriptor[] | null;
  readonly commandLine: string | null;
  readonly initrd: { readonly address: number; readonly size: number } | null;
  /** Whether that boot came through EFI. */
  readonly bootedByEfi: boolean;
}

/** What prints /sys/firmware/memmap as `readMemoryMap` takes it, in the firmware's order. Its ends are inclusive. */
export const FIRMWARE_MEMMAP_LOOP =
  'cd /sys/firmware/memmap && for i in $(ls | sort -n); do echo $(cat $i/start $i/end $i/type); done';

/** Types by the words that the kernel has for them in its log, in /proc/iomem and in /sys/firmware/memmap. */
const TYPES: ReadonlyMap<string, number> = new Map([
  ['usable', E820_RAM],
  ['system ram', E820_RAM],
  ['kernel usable ram', E820_RAM],
  ['reserved', E820_RESERVED],
  ['device reserved', E820_RESERVED],
  ['unknown e820 type', E820_RESERVED],
  ['acpi data', E820_ACPI],
  ['acpi tables', E820_ACPI],
  ['acpi nvs', E820_NVS],
  ['acpi non-volatile storage', E820_NVS],
  ['unusable', E820_UNUSABLE],
  ['unusable memory', E820_UNUSABLE],
  ['persistent', E820_PMEM],
  ['persistent memory', E820_PMEM],
  ['persistent memory (legacy)', 12],
  ['soft reserved', 0xefff_ffff],
]);

function typeOf(words: string): number | null {
  const text = words.trim().toLowerCase();
  const numbered = /\btype (\d+)\)?$/.exec(text);
  if (numbered !== null) return Number(numbered[1]);
  return TYPES.get(text) ?? null;
}

const NUMBER = '0x[0-9a-f]+';
/** `0x100000 0x20000000 1`: start, end (exclusive), type. */
const TABLE_LINE = new RegExp(`^(${NUMBER})\\s+(${NUMBER})\\s+(\\d+)$`, 'i');
/** `0x100000 0x1fffffff System RAM`: start, end (inclusive), type in words. */
const FIRMWARE_LINE = new RegExp(`^(${NUMBER})\\s+(${NUMBER})\\s+([a-z].*)$`, 'i');
/** `00100000-1fffffff : System RAM`, within which others are indented. */
const IOMEM_LINE = /^(\s*)([0-9a-f]+)-([0-9a-f]+) : (.*)$/i;
/** `BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable`, since 3.5; newer ones put a size before the words. */
const LOG_LINE = new RegExp(
  `BIOS-\\w+: \\[mem (${NUMBER})-(${NUMBER})\\]\\s+(?:[\\d.]+\\s+[KMGTP]?B\\s+)?(.*)$`,
  'i',
);
/** `BIOS-e820: 0000000000000000 - 000000000009fc00 (usable)`, before. */
const OLD_LOG_LINE = /BIOS-\w+: ([0-9a-f]+) - ([0-9a-f]+) \((.*)\)\s*$/i;
const COMMAND_LINE = /(?:\] |^|kernel: )(?:Kernel command line|Command line): (.*)$/;
const RAMDISK_LINE = new RegExp(`RAMDISK: \\[mem (${NUMBER})-(${NUMBER})\\]`, 'i');
const OLD_RAMDISK_LINE = /RAMDISK: ([0-9a-f]+) - ([0-9a-f]+)\s*$/i;
const EFI_LINE = /(?:\] |^|kernel: )efi: EFI v\d/;

/**
 * Reads a map.
 *
 * @param path - where the bytes are from, for messages
 * @throws BootscopeError `protocol-memory-map` where they hold none, or a line is none; the sentence names the line
 */
export function readMemoryMap(path: string, bytes: Uint8Array): DescribedMemoryMap {
  if (bytes.includes(0)) return fromBootParams(path, bytes);
  const text = new TextDecoder().decode(bytes);
  const lines = text.split(/\r?\n/);
  const rows = lines.map((line) => line.replace(/#.*/, ''));
  if (isFirmwareMemmap(rows)) return fromFirmware(path, rows);
  const efiMap = isEfiMemoryMap(text) ? parseEfiMemoryMap(text) : null;
  const some = (pattern: RegExp): boolean => lines.some((line) => pattern.test(line));
  if (some(LOG_LINE) || some(OLD_LOG_LINE)) return { ...fromLog(path, lines), efiMap };
  if (efiMap !== null) return fromEfi(path, efiMap);
  const first = rows.find((line) => line.trim() !== '') ?? '';
  if (IOMEM_LINE.test(first)) return fromIomem(path, rows);
  if (FIRMWARE_LINE.test(first.trim())) return fromFirmware(path, rows);
  if (some(/\bLinux version \d/)) {
    throw unusable(
      `${path} is a kernel's log without its memory map: the lines \`BIOS-e820: [mem 0x…-0x…] usable\` stand in the first hundred`,
    );
  }
  return fromTable(path, rows);
}

/** Its words for types are not those of EFI's map, but for one that both have. */
function isFirmwareMemmap(rows: readonly string[]): boolean {
  const types = rows
    .map((row) => row.trim())
    .filter((row) => row !== '')
    .map((row) => FIRMWARE_LINE.exec(row)?.[3]);
  return types.length > 0 && types.every((words) => words !== undefined && typeOf(words) !== null);
}

function unusable(message: string): BootscopeError {
  return new BootscopeError('protocol-memory-map', message);
}

function checked(path: string, entries: readonly E820Entry[]): readonly E820Entry[] {
  if (entries.length === 0 || entries.length > E820_TABLE_ENTRIES) {
    throw unusable(`${path}: ${entries.length} entries; a memory map has 1 to ${E820_TABLE_ENTRIES}`);
  }
  return entries;
}

/** @param end - exclusive */
function entryOf(where: string, start: bigint, end: bigint, type: number): E820Entry {
  if (end <= start)
    throw unusable(`${where}: ${hex(start)} to ${hex(end)} is no range: it ends before it begins`);
  return { address: start, size: end - start, type };
}

const PLAIN = { efiMap: null, commandLine: null, initrd: null, bootedByEfi: false } as const;

function fromTable(path: string, rows: readonly string[]): DescribedMemoryMap {
  const entries: E820Entry[] = [];
  for (const [index, row] of rows.entries()) {
    const line = row.trim();
    if (line === '') continue;
    const match = TABLE_LINE.exec(line);
    if (match === null) {
      throw unusable(
        `${path}, line ${index + 1}: \`${line.slice(0, 80)}\` is not \`START END TYPE\` such as \`0x100000 0x20000000 1\`, nor a line of ` +
          "a kernel's log, /proc/iomem or /sys/firmware/memmap",
      );
    }
    const where = `${path}, line ${index + 1}`;
    entries.push(entryOf(where, BigInt(match[1]!), BigInt(match[2]!), Number(match[3])));
  }
  return { form: 'table', entries: checked(path, entries), ...PLAIN };
}

function fromFirmware(path: string, rows: readonly string[]): DescribedMemoryMap {
  const entries: E820Entry[] = [];
  for (const [index, row] of rows.entries()) {
    const line = row.trim();
    if (line === '') continue;
    const where = `${path}, line ${index + 1}`;
    const match = FIRMWARE_LINE.exec(line);
    const type = match === null ? null : typeOf(match[3]!);
    if (match === null || type === null) {
      throw unusable(
        `${where}: \`${line.slice(0, 80)}\` is no entry of /sys/firmware/memmap such as \`0x0 0x9fbff System RAM\``,
      );
    }
    entries.push(entryOf(where, BigInt(match[1]!), BigInt(match[2]!) + 1n, type));
  }
  return { form: 'firmware', entries: checked(path, entries), ...PLAIN };
}

/** The outer lines that are memory; the rest are devices. */
function fromIomem(path: string, rows: readonly string[]): DescribedMemoryMap {
  const entries: E820Entry[] = [];
  let lines = 0;
  let zeroes = 0;
  for (const [index, row] of rows.entries()) {
    if (row.trim() === '') continue;
    const where = `${path}, line ${index + 1}`;
    const match = IOMEM_LINE.exec(row);
    if (match === null) throw unusable(`${where}: \`${row.trim().slice(0, 80)}\` is no line of /proc/iomem`);
    const [start, last] = [BigInt(`0x${match[2]}`), BigInt(`0x${match[3]}`)];
    lines++;
    if (start === 0n && last === 0n) zeroes++;
    const type = match[1] === '' ? typeOf(match[4]!) : null;
    if (type !== null && !(start === 0n && last === 0n)) entries.push(entryOf(where, start, last + 1n, type));
  }
  if (lines > 0 && zeroes === lines) {
    throw unusable(
      `${path}: all ${lines} ranges of this /proc/iomem are 0 to 0, as the kernel shows it to users without CAP_SYS_ADMIN; read it as root`,
    );
  }
  return { form: 'iomem', entries: checked(path, entries), ...PLAIN };
}

function fromLog(path: string, lines: readonly string[]): DescribedMemoryMap {
  const entries: E820Entry[] = [];
  let commandLine: string | null = null;
  let initrd: DescribedMemoryMap['initrd'] = null;
  let bootedByEfi = false;
  for (const [index, line] of lines.entries()) {
    const where = `${path}, line ${index + 1}`;
    const found = LOG_LINE.exec(line) ?? OLD_LOG_LINE.exec(line);
    if (found !== null) {
      const inclusive = LOG_LINE.test(line);
      const type = typeOf(found[3]!);
      if (type === null) throw unusable(`${where}: memory of type \`${found[3]!.trim()}\` is not known`);
      const [start, end] = [found[1]!, found[2]!].map((text) =>
        BigInt(text.startsWith('0x') ? text : `0x${text}`),
      );
      entries.push(entryOf(where, start!, inclusive ? end! + 1n : end!, type));
      continue;
    }
    commandLine ??= COMMAND_LINE.exec(line)?.[1]?.trim() ?? null;
    bootedByEfi ||= EFI_LINE.test(line);
    const ramdisk = RAMDISK_LINE.exec(line);
    const old = OLD_RAMDISK_LINE.exec(line);
    if (ramdisk !== null) initrd = extent(Number(ramdisk[1]), Number(ramdisk[2]) + 1);
    else if (old !== null) initrd = extent(Number(`0x${old[1]}`), Number(`0x${old[2]}`));
  }
  return { form: 'log', entries: checked(path, entries), efiMap: null, commandLine, initrd, bootedByEfi };
}

function extent(address: number, end: number): { readonly address: number; readonly size: number } {
  return { address, size: end - address };
}

/** As the EFI stub does: neighbours that become one type are one entry. */
function fromEfi(path: string, efiMap: readonly EfiMemoryDescriptor[]): DescribedMemoryMap {
  const entries: E820Entry[] = [];
  for (const { start, end, type: efiType } of efiMap) {
    const type = e820TypeOf(efiType);
    const [address, size] = [BigInt(start), BigInt(end - start)];
    const last = entries.at(-1);
    if (last !== undefined && last.type === type && last.address + last.size === address) {
      entries[entries.length - 1] = { ...last, size: last.size + size };
    } else {
      entries.push({ address, size, type });
    }
  }
  return { form: 'efi', entries: checked(path, entries), ...PLAIN, efiMap, bootedByEfi: true };
}

/** /sys/kernel/boot_params/data: the page as the stub left it, without what its pointers lead to. */
function fromBootParams(path: string, bytes: Uint8Array): DescribedMemoryMap {
  if (bytes.length !== BOOT_PARAMS_SIZE) {
    throw unusable(
      `${path} is no text, and with ${bytes.length} bytes no boot_params, which has ${BOOT_PARAMS_SIZE}`,
    );
  }
  const params = new BootParams(bytes);
  const { initrd } = params;
  return {
    form: 'boot-params',
    entries: checked(path, params.memoryMap),
    ...PLAIN,
    initrd,
    bootedByEfi: params.get('efi_loader_signature') !== 0,
  };
}
