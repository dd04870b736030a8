// What goes wrong with an EFI boot in the field, told from the services that were called: the stub itself says little or nothing.

import { hex } from '../hex.ts';
import type { UefiFirmware } from '../machine/uefi/firmware.ts';
import type { Hazard } from '../trace/boot-trace.ts';
import type { BootRun } from './boot-run.ts';

const MIB = 2 ** 20;
const DEFAULT_ALIGNMENT = 2 * MIB;

/** Hazards of the boot as it stands; none without UEFI firmware. */
export function efiHazards(boot: BootRun): Hazard[] {
  const firmware = boot.machine.uefi;
  if (firmware === null) return [];
  return [noSlot(boot, firmware), exitRefused(firmware)].filter((hazard) => hazard !== null);
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
