// The memory map that OVMF has when QEMU has it start a kernel with `-kernel`, for any amount of RAM: what was recorded at 512 MiB
// (OVMF 2022.11, QEMU 7.2), moved with the end of RAM, with room for the kernel as OVMF makes it.

import type { EfiMemoryDescriptor } from '../../protocol/efi-memory-map.ts';
import {
  EFI_MEMORY_RAM,
  EFI_MEMORY_RUNTIME,
  EFI_PAGE,
  type EfiMemoryType,
} from '../../protocol/efi-tables.ts';
import { POOL_OVERHEAD } from './pool-allocator.ts';

const GIB = 2 ** 30;
const FOUR_GIB = 4 * GIB;
/** QEMU's pc machine: RAM that would reach further goes above 4 GiB from 3 GiB on. */
const LOW_RAM_LIMIT = 0xe000_0000;
const LOW_RAM_WHERE_SPLIT = 0xc000_0000;

const LETTERS: Readonly<Record<string, EfiMemoryType>> = {
  c: 'BootServicesCode',
  d: 'BootServicesData',
  f: 'Conventional',
  C: 'RuntimeServicesCode',
  D: 'RuntimeServicesData',
  R: 'Reserved',
  A: 'AcpiReclaim',
  N: 'AcpiNvs',
};

/** From 0 on: type and pages. */
const LOW = 'c1 f9f _60 f700 N8 f3 N1 f4 Nf0 dc00';
/** Below the end of RAM: from the copy of the kernel's file on that the loader keeps. */
const HIGH =
  'c5 d1 c3 d3 c15 d5 c2 d1 c5d d200 c1b d1 c8 d2 c1 d1 c14 d4 c9 d7 c4 db c1 d1 c3 d3 c3e db cb Dc1 d400 c6f d7 c1a d2 c9 d2 c1 ' +
  'd1 c1 d2 c4 d2 c16 d1 c1 d13 c6 d7 cb d1 c3 d482 D100 C100 R80 A12 N80 d601 fdb d20 c33 d11 c19 D20 N88';
/** Below that copy: the drivers that were loaded after it, and what lies free between them. */
const DRIVERS =
  'd9 c9e f4 d1 f2 d41 c5 d1 c43 d4 c6 d3 ce d5 c14 d2 c1f d9 c23 d2 c14 d7 c6 d3 ce d1 cb d2 cd d5 cd d3 cc d1 c3 d2 c8';
/** What OVMF keeps beside the copy of the file, in pages. */
const COPY_EXTRA = 2;
/** A block that lies at a fixed distance from the end of RAM, in the free memory below the drivers. */
const BLOCK_BELOW_END = 0x448b000;
const BLOCK_PAGES = 0x20;
/** Pages between the end of the image and the drivers, beside those of the file, which was read there first. */
const IMAGE_GAP_PAGES = 0xd;

function decode(text: string): readonly (readonly [EfiMemoryType | null, number])[] {
  return text.split(' ').map((word) => [LETTERS[word[0]!] ?? null, Number.parseInt(word.slice(1), 16)]);
}

function pagesOf(text: string): number {
  return decode(text).reduce((sum, [, pages]) => sum + pages, 0);
}

function layOut(text: string, start: number): EfiMemoryDescriptor[] {
  const descriptors: EfiMemoryDescriptor[] = [];
  let at = start;
  for (const [type, pages] of decode(text)) {
    const end = at + pages * EFI_PAGE;
    if (type !== null) descriptors.push({ start: at, end, type, attributes: attributesOf(type) });
    at = end;
  }
  return descriptors;
}

function attributesOf(type: EfiMemoryType): bigint {
  const runtime = type === 'RuntimeServicesCode' || type === 'RuntimeServicesData';
  return runtime ? EFI_MEMORY_RAM | EFI_MEMORY_RUNTIME : EFI_MEMORY_RAM;
}

