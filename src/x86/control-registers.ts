// Bits of CR0, CR4 and EFER that a boot is about (Intel SDM 3A 2.2.1 and 2.5).

/** Protection enable. */
export const CR0_PE = 1n << 0n;
/** Extension type: reads as 1. */
export const CR0_ET = 1n << 4n;
/** Paging. */
export const CR0_PG = 1n << 31n;

/** Page size extensions: 4 MiB pages in 32-bit paging. */
export const CR4_PSE = 1n << 4n;
/** Physical address extension: entries of 64 bits. */
export const CR4_PAE = 1n << 5n;
/** Five levels of page tables in long mode. */
export const CR4_LA57 = 1n << 12n;

/** Long mode enabled. */
export const EFER_LME = 1n << 8n;
/** Execute-disable bits in page tables count. */
export const EFER_NXE = 1n << 11n;
/** Long mode active: long mode is enabled and paging is on. */
export const EFER_LMA = 1n << 10n;
