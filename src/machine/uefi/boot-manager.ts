// What UEFI firmware boots (UEFI 2.10, 3.1): the entries that BootNext and BootOrder name, in their order, and what is booted of a disk
// where none of them can be.

import { BootscopeError } from '../../error.ts';
import type { Esp } from '../../image/esp.ts';
import { type FileNode, findNode } from '../../image/file-tree.ts';
import { readPe } from '../../image/pe.ts';
import {
  ataNode,
  type DevicePathNode,
  efiDevicePathText,
  encodeDevicePath,
  filePathNode,
  filePathText,
  hardDriveNode,
  isHardDriveNode,
  isSameNode,
  pciPath,
} from '../../protocol/efi-device-path.ts';
import {
  bootNumbers,
  bootOptionName,
  decodeLoadOption,
  type EfiVariable,
  globalVariable,
} from '../../protocol/efi-variables.ts';

/** What firmware starts of a disk where no boot entry names a file (UEFI 2.10, 3.5.1.1). */
const REMOVABLE_PATH = 'EFI\\BOOT\\BOOTX64.EFI';
/** The same of firmware of 32 bits. */
const REMOVABLE_PATH_32 = 'EFI\\BOOT\\BOOTIA32.EFI';
const MACHINE_X64 = 0x8664;
/** Of the IDE controller, as in QEMU's PC. */
const IDE = { device: 1, function: 1 } as const;
/** What stands for the partition of a folder, which has none. */
export const FOLDER_PARTITION = { number: 1, start: 63, sectors: 1_032_129, id: 0xbe1afdfa } as const;

/** A program that the firmware can start. */
export interface BootChoice {
  /** The number of its entry; null for what a disk is booted by without one. */
  readonly option: number | null;
  /** `Boot0003 (debian)`; the file's path without an entry. */
  readonly name: string;
  /** Its path from the volume's root on, as the firmware passes it on. */
  readonly file: string;
  readonly node: FileNode;
  /** LoadOptions of an entry; null where it has none. */
  readonly loadOptions: Uint8Array | null;
  /** Entries before it that cannot be booted: a sentence each. */
  readonly passedOver: readonly string[];
}

/** Of the disk alone, and of the volume with the files. */
export function volumePaths({ disk, partition }: Esp): {
  readonly disk: readonly DevicePathNode[];
  readonly volume: readonly DevicePathNode[];
} {
  const whole = [...pciPath(IDE.device, IDE.function), ataNode(0, 0)];
  if (partition === null && disk !== null) return { disk: whole, volume: whole };
  const { number, start, sectors, id = 0 } = partition ?? FOLDER_PARTITION;
  return { disk: whole, volume: [...whole, hardDriveNode(number, BigInt(start), BigInt(sectors), id)] };
}

/**
 * What is to be tried, in this order. The last is what the disk is booted by without an entry, where it has that.
 */
export function bootChoices(esp: Esp, variables: readonly EfiVariable[]): readonly BootChoice[] {
  const next = globalVariable(variables, 'BootNext');
  const order = globalVariable(variables, 'BootOrder');
  const numbers = [
    ...(next === undefined ? [] : bootNumbers(next).slice(0, 1)),
    ...(order === undefined ? [] : bootNumbers(order)),
  ];
  const choices: BootChoice[] = [];
  let passedOver: string[] = [];
  const add = (choice: Omit<BootChoice, 'passedOver'>): void => {
    choices.push({ ...choice, passedOver });
    passedOver = [];
  };
  for (const number of new Set(numbers)) {
    const found = entryOf(esp, variables, number);
    if ('why' in found) passedOver.push(`${found.name} is passed over: ${found.why}`);
    else add({ option: number, ...found });
  }
  const node = findNode(esp.root, REMOVABLE_PATH);
  if (node !== null && !node.isFolder) {
    const file = `\\${REMOVABLE_PATH}`;
    add({ option: null, name: file, file, node, loadOptions: null });
  }
  return choices;
}

type Entry = Pick<BootChoice, 'name' | 'file' | 'node' | 'loadOptions'>;

