// The options that name files with symbols, and how they are read.

import type { Command } from 'commander';
import { readImageFile } from '../image/image-file.ts';
import { readElfSymbolTable, type SymbolTable } from '../trace/symbols.ts';

export interface SymbolFlags {
  readonly zoVmlinux?: string;
}

export function addSymbolOptions(command: Command): Command {
  return command.option(
    '--zo-vmlinux <file>',
    "arch/x86/boot/compressed/vmlinux of the kernel's build, which names addresses in the boot stub",
  );
}

/** Symbols of the boot stub, by offset in the protected-mode code; null where no file was named. */
export async function readStubSymbols(flags: SymbolFlags): Promise<SymbolTable | null> {
  const { zoVmlinux } = flags;
  return zoVmlinux === undefined ? null : readElfSymbolTable(zoVmlinux, await readImageFile(zoVmlinux));
}
