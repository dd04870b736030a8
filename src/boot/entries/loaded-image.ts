// What a loader leaves in guest memory: the same description whatever entry of the boot protocol was used.

import type { Extraction } from '../../decompressor/extraction.ts';
import type { KernelFileParts } from '../../decompressor/kernel-sections.ts';
import type { EntryPoint } from '../../trace/boot-trace.ts';

export interface Placed {
  readonly address: number;
  readonly size: number;
}

/** Physical addresses and byte sizes of what was put into memory before the first instruction. */
export interface LoadedImage {
  readonly entry: EntryPoint;
  /** What the BIOS has loaded from a disk, and that disk's number; missing where no BIOS boots. */
  readonly bootCode?: Placed & { readonly drive: number };
  /** Boot sector and setup code; null for prot32 and long64. */
  readonly setup: Placed | null;
  /** Setup's heap, from the end of setup to the initial stack pointer; null for prot32 and long64. */
  readonly heapEnd: number | null;
  /** The protected-mode code as loaded; null where the kernel proper is loaded as it is. */
  readonly protectedModeCode: Placed | null;
  /** Bytes from there on that the loader has to map: what the kernel needs before it has page tables of its own. */
  readonly runSize?: number;
  /** Where its first 32-bit instruction runs; below it for a zImage, which setup moves down first; 0 for a loaded kernel. */
  readonly startup32: number;
  readonly commandLine: Placed | null;
  readonly initrd: Placed | null;
  /** boot_params when the loader made it; the 16-bit entry's own is known when startup_32 is reached. */
  readonly bootParams: number | null;
  /** The EFI stub allocates memory for the kernel: nothing is kept at the address and of the size that the header asks for. */
  readonly allocatesKernel?: true;
  /** What a loader that is not ours keeps for itself while the kernel starts; absent: what ours does. */
  readonly loaderMemory?: null;
  /** The kernel proper; null where it is decompressed later. */
  readonly kernel: LoadedKernel | null;
  /** Linear address of the first instruction. */
  readonly start: number;
}

/** A kernel whose segments the loader has put at their physical addresses. */
export interface LoadedKernel extends Pick<Extraction, 'output' | 'virtualBase' | 'segments'> {
  readonly file: KernelFileParts;
}
