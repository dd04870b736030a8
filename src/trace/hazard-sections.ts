// Where the rule stands that a hazard breaks: the kernel's documents (Documentation/arch/x86/boot.rst, zero-page.rst), the UEFI
// specification, Xen's pvh.pandoc.

import type { Hazard } from './boot-trace.ts';

const field = (...names: readonly string[]): string =>
  `boot.rst, "Details of Header Fields": ${names.join(', ')}`;
const PARAMETERS = 'kernel-parameters.txt';

/** Null for what goes against no document. */
export const HAZARD_SECTIONS: Readonly<Record<Hazard['code'], string | null>> = {
  'run-area-overlap': field('init_size'),
  'run-area-reserved': field('init_size'),
  'run-area-beyond-ram': field('init_size'),
  'stub-copy-overlap': field('init_size'),
  'placement-overlap': 'boot.rst, "Memory Layout"',
  'not-usable-ram': 'boot.rst, "Memory Layout"',
  'beyond-ram': 'boot.rst, "Memory Layout"',
  'initrd-above-max': field('initrd_addr_max'),
  'setup-heap-over-setup': field('heap_end_ptr'),
  'setup-heap-over-ebda': 'boot.rst, "Memory Layout"',
  'load-address': field('kernel_alignment', 'relocatable_kernel', 'pref_address'),
  'efi-no-slot': 'UEFI 2.10, 7.2 "Memory Allocation Services": AllocatePages',
  'efi-exit-refused': 'UEFI 2.10, 7.4 "Image Services": ExitBootServices',
  'efi-not-executable': 'UEFI 2.10, 7.2 "Memory Allocation Services": EFI_MEMORY_XP',
  'efi-writable-code': 'UEFI 2.10, 2.1.1 "UEFI Images"',
  'efi-handover-room': 'boot.rst, "EFI Handover Protocol"',
  'efi-no-entropy': 'UEFI 2.10, "Random Number Generator Protocol"',
  'init-size-too-small': field('init_size'),
  'stray-variables': null,
  'memory-taken-away': `${PARAMETERS}, mem=`,
  'memmap-not-avoided': `${PARAMETERS}, memmap=`,
  'kaslr-no-slot': `${PARAMETERS}, nokaslr`,
  'initrd-content': 'buffer-format.rst, "initramfs buffer format"',
  'handover-code': 'boot.rst, "Loading The Rest of The Kernel"',
  'handover-boot-params': 'boot.rst, "32-bit Boot Protocol" and "64-bit Boot Protocol"',
  'handover-header': 'boot.rst, "The Real-Mode Kernel Header"',
  'handover-loader-type': field('type_of_loader'),
  'handover-load-flags': field('loadflags'),
  'handover-heap-end': field('heap_end_ptr'),
  'handover-command-line': 'boot.rst, "The Kernel Command Line": cmd_line_ptr, cmdline_size',
  'handover-initrd': field('ramdisk_image', 'ramdisk_size'),
  'handover-memory-map': 'zero-page.rst: e820_entries, e820_table',
  'handover-start-info': 'pvh.pandoc: hvm_start_info',
  'handover-registers': 'boot.rst, "Running the Kernel", "32-bit Boot Protocol" and "64-bit Boot Protocol"',
  'handover-segments': 'boot.rst, "Running the Kernel", "32-bit Boot Protocol" and "64-bit Boot Protocol"',
  'handover-page-tables': 'boot.rst, "64-bit Boot Protocol"',
  'uki-section-in-run-area': field('init_size'),
};
