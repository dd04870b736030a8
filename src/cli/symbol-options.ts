// The options that name files with symbols.

import type { Command } from 'commander';
import type { KernelImage } from '../image/kernel-image.ts';
import type { BootTrace } from '../trace/boot-trace.ts';
import type { KernelSymbolPaths, StubSymbolPaths } from '../trace/kernel-names.ts';

export type StubSymbolFlags = StubSymbolPaths;

export interface KernelSymbolFlags extends KernelSymbolPaths {
  readonly symbols?: boolean;
}

/** @param bounds - whether the command draws the parts of the stub, too */
export function addStubSymbolOptions(command: Command, { bounds = false } = {}): Command {
  const also = bounds ? ' and gives exact bounds of its parts' : '';
  return command.option(
    '--zo-vmlinux <file>',
    `arch/x86/boot/compressed/vmlinux of the kernel's build, which names addresses in the boot stub${also}`,
  );
}

export interface CodeSymbolFlags extends StubSymbolFlags {
  readonly setupElf?: string;
}

/** For commands that name single instructions. */
export function addCodeSymbolOptions(command: Command): Command {
  return addStubSymbolOptions(command).option(
    '--setup-elf <file>',
    "arch/x86/boot/setup.elf of the kernel's build, which names addresses in setup",
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

/**
 * Reads the files that the flags name, before anything is booted.
 *
 * @returns what gives a trace its names; the trace as it is where nobody asked for any, since kallsyms takes decompressing the
 *   kernel once more
 */
export async function namesOnRequest(
  flags: StubSymbolFlags & KernelSymbolFlags,
): Promise<(trace: BootTrace, image: KernelImage) => Promise<BootTrace>> {
  const { symbols, vmlinux, systemMap, zoVmlinux } = flags;
  const kallsyms = symbols === true;
  if (!kallsyms && [vmlinux, systemMap, zoVmlinux].every((file) => file === undefined)) {
    return async (trace) => trace;
  }
  const { nameTrace, readSymbolFiles } = await import('../trace/kernel-names.ts');
  const files = await readSymbolFiles(flags);
  return (trace, image) => nameTrace(trace, image, files, { kallsyms });
}
