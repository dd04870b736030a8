// How the kernel is recognised that a boot loader has put into memory and jumps to: one on a disk, or a program such as MEMDISK. Loaders
// run code of their own at the kernel's usual places, too, so that the header decides.

import type { Unhook } from '../../cpu/cpu.ts';
import { equalBytes } from '../../host/host.ts';
import { readKernelInMemory, readSetupInMemory } from '../../image/boot-disk.ts';
import type { FileNode } from '../../image/file-tree.ts';
import { type KernelImage, readKernelImage } from '../../image/kernel-image.ts';
import { holdsSetupHeader, systemAddress } from '../../image/rebuild-image.ts';
import { BOOT_PARAMS_SIZE } from '../../protocol/boot-params.ts';
import { readSetupHeader, SETUP_HEADER_MAGIC, type SetupHeader } from '../../protocol/setup-header.ts';
import { endLoaderPrograms } from '../../trace/place-boot.ts';
import { CR0_PE } from '../../x86/control-registers.ts';
import { snapshot } from '../boot-record.ts';
import type { BootRun } from '../boot-run.ts';
import type { LoadedImage } from '../entries/loaded-image.ts';
import { type HandoverEntry, judgeHandover } from '../handover-rules.ts';
import { ZIMAGE_RUN_ADDRESS } from '../low-memory.ts';
import { recordImage, recordLoadedData } from '../record-placements.ts';
import { onStartup32, watchStartup32 } from './startup.ts';

const HIGH_LOAD_ADDRESS = 0x100000;
const SECTOR_SIZE = 512;
/** `jmp` over the header: setup's first instruction, which the magic follows. */
const SHORT_JUMP = 0xeb;
const JUMP_SIZE = 2;
const CODE32_START = 0x214;
/** Of the 64-bit handover entry behind the 32-bit one (boot.rst, "EFI Handover Protocol"). */
const HANDOVER_64 = 0x200;
/** Folders in folders that a kernel is looked for in. */
const DEEPEST_FOLDER = 8;
/** Folders may be in one another on a damaged disk. */
const MOST_FILES = 4096;
/** COMMAND_LINE_SIZE of arch/x86/include/asm/setup.h, and twice as much. */
const LONGEST_COMMAND_LINE = 4096;
/** setup_move_size, ramdisk_image and heap_end_ptr are new in it. */
const PROTOCOL_2_00 = 0x0200;
const PROTOCOL_2_01 = 0x0201;
/** cmd_line_ptr is new in it. */
const PROTOCOL_2_02 = 0x0202;

export function watchForKernelOfLoader(boot: BootRun): Unhook {
  const loader = boot.image;
  const { memory } = boot.machine;
  /** When what looked like a kernel's first instruction was found to be none: it then runs. */
  let refused: number | null = null;
  const unhook = boot.hookNewCode((address) => {
    if (boot.busy || boot.image !== loader || boot.cpu.instructions === refused) return;
    if (isSetup(address)) {
      boot.defer(async () => {
        const at = address - SECTOR_SIZE;
        const image = await readSetupInMemory(boot.image, memory, at);
        if (!isKernel(image)) return;
        unhook();
        onSetup(boot, image, at);
      });
    } else if (isStartup32(boot, address)) {
      const bootParams = esi(boot);
      boot.defer(async () => {
        const image = await readKernelInMemory(boot.image, memory, bootParams, address);
        if (!isKernel(image)) return;
        unhook();
        onProtectedMode(boot, image, address, bootParams);
      });
    }
  });

  return unhook;

  function isKernel(image: KernelImage | null): image is KernelImage {
    refused = boot.cpu.instructions;
    return image !== null && image.program === null;
  }

  function isSetup(address: number): boolean {
    const start = memory.viewUpTo(address, JUMP_SIZE + 4);
    return (
      start.length === JUMP_SIZE + 4 &&
      start[0] === SHORT_JUMP &&
      memory.read32(address + JUMP_SIZE) === SETUP_HEADER_MAGIC &&
      (boot.cpu.readRegister('cr0') & CR0_PE) === 0n
    );
  }
}

