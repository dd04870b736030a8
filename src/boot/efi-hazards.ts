// What goes wrong with an EFI boot in the field, told from the services that were called: the stub itself says little or nothing.

import { findStubDetails } from '../decompressor/find-stub.ts';
import { hex } from '../hex.ts';
import type { UefiFirmware } from '../machine/uefi/firmware.ts';
import { BOOT_PARAMS_SIZE } from '../protocol/boot-params.ts';
import type { Hazard } from '../trace/boot-trace.ts';
import type { BootRun } from './boot-run.ts';

const MIB = 2 ** 20;
const DEFAULT_ALIGNMENT = 2 * MIB;

/** Hazards of the boot as it stands; none without UEFI firmware. */
export function efiHazards(boot: BootRun): Hazard[] {
  const firmware = boot.machine.uefi;
  if (firmware === null) return [];
  return [
    noSlot(boot, firmware),
    exitRefused(firmware),
    notExecutable(firmware),
    writableCode(firmware),
    handoverRoom(boot, firmware),
    noEntropy(boot, firmware),
  ].filter((hazard) => hazard !== null);
}

/**
 * The stub looks for a place in the memory map by itself, and asks for memory only where it has found one: without, it says "Failed
 * to decompress kernel" and makes no call that fails.
 */
function noSlot({ image, record, found }: BootRun, firmware: UefiFirmware): Hazard | null {
  const length = image.payload?.outputLength ?? null;
  const last = record.phase;
  const inStub = last === 'efi_pe_entry' || last === 'efi_handover_entry';
  if (!inStub || !firmware.gaveUp || length === null || found.loaded?.allocatesKernel !== true) return null;
  const placed = firmware.allocations.some(
    ({ type, end, start }) => type === 'LoaderCode' && end - start >= length && !isImage(firmware, start),
  );
  if (placed) return null;
  const alignment = image.header.get('kernel_alignment') || DEFAULT_ALIGNMENT;
  const needed = Math.ceil(length / alignment) * alignment;
  const free = firmware.pages.largestFree(alignment);
  if (free.size >= needed) return null;
  return {
    code: 'efi-no-slot',
    text:
      `the kernel needs ${hex(needed)} bytes or more in one free piece of memory, aligned to ${hex(alignment)}; the largest in the ` +
      `firmware's map has ${hex(free.size)} bytes at ${hex(free.start)}: the EFI stub finds no place for it`,
    advice: `give the guest ${Math.ceil((needed - free.size) / MIB)} MiB more of RAM, or a memory map with a larger free piece`,
    start: BigInt(free.start),
    end: BigInt(free.start + free.size),
  };
}

function isImage(firmware: UefiFirmware, address: number): boolean {
  return firmware.images.some(({ base }) => base === address);
}

/** The map changed after the image had read it, or the firmware refuses whatever key it is given. */
function exitRefused(firmware: UefiFirmware): Hazard | null {
  const refused = firmware.callsOf('ExitBootServices');
  if (firmware.bootServicesExited || refused === 0) return null;
  return {
    code: 'efi-exit-refused',
    text:
      `ExitBootServices was refused ${refused === 1 ? 'once' : `${refused} times`} and never succeeded: the image gave a key that is ` +
      'not that of the current memory map, or the firmware refuses any',
    advice:
      'the image has to call GetMemoryMap again after a refusal, and nothing else, before it tries once more',
    start: 0n,
    end: 0n,
  };
}

/** Who was given the memory at an address, in a clause. */
function ownerOf(firmware: UefiFirmware, address: number): string {
  const image = firmware.images.find(({ base, size }) => address >= base && address < base + size);
  if (image !== undefined) return `in the image ${image.name}`;
  const allocation = firmware.allocations.findLast(({ start, end }) => address >= start && address < end);
  if (allocation === undefined) return 'in memory that nobody was given';
  const { type, service, call, caller } = allocation;
  return `in ${type} that ${caller} got of ${service}${call === 0 ? '' : ` (call ${call})`}`;
}

