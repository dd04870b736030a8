// boot_params ("the zero page") as a loader makes it for the 32- and 64-bit boot protocol: the setup header, the
// memory map, the screen (boot.rst "32-bit Boot Protocol", zero-page.rst).

import { enterLongMode, enterProtectedMode } from '../cpu/enter-mode.ts';
import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import type { Machine } from '../machine/machine.ts';
import { BOOT_PARAMS_SIZE, BootParams, bootParamsOffset } from '../protocol/boot-params.ts';
import { E820_RAM, type E820Entry } from '../protocol/e820.ts';
import { type SetupHeaderField, writeSetupHeaderField } from '../protocol/setup-header.ts';
import type { LoadedImage, Placed } from './loaded-image.ts';
import type { BootOptions } from './options.ts';
import { commandLineBytes, LOADER_TYPE_UNDEFINED, placeBytes, placeInitrd, videoMode } from './placement.ts';

const BOOT_PARAMS_ADDRESS = 0x10000;
const COMMAND_LINE_ADDRESS = 0x20000;
/** Where boot.rst has the 32-bit protocol load the protected-mode code of a bzImage. */
const LOAD_ADDRESS = 0x100000;
const ONE_MIB = 0x100000;

const SETUP_HEADER = bootParamsOffset('hdr');
const SETUP_HEADER_END_BYTE = 0x201;
const SETUP_HEADER_MAGIC = 0x202;
const E820_TABLE = bootParamsOffset('e820_table');

const TEXT_MODE_80X25 = 3;

/** Text mode 3 as a VGA BIOS leaves it. */
function writeScreenInfo(params: BootParams): void {
  params.set('orig_video_mode', TEXT_MODE_80X25);
  params.set('orig_video_cols', 80);
  params.set('orig_video_ega_bx', 3);
  params.set('orig_video_lines', 25);
  params.set('orig_video_isVGA', 1);
  params.set('orig_video_points', 16);
}

function writeMemoryMap(params: BootParams, map: readonly E820Entry[]): void {
  params.memoryMap = map;
  const extended = map.find(({ type, address }) => type === E820_RAM && address === BigInt(ONE_MIB));
  const kilobytes = extended === undefined ? 0 : Number(extended.size / 1024n);
  params.set('ext_mem_k', Math.min(kilobytes, 0xfc00));
  params.set('alt_mem_k', kilobytes);
}

/**
 * Loads the protected-mode code and makes boot_params, command line and initrd, as a loader of the 32- or 64-bit
 * protocol does.
 *
 * @throws BootscopeError where the image or the options do not allow it
 */
export function loadWithBootParams(
  machine: Machine,
  image: KernelImage,
  options: BootOptions,
  entry: 'prot32' | 'long64',
): LoadedImage {
  const { ram } = machine;
  const { header } = image;
  if (image.kind === 'zImage') {
    throw new BootscopeError(
      'boot-entry',
      `${image.path}: a zImage is loaded low and can only be entered through real mode; use --entry real16 or boot-sector`,
    );
  }
  if (header.protocol < 0x0202) {
    throw new BootscopeError(
      'boot-entry',
      `${image.path}: boot protocol ${header.version ?? 'before 2.00'} takes its command line through setup's segment; ` +
        `--entry ${entry} needs protocol 2.02 or later, use --entry real16`,
    );
  }
  const loadAddress = placeCode(image, options, entry);
  const code = image.protectedModeCode;
  placeBytes(ram, code, loadAddress);

  const bootParams = options.bootParamsAddress ?? BOOT_PARAMS_ADDRESS;
  const cmdline = commandLineBytes(image, options.cmdline);
  const commandLine: Placed = {
    address: options.cmdlineAddress ?? COMMAND_LINE_ADDRESS,
    size: cmdline.length,
  };
  placeBytes(ram, cmdline, commandLine.address);

  const page = new Uint8Array(BOOT_PARAMS_SIZE);
  const headerEnd = SETUP_HEADER_MAGIC + image.setup[SETUP_HEADER_END_BYTE]!;
  page.set(image.setup.subarray(SETUP_HEADER, Math.min(headerEnd, E820_TABLE)), SETUP_HEADER);
  const params = new BootParams(page);
  writeScreenInfo(params);
  writeMemoryMap(params, machine.memoryMap);

  const write = (name: SetupHeaderField, value: number): void => writeSetupHeaderField(page, 0, name, value);
  write('type_of_loader', LOADER_TYPE_UNDEFINED);
  write('vid_mode', videoMode(options.cmdline));
  write('code32_start', loadAddress);
  write('cmd_line_ptr', commandLine.address);
  let initrd: Placed | null = null;
  if (options.initrd !== null) {
    const address = placeInitrd(image, options, machine.memoryMap, loadAddress + code.length);
    placeBytes(ram, options.initrd.bytes, address);
    initrd = { address, size: options.initrd.bytes.length };
    write('ramdisk_image', address);
    write('ramdisk_size', initrd.size);
  }
  placeBytes(ram, page, bootParams);
  return {
    entry,
    setup: null,
    heapEnd: null,
    protectedModeCode: { address: loadAddress, size: code.length },
    startup32: loadAddress,
    commandLine,
    initrd,
    bootParams,
  };
}

