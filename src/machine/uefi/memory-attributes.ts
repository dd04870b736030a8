// How firmware maps memory, page by page: read-only, not readable, not executable. What the MemoryAttribute protocol and the DXE
// services are asked for is remembered here, and whoever enforces it asks here: the page tables themselves map all for everything.

import { EFI_MEMORY_RO, EFI_MEMORY_XP, EFI_PAGE } from '../../protocol/efi-tables.ts';

export class MemoryAttributes {
  readonly #pages = new Map<number, bigint>();
  readonly #default: bigint;

  /** @param initial - of pages that nobody has changed */
  constructor(initial: bigint) {
    this.#default = initial;
  }

  /** Attributes of the page that holds an address. */
  get(address: number): bigint {
    return this.#pages.get(Math.floor(address / EFI_PAGE)) ?? this.#default;
  }

  change(start: number, end: number, set: bigint, clear: bigint): void {
    for (let page = Math.floor(start / EFI_PAGE); page * EFI_PAGE < end; page++) {
      const value = ((this.#pages.get(page) ?? this.#default) | set) & ~clear;
      if (value === this.#default) this.#pages.delete(page);
      else this.#pages.set(page, value);
    }
  }

  /** The end of the run of pages with the same attributes as that of `start`, at most `limit`. */
  endOfRun(start: number, limit: number): number {
    const value = this.get(start);
    let end = (Math.floor(start / EFI_PAGE) + 1) * EFI_PAGE;
    while (end < limit && this.get(end) === value) end += EFI_PAGE;
    return Math.min(end, limit);
  }

  /** Runs of pages that somebody has made executable and nobody read-only, [start, end), by address. */
  writableCode(): readonly { readonly start: number; readonly end: number }[] {
    const runs: { start: number; end: number }[] = [];
    const pages = [...this.#pages].filter(([, value]) => (value & (EFI_MEMORY_RO | EFI_MEMORY_XP)) === 0n);
    for (const [page] of pages.sort(([a], [b]) => a - b)) {
      const last = runs.at(-1);
      if (last?.end === page * EFI_PAGE) last.end += EFI_PAGE;
      else runs.push({ start: page * EFI_PAGE, end: (page + 1) * EFI_PAGE });
    }
    return runs;
  }
}
