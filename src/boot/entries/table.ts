// All entries. The first row that accepts an image is what is taken where nobody names one.

import { BootscopeError } from '../../error.ts';
import type { KernelImage } from '../../image/kernel-image.ts';
import type { EntryPoint, Hazard } from '../../trace/boot-trace.ts';
import type { BootRun } from '../boot-run.ts';
import { type HandoverEntry, judgeHandover } from '../handover-rules.ts';
import { initrdHazards } from '../loader-hazards.ts';
import { recordLoaded } from '../record-placements.ts';
import { bootSector } from './boot-sector.ts';
import { efi } from './efi.ts';
import { efiHandover } from './efi-handover.ts';
import type { Entry } from './entry.ts';
import { handoverOf } from './from-state.ts';
import type { LoadedImage } from './loaded-image.ts';
import { long64 } from './long64.ts';
import { prot32 } from './prot32.ts';
import { pvh } from './pvh.ts';
import { real16 } from './real16.ts';
import { vmlinuxLong64, vmlinuxProt32 } from './vmlinux.ts';

export const ENTRIES: readonly Entry[] = [
  real16,
  bootSector,
  prot32,
  long64,
  efi,
  efiHandover,
  vmlinuxLong64,
  vmlinuxProt32,
  pvh,
];

/**
 * @param name - null: what is taken for such an image
 * @throws BootscopeError `boot-entry` where none boots it
 */
export function findEntry(image: KernelImage, name: EntryPoint | null): Entry {
  const { kind, path } = image;
  const fitting = ENTRIES.filter((entry) => entry.accepts(image));
  const found = fitting.find((entry) => name === null || entry.name === name);
  if (found !== undefined) return found;
  const others = fitting.map((entry) => entry.name).join(' or ');
  throw new BootscopeError(
    'boot-entry',
    `${path}: this ${kind} cannot be entered by ${name}, only by ${others}`,
  );
}

/** Loads the image and puts the CPU at its entry. */
export function enterBy(entry: Entry, boot: BootRun): void {
  const loaded = entry.load(boot.machine, boot.image, boot.options);
  boot.found.loaded = loaded;
  boot.found.bootParams = loaded.bootParams;
  boot.found.fromLoader = judgeLoader(boot, loaded);
  entry.enter(boot.machine, loaded);
  boot.countInstructions();
  recordLoaded(boot);
  entry.watch(boot, loaded);
  if (loaded.setup !== null) {
    const { address, size } = loaded.setup;
    const code = boot.machine.memory.view(address, size);
    boot.keep(...boot.record.watchSystemInstructions(address, code, 0, size, true));
  }
}

/** What another loader has left, and what an initrd is. */
function judgeLoader(
  { image, machine, options }: BootRun,
  { entry, initrd }: LoadedImage,
): readonly Hazard[] {
  const { state } = options;
  const { memory } = machine;
  const handover = state === null ? null : handoverOf(state, entry as HandoverEntry, memory);
  return [
    ...(handover === null ? [] : judgeHandover(image, handover)),
    ...(initrd === null ? [] : initrdHazards(memory.viewUpTo(initrd.address, initrd.size), initrd.address)),
  ];
}
