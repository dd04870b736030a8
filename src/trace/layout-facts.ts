// What the hazards of a boot follow from: where things were put, and what the kernel will need.

import type { KernelPart, SetupMemory, ZoPart } from './place-boot.ts';
import type { Extent } from './placements.ts';

/** Addresses are physical, null means not known (yet). */
export interface LayoutFacts {
  readonly ram: number;
  readonly ebda: Extent;
  /** E820 entries of usable RAM, and all others. */
  readonly usable: readonly Extent[];
  readonly reserved: readonly (Extent & { readonly type: number })[];
  /** Where the BIOS put the first sector; null unless the image boots as a floppy. */
  readonly bootSector: Extent | null;
  /** Boot sector and setup code as loaded. */
  readonly setup: Extent | null;
  readonly setupMemory: SetupMemory | null;
  /** Initial stack pointer of setup. */
  readonly setupStackEnd: number | null;
  readonly commandLine: Extent | null;
  readonly initrd: Extent | null;
  readonly bootParams: Extent | null;
  /** Whether the loader made boot_params; setup makes them otherwise. */
  readonly bootParamsByLoader: boolean;
  /** What a loader of the 32- or 64-bit protocol keeps for itself: GDT, stack, page tables. */
  readonly loaderMemory: Extent | null;
  /** setup_data nodes. */
  readonly setupData: readonly Extent[];
  /** The protected-mode code as the loader left it. */
  readonly loaded: Extent | null;
  /** Where it runs first: as loaded, but for a zImage, which setup moves down. */
  readonly started: Extent | null;
  /** The copy it made of itself. */
  readonly copy: Extent | null;
  readonly zo: readonly ZoPart[];
  /** Where the stub stores variables outside itself. */
  readonly strayVariables: readonly Extent[];
  /** What init_size must hold at least: bytes, and what takes them. */
  readonly initSizeNeeds: readonly { readonly bytes: number; readonly what: string }[];
  /** What init_size asks to be free, from where the stub puts itself without KASLR; null before protocol 2.10. */
  readonly runArea: Extent | null;
  readonly output: number | null;
  /** What was decompressed as it was written, in one piece or more. */
  readonly decompressed: readonly (Extent & { readonly name: string })[];
  /** The relocation lists behind the ELF file. */
  readonly relocations: Extent | null;
  /** Bytes that decompression yields, as the image tells; null where it does not. */
  readonly outputLength: number | null;
  readonly kernelParts: readonly KernelPart[];
}
