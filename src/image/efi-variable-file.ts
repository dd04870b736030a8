// Files that keep UEFI variables: the JSON of QEMU's uefi-vars devices and of virt-fw-vars, and the flash image of OVMF (edk2's
// authenticated variable store), which is only read.

import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import { hexDigits } from '../host/host.ts';
import { guidText } from '../protocol/efi-guids.ts';
import { type EfiVariable, VARIABLE_NON_VOLATILE } from '../protocol/efi-variables.ts';

/** Of QEMU's qapi/uefi.json. */
const VERSION = 2;
const GUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const HEX = /^([0-9a-f]{2})*$/i;

/**
 * Reads the variables that a file holds.
 *
 * @param path - for people
 * @throws {@link BootscopeError} `efi-variables` where it is neither the JSON of variables nor a variable store
 */
export function readEfiVariables(path: string, bytes: Uint8Array): readonly EfiVariable[] {
  if (looksLikeJson(bytes)) return parseJson(path, new TextDecoder().decode(bytes));
  const store = readFlash(path, bytes);
  if (store !== null) return store;
  throw unusable(
    path,
    `is neither JSON with "version": ${VERSION} and "variables", as QEMU and virt-fw-vars write it, nor the variable store of OVMF`,
  );
}

/** Whether it begins with a brace. */
function looksLikeJson(bytes: Uint8Array): boolean {
  return bytes.find((byte) => byte > 0x20) === 0x7b;
}

function unusable(path: string, why: string): BootscopeError {
  return new BootscopeError('efi-variables', `${path} ${why}`);
}

function parseJson(path: string, text: string): readonly EfiVariable[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw unusable(path, `is no JSON: ${(error as Error).message}`);
  }
  const { version, variables } = value as { version?: unknown; variables?: unknown };
  if (!Array.isArray(variables)) throw unusable(path, 'holds no list of "variables"');
  if (version !== VERSION) {
    throw unusable(path, `says "version": ${JSON.stringify(version)}, ${VERSION} is what is known`);
  }
  return variablesOfJson(path, variables);
}

/** A variable as the JSON has it. */
export interface EfiVariableJson {
  readonly name: string;
  readonly guid: string;
  readonly attr: number;
  /** In hex. */
  readonly data: string;
}

/**
 * @param path - of what holds the list, for people
 * @throws BootscopeError `efi-variables`
 */
export function variablesOfJson(path: string, variables: readonly unknown[]): readonly EfiVariable[] {
  return variables.map((each: unknown, index) => {
    const { name, guid, attr, data } = (each ?? {}) as Readonly<Record<string, unknown>>;
    const wrong = (what: string): BootscopeError => unusable(path, `has a variable ${index + 1} ${what}`);
    if (typeof name !== 'string' || name === '') throw wrong('without a name');
    if (typeof guid !== 'string' || !GUID.test(guid)) throw wrong(`(${name}) without the GUID of its vendor`);
    if (!Number.isInteger(attr)) throw wrong(`(${name}) whose "attr" is no number`);
    if (typeof data !== 'string' || !HEX.test(data)) throw wrong(`(${name}) whose "data" is not in hex`);
    return {
      name,
      vendor: guid.toLowerCase(),
      attributes: attr as number,
      data: Uint8Array.from(data.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16)),
    };
  });
}

/** Whether a file holds nothing but variables as JSON, so that it may be written anew. */
export function isEfiVariablesJson(path: string, bytes: Uint8Array): boolean {
  try {
    return looksLikeJson(bytes) && readEfiVariables(path, bytes) !== null;
  } catch {
    return false;
  }
}

/** The JSON of the variables that stay when the machine is switched off. */
export function formatEfiVariables(variables: readonly EfiVariable[]): string {
  const kept = variables.filter(({ attributes }) => (attributes & VARIABLE_NON_VOLATILE) !== 0);
  return `${JSON.stringify({ version: VERSION, variables: variablesToJson(kept) }, null, 2)}\n`;
}

export function variablesToJson(variables: readonly EfiVariable[]): readonly EfiVariableJson[] {
  return variables.map(({ name, vendor, attributes, data }) => ({
    name,
    guid: vendor,
    attr: attributes,
    data: hexDigits(data),
  }));
}

// edk2, MdePkg/Include/Pi/PiFirmwareVolume.h and MdeModulePkg/Include/Guid/VariableFormat.h.
const VOLUME_SIGNATURE = 0x4856_465f;
const VOLUME_SIGNATURE_AT = 40;
const VOLUME_HEADER_LENGTH_AT = 48;
const AUTHENTICATED_STORE = 'aaf32c78-947b-439a-a180-2e144ec37792';
const STORE_HEADER = 28;
const RECORD_HEADER = 60;
const RECORD_START = 0x55aa;
/** A record that holds, and one that is being replaced: what a write that was cut off leaves. */
const ADDED = 0x3f;
const IN_DELETED_TRANSITION = 0x3e;

/** Null for what does not begin as a firmware volume with such a store. */
function readFlash(path: string, bytes: Uint8Array): readonly EfiVariable[] | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < VOLUME_HEADER_LENGTH_AT + 2) return null;
  if (view.getUint32(VOLUME_SIGNATURE_AT, true) !== VOLUME_SIGNATURE) return null;
  const store = view.getUint16(VOLUME_HEADER_LENGTH_AT, true);
  if (store + STORE_HEADER > bytes.length) return null;
  const kind = guidText(bytes.subarray(store, store + 16));
  if (kind !== AUTHENTICATED_STORE) {
    throw unusable(path, `is a firmware volume that holds ${kind}, no authenticated variable store`);
  }
  const end = store + view.getUint32(store + 16, true);
  if (end > bytes.length) {
    throw unusable(path, `has a variable store up to ${hex(end)}, the file ends at ${hex(bytes.length)}`);
  }
  const found: EfiVariable[] = [];
  for (let at = align4(store + STORE_HEADER); at + RECORD_HEADER <= end; ) {
    if (view.getUint16(at, true) !== RECORD_START) break;
    const nameSize = view.getUint32(at + 36, true);
    const dataSize = view.getUint32(at + 40, true);
    const data = at + RECORD_HEADER + nameSize;
    if (data + dataSize > end) {
      throw unusable(
        path,
        `has a variable at ${hex(at)} that ends behind its store, at ${hex(data + dataSize)}`,
      );
    }
    const state = bytes[at + 2]!;
    if (state === ADDED || state === IN_DELETED_TRANSITION) {
      const codes = Array.from({ length: nameSize >> 1 }, (_, index) =>
        view.getUint16(at + RECORD_HEADER + index * 2, true),
      );
      const variable = {
        name: String.fromCharCode(...codes.filter((code) => code !== 0)),
        vendor: guidText(bytes.subarray(at + 44, at + RECORD_HEADER)),
        attributes: view.getUint32(at + 4, true),
        data: bytes.slice(data, data + dataSize),
      };
      const known = found.findIndex(
        ({ name, vendor }) => name === variable.name && vendor === variable.vendor,
      );
      if (known < 0) found.push(variable);
      else if (state === ADDED) found[known] = variable;
    }
    at = align4(data + dataSize);
  }
  return found;
}

function align4(value: number): number {
  return Math.ceil(value / 4) * 4;
}
