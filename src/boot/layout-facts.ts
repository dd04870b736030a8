// Gathers what the memory layout follows from: image, loader, stub and what was observed of the extraction.

import type { Extraction } from '../decompressor/extract-kernel.ts';
import { findStubDetails } from '../decompressor/find-stub.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import type { Machine } from '../machine/machine.ts';
import type { KernelAtJump } from '../trace/boot-trace.ts';
import type { Extent, KernelPart, LayoutFacts } from '../trace/regions.ts';
import { BOOT_PARAMS_SIZE } from './boot-params.ts';
import { BOOT_SECTOR_ADDRESS } from './boot-sector.ts';
import type { LoadedImage, Placed } from './loaded-image.ts';

/** What was seen while the boot ran; null for what did not happen. */
export interface Observations {
  readonly loaded: LoadedImage;
  /** Where the protected-mode code copied itself to. */
  readonly copyAddress: number | null;
  readonly bootParams: number | null;
  readonly extraction: Extraction | null;
  readonly kernel: KernelAtJump | null;
}

const SETUP_DATA_LIMIT = 64;
const SETUP_DATA_HEADER = 16;
const SETUP_DATA_FIELD = 0x250;

export function layoutFacts(machine: Machine, image: KernelImage, seen: Observations): LayoutFacts {
  const details = findStubDetails(image);
  const { loaded, extraction, kernel } = seen;
  const { payload, header } = image;
  const codeSize = details?.bss?.start ?? image.protectedModeCode.length;
  const extent = (placed: Placed | null): Extent | null =>
    placed === null ? null : { start: placed.address, end: placed.address + placed.size };
  return {
    ram: machine.ram.length,
    ebda: { start: machine.ebdaAddress, end: 0xa0000 },
    reserved: machine.e820
      .filter((entry) => entry.type !== 1)
      .map(({ address, size, type }) => ({ start: Number(address), end: Number(address + size), type })),
    bootSector:
      loaded.entry === 'boot-sector' ? { start: BOOT_SECTOR_ADDRESS, end: BOOT_SECTOR_ADDRESS + 512 } : null,
    setup: extent(loaded.setup),
    setupStackEnd: loaded.heapEnd,
    commandLine: extent(loaded.commandLine),
    initrd: extent(loaded.initrd),
    bootParams:
      seen.bootParams === null ? null : { start: seen.bootParams, end: seen.bootParams + BOOT_PARAMS_SIZE },
    setupData:
      seen.bootParams === null || header.protocol < 0x0209
        ? []
        : setupDataNodes(machine.ram, seen.bootParams),
    loaded: extent(loaded.protectedModeCode),
    copy: seen.copyAddress === null ? null : { start: seen.copyAddress, end: seen.copyAddress + codeSize },
    payload: payload === null ? null : { start: payload.offset, end: payload.offset + payload.length },
    stub:
      details === null
        ? null
        : {
            bss: details.bss,
            heap: details.heap,
            stackEnd: details.stackEnd,
            pageTable: details.pageTable,
            end: details.end,
          },
    initSize: header.has('init_size') ? header.get('init_size') : null,
    output:
      extraction !== null ? Number(extraction.output) : kernel === null ? null : Number(kernel.physicalBase),
    decompressed:
      extraction === null
        ? null
        : { start: Number(extraction.output), end: Number(extraction.output) + extraction.outputLength },
    relocations: null,
    kernelParts: kernelParts(extraction?.segments ?? kernel?.segments ?? []),
  };
}

function kernelParts(segments: Extraction['segments']): KernelPart[] {
  return segments.map((segment, index) => ({
    name: `kernel segment ${index} (${segment.flags})`,
    start: Number(segment.paddr),
    end: Number(segment.paddr + segment.memsz),
    source: `program header ${index}`,
  }));
}

/** The list that starts at the setup_data field of boot_params; each node has next (8 bytes), type and length (4 each). */
function setupDataNodes(ram: Uint8Array, bootParams: number): Extent[] {
  const view = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
  const nodes: Extent[] = [];
  if (bootParams + BOOT_PARAMS_SIZE > ram.length) return nodes;
  let address = view.getBigUint64(bootParams + SETUP_DATA_FIELD, true);
  while (address !== 0n && address + 16n <= BigInt(ram.length) && nodes.length < SETUP_DATA_LIMIT) {
    const start = Number(address);
    nodes.push({ start, end: start + SETUP_DATA_HEADER + view.getUint32(start + 12, true) });
    address = view.getBigUint64(start, true);
  }
  return nodes;
}