function esi({ cpu }: BootRun): number {
  return Number(cpu.readRegister('rsi') & 0xffff_ffffn);
}

/** With boot_params in ESI, whose header says that it is entered there. */
function isStartup32(boot: BootRun, address: number): boolean {
  if (address < ZIMAGE_RUN_ADDRESS) return false;
  const { memory } = boot.machine;
  const bootParams = esi(boot);
  const page = memory.viewUpTo(bootParams, BOOT_PARAMS_SIZE);
  if (!holdsSetupHeader(page)) return false;
  return (
    address === ZIMAGE_RUN_ADDRESS ||
    address === HIGH_LOAD_ADDRESS ||
    memory.read32(bootParams + CODE32_START) === address
  );
}

/**
 * Setup jumps to code of the loader instead of the kernel's (boot.rst, "Advanced Boot Loader Hooks"): that puts the kernel where it
 * belongs, and goes on there.
 */
function watchBehindHook(boot: BootRun, setup: KernelImage, hook: number): void {
  const { memory } = boot.machine;
  const unhook = boot.hookNewCode((address) => {
    if (boot.busy || boot.image !== setup || address === hook || !isStartup32(boot, address)) return;
    const bootParams = esi(boot);
    boot.defer(async () => {
      const image = await readKernelInMemory(boot.image, memory, bootParams, address);
      if (image === null) return;
      unhook();
      const protectedModeCode = { address, size: image.protectedModeCode.length };
      follow(boot, image, null, { startup32: address, protectedModeCode, bootParams });
      recordLoadedData(boot);
      onStartup32(boot, address);
    });
  });
}

/**
 * A loader that is an EFI program may leave LoadImage out and jump to the handover entry with boot_params in RDX. The kernel's file
 * is the one on the loader's disk that holds the same code.
 */
export function watchHandoverOfLoader(
  boot: BootRun,
  loaded: LoadedImage,
  entered: (loaded: LoadedImage) => void,
): Unhook {
  const { memory } = boot.machine;
  const loader = boot.image;
  let refused: number | null = null;
  const unhook = boot.hookNewCode((address) => {
    if (boot.busy || boot.image !== loader || boot.cpu.instructions === refused) return;
    const bootParams = Number(boot.cpu.readRegister('rdx'));
    if (!holdsSetupHeader(memory.viewUpTo(bootParams, BOOT_PARAMS_SIZE))) return;
    const header = readSetupHeader(memory.view(bootParams, 2 * SECTOR_SIZE));
    const code = header.get('code32_start');
    if (address !== code + header.get('handover_offset') + HANDOVER_64) return;
    boot.defer(async () => {
      refused = boot.cpu.instructions;
      const inMemory = await readKernelInMemory(boot.image, memory, bootParams, code);
      if (inMemory === null || inMemory.program !== null) return;
      unhook();
      const image = (await fileOf(boot, inMemory)) ?? inMemory;
      follow(boot, image, null, {
        ...loaded,
        protectedModeCode: { address: code, size: image.protectedModeCode.length },
        startup32: code,
        bootParams,
        commandLine: commandLineAt(boot, header.get('cmd_line_ptr')),
        initrd: initrdOf(header),
        start: address,
      });
      recordImage(boot);
      recordLoadedData(boot);
      entered(boot.found.loaded!);
    });
  });
  return unhook;
}

/** The file on the EFI system partition with the kernel's protected-mode code; null where there is none. */
async function fileOf(
  { options: { esp }, image }: BootRun,
  kernel: KernelImage,
): Promise<KernelImage | null> {
  let left = MOST_FILES;
  const search = async (node: FileNode, depth: number): Promise<KernelImage | null> => {
    if (left-- <= 0) return null;
    if (node.isFolder) {
      if (depth === 0) return null;
      for (const each of node.list()) {
        const found = await search(each, depth - 1);
        if (found !== null) return found;
      }
      return null;
    }
    if (node.size < kernel.protectedModeCode.length) return null;
    const bytes = node.read();
    const at = bytes.length - kernel.protectedModeCode.length;
    if (!holdsSetupHeader(bytes) || at < 0) return null;
    const found = await readKernelImage(image.path, bytes);
    const size = kernel.protectedModeCode.length;
    return equalBytes(found.protectedModeCode.subarray(0, size), kernel.protectedModeCode) ? found : null;
  };
  return esp === null ? null : search(esp.root, DEEPEST_FOLDER);
}

