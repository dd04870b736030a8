// What a loader leaves in guest memory: the same description whatever entry of the boot protocol was used.

import type { EntryPoint } from '../trace/boot-trace.ts';

export interface Placed {
  readonly address: number;
  readonly size: number;
}

/** Physical addresses and byte sizes of what was put into memory before the first instruction. */
export interface LoadedImage {
  readonly entry: EntryPoint;
  /** Boot sector and setup code; null for prot32 and long64. */
  readonly setup: Placed | null;
  /** Setup's heap, from the end of setup to the initial stack pointer; null for prot32 and long64. */
  readonly heapEnd: number | null;
  /** The protected-mode code as loaded. */
  readonly protectedModeCode: Placed;
  /** Where its first 32-bit instruction runs; below it for a zImage, which setup moves down first. */
  readonly startup32: number;
  readonly commandLine: Placed | null;
  readonly initrd: Placed | null;
  /** boot_params when the loader made it; the 16-bit entry's own is known when startup_32 is reached. */
  readonly bootParams: number | null;
}
