// UEFI variables (8.2): named values by vendor, kept as long as the machine runs.

export const VARIABLE_NON_VOLATILE = 1;
export const VARIABLE_BOOT_SERVICE = 2;
export const VARIABLE_RUNTIME = 4;
const APPEND_WRITE = 0x40;

export interface EfiVariable {
  readonly name: string;
  /** GUID. */
  readonly vendor: string;
  readonly attributes: number;
  readonly data: Uint8Array;
}

export class VariableStore {
  readonly #variables = new Map<string, EfiVariable>();

  constructor(variables: readonly EfiVariable[] = []) {
    for (const variable of variables) this.#variables.set(keyOf(variable.name, variable.vendor), variable);
  }

  get(name: string, vendor: string): EfiVariable | undefined {
    return this.#variables.get(keyOf(name, vendor));
  }

  /** Data of no bytes, or no access, deletes. @returns false where there was nothing to delete */
  set(variable: EfiVariable): boolean {
    const key = keyOf(variable.name, variable.vendor);
    const append = (variable.attributes & APPEND_WRITE) !== 0;
    if (variable.data.length === 0 && append) return true;
    if (variable.data.length === 0 || (variable.attributes & ~VARIABLE_NON_VOLATILE) === 0) {
      return this.#variables.delete(key);
    }
    const before = this.#variables.get(key)?.data ?? new Uint8Array(0);
    const data = append ? Uint8Array.of(...before, ...variable.data) : variable.data;
    this.#variables.set(key, { ...variable, attributes: variable.attributes & ~APPEND_WRITE, data });
    return true;
  }

  /** The variable behind that one, the first for null; null at the end, undefined where that one is unknown. */
  next(after: { readonly name: string; readonly vendor: string } | null): EfiVariable | null | undefined {
    const all = [...this.#variables.values()];
    if (after === null) return all[0] ?? null;
    const index = all.findIndex(({ name, vendor }) => name === after.name && vendor === after.vendor);
    return index < 0 ? undefined : (all[index + 1] ?? null);
  }

  get all(): readonly EfiVariable[] {
    return [...this.#variables.values()];
  }
}

function keyOf(name: string, vendor: string): string {
  return `${vendor} ${name}`;
}
