// Records what a boot puts into memory, at the moments at which it happens: each function is called for one.

import type { Extraction } from '../decompressor/extract-kernel.ts';
import { findStubDetails } from '../decompressor/find-stub.ts';
import { findStubParts } from '../decompressor/stub-parts.ts';
import { BOOT_PARAMS_SIZE } from '../protocol/boot-params.ts';
import { E820_RAM } from '../protocol/e820.ts';
import { runArea } from '../trace/hazards.ts';
import {
  endSetup,
  placeBootParams,
  placeBootSector,
  placeCommandLine,
  placeDecompressed,
  placeFirmware,
  placeGap,
  placeInitrd,
  placeKernel,
  placeRunArea,
  placeRunningZo,
  placeSetup,
  placeSetupData,
  placeZo,
  type ZoPart,
} from '../trace/place-boot.ts';
import type { Extent } from '../trace/placements.ts';
import type { BootRun } from './boot-run.ts';
import type { Placed } from './entries/loaded-image.ts';
import {
  decompressedPieces,
  extentOf,
  kernelParts,
  placementRules,
  relocationLists,
  setupDataNodes,
  setupMemory,
} from './layout-facts.ts';
import { LOADER_MEMORY } from './low-memory.ts';

/** From this protocol on the setup header has a list of setup_data. */
const FIRST_PROTOCOL_WITH_SETUP_DATA = 0x0209;

function stubParts({ image }: BootRun): readonly ZoPart[] {
  return findStubParts(image, findStubDetails(image));
}

function runAreaOf({ image, found }: BootRun): Extent | null {
  return runArea(placementRules(image, found.loaded!));
}

/** The machine is on, and the loader has done its part. */
export function recordLoaded(boot: BootRun): void {
  const { machine, record } = boot;
  const { placements } = record;
  const loaded = boot.found.loaded!;
  const reserved = machine.memoryMap
    .filter(({ type }) => type !== E820_RAM)
    .map(({ address, size, type }) => ({ start: Number(address), end: Number(address + size), type }));
  // UEFI firmware keeps its own log of memory.
  if (machine.uefi === null) {
    placeFirmware(placements, { start: machine.ebdaAddress, end: 0xa0000 }, reserved);
  }
  if (loaded.bootCode !== undefined) placeBootSector(placements, extentOf(loaded.bootCode)!);
  else recordImage(boot);
  recordLoadedData(boot);
  if (loaded.kernel !== null) {
    placeKernel(placements, kernelParts(loaded.kernel.segments, loaded.kernel.file), 'loader');
  }
}

/** What a loader gives a kernel beside itself. */
export function recordLoadedData(boot: BootRun): void {
  const { placements } = boot.record;
  const { commandLine, initrd, bootParams } = boot.found.loaded!;
  placeCommandLine(placements, extentOf(commandLine));
  placeInitrd(placements, extentOf(initrd));
  placeBootParams(placements, bootParamsExtent(bootParams), 'loader');
}

/** Setup and the compressed kernel are where the loader wanted them. */
export function recordImage(boot: BootRun): void {
  const { placements } = boot.record;
  const { setup, heapEnd, protectedModeCode } = boot.found.loaded!;
  const extent = extentOf(setup);
  if (extent !== null && extent.end > extent.start) {
    placeSetup(placements, extent, setupMemory(boot.image, boot.found.loaded!), heapEnd);
  }
  recordProtectedModeCode(boot, protectedModeCode);
}

function recordProtectedModeCode(boot: BootRun, code: Placed | null): void {
  const extent = extentOf(code);
  if (extent === null || extent.end === extent.start) return;
  placeZo(boot.record.placements, 'loaded', extent, stubParts(boot));
}

function bootParamsExtent(address: number | null): Extent | null {
  return address === null ? null : { start: address, end: address + BOOT_PARAMS_SIZE };
}

/** The protected-mode code begins to run at `address`, with boot_params in RSI. */
export function recordStart(boot: BootRun, address: number): void {
  const { machine, image, stub, record, found } = boot;
  const { placements } = record;
  const { bootParams, protectedModeCode } = found.loaded!;
  endSetup(placements);
  const isThere = placements.present.some(({ role }) => role === 'zo');
  if (!isThere) recordProtectedModeCode(boot, protectedModeCode);
  const size = protectedModeCode?.size ?? 0;
  const parts = stubParts(boot);
  if (protectedModeCode !== null && address !== protectedModeCode.address) {
    placeZo(placements, 'moved', { start: address, end: address + size }, parts);
  }
  const inRsi = Number(boot.cpu.readRegister('rsi') & 0xffff_ffffn);
  if (bootParams === null) placeBootParams(placements, bootParamsExtent(inRsi), 'setup');
  if (image.header.protocol >= FIRST_PROTOCOL_WITH_SETUP_DATA) {
    placeSetupData(placements, setupDataNodes(machine.memory, bootParams ?? inRsi));
  }
  // Else they belong to the copy.
  if ((stub?.relocated ?? null) === null) placeRunningZo(placements, address, parts);
  placeRunArea(placements, runAreaOf(boot), true);
}

