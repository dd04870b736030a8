// An uncompressed kernel as virtual machine monitors boot it: its segments at their physical addresses, boot_params, and the jump to
// its entry, by the 64-bit protocol, or by the 32-bit one for a 32-bit kernel.

import { readKernelFileParts } from '../../decompressor/kernel-sections.ts';
import { BootscopeError } from '../../error.ts';
import { hex } from '../../hex.ts';
import { PF_R, PF_W, PF_X, readElf } from '../../image/elf.ts';
import type { KernelImage } from '../../image/kernel-image.ts';
import { describeVmlinux, loadSegments } from '../../image/vmlinux.ts';
import type { Machine } from '../../machine/machine.ts';
import { formatSize } from '../../size.ts';
import type { BootRun } from '../boot-run.ts';
import type { BootOptions } from '../options.ts';
import { onKernel } from '../watch/kernel.ts';
import { makeBootParams } from './boot-params.ts';
import { enterLong64, enterProt32 } from './enter-protocol.ts';
import type { Entry } from './entry.ts';
import type { LoadedImage, LoadedKernel } from './loaded-image.ts';

export const vmlinuxLong64: Entry = {
  name: 'long64',
  summary: 'a 64-bit vmlinux at its startup_64',
  accepts: (image) => isVmlinux(image, 64),
  load: (machine, image, options) => loadVmlinux(machine, image, options, 'long64'),
  enter: enterLong64,
  watch: watchVmlinux,
};

export const vmlinuxProt32: Entry = {
  name: 'prot32',
  summary: 'a 32-bit vmlinux at its startup_32',
  accepts: (image) => isVmlinux(image, 32),
  load: (machine, image, options) => loadVmlinux(machine, image, options, 'prot32'),
  enter: enterProt32,
  watch: watchVmlinux,
};

function isVmlinux({ kind, bytes }: KernelImage, bits: 32 | 64): boolean {
  return kind === 'vmlinux' && readElf(bytes).bits === bits;
}

function loadVmlinux(
  machine: Machine,
  image: KernelImage,
  options: BootOptions,
  entry: 'prot32' | 'long64',
): LoadedImage {
  const { kernel, end } = loadKernelSegments(machine, image, options);
  return {
    entry,
    ...{ setup: null, heapEnd: null, protectedModeCode: null, startup32: 0 },
    ...makeBootParams(machine, image, options, entry, null, end),
    kernel,
    start: Number(describeVmlinux(readElf(image.bytes)).physicalEntry),
  };
}

/**
 * Puts every segment at its physical address.
 *
 * @returns the kernel as it lies there, and where it ends
 * @throws BootscopeError `boot-load-address`, `boot-memory`
 */
export function loadKernelSegments(
  machine: Machine,
  image: KernelImage,
  options: BootOptions,
): { readonly kernel: LoadedKernel; readonly end: number } {
  const elf = readElf(image.bytes);
  if (options.loadAddress !== null) {
    throw new BootscopeError(
      'boot-load-address',
      `a vmlinux goes where its segments say; it cannot be loaded at ${hex(options.loadAddress)}`,
    );
  }
  const { memory } = machine;
  for (const { paddr, bytes, memsz, index } of loadSegments(image.path, elf)) {
    if (!memory.contains(Number(paddr), Number(memsz))) {
      throw new BootscopeError(
        'boot-memory',
        `segment ${index} of ${image.path} reaches from ${hex(paddr)} to ${hex(paddr + memsz)}, the guest has only ` +
          `${formatSize(options.memory)} of RAM; give it more`,
      );
    }
    memory.view(Number(paddr), bytes.length).set(bytes);
    memory.fill(Number(paddr) + bytes.length, Number(memsz) - bytes.length, 0);
  }
  return describeKernelSegments(image);
}

/** The kernel as its file says that it lies in memory, and where it ends. */
export function describeKernelSegments(image: KernelImage): {
  readonly kernel: LoadedKernel;
  readonly end: number;
} {
  const loads = loadSegments(image.path, readElf(image.bytes));
  const segments = loads.map(({ paddr, vaddr, bytes, memsz, flags }) => ({
    ...{ paddr, vaddr, filesz: BigInt(bytes.length), memsz },
    flags: `${flags & PF_R ? 'r' : '-'}${flags & PF_W ? 'w' : '-'}${flags & PF_X ? 'x' : '-'}`,
  }));
  const lowest = segments.reduce((low, segment) => (segment.paddr < low.paddr ? segment : low));
  const ends = segments.map(({ paddr, memsz }) => Number(paddr + memsz));
  return {
    end: Math.max(...ends),
    kernel: {
      output: lowest.paddr,
      virtualBase: lowest.vaddr,
      segments,
      file: readKernelFileParts(image.bytes, segments),
    },
  };
}

export function watchVmlinux(boot: BootRun, { kernel, start }: LoadedImage): void {
  boot.found.kernelFile = kernel!.file;
  boot.defer(() => onKernel(boot, start, kernel));
}
