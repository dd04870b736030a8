// The words of this field that pages, help and documentation use, each with its meaning in a sentence or two.

export interface GlossaryEntry {
  readonly word: string;
  readonly meaning: string;
}

export const GLOSSARY: readonly GlossaryEntry[] = [
  {
    word: 'boot_params',
    meaning:
      'The page in which a loader and setup tell the kernel what they know: the setup header, the memory map, the screen. RSI or ESI points to it from startup_32 on. Also called the zero page.',
  },
  {
    word: 'boot stub',
    meaning:
      'The code around the payload that makes room, decompresses the kernel, relocates it and jumps into it. Its source is arch/x86/boot/compressed.',
  },
  {
    word: 'bzImage',
    meaning:
      'A kernel image whose protected-mode part is loaded at 1 MiB. The b is for big, not for bzip2: any codec may be in it.',
  },
  {
    word: 'E820',
    meaning:
      'The memory map that firmware gives: ranges of physical memory with a type, of which 1 is RAM. Named after the BIOS call INT 15h, AX=E820h.',
  },
  {
    word: 'extract_kernel',
    meaning:
      'The function of the boot stub that chooses an address, decompresses the payload, places its segments and applies relocations. Up to 4.5 it is called decompress_kernel.',
  },
  {
    word: 'initrd',
    meaning:
      'The initial RAM disk, in most systems a compressed cpio archive, that a loader puts into memory beside the kernel.',
  },
  {
    word: 'init_size',
    meaning:
      'A field of the setup header: how many bytes from the run address on a loader must keep free, since the kernel and the stub will use them.',
  },
  {
    word: 'in-place gap',
    meaning:
      'The distance that the compressed bytes keep ahead of the output when a kernel is decompressed over its own payload, so that nothing is overwritten before it is read.',
  },
  {
    word: 'KASLR',
    meaning:
      'Kernel address space layout randomisation: the stub draws a physical and a virtual address from those that are possible.',
  },
  {
    word: 'payload',
    meaning: 'The compressed kernel inside the image, an ELF file with its relocation lists appended.',
  },
  {
    word: 'phase',
    meaning:
      'A stretch of the boot that begins where the boot changes hands: setup, startup_32, startup_64, relocated, extract_kernel, kernel and others.',
  },
  {
    word: 'physical base, virtual base',
    meaning:
      'Where the first byte of the kernel lies in physical memory, and at which address it is linked to run. The two are drawn apart.',
  },
  {
    word: 'relocated',
    meaning: 'The label in the boot stub that runs first in the copy which the stub has made of itself.',
  },
  {
    word: 'relocations',
    meaning:
      'Lists behind the decompressed ELF file of places that hold addresses; when the virtual base has moved, each is changed by the difference.',
  },
  {
    word: 'run area',
    meaning:
      'What the kernel needs to come to life: init_size bytes from its run address, for the decompressed kernel, its bss and the moved stub.',
  },
  {
    word: 'setup',
    meaning:
      'The real-mode part of an image, behind the boot sector: it asks the BIOS, fills boot_params and switches to protected mode.',
  },
  {
    word: 'setup_data',
    meaning:
      'A linked list of records by which a loader hands over more than boot_params has room for, such as a device tree or a random seed.',
  },
  {
    word: 'setup header',
    meaning: 'The fields at offset 0x1f1 of an image by which kernel and loader talk, described in boot.rst.',
  },
  {
    word: 'slot',
    meaning:
      'An address at which KASLR may put the kernel: aligned, in RAM, and clear of all that must survive.',
  },
  {
    word: 'startup_32, startup_64',
    meaning:
      'The first instructions of the boot stub in protected mode, at the start of its code, and in long mode, 0x200 bytes behind.',
  },
  {
    word: 'VO',
    meaning:
      'The kernel proper, vmlinux, as it lies in memory when it runs. The name is from the kernel’s own sources.',
  },
  {
    word: 'zImage',
    meaning: 'An image of the old format, whose protected-mode part is loaded below 640 KiB.',
  },
  {
    word: 'ZO',
    meaning:
      'The compressed kernel with its boot stub, as loaded and as copied. The name is from the kernel’s own sources.',
  },
];