/** An EFI stub hands boot_params to the kernel. */
export function recordBootParams(boot: BootRun, address: number): void {
  placeBootParams(boot.record.placements, bootParamsExtent(address), 'stub');
  placeSetupData(boot.record.placements, setupDataNodes(boot.machine.memory, address));
}

/** 64-bit code runs: startup_32 has built its page tables, where the stub will move to. */
export function recordBuiltTables(boot: BootRun): void {
  const tables = stubParts(boot).filter(({ name }) => name === 'page tables');
  const root = Number(boot.cpu.readRegister('cr3'));
  const base = root - (tables[0]?.start ?? 0);
  const isLoaders = root >= LOADER_MEMORY.start && root < LOADER_MEMORY.end;
  if (tables.length === 0 || isLoaders || base <= 0) return;
  placeRunningZo(boot.record.placements, base, tables);
}

/** The stub has copied itself to `address`. */
export function recordCopy(boot: BootRun, address: number): void {
  const { image, record } = boot;
  const details = findStubDetails(image);
  const parts = stubParts(boot);
  const size = image.protectedModeCode.length;
  record.wrote({ start: address, end: address + size, role: 'zo-copy', what: 'the copy of ZO' });
  const { placements } = record;
  placeZo(placements, 'copy', { start: address, end: address + (details?.bss?.start ?? size) }, parts);
  placements.end(({ role, start }) => role === 'boot-page-tables' && start < address);
  placeRunningZo(placements, address, parts);
  const area = runAreaOf(boot);
  const payload = parts.find(({ name }) => name === 'payload');
  const length = image.payload?.outputLength ?? null;
  if (area === null || payload === undefined || length === null) return;
  placeGap(
    placements,
    { start: area.start, end: area.start + length },
    { start: address + payload.start, end: address + payload.end },
  );
}

/** extract_kernel has decompressed. */
export function recordDecompressed(boot: BootRun, extraction: Extraction): void {
  const { record } = boot;
  for (const { start, end, role } of extraction.writes) {
    if (role === 'segment') continue;
    const isVariable = role === 'stray-variable';
    record.wrote({
      ...{ start, end, role: isVariable ? 'stray-variable' : 'decompressed' },
      what: isVariable ? 'a variable of the stub' : 'the decompressed kernel',
    });
  }
  recordOutput(boot, Number(extraction.output));
  placeDecompressed(record.placements, decompressedPieces(extraction), relocationLists(extraction));
}

/** It is known where the kernel goes. */
function recordOutput(boot: BootRun, output: number): void {
  const { placements } = boot.record;
  const area = runAreaOf(boot);
  if (area === null || area.start === output) return;
  placeRunArea(placements, area, false);
  placeGap(placements, null, null);
}

/** extract_kernel is in the middle of its steps: it moves segments next. */
export function recordSegmentWrites(boot: BootRun, extraction: Extraction): void {
  const { record } = boot;
  const start = Number(extraction.output);
  for (const write of extraction.writes) {
    if (write.role !== 'segment') continue;
    const segment = write.segment!;
    const what = `segment ${segment} of the kernel`;
    record.wrote({ start: write.start, end: write.end, role: 'segment', segment, what });
  }
  if (extraction.writes.some((write) => write.start === start)) return;
  // From low and high buffer the stub's move routine brings it to its place.
  const end = start + extraction.outputLength;
  record.wrote({ start, end, role: 'moved-kernel', what: 'the kernel, moved' });
}

/** The segments of the kernel are where they belong. */
export function recordKernel(boot: BootRun, extraction: Extraction): void {
  placeKernel(boot.record.placements, kernelParts(extraction.segments, extraction.file), 'extract_kernel');
}

/** The guest has decompressed and placed the kernel by itself. */
export function recordGuestKernel(
  boot: BootRun,
  { output, segments }: Pick<Extraction, 'output' | 'segments'>,
): void {
  const { record, image, found } = boot;
  const length = image.payload?.outputLength ?? null;
  const start = Number(output);
  if (length !== null) {
    record.wrote({ start, end: start + length, role: 'decompressed', what: 'the decompressed kernel' });
    for (const [segment, { paddr, filesz }] of segments.entries()) {
      const what = `segment ${segment} of the kernel`;
      record.wrote({ start: Number(paddr), end: Number(paddr + filesz), role: 'segment', segment, what });
    }
  }
  recordOutput(boot, start);
  placeKernel(record.placements, kernelParts(segments, found.kernelFile), 'stub');
}
