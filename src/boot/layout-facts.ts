// Gathers what hazards and placements follow from: image, loader, stub and what was observed of the extraction.

import type { Extraction, WrittenRange } from '../decompressor/extract-kernel.ts';
import { findStubDetails } from '../decompressor/find-stub.ts';
import { initSizeNeeds } from '../decompressor/init-size.ts';
import type { KernelFileParts } from '../decompressor/kernel-sections.ts';
import { findStrayStores } from '../decompressor/stray-stores.ts';
import { findStubParts } from '../decompressor/stub-parts.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import { readSetupExtents } from '../image/setup-code.ts';
import type { Machine } from '../machine/machine.ts';
import { BOOT_PARAMS_SIZE, BootParams } from '../protocol/boot-params.ts';
import type { KernelAtJump, KernelSegment } from '../trace/boot-trace.ts';
import { merge, type PlacementRules, runArea } from '../trace/hazards.ts';
import type { LayoutFacts } from '../trace/layout-facts.ts';
import type { KernelPart, SetupMemory } from '../trace/place-boot.ts';
import type { Extent } from '../trace/placements.ts';
import type { PhysicalMemory } from '../x86/physical-memory.ts';
import type { LoadedImage, Placed } from './entries/loaded-image.ts';
import { LOADER_MEMORY } from './low-memory.ts';

/** What was seen while the boot ran; null for what did not happen. */
export interface Observations {
  readonly loaded: LoadedImage;
  /** Where the protected-mode code copied itself to. */
  readonly copyAddress: number | null;
  readonly bootParams: number | null;
  readonly extraction: Extraction | null;
  /** The ELF file that the guest decompressed by itself or that was loaded; null where extractKernel did. */
  readonly kernelFile: KernelFileParts | null;
  readonly kernel: KernelAtJump | null;
}

const SETUP_DATA_LIMIT = 64;
const SETUP_DATA_HEADER = 16;
const XLF_CAN_BE_LOADED_ABOVE_4G = 0x02;
/** initrd_addr_max of the kernels that do not say (boot.rst, before protocol 2.03). */
const OLD_INITRD_ADDRESS_MAX = 0x37ff_ffff;

type Segment = Pick<KernelSegment, 'paddr' | 'vaddr' | 'filesz' | 'memsz' | 'flags'>;

export function layoutFacts(machine: Machine, image: KernelImage, seen: Observations): LayoutFacts {
  const details = findStubDetails(image);
  const { loaded, extraction, kernel } = seen;
  const { payload, header } = image;
  const codeSize = details?.bss?.start ?? image.protectedModeCode.length;
  const area = runArea(placementRules(image, loaded));
  const output =
    extraction !== null
      ? Number(extraction.output)
      : kernel !== null
        ? Number(kernel.physicalBase)
        : (area?.start ?? null);
  const segments: readonly Segment[] =
    extraction?.segments ?? kernel?.segments ?? loaded.kernel?.segments ?? [];
  const file = extraction?.file ?? seen.kernelFile;
  const decompressed = decompressedPieces(extraction);
  return {
    ram: machine.memory.end,
    ebda: { start: machine.ebdaAddress, end: 0xa0000 },
    usable: machine.memoryMap
      .filter(({ type }) => type === 1)
      .map(({ address, size }) => ({ start: Number(address), end: Number(address + size) })),
    reserved: machine.memoryMap
      .filter(({ type }) => type !== 1)
      .map(({ address, size, type }) => ({ start: Number(address), end: Number(address + size), type })),
    bootSector: extentOf(loaded.bootCode ?? null),
    setup: extentOf(loaded.setup),
    setupMemory: setupMemory(image, loaded),
    setupStackEnd: loaded.heapEnd,
    commandLine: extentOf(loaded.commandLine),
    initrd: extentOf(loaded.initrd),
    bootParams:
      seen.bootParams === null ? null : { start: seen.bootParams, end: seen.bootParams + BOOT_PARAMS_SIZE },
    bootParamsByLoader: loaded.bootParams !== null,
    loaderMemory: loaded.bootParams === null || loaded.loaderMemory === null ? null : LOADER_MEMORY,
    setupData:
      seen.bootParams === null || header.protocol < 0x0209
        ? []
        : setupDataNodes(machine.memory, seen.bootParams),
    loaded: extentOf(loaded.protectedModeCode),
    started:
      loaded.protectedModeCode === null
        ? null
        : extentOf({ address: loaded.startup32, size: loaded.protectedModeCode.size }),
    copy: seen.copyAddress === null ? null : { start: seen.copyAddress, end: seen.copyAddress + codeSize },
    zo: findStubParts(image, details),
    strayVariables: merge(
      findStrayStores(image, details).map(({ address }) => ({ start: address, end: address + 4 })),
    ),
    initSizeNeeds: initSizeNeeds(image, details, segments),
    runArea: area,
    output,
    decompressed,
    relocations: relocationLists(extraction),
    outputLength: extraction?.outputLength ?? payload?.outputLength ?? null,
    kernelParts: kernelParts(segments, file),
  };
}

