// The options that name files with symbols.

import type { Command } from 'commander';

export interface StubSymbolFlags {
  readonly zoVmlinux?: string;
}

export interface KernelSymbolFlags {
  readonly symbols?: boolean;
  readonly vmlinux?: string;
  readonly systemMap?: string;
}

export function addStubSymbolOptions(command: Command): Command {
  return command.option(
    '--zo-vmlinux <file>',
    "arch/x86/boot/compressed/vmlinux of the kernel's build, which names addresses in the boot stub",
  );
}

export function addKernelSymbolOptions(command: Command): Command {
  return addKernelSymbolFiles(
    command.option('--symbols', "name the entry and the segments' starts, from the kernel's own kallsyms"),
  );
}

/** For commands that name addresses without being asked to. */
export function addKernelSymbolFiles(command: Command): Command {
  return command
    .option(
      '--vmlinux <file>',
      'name addresses in the kernel from the symbols of the vmlinux it was made from',
    )
    .option('--system-map <file>', 'name them from its System.map');
}
