// Where the firmware keeps what is its own, and the CPU's state when it enters an image: OVMF's addresses where its map is
// recognised, the largest ranges of the right types in any other map.

import { BootscopeError } from '../../error.ts';
import type { EfiMemoryDescriptor } from '../../protocol/efi-memory-map.ts';
import type { EfiMemoryType } from '../../protocol/efi-tables.ts';
import { findBins } from './page-allocator.ts';

/** Physical addresses. */
export interface FirmwarePlaces {
  /** EFI_SYSTEM_TABLE. */
  readonly systemTable: number;
  /** Page tables: as many pages as `identityTablePages` says from here. */
  readonly cr3: number;
  readonly gdt: number;
  readonly idt: number;
  /** RSP when an image is entered; the return address stands there. */
  readonly rsp: number;
  /** Room for what the runtime keeps, code and data, and for what goes with boot services. */
  readonly runtimeCode: Range;
  readonly runtimeData: Range;
  readonly bootData: Range;
}

export interface Range {
  readonly start: number;
  readonly end: number;
}

/** Distances from the end of the bins in OVMF 2022.11, which lie below the end of RAM as a block. */
const OVMF = {
  systemTable: 0x212fe8,
  cr3: -0x2000,
  gdt: 0x223000,
  idt: 0x7a9fe8,
  rsp: -0x6fb988,
} as const;
const MINIMUM_BOOT_DATA = 0x40000;
const RUNTIME_ROOM = 0x8000;

/**
 * @throws BootscopeError `efi-memory-map` where the map has no room for a firmware
 */
export function firmwarePlaces(map: readonly EfiMemoryDescriptor[]): FirmwarePlaces {
  const runtimeCode = largest(map, 'RuntimeServicesCode', RUNTIME_ROOM);
  const runtimeData = largest(map, 'RuntimeServicesData', RUNTIME_ROOM);
  const ovmf = ovmfPlaces(map);
  if (ovmf !== null) {
    const bootData = ovmf.bootData;
    return {
      ...ovmf,
      bootData,
      runtimeCode,
      runtimeData: { start: runtimeData.end - 0x20000, end: ovmf.gdt },
    };
  }
  const bootData = largest(map, 'BootServicesData', MINIMUM_BOOT_DATA);
  const systemTable = runtimeData.start + 0x18;
  const stackTop = bootData.start + 0x10000;
  const cr3 = stackTop;
  const afterTables = cr3 + 0x10000;
  return {
    systemTable,
    cr3,
    gdt: runtimeData.start + 0x1000,
    idt: afterTables,
    rsp: stackTop - 0x1000 - 8,
    runtimeCode,
    runtimeData: { start: runtimeData.start + 0x2000, end: runtimeData.end },
    bootData: { start: afterTables + 0x1000, end: bootData.end },
  };
}

/** Null where the map's bins and their neighbours are not where OVMF puts them. */
function ovmfPlaces(
  map: readonly EfiMemoryDescriptor[],
): Omit<FirmwarePlaces, 'runtimeCode' | 'runtimeData'> | null {
  const end = findBins(map).at(-1)?.end;
  if (end === undefined) return null;
  const at = (distance: number): number => end - distance;
  const typeOf = (address: number): EfiMemoryType | undefined =>
    map.find((each) => address >= each.start && address < each.end)?.type;
  const places = {
    systemTable: at(OVMF.systemTable),
    cr3: at(OVMF.cr3),
    gdt: at(OVMF.gdt),
    idt: at(OVMF.idt),
    rsp: at(OVMF.rsp),
  };
  const fits =
    typeOf(places.systemTable) === 'RuntimeServicesData' &&
    typeOf(places.gdt) === 'RuntimeServicesData' &&
    [places.cr3, places.idt, places.rsp].every((address) => typeOf(address) === 'BootServicesData');
  const data = map.find(({ end: last }) => last === findBins(map)[0]!.start);
  if (!fits || data?.type !== 'BootServicesData' || data.end - data.start < MINIMUM_BOOT_DATA) return null;
  return { ...places, bootData: { start: data.start, end: data.end } };
}

function largest(map: readonly EfiMemoryDescriptor[], type: EfiMemoryType, needed: number): Range {
  const best = map
    .filter((each) => each.type === type)
    .reduce<EfiMemoryDescriptor | null>(
      (most, each) => (most === null || each.end - each.start > most.end - most.start ? each : most),
      null,
    );
  if (best === null || best.end - best.start < needed) {
    throw new BootscopeError(
      'efi-memory-map',
      `the EFI memory map has no ${type} of 0x${needed.toString(16)} bytes in one piece, which the firmware needs for itself` +
        (best === null ? '' : ` (the largest has 0x${(best.end - best.start).toString(16)})`),
    );
  }
  return best;
}