/** Where the code goes: `--load-address`, taken as it is, else 0x100000. */
function placeCode(image: KernelImage, options: BootOptions, entry: 'prot32' | 'long64'): number {
  const { header } = image;
  if (entry === 'long64' && (header.get('xloadflags') & 1) === 0) {
    throw new BootscopeError(
      'boot-entry',
      `${image.path}: this kernel has no 64-bit entry point (xloadflags ${hex(header.get('xloadflags'))} without ` +
        'XLF_KERNEL_64); use --entry prot32 or real16',
    );
  }
  if (options.loadAddress !== null) return options.loadAddress;
  const address = LOAD_ADDRESS;
  if (address + image.protectedModeCode.length > options.memory) {
    throw new BootscopeError(
      'boot-memory',
      `the protected-mode code has ${image.protectedModeCode.length} bytes and goes to ${hex(address)}, the guest has only ` +
        `${options.memory / 2 ** 20} MiB of RAM; give it more with --memory`,
    );
  }
  return address;
}

/** All that the loader keeps for itself in low memory, from its GDT to the end of its page tables. */
export const LOADER_MEMORY = { start: 0x500, end: 0xf000 } as const;
/** Descriptors of the boot protocol; free low memory that no loader structure uses. */
const GDT_ADDRESS = LOADER_MEMORY.start;
/** Below boot_params: where nothing else lies before the kernel runs. */
const STACK_ADDRESS = 0x8000;
/** PML4, page directory pointers, and four page directories of 2 MiB pages: the first 4 GiB mapped to themselves. */
const PAGE_TABLES = 0x9000;
const PAGE_TABLES_SIZE = LOADER_MEMORY.end - PAGE_TABLES;
const STARTUP_64_OFFSET = 0x200n;
const PRESENT_WRITABLE = 3n;
const LARGE_PAGE = 0x80n;

/** 32-bit protected mode at the start of the protected-mode code, ESI = boot_params. */
export function enterProt32(machine: Machine, loaded: LoadedImage): void {
  enterProtectedMode(machine.cpu, {
    eip: loaded.protectedModeCode.address,
    gdtAddress: GDT_ADDRESS,
    rsi: BigInt(loaded.bootParams!),
    rsp: BigInt(STACK_ADDRESS),
  });
}

/** 64-bit mode with identity mapping at offset 0x200 of the protected-mode code, RSI = boot_params. */
export function enterLong64(machine: Machine, loaded: LoadedImage): void {
  const { ram } = machine;
  const tables = new DataView(ram.buffer, ram.byteOffset + PAGE_TABLES, PAGE_TABLES_SIZE);
  const table = (index: number): bigint => BigInt(PAGE_TABLES + index * 0x1000);
  tables.setBigUint64(0, table(1) | PRESENT_WRITABLE, true);
  for (let gigabyte = 0; gigabyte < 4; gigabyte++) {
    tables.setBigUint64(0x1000 + gigabyte * 8, table(2 + gigabyte) | PRESENT_WRITABLE, true);
  }
  for (let page = 0; page < 4 * 512; page++) {
    tables.setBigUint64(0x2000 + page * 8, (BigInt(page) << 21n) | LARGE_PAGE | PRESENT_WRITABLE, true);
  }
  enterLongMode(machine.cpu, {
    rip: BigInt(loaded.protectedModeCode.address) + STARTUP_64_OFFSET,
    cr3: BigInt(PAGE_TABLES),
    gdtAddress: GDT_ADDRESS,
    rsi: BigInt(loaded.bootParams!),
    rsp: BigInt(STACK_ADDRESS),
  });
}