/** The loader goes by the 16-bit protocol: setup is about to run, its boot sector at `at`. */
function onSetup(boot: BootRun, image: KernelImage, at: number): void {
  const { memory } = boot.machine;
  const header = readSetupHeader(memory.view(at, 2 * SECTOR_SIZE));
  const { protocol } = header;
  const modern = protocol >= PROTOCOL_2_02;
  const isHigh = image.kind === 'bzImage';
  const heapEnd = protocol >= PROTOCOL_2_01 ? at + header.get('heap_end_ptr') + SECTOR_SIZE : null;
  const address = systemAddress(header);
  follow(boot, image, 'real16', {
    setup: { address: at, size: image.setupSize },
    heapEnd,
    protectedModeCode: { address, size: image.protectedModeCode.length },
    startup32: isHigh ? address : ZIMAGE_RUN_ADDRESS,
    commandLine: modern ? commandLineAt(boot, header.get('cmd_line_ptr')) : null,
    initrd: protocol >= PROTOCOL_2_00 ? initrdOf(header) : null,
  });
  recordImage(boot);
  recordLoadedData(boot);
  boot.beginPhase('setup');
  const code = memory.view(at, image.setupSize);
  boot.keep(...boot.record.watchSystemInstructions(at, code, 0, image.setupSize, true));
  const { startup32 } = boot.found.loaded!;
  // A kernel that is loaded high never lies there.
  if (isHigh && startup32 < HIGH_LOAD_ADDRESS) watchBehindHook(boot, image, startup32);
  else watchStartup32(boot, startup32);
}

/** The loader goes by the 32-bit protocol. */
function onProtectedMode(boot: BootRun, image: KernelImage, address: number, bootParams: number): void {
  const header = readSetupHeader(boot.machine.memory.view(bootParams, 2 * SECTOR_SIZE));
  follow(boot, image, 'prot32', {
    protectedModeCode: { address, size: image.protectedModeCode.length },
    startup32: address,
    bootParams,
    commandLine: header.protocol >= PROTOCOL_2_02 ? commandLineAt(boot, header.get('cmd_line_ptr')) : null,
    initrd: initrdOf(header),
  });
  recordLoadedData(boot);
  onStartup32(boot, address);
}

/** @param entry - by which the loader enters it, for the rules that it has to keep; null where none are known */
function follow(
  boot: BootRun,
  image: KernelImage,
  entry: HandoverEntry | null,
  loaded: Partial<LoadedImage>,
): void {
  const { cpu, machine } = boot;
  boot.changeImage(image);
  endLoaderPrograms(boot.record.placements);
  if (entry !== null) {
    const gdtr = cpu.readDescriptorTable('gdtr');
    const handover = { entry, registers: snapshot(cpu), gdtr, memory: machine.memory };
    boot.found.fromLoader = judgeHandover(image, handover);
  }
  boot.found.loaded = { ...boot.found.loaded!, ...loaded };
}

/** With its end; null where the loader gave none. */
function commandLineAt(boot: BootRun, address: number): LoadedImage['commandLine'] {
  if (address === 0) return null;
  const length = boot.machine.memory.viewUpTo(address, LONGEST_COMMAND_LINE).indexOf(0);
  return length < 0 ? null : { address, size: length + 1 };
}

function initrdOf(header: SetupHeader): LoadedImage['initrd'] {
  const size = header.get('ramdisk_size');
  return size === 0 ? null : { address: header.get('ramdisk_image'), size };
}