function notExecutable(firmware: UefiFirmware): Hazard | null {
  const { nxFault } = firmware;
  if (nxFault === null) return null;
  return {
    code: 'efi-not-executable',
    text: `the CPU goes on at ${hex(nxFault)}, ${ownerOf(firmware, nxFault)}, which the firmware maps as data: a page fault`,
    advice:
      'whoever puts code there has to have it made executable (MemoryAttribute.ClearMemoryAttributes, or the DXE services) before it ' +
      'goes there; an image that does not should not claim NX_COMPAT',
    start: BigInt(nxFault),
    end: BigInt(nxFault + 1),
  };
}

/** Ranges that a sentence names. */
const MOST_RUNS = 3;

/** Pages that can be written and run at once, where the firmware is to know none. */
function writableCode(firmware: UefiFirmware): Hazard | null {
  if (!firmware.parts.enforcesNx) return null;
  const runs = firmware.memoryAttributes.writableCode();
  const [first] = runs;
  if (first === undefined) return null;
  const bytes = runs.reduce((sum, { start, end }) => sum + end - start, 0);
  const list = runs
    .slice(0, MOST_RUNS)
    .map(({ start, end }) => `${hex(start)} to ${hex(end)} ${ownerOf(firmware, start)}`);
  return {
    code: 'efi-writable-code',
    text:
      `${hex(bytes)} bytes are writable and executable at once: ${list.join(', ')}` +
      (runs.length > MOST_RUNS ? `, and ${runs.length - MOST_RUNS} more` : ''),
    advice: 'code has to be made read-only (EFI_MEMORY_RO) before it is made executable',
    start: BigInt(first.start),
    end: BigInt(first.end),
  };
}

/** The stub clears its bss before it does anything else, whatever lies there. */
function handoverRoom({ image, found }: BootRun, firmware: UefiFirmware): Hazard | null {
  const { loaded } = found;
  const code = loaded?.entry === 'efi-handover' ? loaded.protectedModeCode : null;
  if (code === null || loaded === null) return null;
  const allocated = firmware.allocations.find(({ start }) => start === code.address);
  const stubEnd = code.address + (findStubDetails(image)?.end ?? code.size);
  if (allocated === undefined || stubEnd <= allocated.end) return null;
  const bss = { start: allocated.end, end: stubEnd };
  const bootParams =
    loaded.bootParams === null ? null : { address: loaded.bootParams, size: BOOT_PARAMS_SIZE };
  const hit = (
    [
      ['boot_params', bootParams],
      ['the command line', loaded.commandLine],
      ['the initrd', loaded.initrd],
    ] as const
  ).flatMap(([name, place]) => {
    if (place === null) return [];
    const start = Math.max(place.address, bss.start);
    const end = Math.min(place.address + place.size, bss.end);
    return end <= start ? [] : [{ name, start, end }];
  });
  const lost = hit.map(({ name, start, end }) => `${hex(end - start)} bytes of ${name} at ${hex(start)}`);
  const others = firmware.pages
    .describe()
    .filter(({ type, start, end }) => type !== 'Conventional' && start < bss.end && end > bss.start);
  return {
    code: 'efi-handover-room',
    text:
      `the boot loader allocated ${hex(allocated.end - allocated.start)} bytes for the kernel at ${hex(allocated.start)}, its bss reaches ` +
      `to ${hex(bss.end)}, ${hex(bss.end - bss.start)} bytes further, and is cleared: ` +
      (lost.length > 0
        ? `${lost.join(', ')} are lost`
        : others.length > 0
          ? `${others.map(({ type }) => type).join(', ')} of the firmware's map lies there`
          : 'nothing lies there in this boot'),
    advice: `allocate init_size of the setup header, ${hex(image.header.get('init_size'))} bytes`,
    start: BigInt(hit[0]?.start ?? bss.start),
    end: BigInt(hit[0]?.end ?? bss.end),
  };
}

function noEntropy({ machine }: BootRun, firmware: UefiFirmware): Hazard | null {
  const { hasTsc, hasRdrand } = machine.cpuid;
  if (!firmware.calledNull || hasTsc || hasRdrand) return null;
  return {
    code: 'efi-no-entropy',
    text:
      'CPUID tells of neither RDRAND nor a time stamp counter, so KASLR reads the i8254; the EFI stub has not set up the functions for ' +
      'ports by then and calls address 0',
    advice: 'put nokaslr on the command line, or give the guest a processor with a time stamp counter',
    start: 0n,
    end: 1n,
  };
}
