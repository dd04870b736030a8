// Names for a trace: from the files with symbols that somebody names, or from the kernel's own kallsyms where none is named.

import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import { type ElfFile, PT_LOAD, readElf } from '../image/elf.ts';
import { extractVmlinux } from '../image/extract-vmlinux.ts';
import { readImageFile } from '../image/image-file.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import type { BootTrace } from './boot-trace.ts';
import { findKallsyms } from './kallsyms.ts';
import { kernelNames } from './kernel-symbols.ts';
import { nameAddresses } from './name-addresses.ts';
import { nameStubSections, stubBase } from './stub-sections.ts';
import { readElfSymbolTable, readSystemMap, type SymbolTable } from './symbols.ts';

/** Files with symbols of the boot stub. */
export interface StubSymbolPaths {
  /** arch/x86/boot/compressed/vmlinux. */
  readonly zoVmlinux?: string;
}

/** Files with symbols of the kernel; of both the vmlinux is read. */
export interface KernelSymbolPaths {
  readonly vmlinux?: string;
  readonly systemMap?: string;
}

interface SymbolFile {
  readonly path: string;
  readonly symbols: SymbolTable;
  /** Null for a System.map. */
  readonly elf: ElfFile | null;
}

/** The files that the paths name; null where they name none. */
export interface SymbolFiles {
  readonly stub: (SymbolFile & { readonly elf: ElfFile }) | null;
  readonly kernel: SymbolFile | null;
}

/** Symbols of the boot stub, by offset in the protected-mode code; null where no file was named. */
export async function readStubSymbols(paths: StubSymbolPaths): Promise<SymbolTable | null> {
  return (await readStubFile(paths))?.symbols ?? null;
}

/** Symbols of setup, by offset in it, from arch/x86/boot/setup.elf; null where no file was named. */
export async function readSetupSymbols(path: string | undefined): Promise<SymbolTable | null> {
  return path === undefined ? null : readElfSymbolTable(path, await readElfFile(path));
}

async function readStubFile({ zoVmlinux: path }: StubSymbolPaths): Promise<SymbolFiles['stub']> {
  if (path === undefined) return null;
  const elf = await readElfFile(path);
  return { path, elf, symbols: readElfSymbolTable(path, elf, stubBase(elf)) };
}

/** Symbols of the kernel from the file that the paths name; null where they name none. */
export async function readKernelSymbols(paths: KernelSymbolPaths): Promise<SymbolFile | null> {
  const { vmlinux, systemMap } = paths;
  if (vmlinux !== undefined) {
    const elf = await readElfFile(vmlinux);
    return { path: vmlinux, elf, symbols: readElfSymbolTable(vmlinux, elf) };
  }
  if (systemMap === undefined) return null;
  return {
    path: systemMap,
    elf: null,
    symbols: readSystemMap(systemMap, await readImageFile(systemMap, { what: 'System.map' })),
  };
}

/** All of them, before anything is booted. */
export async function readSymbolFiles(paths: StubSymbolPaths & KernelSymbolPaths): Promise<SymbolFiles> {
  return { stub: await readStubFile(paths), kernel: await readKernelSymbols(paths) };
}

async function readElfFile(path: string): Promise<ElfFile> {
  const bytes = await readImageFile(path, { what: 'vmlinux' });
  try {
    return readElf(bytes);
  } catch (error) {
    // Several files may be named: say which one it is.
    if (error instanceof BootscopeError) throw new BootscopeError(error.code, `${path}: ${error.message}`);
    throw error;
  }
}

/**
 * Names of physical addresses in the kernel that was booted.
 * @param file - symbols by the addresses it was linked at; null: its own kallsyms
 * @returns null where there are none: no jump into a kernel, or one without kallsyms
 * @throws BootscopeError `symbols-other-kernel` where the file is of another kernel, and those of `extractVmlinux`
 */
export async function readKernelNames(
  file: SymbolFile | null,
  image: KernelImage,
  trace: BootTrace,
): Promise<((physical: bigint) => string | null) | null> {
  if (trace.kernel === null || image.payload === null) return null;
  const { elf } = await extractVmlinux(image);
  if (elf === null) return null;
  if (file !== null && file.elf !== null) checkKernel(file.path, file.elf, elf);
  const names = file?.symbols ?? findKallsyms(elf);
  return names === null ? null : kernelNames(names, elf, trace.kernel.segments);
}

/** The kernel in an image is its vmlinux without symbols: the segments are the same. */
function checkKernel(path: string, vmlinux: ElfFile, kernel: ElfFile): void {
  const segments = (elf: ElfFile): readonly string[] =>
    elf.programHeaders
      .filter(({ type }) => type === PT_LOAD)
      .map(({ vaddr, memsz }) => `${hex(memsz)} bytes at ${hex(vaddr)}`);
  const [named, booted] = [segments(vmlinux), segments(kernel)];
  for (let index = 0; index < Math.max(named.length, booted.length); index++) {
    const [theirs, ours] = [named[index] ?? 'missing', booted[index] ?? 'missing'];
    if (theirs === ours) continue;
    throw new BootscopeError(
      'symbols-other-kernel',
      `${path} is of another kernel: its segment ${index} is ${theirs}, that of the image ${ours}`,
    );
  }
}

export interface NamingOptions {
  /** Whether the kernel's own kallsyms are read where no file was named. */
  readonly kallsyms: boolean;
}

/** The trace with names from the files, or from kallsyms; with a file of the stub its parts have their exact bounds, too. */
export async function nameTrace(
  trace: BootTrace,
  image: KernelImage,
  files: SymbolFiles,
  { kallsyms }: NamingOptions,
): Promise<BootTrace> {
  const { stub, kernel } = files;
  const exact = stub === null ? trace : nameStubSections(trace, stub.elf);
  const names = kernel !== null || kallsyms ? await readKernelNames(kernel, image, trace) : null;
  return nameAddresses(exact, { stub: stub?.symbols ?? null, kernel: names });
}
