// What UEFI firmware's memory map and its services say of physical memory: whose it is, and who asked for it in which call.

import type { EfiMemoryType } from '../protocol/efi-tables.ts';
import type { MemoryRegion, RegionKind } from './boot-trace.ts';
import type { Extent } from './placements.ts';

/** Memory that a service gave out. */
export interface EfiAllocationFact extends Extent {
  readonly type: EfiMemoryType;
  /** `AllocatePool`. */
  readonly service: string;
  /** Number of the call, 0 for what the firmware did before the first; and of the one that freed it. */
  readonly call: number;
  readonly freedIn: number | null;
  /** `vmlinuz+0xb716c7`. */
  readonly caller: string;
}

export interface EfiFacts {
  /** The map when the first image was entered. */
  readonly map: readonly (Extent & { readonly type: EfiMemoryType })[];
  readonly images: readonly {
    readonly name: string;
    readonly base: number;
    readonly size: number;
    /** Bytes from its base on that are of the file. */
    readonly fromFile: number;
  }[];
  readonly allocations: readonly EfiAllocationFact[];
  /** Number of the call with which boot services went; null before. */
  readonly exitCall: number | null;
}

/** What a type is called in a layout, and its kind; types of one name next to each other are one region. */
const NAMES: Partial<Record<EfiMemoryType, readonly [name: string, kind: RegionKind]>> = {
  Reserved: ['EFI reserved', 'reserved'],
  BootServicesCode: ['EFI boot services', 'firmware'],
  BootServicesData: ['EFI boot services', 'firmware'],
  RuntimeServicesCode: ['EFI runtime services code', 'firmware'],
  RuntimeServicesData: ['EFI runtime services data', 'firmware'],
  Unusable: ['EFI unusable memory', 'reserved'],
  AcpiReclaim: ['EFI ACPI tables', 'reserved'],
  AcpiNvs: ['EFI ACPI NVS', 'reserved'],
  Mmio: ['EFI memory-mapped I/O', 'reserved'],
  MmioPort: ['EFI I/O ports', 'reserved'],
  PalCode: ['EFI PAL code', 'reserved'],
  Persistent: ['EFI persistent memory', 'reserved'],
};
const BOOT_SERVICES = 'EFI boot services';

/**
 * The regions after so many calls.
 *
 * @param calls - number of the last call that had returned
 */
export function efiRegions(facts: EfiFacts, calls: number): MemoryRegion[] {
  const exited = facts.exitCall !== null && calls >= facts.exitCall;
  const regions: MemoryRegion[] = [];
  const extent = (start: number, end: number) => ({ start: BigInt(start), end: BigInt(end) });
  for (const { start, end, type } of facts.map) {
    const named = NAMES[type];
    if (named === undefined || (exited && named[0] === BOOT_SERVICES)) continue;
    const last = regions.at(-1);
    if (last !== undefined && last.end === BigInt(start) && last.name === named[0]) {
      regions[regions.length - 1] = { ...last, end: BigInt(end) };
    } else {
      const [name, kind] = named;
      const source = "the firmware's memory map";
      regions.push({ ...extent(start, end), name, kind, role: 'firmware', by: 'firmware', source });
    }
  }
  for (const { name, base, size, fromFile } of facts.images) {
    const loading = facts.allocations.find(({ start, service }) => start === base && service === 'LoadImage');
    if (loading !== undefined && loading.call > calls) continue;
    regions.push({
      ...extent(base, base + size),
      name: `EFI image ${name}`,
      ...{ kind: 'compressed-kernel', role: 'efi-image', by: 'firmware' },
      source: 'ImageBase and ImageSize of its LoadedImage',
    });
    if (fromFile >= size) continue;
    regions.push({
      ...extent(base + fromFile, base + size),
      name: `EFI image ${name} bss`,
      ...{ kind: 'bss', role: 'efi-image', by: 'firmware', parent: `EFI image ${name}` },
      source: 'behind the last byte of its sections that the file has',
    });
  }
  for (const { start, end, type, service, call, freedIn, caller } of facts.allocations) {
    const image = facts.images.some(({ base }) => base === start);
    if (image || call > calls || (freedIn !== null && freedIn <= calls)) continue;
    regions.push({
      ...extent(start, end),
      name: `EFI ${type} of call ${call}`,
      ...{ kind: 'buffer', role: 'efi-allocation', by: 'firmware' },
      source: `${service} from ${caller}${freedIn === null ? '' : `, freed in call ${freedIn}`}`,
    });
  }
  return regions;
}