/** The kernel that the map is to have room for. */
export interface MapImage {
  readonly fileSize: number;
  /** SizeOfImage. */
  readonly imageSize: number;
}

export interface OvmfMap {
  readonly map: readonly EfiMemoryDescriptor[];
  /** Where the image lies, as LoaderCode of the map; null where there is no room for it. */
  readonly imageBase: number | null;
}

/**
 * @param memory - bytes of RAM, whole pages
 */
export function ovmfMemoryMap(memory: number, image: MapImage): OvmfMap {
  const lowEnd = memory <= LOW_RAM_LIMIT ? memory : LOW_RAM_WHERE_SPLIT;
  // It is read into pool memory.
  const filePages = Math.ceil((image.fileSize + POOL_OVERHEAD) / EFI_PAGE);
  const imagePages = Math.ceil(image.imageSize / EFI_PAGE);
  const low = layOut(LOW, 0);
  const highStart = lowEnd - pagesOf(HIGH) * EFI_PAGE;
  const copyStart = highStart - (filePages + COPY_EXTRA) * EFI_PAGE;
  const driversStart = copyStart - pagesOf(DRIVERS) * EFI_PAGE;
  const block = lowEnd - BLOCK_BELOW_END;
  const lowFree = low.at(-1)!.end;

  const fixed: EfiMemoryDescriptor[] = [
    ...low,
    {
      start: block,
      end: block + BLOCK_PAGES * EFI_PAGE,
      type: 'BootServicesData',
      attributes: EFI_MEMORY_RAM,
    },
    ...layOut(DRIVERS, driversStart),
    { start: copyStart, end: highStart, type: 'BootServicesData', attributes: EFI_MEMORY_RAM },
    ...layOut(HIGH, highStart),
  ];
  const base = imageBase(lowFree, block, driversStart, filePages, imagePages);
  if (base !== null) {
    const end = base + imagePages * EFI_PAGE;
    fixed.push({ start: base, end, type: 'LoaderCode', attributes: EFI_MEMORY_RAM });
  }
  if (memory > lowEnd) {
    const end = FOUR_GIB + memory - lowEnd;
    fixed.push({ start: FOUR_GIB, end, type: 'Conventional', attributes: EFI_MEMORY_RAM });
  }
  // GetMemoryMap lists what is no memory behind all memory.
  const flash = {
    start: 0xffe0_0000,
    end: FOUR_GIB,
    type: 'Mmio',
    attributes: EFI_MEMORY_RUNTIME | 1n,
  } as const;
  return { map: [...filled(fixed, lowFree, driversStart), flash], imageBase: base };
}

/** The file is read into the highest free memory, the image goes below it, then the file's pages are free again. */
function imageBase(
  lowFree: number,
  block: number,
  driversStart: number,
  filePages: number,
  imagePages: number,
): number | null {
  const blockEnd = block + BLOCK_PAGES * EFI_PAGE;
  const above = driversStart - (IMAGE_GAP_PAGES + filePages + imagePages) * EFI_PAGE;
  if (above >= blockEnd) return above;
  const below = block - imagePages * EFI_PAGE;
  return below >= lowFree ? below : null;
}

/** Sorted, neighbours of one type as one, and what nobody has between two addresses as Conventional. */
function filled(
  descriptors: readonly EfiMemoryDescriptor[],
  from: number,
  to: number,
): readonly EfiMemoryDescriptor[] {
  const result: EfiMemoryDescriptor[] = [];
  for (const each of descriptors.toSorted((a, b) => a.start - b.start)) {
    const end = result.at(-1)?.end ?? 0;
    if (end >= from && each.start > end && each.start <= to) {
      result.push({ start: end, end: each.start, type: 'Conventional', attributes: EFI_MEMORY_RAM });
    }
    const last = result.at(-1);
    if (last?.end === each.start && last.type === each.type && last.attributes === each.attributes) {
      result[result.length - 1] = { ...last, end: each.end };
    } else result.push(each);
  }
  return result;
}
