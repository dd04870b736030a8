// What guests have set through the MemoryAttribute protocol: read-only, not readable, not executable, page by page.

import { EFI_PAGE } from '../../protocol/efi-tables.ts';

export class MemoryAttributes {
  readonly #pages = new Map<number, bigint>();

  /** Attributes of the page that holds an address; 0 where nobody set any. */
  get(address: number): bigint {
    return this.#pages.get(Math.floor(address / EFI_PAGE)) ?? 0n;
  }

  change(start: number, end: number, set: bigint, clear: bigint): void {
    for (let page = Math.floor(start / EFI_PAGE); page * EFI_PAGE < end; page++) {
      const value = ((this.#pages.get(page) ?? 0n) | set) & ~clear;
      if (value === 0n) this.#pages.delete(page);
      else this.#pages.set(page, value);
    }
  }
}
