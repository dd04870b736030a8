// Places below 1 MiB where BIOS, boot loaders and old kernels put things.

/** Where boot.rst's sample loader, and every kernel before protocol 2.02, wants boot sector and setup. */
export const SETUP_ADDRESS = 0x90000;
/** setup moves a zImage's system down to here. */
export const ZIMAGE_RUN_ADDRESS = 0x1000;
/** All that the loader of the 32- and 64-bit protocols keeps for itself, from its GDT to the end of its page tables. */
export const LOADER_MEMORY = { start: 0x500, end: 0xf000 } as const;
/** Its further page tables, where something lies from 4 GiB on. */
export const LOADER_HIGH_TABLES = { start: 0x30000, end: 0x38000 } as const;
