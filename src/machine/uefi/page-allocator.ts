// The firmware's memory map and where AllocatePages takes pages from: OVMF's (EDK2's) policy, so that addresses are comparable.
//
// Free memory is used from the top down. Types that outlive the boot have a *bin*, a range set aside for them near the end of
// RAM, so that the map of two boots is alike: GetMemoryMap shows all of a bin as its type, used or not. What has no bin goes
// below the lowest one as long as there is room, elsewhere after that.

import type { EfiMemoryDescriptor } from '../../protocol/efi-memory-map.ts';
import {
  EFI_MEMORY_RAM,
  EFI_MEMORY_RUNTIME,
  EFI_PAGE,
  type EfiMemoryType,
} from '../../protocol/efi-tables.ts';

/** Types that get a bin. */
const BIN_TYPES: readonly EfiMemoryType[] = [
  'Reserved',
  'RuntimeServicesCode',
  'RuntimeServicesData',
  'AcpiReclaim',
  'AcpiNvs',
];

/** A range kept for one type; pages below `used` are free. */
export interface EfiBin {
  readonly type: EfiMemoryType;
  readonly start: number;
  readonly end: number;
  readonly used: number;
}

/** What of the allocator's state a memory map does not show. */
export interface AllocatorState {
  readonly bins: readonly EfiBin[];
  /** The key of the next GetMemoryMap: how often the map has changed. */
  readonly mapKey: number;
  /** Entries of the firmware's own list beyond those that GetMemoryMap gives out: what a size that it asks for is too large by. */
  readonly surplusEntries: number;
  /** Entries that the list can grow by before the firmware takes a page of BootServicesData for more. */
  readonly spareEntries: number;
}

/** What OVMF has at the entry of a kernel. */
export const OVMF_STATE: Omit<AllocatorState, 'bins'> = { mapKey: 0x76f, surplusEntries: 7, spareEntries: 3 };
/** Entries of the firmware's list in a page. */
const ENTRIES_PER_PAGE = 56;

/** Pages that OVMF 2022.11 has in use at the top of each bin when it starts a kernel. */
const USED_PAGES: ReadonlyMap<EfiMemoryType, number> = new Map([
  ['RuntimeServicesData', 0xe0],
  ['RuntimeServicesCode', 0xe0],
  ['Reserved', 0x10],
  ['AcpiReclaim', 9],
  ['AcpiNvs', 0x10],
]);

/** The bins of a map: the longest run of neighbouring descriptors of types that have one, ACPI's among them. */
export function findBins(map: readonly EfiMemoryDescriptor[]): EfiBin[] {
  let best: readonly EfiMemoryDescriptor[] = [];
  let run: EfiMemoryDescriptor[] = [];
  for (const descriptor of map) {
    if (!BIN_TYPES.includes(descriptor.type)) run = [];
    else if (run.at(-1)?.end === descriptor.start) run.push(descriptor);
    else run = [descriptor];
    if (run.length > best.length) best = [...run];
  }
  if (!best.some(({ type }) => type === 'AcpiReclaim')) return [];
  return best.map(({ type, start, end }) => ({
    type,
    start,
    end,
    used: Math.max(start, end - (USED_PAGES.get(type) ?? 0) * EFI_PAGE),
  }));
}

export type AllocateRequest =
  | { readonly kind: 'AnyPages' }
  /** No byte above this address. */
  | { readonly kind: 'MaxAddress'; readonly address: number }
  | { readonly kind: 'Address'; readonly address: number };

export class PageAllocator {
  /** By address, without gaps between neighbours of one type; free pages of bins are Conventional here. */
  #entries: EfiMemoryDescriptor[];
  readonly #bins: readonly EfiBin[];
  readonly #surplus: number;
  #spare: number;
  #mapKey: number;

  constructor(
    map: readonly EfiMemoryDescriptor[],
    state: AllocatorState = { ...OVMF_STATE, bins: findBins(map) },
  ) {
    this.#entries = [...map];
    this.#bins = state.bins;
    this.#surplus = state.surplusEntries;
    this.#mapKey = state.mapKey;
    this.#spare = Number.POSITIVE_INFINITY;
    for (const bin of state.bins) {
      if (bin.used > bin.start) this.#convert(bin.start, bin.used, 'Conventional');
    }
    this.#mapKey = state.mapKey;
    this.#spare = this.describe().length + state.spareEntries;
  }

  get mapKey(): number {
    return this.#mapKey;
  }

