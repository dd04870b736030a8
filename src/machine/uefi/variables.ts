// UEFI variables (8.2) as a machine holds them: what may be read and written, and when.

import { EFI_GUIDS } from '../../protocol/efi-guids.ts';
import { EFI_STATUS } from '../../protocol/efi-tables.ts';
import {
  type EfiVariable,
  VARIABLE_APPEND_WRITE,
  VARIABLE_BOOT_SERVICE,
  VARIABLE_NON_VOLATILE,
  VARIABLE_RUNTIME,
} from '../../protocol/efi-variables.ts';

const { SUCCESS, INVALID_PARAMETER, NOT_FOUND, OUT_OF_RESOURCES, UNSUPPORTED, WRITE_PROTECTED } = EFI_STATUS;

/** Names and data of all variables, and of one: what edk2's flash of 256 KiB has for them. */
export const VARIABLE_ROOM = 0x10000;
export const MAXIMUM_VARIABLE = 0x8000;
/** What a variable takes beside its name and data. */
const RECORD_HEADER = 60;
/** Writing those takes a signature, which this firmware does not check. */
const AUTHENTICATED = 0x10 | 0x20 | 0x80;
const HARDWARE_ERROR_RECORD = 8;
/** What only the firmware itself sets (3.3, table of global variables). */
const READ_ONLY: ReadonlySet<string> = new Set([
  ...['SecureBoot', 'SetupMode', 'AuditMode', 'DeployedMode', 'BootCurrent', 'BootOptionSupport'],
  ...['LangCodes', 'PlatformLangCodes', 'OsIndicationsSupported', 'SignatureSupport', 'VendorKeys'],
]);

export class VariableStore {
  readonly #variables = new Map<string, EfiVariable>();

  constructor(variables: readonly EfiVariable[] = []) {
    for (const variable of variables) this.put(variable);
  }

  /** As the firmware itself does, for which no rule holds. */
  put(variable: EfiVariable): void {
    this.#variables.set(keyOf(variable), variable);
  }

  /** As the firmware itself does. */
  remove(name: string, vendor: string): void {
    this.#variables.delete(keyOf({ name, vendor }));
  }

  /** @param atRuntime - boot services have been left, and what has no RUNTIME_ACCESS with them */
  get(name: string, vendor: string, atRuntime: boolean): EfiVariable | undefined {
    const variable = this.#variables.get(keyOf({ name, vendor }));
    return variable !== undefined && isSeen(variable, atRuntime) ? variable : undefined;
  }

  /**
   * SetVariable: data of no bytes, or no access, deletes.
   *
   * @returns the status
   */
  set(variable: EfiVariable, atRuntime: boolean): bigint {
    const { name, vendor, data } = variable;
    const attributes = variable.attributes & ~VARIABLE_APPEND_WRITE;
    const append = attributes !== variable.attributes;
    const access = attributes & (VARIABLE_BOOT_SERVICE | VARIABLE_RUNTIME);
    if (access === VARIABLE_RUNTIME) return INVALID_PARAMETER;
    if ((attributes & AUTHENTICATED) !== 0) return UNSUPPORTED;
    if ((attributes & HARDWARE_ERROR_RECORD) !== 0 && (attributes & VARIABLE_NON_VOLATILE) === 0)
      return INVALID_PARAMETER;
    if (vendor === EFI_GUIDS.GlobalVariable && READ_ONLY.has(name)) return WRITE_PROTECTED;
    const before = this.get(name, vendor, atRuntime);
    if (before !== undefined) {
      if (atRuntime && (before.attributes & VARIABLE_NON_VOLATILE) === 0) return WRITE_PROTECTED;
      if (attributes !== 0 && attributes !== before.attributes) return INVALID_PARAMETER;
    }
    if (access === 0 || (data.length === 0 && !append)) {
      return this.#variables.delete(keyOf(variable)) && before !== undefined ? SUCCESS : NOT_FOUND;
    }
    if (before === undefined && atRuntime) {
      if (access !== (VARIABLE_BOOT_SERVICE | VARIABLE_RUNTIME)) return INVALID_PARAMETER;
      if ((attributes & VARIABLE_NON_VOLATILE) === 0) return INVALID_PARAMETER;
    }
    if (data.length === 0) return SUCCESS;
    const whole = append && before !== undefined ? Uint8Array.of(...before.data, ...data) : data;
    if (sizeOf({ name, data: whole }) > MAXIMUM_VARIABLE) return INVALID_PARAMETER;
    if (
      this.used - (before === undefined ? 0 : sizeOf(before)) + sizeOf({ name, data: whole }) >
      VARIABLE_ROOM
    )
      return OUT_OF_RESOURCES;
    this.put({ name, vendor, attributes, data: whole });
    return SUCCESS;
  }

  /** The variable behind that one, the first for null; null at the end, undefined where that one is unknown. */
  next(
    after: { readonly name: string; readonly vendor: string } | null,
    atRuntime: boolean,
  ): EfiVariable | null | undefined {
    const all = this.all.filter((variable) => isSeen(variable, atRuntime));
    if (after === null) return all[0] ?? null;
    const index = all.findIndex(({ name, vendor }) => name === after.name && vendor === after.vendor);
    return index < 0 ? undefined : (all[index + 1] ?? null);
  }

  get all(): readonly EfiVariable[] {
    return [...this.#variables.values()];
  }

  /** Bytes that are taken. */
  get used(): number {
    return this.all.reduce((sum, variable) => sum + sizeOf(variable), 0);
  }
}

function isSeen({ attributes }: EfiVariable, atRuntime: boolean): boolean {
  return !atRuntime || (attributes & VARIABLE_RUNTIME) !== 0;
}

function sizeOf({ name, data }: Pick<EfiVariable, 'name' | 'data'>): number {
  return RECORD_HEADER + name.length * 2 + 2 + data.length;
}

function keyOf({ name, vendor }: Pick<EfiVariable, 'name' | 'vendor'>): string {
  return `${vendor} ${name}`;
}