function entryOf(
  esp: Esp,
  variables: readonly EfiVariable[],
  number: number,
): Entry | { readonly name: string; readonly why: string } {
  const variable = globalVariable(variables, bootOptionName(number));
  if (variable === undefined) return { name: bootOptionName(number), why: 'there is no such variable' };
  const option = decodeLoadOption(variable.data);
  if (option === null) {
    return {
      name: bootOptionName(number),
      why: `its ${variable.data.length} bytes are no EFI_LOAD_OPTION`,
    };
  }
  const name = `${bootOptionName(number)} (${option.description})`;
  if (!option.active) return { name, why: 'it is not active' };
  if (option.category !== 0) return { name, why: 'it is no boot entry but an application of a menu' };
  const where = fileOf(esp, option.path);
  if (typeof where === 'string') return { name, why: where };
  const { node, file } = where;
  const pe = readPe(node.read());
  if (pe === null) return { name, why: `${file} is no EFI program` };
  if (pe.machine !== MACHINE_X64)
    return { name, why: `${file} is for ${pe.machineName}, the firmware for x86-64` };
  const { optionalData } = option;
  return { name, file, node, loadOptions: optionalData.length === 0 ? null : optionalData };
}

/** The file that an entry's path names; why there is none, as a clause. */
function fileOf(esp: Esp, path: readonly DevicePathNode[]): { node: FileNode; file: string } | string {
  const { disk, volume } = volumePaths(esp);
  const firstFile = path.findIndex((node) => filePathText(node) !== null);
  const device = firstFile < 0 ? path : path.slice(0, firstFile);
  const text = efiDevicePathText(encodeDevicePath(device)) ?? '';
  const short = device[0];
  if (device.length === 1 && short !== undefined && isHardDriveNode(short)) {
    // A folder, or a file system alone, has no identity: it stands for whatever partition is meant.
    if (esp.partition !== null && !isSameNode(short, volume.at(-1)!))
      return `the partition on ${esp.path} is not ${text}`;
  } else if (device.length > 0 && !isSamePath(device, volume) && !isSamePath(device, disk)) {
    return `${text} is not ${esp.path}, the only disk that there is`;
  }
  const parts = firstFile < 0 ? [] : path.slice(firstFile).map(filePathText);
  if (parts.includes(null)) return `${efiDevicePathText(encodeDevicePath(path))} names no file`;
  const file = parts.length === 0 ? `\\${REMOVABLE_PATH}` : parts.join('\\').replaceAll(/\\+/g, '\\');
  const node = findNode(esp.root, file);
  return node === null || node.isFolder ? `there is no ${file} on ${esp.path}` : { node, file };
}

function isSamePath(a: readonly DevicePathNode[], b: readonly DevicePathNode[]): boolean {
  return a.length === b.length && a.every((node, index) => isSameNode(node, b[index]!));
}

/** The path of a program, from the volume's root on. */
export function bootFilePath({ file }: Pick<BootChoice, 'file'>): readonly DevicePathNode[] {
  return [filePathNode(file)];
}

/** What the entry that is booted first tells its program, as the command line that a kernel makes of it. */
export function entryCommandLine(esp: Esp, variables: readonly EfiVariable[]): string {
  const data = bootChoices(esp, variables)[0]?.loadOptions ?? new Uint8Array(0);
  const text = new TextDecoder('utf-16le').decode(data);
  const end = text.indexOf('\0');
  return end < 0 ? text : text.slice(0, end);
}

/** What its program is called. */
export function nameOfChoice({ file }: Pick<BootChoice, 'file'>): string {
  return file.slice(file.lastIndexOf('\\') + 1);
}

/**
 * What firmware boots from a disk: what BootNext or BootOrder name, else `\\EFI\\BOOT\\BOOTX64.EFI`.
 *
 * @param variables - what the firmware knows, as `readEfiVariables` reads it
 * @returns the program's file
 * @throws {@link BootscopeError} `image-esp` where there is nothing to boot
 */
export function bootProgramOf(esp: Esp, variables: readonly EfiVariable[] = []): Uint8Array {
  const [first] = bootChoices(esp, variables);
  if (first !== undefined) return first.node.read();
  const { path, root } = esp;
  const there = root.list().map(({ name }) => name);
  const other =
    findNode(root, REMOVABLE_PATH_32) === null ? '' : `; ${REMOVABLE_PATH_32} is for firmware of 32 bits`;
  const entries =
    globalVariable(variables, 'BootOrder') === undefined ? '' : ', and no boot entry names a program on it';
  throw new BootscopeError(
    'image-esp',
    `${path} has no ${REMOVABLE_PATH}, which firmware starts${entries}; it holds ${there.length === 0 ? 'nothing' : there.slice(0, 8).join(', ')}${other}`,
  );
}
