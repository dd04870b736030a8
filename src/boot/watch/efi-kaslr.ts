// KASLR of a stub that decompresses by itself: it draws on the CPU, so what a user has decided is put in where the stub asks for
// entropy, and where it says what it has drawn.

import { BootscopeError } from '../../error.ts';
import { hex } from '../../hex.ts';
import type { AddressRequest, UefiFirmware } from '../../machine/uefi/firmware.ts';
import { EFI_PAGE } from '../../protocol/efi-tables.ts';
import type { BootRun } from '../boot-run.ts';

const DEFAULT_ALIGNMENT = 2 ** 21;
const KERNEL_IMAGE_SIZE = 2 ** 30;

/**
 * To be called before the stub's first instruction.
 *
 * @returns the virtual address that was forced, counted from __START_KERNEL_map; null where none was
 * @throws BootscopeError `kaslr-forced` for one that no kernel can have
 */
export function watchEfiChoice(boot: BootRun, firmware: UefiFirmware): number | null {
  const { kaslr } = boot.options;
  if (kaslr.kind === 'entropy') giveTimeStamps(boot, kaslr.rdtsc);
  if (kaslr.kind !== 'forced') return null;
  if (kaslr.physical !== null) forcePhysical(boot, firmware, kaslr.physical);
  return kaslr.virtual === null ? null : checkVirtual(boot, kaslr.virtual);
}

function forcePhysical(boot: BootRun, firmware: UefiFirmware, physical: number): void {
  let placed = false;
  firmware.onAllocateAt = (wanted) => {
    if (placed || !isForKernel(boot, wanted)) return wanted.address;
    placed = true;
    checkPlace(boot, firmware, physical, wanted.pages * EFI_PAGE);
    return physical;
  };
}

/** Whether a stub asks for the memory that the kernel goes to. */
export function isForKernel({ image }: BootRun, { type, pages }: AddressRequest): boolean {
  return type === 'LoaderCode' && pages * EFI_PAGE >= (image.payload?.outputLength ?? 0);
}

function checkVirtual(boot: BootRun, virtual: number): number {
  const { image } = boot;
  const alignment = alignmentOf(boot);
  const lowest = image.header.get('pref_address');
  const highest = KERNEL_IMAGE_SIZE - (image.payload?.outputLength ?? 0);
  if (virtual % alignment !== 0) {
    throw new BootscopeError(
      'kaslr-forced',
      `the forced virtual address ${hex(virtual)} is no multiple of ${hex(alignment)}`,
    );
  }
  if (virtual < lowest || virtual > highest) {
    throw new BootscopeError(
      'kaslr-forced',
      `the forced virtual address ${hex(virtual)} is outside ${hex(lowest)} to ${hex(highest)}`,
    );
  }
  return virtual;
}

function alignmentOf({ image }: BootRun): number {
  return image.header.get('kernel_alignment') || DEFAULT_ALIGNMENT;
}

/** @throws BootscopeError `kaslr-forced` for an address that the stub's own search would not find */
function checkPlace(boot: BootRun, firmware: UefiFirmware, physical: number, size: number): void {
  const alignment = alignmentOf(boot);
  const lowest = boot.image.header.get('pref_address');
  if (physical % alignment !== 0) {
    throw new BootscopeError(
      'kaslr-forced',
      `the forced physical address ${hex(physical)} is no multiple of ${hex(alignment)}`,
    );
  }
  if (physical < lowest) {
    throw new BootscopeError(
      'kaslr-forced',
      `the forced physical address ${hex(physical)} lies below ${hex(lowest)}, where the kernel may begin`,
    );
  }
  const inTheWay = firmware.pages
    .describe()
    .find(({ start, end, type }) => type !== 'Conventional' && start < physical + size && end > physical);
  if (inTheWay !== undefined) {
    throw new BootscopeError(
      'kaslr-forced',
      `a kernel of ${hex(size)} bytes at ${hex(physical)} lies over ${inTheWay.type} at ${hex(inTheWay.start)} to ` +
        `${hex(inTheWay.end)} in the firmware's memory map`,
    );
  }
  if (!boot.machine.memory.contains(physical, size)) {
    throw new BootscopeError(
      'kaslr-forced',
      `a kernel of ${hex(size)} bytes at ${hex(physical)} does not fit into RAM, which ends at ${hex(boot.machine.memory.end)}`,
    );
  }
}

/** RDTSC gives what was listed; a stub that reads more often ends the boot. */
function giveTimeStamps({ machine }: BootRun, values: readonly bigint[]): void {
  let used = 0;
  machine.timeStamps = () => {
    const value = values[used++];
    if (value === undefined) {
      machine.halt(
        `the stub reads the time stamp counter ${used} times, the choice entropy: lists ${values.length} values`,
      );
    }
    return value ?? 0n;
  };
}
