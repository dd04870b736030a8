// What a UEFI service is here: one row with its name, its typed arguments and what it does. The list of calls, their decoding and
// the injection of faults all come from the row.

import { hex } from '../../hex.ts';
import { efiDevicePathText } from '../../protocol/efi-device-path.ts';
import { GUID_SIZE, guidName, guidText } from '../../protocol/efi-guids.ts';
import { EFI_ALLOCATE_TYPES, EFI_MEMORY_TYPES } from '../../protocol/efi-tables.ts';
import type { PhysicalMemory } from '../../x86/physical-memory.ts';
import type { UefiFirmware } from './firmware.ts';

/** How an argument is shown. */
const ARGUMENT_TYPES = [
  'number',
  'address',
  'boolean',
  'guid',
  'char16',
  'memory-type',
  'allocate-type',
  'search-type',
  'reset-type',
  'device-path',
] as const;
export type ArgumentType = (typeof ARGUMENT_TYPES)[number];

export interface Parameter {
  readonly name: string;
  readonly type: ArgumentType;
  /** `in` the value itself; `out` a pointer to where it is put, `in-out` one to where it is read and put. */
  readonly direction: 'in' | 'out' | 'in-out';
}

/** The service called guest code (an image, a notification) and returns when that does. */
export const CONTINUES_IN_GUEST = Symbol('continues in the guest');
export type ServiceResult = bigint | typeof CONTINUES_IN_GUEST;

/** @returns what the guest gets in RAX */
export type ServiceHandler = (firmware: UefiFirmware, ...args: readonly bigint[]) => ServiceResult;

export interface Service {
  readonly name: string;
  readonly parameters: readonly Parameter[];
  /** Null for a service that nobody wrote: it answers UNSUPPORTED. */
  readonly run: ServiceHandler | null;
  /** Returns nothing, or something else than a status. */
  readonly returns: 'status' | 'value';
}

/**
 * One row of a table of services.
 *
 * @param parameters - `Type:allocate-type MemoryType:memory-type Pages:number &Memory:address`: names and types in their order; `*`
 *   before a name makes it a pointer to what comes out, `&` to what goes in and comes out
 */
export function service(
  name: string,
  parameters: string,
  run: ServiceHandler | null,
  returns: Service['returns'] = 'status',
): Service {
  const words = parameters === '' ? [] : parameters.split(' ');
  return { name, parameters: words.map((word) => parameter(name, word)), run, returns };
}

function parameter(service: string, word: string): Parameter {
  const match = /^([*&]?)(\w+):([\w-]+)$/.exec(word);
  const type = ARGUMENT_TYPES.find((each) => each === match?.[3]);
  if (match === null || type === undefined) throw new Error(`${service}: "${word}" is no parameter`);
  const direction = match[1] === '*' ? 'out' : match[1] === '&' ? 'in-out' : 'in';
  return { name: match[2]!, type, direction };
}

const SEARCH_TYPES = ['AllHandles', 'ByRegisterNotify', 'ByProtocol'] as const;
const RESET_TYPES = ['Cold', 'Warm', 'Shutdown', 'PlatformSpecific'] as const;
/** Characters of a text argument that are shown. */
const MAXIMUM_TEXT = 200;

/** An argument as people read it. */
export function argumentText(memory: PhysicalMemory, { type, direction }: Parameter, value: bigint): string {
  if (direction !== 'in') {
    if (value === 0n) return 'NULL';
    return direction === 'in-out' ? `&${pointedText(memory, type, value)}` : 'out';
  }
  return valueText(memory, type, value);
}

/** What a service left where an argument points; null where it points nowhere. */
export function resultText(
  memory: PhysicalMemory,
  { type, direction }: Parameter,
  value: bigint,
): string | null {
  return direction === 'in' || value === 0n ? null : pointedText(memory, type, value);
}

function pointedText(memory: PhysicalMemory, type: ArgumentType, pointer: bigint): string {
  const address = Number(pointer);
  return memory.contains(address, 8) ? valueText(memory, type, memory.read64(address)) : hex(pointer);
}

function valueText(memory: PhysicalMemory, type: ArgumentType, value: bigint): string {
  const address = Number(value);
  switch (type) {
    case 'number':
      return value < 10n ? String(value) : hex(value);
    case 'address':
      return value === 0n ? 'NULL' : hex(value);
    case 'boolean':
      return (value & 0xffn) === 0n ? 'FALSE' : 'TRUE';
    case 'guid':
      return memory.contains(address, GUID_SIZE) && value !== 0n
        ? guidName(guidText(memory.copyOut(address, GUID_SIZE)))
        : hex(value);
    case 'char16':
      return value === 0n ? 'NULL' : JSON.stringify(readChar16(memory, address, MAXIMUM_TEXT));
    case 'memory-type':
      return EFI_MEMORY_TYPES[Number(value & 0xffff_ffffn)] ?? hex(value & 0xffff_ffffn);
    case 'allocate-type':
      return EFI_ALLOCATE_TYPES[Number(value & 0xffff_ffffn)] ?? hex(value);
    case 'search-type':
      return SEARCH_TYPES[Number(value & 0xffff_ffffn)] ?? hex(value);
    case 'reset-type':
      return RESET_TYPES[Number(value & 0xffff_ffffn)] ?? hex(value);
    case 'device-path':
      return value === 0n ? 'NULL' : (efiDevicePathText(bytesAt(memory, address)) ?? hex(value));
  }
}

/** Bytes from an address on, fewer at the end of RAM: for structures that say their own length. */
export function bytesAt(memory: PhysicalMemory, address: number, limit = 0x1000): Uint8Array {
  const size = Math.max(0, Math.min(limit, memory.bytesFrom(address)));
  return memory.contains(address, size) ? memory.copyOut(address, size) : new Uint8Array(0);
}

/** The text at an address up to its NUL, at most `limit` characters. */
export function readChar16(memory: PhysicalMemory, address: number, limit = 0x10000): string {
  let text = '';
  for (let at = address; text.length < limit && memory.contains(at, 2); at += 2) {
    const code = memory.read16(at);
    if (code === 0) break;
    text += String.fromCharCode(code);
  }
  return text;
}

/** The bytes of a text with its NUL. */
export function char16Bytes(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length * 2 + 2);
  for (let index = 0; index < text.length; index++) {
    bytes[index * 2] = text.charCodeAt(index) & 0xff;
    bytes[index * 2 + 1] = text.charCodeAt(index) >> 8;
  }
  return bytes;
}