  /** Where memory without a bin begins to be taken from; Infinity without bins. */
  get #defaultEnd(): number {
    return this.#bins.reduce((least, { start }) => Math.min(least, start), Number.POSITIVE_INFINITY);
  }

  /** Entries that GetMemoryMap asks room for when the buffer is too small. */
  get statedEntries(): number {
    return this.describe().length + this.#surplus;
  }

  /** The map as GetMemoryMap gives it: bins whole, neighbours of one type and attributes as one. */
  describe(): readonly EfiMemoryDescriptor[] {
    const shown = this.#entries.map((entry) => {
      const bin =
        entry.type === 'Conventional'
          ? this.#bins.find(({ start, end }) => entry.start >= start && entry.end <= end)
          : undefined;
      return bin === undefined
        ? entry
        : { ...entry, type: bin.type, attributes: attributesOf(bin.type, entry) };
    });
    return merged(shown);
  }

  /** The type that the map has at an address; null where it says nothing. */
  typeAt(address: number): EfiMemoryType | null {
    return this.#entries.find(({ start, end }) => address >= start && address < end)?.type ?? null;
  }

  /** The largest free range, in bytes, of which every part is aligned as given. */
  largestFree(alignment = EFI_PAGE): { readonly start: number; readonly size: number } {
    let best = { start: 0, size: 0 };
    for (const { start, end, type } of this.#entries) {
      if (type !== 'Conventional') continue;
      const aligned = Math.ceil(start / alignment) * alignment;
      if (end - aligned > best.size) best = { start: aligned, size: end - aligned };
    }
    return best;
  }

  /** @returns the address; null where there is no room */
  allocate(request: AllocateRequest, type: EfiMemoryType, pages: number): number | null {
    const size = pages * EFI_PAGE;
    const start =
      request.kind === 'Address'
        ? this.#isFree(request.address, request.address + size)
          ? request.address
          : null
        : this.#find(size, type, request.kind === 'MaxAddress' ? request.address : Number.MAX_SAFE_INTEGER);
    if (start === null) return null;
    this.#convert(start, start + size, type);
    this.#growList();
    return start;
  }

  /** @returns false where not all of the range is allocated */
  free(address: number, pages: number): boolean {
    const end = address + pages * EFI_PAGE;
    const inside = this.#entries.filter((entry) => entry.start < end && entry.end > address);
    const covered = inside.reduce(
      (sum, entry) => sum + Math.min(entry.end, end) - Math.max(entry.start, address),
      0,
    );
    if (covered !== end - address || inside.some(({ type }) => type === 'Conventional')) return false;
    this.#convert(address, end, 'Conventional');
    this.#growList();
    return true;
  }

  #isFree(start: number, end: number): boolean {
    return this.#entries.some(
      (entry) => entry.type === 'Conventional' && entry.start <= start && entry.end >= end,
    );
  }

  #find(size: number, type: EfiMemoryType, maximum: number): number | null {
    const bin = this.#bins.find((each) => each.type === type);
    const inBin = bin === undefined ? null : this.#highest(size, bin.start, Math.min(bin.end - 1, maximum));
    return (
      inBin ??
      this.#highest(size, 0, Math.min(this.#defaultEnd - 1, maximum)) ??
      this.#highest(size, 0, maximum)
    );
  }

  /** The highest free place in [minimum, maximum]. */
  #highest(size: number, minimum: number, maximum: number): number | null {
    const top = Math.floor((maximum + 1) / EFI_PAGE) * EFI_PAGE;
    for (const entry of this.#entries.toReversed()) {
      if (entry.type !== 'Conventional') continue;
      const start = Math.min(entry.end, top) - size;
      if (start >= Math.max(entry.start, minimum)) return start;
    }
    return null;
  }

  #convert(start: number, end: number, type: EfiMemoryType): void {
    const next: EfiMemoryDescriptor[] = [];
    let added = false;
    for (const entry of this.#entries) {
      if (entry.end <= start || entry.start >= end) {
        if (!added && entry.start >= end) {
          added = true;
          next.push(this.#made(start, end, type));
        }
        next.push(entry);
        continue;
      }
      if (entry.start < start) next.push({ ...entry, end: start });
      if (!added) {
        added = true;
        next.push({ ...this.#made(start, end, type), attributes: attributesOf(type, entry) });
      }
      if (entry.end > end) next.push({ ...entry, start: end });
    }
    this.#entries = [...merged(next)];
    this.#mapKey++;
  }

  #made(start: number, end: number, type: EfiMemoryType): EfiMemoryDescriptor {
    return { start, end, type, attributes: EFI_MEMORY_RAM };
  }

  /** The firmware's list of entries lies in memory, too: when it is full, a page is taken for more. */
  #growList(): void {
    if (this.describe().length <= this.#spare) return;
    this.#spare += ENTRIES_PER_PAGE;
    this.allocate({ kind: 'AnyPages' }, 'BootServicesData', 1);
  }
}

/** Memory for the runtime is marked; the rest keeps what it was capable of. */
function attributesOf(type: EfiMemoryType, entry: EfiMemoryDescriptor): bigint {
  const capabilities = entry.attributes & ~EFI_MEMORY_RUNTIME;
  const isRuntime = type === 'RuntimeServicesCode' || type === 'RuntimeServicesData';
  return isRuntime ? capabilities | EFI_MEMORY_RUNTIME : capabilities;
}

function merged(entries: readonly EfiMemoryDescriptor[]): readonly EfiMemoryDescriptor[] {
  const result: EfiMemoryDescriptor[] = [];
  for (const entry of entries) {
    const last = result.at(-1);
    if (last?.end === entry.start && last.type === entry.type && last.attributes === entry.attributes) {
      result[result.length - 1] = { ...last, end: entry.end };
    } else {
      result.push(entry);
    }
  }
  return result;
}
