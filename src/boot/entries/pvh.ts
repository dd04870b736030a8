// PVH: an uncompressed kernel with Xen's ELF note, entered in 32-bit protected mode with hvm_start_info in EBX, as QEMU, Xen,
// Firecracker and Cloud Hypervisor do. A bzImage is taken for the vmlinux in it.

import { enterProtectedMode } from '../../cpu/enter-mode.ts';
import { BootscopeError } from '../../error.ts';
import { hex } from '../../hex.ts';
import { readElf } from '../../image/elf.ts';
import { extractVmlinux } from '../../image/extract-vmlinux.ts';
import { type KernelImage, readKernelImage } from '../../image/kernel-image.ts';
import { readXenNotes } from '../../image/vmlinux.ts';
import { writeAcpiTables } from '../../machine/acpi-tables.ts';
import type { Machine } from '../../machine/machine.ts';
import { ramSizes } from '../../machine/memory-map.ts';
import { E820_TABLE_ENTRIES } from '../../protocol/e820.ts';
import { HVM_START_INFO_SIZE, writeHvmStartInfo } from '../../protocol/pvh.ts';
import { LOADER_MEMORY } from '../low-memory.ts';
import type { BootOptions } from '../options.ts';
import { watchPvhStart } from '../watch/pvh-start.ts';
import type { Entry } from './entry.ts';
import type { LoadedImage, Placed } from './loaded-image.ts';
import { commandLineBytes, placeBytes, placeInitrd } from './placement.ts';
import { loadKernelSegments } from './vmlinux.ts';

/** In the loader's own memory, behind its GDT. */
const START_INFO = 0x6000;
const MODULES = START_INFO + HVM_START_INFO_SIZE;
const MEMORY_MAP = 0x7000;
const COMMAND_LINE = 0x20000;
const STACK_ADDRESS = 0x8000;

export const pvh: Entry = {
  name: 'pvh',
  summary: "a kernel with Xen's PVH note, as virtual machine monitors enter it",
  accepts: ({ kind, bytes }) =>
    kind === 'bzImage' || (kind === 'vmlinux' && readXenNotes(readElf(bytes)).pvhEntry !== null),
  prepare: kernelInside,
  load: loadPvh,
  enter: (machine, { start }) => {
    enterProtectedMode(machine.cpu, {
      eip: start,
      gdtAddress: LOADER_MEMORY.start,
      rbx: BigInt(START_INFO),
      rsp: BigInt(STACK_ADDRESS),
    });
  },
  watch: watchPvhStart,
};

/** The vmlinux that a bzImage unpacks to, which has the note. */
async function kernelInside(image: KernelImage): Promise<KernelImage> {
  if (image.kind !== 'bzImage') return image;
  const { bytes, elf } = await extractVmlinux(image);
  if (elf === null || readXenNotes(elf).pvhEntry === null) {
    throw new BootscopeError(
      'boot-pvh',
      `${image.path}: the kernel in it has no Xen note with a PVH entry (PHYS32_ENTRY): it was built without CONFIG_PVH`,
    );
  }
  return readKernelImage(image.path, bytes);
}

function loadPvh(machine: Machine, image: KernelImage, options: BootOptions): LoadedImage {
  const { memory, memoryMap } = machine;
  const start = Number(readXenNotes(readElf(image.bytes)).pvhEntry);
  const { kernel, end } = loadKernelSegments(machine, image, options);
  if (memoryMap.length > E820_TABLE_ENTRIES) {
    throw new BootscopeError(
      'boot-pvh',
      `the memory map has ${memoryMap.length} entries, there is room for ${E820_TABLE_ENTRIES}`,
    );
  }
  const cmdline = commandLineBytes(image, options.cmdline);
  const commandLine: Placed = { address: options.cmdlineAddress ?? COMMAND_LINE, size: cmdline.length };
  if (commandLine.address + commandLine.size > 2 ** 32) {
    throw new BootscopeError(
      'boot-pvh',
      `the command line would lie at ${hex(commandLine.address)}, which a 32-bit entry does not reach`,
    );
  }
  placeBytes(memory, cmdline, commandLine.address);
  let initrd: Placed | null = null;
  if (options.initrd !== null) {
    initrd = { address: placeInitrd(image, options, memoryMap, end), size: options.initrd.bytes.length };
    placeBytes(memory, options.initrd.bytes, initrd.address);
  }
  writeHvmStartInfo(
    memory,
    {
      flags: 0,
      modules: initrd === null ? [] : [initrd],
      commandLine: commandLine.address,
      rsdp: rootPointer(machine, options),
      memoryMap,
    },
    { startInfo: START_INFO, modules: MODULES, memoryMap: MEMORY_MAP },
  );
  return {
    entry: 'pvh',
    ...{ setup: null, heapEnd: null, protectedModeCode: null, startup32: 0 },
    ...{ commandLine, initrd, bootParams: null, kernel, start },
  };
}

/** The tables lie where this machine's own map keeps them; of another machine's nobody knows where it has them. */
function rootPointer({ memory }: Machine, options: BootOptions): number {
  if (options.memoryMap !== null) return 0;
  return writeAcpiTables(memory, options.machine, ramSizes(options.machine, options.memory));
}
