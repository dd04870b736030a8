// Where the EFI stub's own KASLR could put a kernel: efi_random_alloc of stubs that decompress by themselves, in TypeScript. It looks
// at the firmware's memory map alone, for what it must keep clear of is allocated there.

import type { EfiMemoryDescriptor } from '../protocol/efi-memory-map.ts';
import { hasOption, splitArguments } from './command-line.ts';
import type { AvoidedRange } from './kaslr-memory-options.ts';
import type { KaslrSlots, SlotArea } from './kaslr-slots.ts';
import { physicalSlot } from './kaslr-slots.ts';

const GIB = 2 ** 30;
/** Attributes (UEFI 2.10, 7.2.3): mirrored memory, and what is set aside for a purpose. */
const EFI_MEMORY_MORE_RELIABLE = 0x1_0000n;
const EFI_MEMORY_SP = 0x4_0000n;
const MASK_32 = 0xffff_ffffn;

/** All that the choice depends on; sizes in bytes. */
export interface EfiSlotsInput {
  /** As GetMemoryMap gave it to the stub. */
  readonly map: readonly EfiMemoryDescriptor[];
  /** What it asks AllocatePages for. */
  readonly allocation: number;
  /** VO__end - VO__text. */
  readonly kernelTotalSize: number;
  readonly loadPhysicalAddress: number;
  /** CONFIG_PHYSICAL_ALIGN. */
  readonly alignment: number;
  readonly commandLine: string;
  /** Whether memory with a purpose is left to its drivers (CONFIG_EFI_SOFT_RESERVE). */
  readonly softReserve: boolean;
}

export interface EfiSlots extends KaslrSlots {
  /** Bytes from `virtualStart` on that a virtual address is drawn of, before it is rounded down to a slot. */
  readonly virtualRange: number;
}

/** All slots, without choosing. */
export function findEfiSlots(input: EfiSlotsInput): EfiSlots {
  const { map, allocation, alignment, loadPhysicalAddress, commandLine } = input;
  const efiOptions = splitArguments(commandLine)
    .filter(({ param }) => param === 'efi')
    .flatMap(({ value }) => value?.split(',') ?? []);
  const reserves = input.softReserve && !efiOptions.includes('nosoftreserve');
  const free = map.filter(
    ({ type, attributes }) => type === 'Conventional' && !(reserves && (attributes & EFI_MEMORY_SP) !== 0n),
  );
  const areaOf = ({ start, end }: EfiMemoryDescriptor): SlotArea => {
    const first = up(Math.max(start, loadPhysicalAddress), alignment);
    const last = Math.floor((end - allocation) / alignment) * alignment;
    return { start: first, count: last < first ? 0 : (last - first) / alignment + 1 };
  };
  const isMirrored = ({ attributes }: EfiMemoryDescriptor): boolean =>
    (attributes & EFI_MEMORY_MORE_RELIABLE) !== 0n;
  const mirrored = free.filter(isMirrored).filter((each) => areaOf(each).count > 0);
  const offered = mirrored.length > 0 ? mirrored : free;
  const areas = offered.map(areaOf).filter(({ count }) => count > 0);
  const limit = map.reduce((end, each) => (each.type === 'Mmio' ? end : Math.max(end, each.end)), 0);
  const virtualRange = GIB - loadPhysicalAddress - input.kernelTotalSize;
  const rest = virtualRange % alignment;
  const largestRoom = offered.reduce(
    (most, { start, end }) => Math.max(most, end - up(Math.max(start, loadPhysicalAddress), alignment)),
    0,
  );
  return {
    disabled: hasOption(commandLine, 'nokaslr') ? 'nokaslr is on the command line' : null,
    alignment,
    imageSize: allocation,
    minimum: loadPhysicalAddress,
    limit,
    areas,
    physicalSlots: areas.reduce((sum, { count }) => sum + count, 0),
    avoided: avoided(map, offered, loadPhysicalAddress),
    virtualSlots: Math.ceil(virtualRange / alignment),
    virtualStart: loadPhysicalAddress,
    virtualRange,
    tooManyMemmaps: false,
    warnings: [],
    aborted: false,
    memoryMap: 'EFI',
    largestRoom,
    notices:
      rest === 0
        ? []
        : [
            `the last virtual slot is drawn in ${((100 * rest) / alignment).toFixed(0)} % of the cases of another: the stub draws of ` +
              '1 GiB less the kernel, and rounds down',
          ],
  };
}

/** What lies between free pieces, neighbours as one. */
function avoided(
  map: readonly EfiMemoryDescriptor[],
  offered: readonly EfiMemoryDescriptor[],
  minimum: number,
): AvoidedRange[] {
  const found: { start: number; end: number; types: string[] }[] = [];
  for (const each of map.toSorted((a, b) => a.start - b.start)) {
    if (each.end <= minimum || offered.includes(each)) continue;
    const last = found.at(-1);
    if (last?.end === each.start) {
      last.end = each.end;
      if (!last.types.includes(each.type)) last.types.push(each.type);
    } else found.push({ start: each.start, end: each.end, types: [each.type] });
  }
  return found.map(({ start, end, types }) => ({
    start,
    end,
    reason: `${types.join(', ')} in the firmware's memory map`,
  }));
}

/**
 * What a stub makes of its 64 random bits: the lower half chooses the physical slot, the upper half the virtual address.
 *
 * @returns null for an address that is not drawn; `virtual` counts from __START_KERNEL_map
 */
export function drawEfiLocation(
  slots: EfiSlots,
  seed: bigint,
): { readonly physical: number | null; readonly virtual: number | null } {
  const part = (count: number, half: bigint): number => Number((BigInt(count) * half) >> 32n);
  const virtual = part(slots.virtualRange, seed >> 32n);
  return {
    physical:
      slots.physicalSlots === 0 ? null : physicalSlot(slots, part(slots.physicalSlots, seed & MASK_32)),
    virtual: slots.virtualStart + virtual - (virtual % slots.alignment),
  };
}

function up(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}
