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

/** @param bounds - whether the command draws the parts of the stub, too */
export function addStubSymbolOptions(command: Command, { bounds = false } = {}): Command {
  const also = bounds ? ' and gives exact bounds of its parts' : '';
  return command.option(
    '--zo-vmlinux <file>',
    `arch/x86/boot/compressed/vmlinux of the kernel's build, which names addresses in the boot stub${also}`,
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

/** Whether names are asked for: a file with them, or the kernel's kallsyms. */
export function asksForNames(flags: StubSymbolFlags & KernelSymbolFlags): boolean {
  const { symbols, vmlinux, systemMap, zoVmlinux } = flags;
  return symbols === true || [vmlinux, systemMap, zoVmlinux].some((file) => file !== undefined);
}