/** What the header and the loader say about where things may be. */
export function placementRules(image: KernelImage, loaded: LoadedImage): PlacementRules {
  const rules = headerRules(image);
  // With ext_ramdisk_image initrd_addr_max does not count, as QEMU and kexec take it.
  const above4GiB =
    loaded.entry === 'long64' && (image.header.get('xloadflags') & XLF_CAN_BE_LOADED_ABOVE_4G) !== 0;
  return {
    ...rules,
    initrdAddressMax: above4GiB ? Number.MAX_SAFE_INTEGER : rules.initrdAddressMax,
    initSize: loaded.allocatesKernel === true ? null : rules.initSize,
    loadAddress: loaded.protectedModeCode?.address ?? 0,
  };
}

/** What the image alone says of it. */
export function headerRules(image: KernelImage): Omit<PlacementRules, 'loadAddress'> {
  const linkBase = findStubDetails(image)?.linkBase ?? 0;
  const { header } = image;
  const initrdMax = header.has('initrd_addr_max') ? header.get('initrd_addr_max') : OLD_INITRD_ADDRESS_MAX;
  return {
    initrdAddressMax: header.protocol >= 0x0200 ? initrdMax : null,
    relocatable: header.has('relocatable_kernel') && header.get('relocatable_kernel') !== 0,
    alignment: header.get('kernel_alignment'),
    preferredAddress: header.get('pref_address'),
    initSize: header.has('init_size') ? header.get('init_size') : null,
    linkedAddress: linkBase === 0 ? null : linkBase,
    high: image.kind === 'bzImage',
  };
}

export function extentOf(placed: Placed | null): Extent | null {
  return placed === null ? null : { start: placed.address, end: placed.address + placed.size };
}

/** init_heap: the heap reaches from the end of setup to the room kept for the stack. */
export function setupMemory(image: KernelImage, loaded: LoadedImage): SetupMemory | null {
  const extents = readSetupExtents(image.setup);
  if (extents === null || loaded.setup === null) return null;
  const base = loaded.setup.address;
  const bss = { start: base + extents.bss.start, end: base + extents.bss.end };
  const stackEnd = loaded.heapEnd ?? bss.end;
  const stack = { start: stackEnd - extents.stackSize, end: stackEnd };
  return { bss, heap: { start: bss.end, end: stack.start }, stack };
}

/** `moveparams` stubs decompress to a low and a high buffer first; all others straight to the output. */
export function decompressedPieces(extraction: Extraction | null): LayoutFacts['decompressed'] {
  if (extraction === null) return [];
  const { writes, file } = extraction;
  const names: Partial<Record<WrittenRange['role'], string>> = {
    decompressed: file === null ? 'decompressed kernel' : 'decompressed ELF file',
    'low-buffer': 'kernel low buffer',
    'high-buffer': 'kernel high buffer',
  };
  return writes.flatMap(({ start, end, role }) => {
    const name = names[role];
    return name === undefined ? [] : [{ start, end, name }];
  });
}

export function relocationLists(extraction: Extraction | null): Extent | null {
  const length = extraction?.file?.elfLength ?? null;
  if (extraction === null || length === null) return null;
  const output = Number(extraction.output);
  return { start: output + length, end: output + extraction.outputLength };
}

export function kernelParts(segments: readonly Segment[], file: KernelFileParts | null): KernelPart[] {
  const name = (index: number): string =>
    file === null ? 'flat kernel' : `kernel segment ${index} (${segments[index]?.flags})`;
  const parts = segments.map((segment, index) => ({
    name: name(index),
    start: Number(segment.paddr),
    end: Number(segment.paddr + segment.memsz),
    source: file === null ? 'what was decompressed' : `program header ${index}`,
    hasBytes: true,
    segment: file === null ? null : index,
  }));
  const sections = (file?.sections ?? []).map((section) => ({
    name: `kernel ${section.name}`,
    start: Number(section.paddr),
    end: Number(section.paddr + section.size),
    source: `ELF section ${section.name}`,
    hasBytes: section.hasBytes,
    parent: name(section.segment),
    segment: section.segment,
  }));
  return [...parts, ...sections];
}

/** The list that starts at the setup_data field of boot_params; each node has next (8 bytes), type and length (4 each). */
export function setupDataNodes(memory: PhysicalMemory, bootParams: number): Extent[] {
  const nodes: Extent[] = [];
  if (!memory.contains(bootParams, BOOT_PARAMS_SIZE)) return nodes;
  let start = new BootParams(memory.view(bootParams, BOOT_PARAMS_SIZE)).get('setup_data');
  while (start !== 0 && memory.contains(start, SETUP_DATA_HEADER) && nodes.length < SETUP_DATA_LIMIT) {
    nodes.push({ start, end: start + SETUP_DATA_HEADER + memory.read32(start + 12) });
    start = Number(memory.read64(start));
  }
  return nodes;
}
