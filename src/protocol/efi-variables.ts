// UEFI variables (8.2), and those by which firmware knows what to boot: BootOrder, BootNext and Boot#### (3.1 and 3.3).

import { type DevicePathNode, decodeDevicePath } from './efi-device-path.ts';
import { EFI_GUIDS } from './efi-guids.ts';

export const VARIABLE_NON_VOLATILE = 1;
export const VARIABLE_BOOT_SERVICE = 2;
export const VARIABLE_RUNTIME = 4;
export const VARIABLE_APPEND_WRITE = 0x40;

/** A named value of a vendor. */
export interface EfiVariable {
  readonly name: string;
  /** GUID, lower case. */
  readonly vendor: string;
  /** EFI_VARIABLE_*. */
  readonly attributes: number;
  readonly data: Uint8Array;
}

/** EFI_LOAD_OPTION: what a Boot#### variable holds. */
export interface EfiLoadOption {
  /** The firmware may boot it without being told to. */
  readonly active: boolean;
  /** 0 for what is booted in its turn, 1 for programs that are started from a menu only. */
  readonly category: number;
  readonly description: string;
  /** Where the program is. */
  readonly path: readonly DevicePathNode[];
  /** What the program finds as its LoadOptions. */
  readonly optionalData: Uint8Array;
}

const ACTIVE = 1;
const CATEGORY = 0x1f00;
/** Attributes, and the length of the paths. */
const HEADER = 6;

/** Reads one; null for what is none. */
export function decodeLoadOption(data: Uint8Array): EfiLoadOption | null {
  if (data.length < HEADER + 2) return null;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  let description = '';
  let at = HEADER;
  for (; at + 2 <= data.length && view.getUint16(at, true) !== 0; at += 2) {
    description += String.fromCharCode(view.getUint16(at, true));
  }
  const paths = at + 2;
  const end = paths + view.getUint16(4, true);
  if (end > data.length) return null;
  // What follows the first is for the program's own use.
  const path = decodeDevicePath(data.subarray(paths, end));
  if (path === null) return null;
  const attributes = view.getUint32(0, true);
  return {
    active: (attributes & ACTIVE) !== 0,
    category: (attributes & CATEGORY) >> 8,
    description,
    path,
    optionalData: data.slice(end),
  };
}

/** The name of a boot entry's variable. */
export function bootOptionName(number: number): string {
  return `Boot${number.toString(16).toUpperCase().padStart(4, '0')}`;
}

/** The numbers in BootOrder, or in BootNext. */
export function bootNumbers({ data }: Pick<EfiVariable, 'data'>): readonly number[] {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  return Array.from({ length: data.length >> 1 }, (_, index) => view.getUint16(index * 2, true));
}

/** A variable that the specification itself defines; undefined where it is not set. */
export function globalVariable(variables: readonly EfiVariable[], name: string): EfiVariable | undefined {
  return variables.find((each) => each.name === name && each.vendor === EFI_GUIDS.GlobalVariable);
}
