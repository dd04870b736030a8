// boot_params ("the zero page") as a loader makes it for the 32- and 64-bit boot protocol: the setup header, the
// memory map, the screen, command line and initrd (boot.rst "32-bit Boot Protocol", zero-page.rst).

import type { KernelImage } from '../../image/kernel-image.ts';
import type { Machine } from '../../machine/machine.ts';
import { BOOT_PARAMS_SIZE, BootParams, bootParamsOffset } from '../../protocol/boot-params.ts';
import { E820_RAM, type E820Entry } from '../../protocol/e820.ts';
import {
  SETUP_HEADER_MAGIC,
  type SetupHeaderField,
  writeSetupHeaderField,
} from '../../protocol/setup-header.ts';
import type { BootOptions } from '../options.ts';
import type { Placed } from './loaded-image.ts';
import {
  checkAbove4GiB,
  commandLineBytes,
  LOADER_TYPE_UNDEFINED,
  placeBytes,
  placeInitrd,
  videoMode,
} from './placement.ts';

const BOOT_PARAMS_ADDRESS = 0x10000;
const COMMAND_LINE_ADDRESS = 0x20000;
const ONE_MIB = 0x100000;
const FOUR_GIB = 2 ** 32;

const SETUP_HEADER = bootParamsOffset('hdr');
const SETUP_HEADER_END_BYTE = 0x201;
const SETUP_HEADER_MAGIC_OFFSET = 0x202;
const BOOT_FLAG = 0xaa55;
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

/** What a loader makes for a kernel that takes boot_params. */
export interface MadeBootParams {
  readonly bootParams: number;
  readonly commandLine: Placed;
  readonly initrd: Placed | null;
}

/**
 * Makes boot_params, command line and initrd.
 *
 * @param loadAddress - of the protected-mode code, for `code32_start`; null for a kernel without a setup header
 * @param end - where the kernel ends in memory; the initrd lies above
 * @throws BootscopeError where the image or the options do not allow it
 */
export function makeBootParams(
  machine: Machine,
  image: KernelImage,
  options: BootOptions,
  entry: 'prot32' | 'long64',
  loadAddress: number | null,
  end: number,
): MadeBootParams {
  const { memory } = machine;
  const bootParams = options.bootParamsAddress ?? BOOT_PARAMS_ADDRESS;
  const cmdline = commandLineBytes(image, options.cmdline);
  const commandLine: Placed = {
    address: options.cmdlineAddress ?? COMMAND_LINE_ADDRESS,
    size: cmdline.length,
  };
  checkAbove4GiB(image, entry, bootParams, BOOT_PARAMS_SIZE, 'boot_params');
  checkAbove4GiB(image, entry, commandLine.address, commandLine.size, 'the command line');
  placeBytes(memory, cmdline, commandLine.address);

  const page = new Uint8Array(BOOT_PARAMS_SIZE);
  const params = new BootParams(page);
  if (loadAddress !== null) {
    const headerEnd = SETUP_HEADER_MAGIC_OFFSET + image.setup[SETUP_HEADER_END_BYTE]!;
    page.set(image.setup.subarray(SETUP_HEADER, Math.min(headerEnd, E820_TABLE)), SETUP_HEADER);
  } else {
    params.set('boot_flag', BOOT_FLAG);
    params.set('header', SETUP_HEADER_MAGIC);
    params.set('cmdline_size', cmdline.length);
  }
  writeScreenInfo(params);
  writeMemoryMap(params, machine.memoryMap);

  // A header from a file is of its own protocol, and has not all of these.
  const write = (name: SetupHeaderField, value: number): void => {
    if (loadAddress === null) params.set(name, value);
    else writeSetupHeaderField(page, 0, name, value);
  };
  write('type_of_loader', LOADER_TYPE_UNDEFINED);
  write('vid_mode', videoMode(options.cmdline));
  if (loadAddress !== null) write('code32_start', loadAddress % FOUR_GIB);
  write('cmd_line_ptr', commandLine.address % FOUR_GIB);
  params.commandLine = commandLine.address;
  let initrd: Placed | null = null;
  if (options.initrd !== null) {
    const address = placeInitrd(image, options, machine.memoryMap, end);
    checkAbove4GiB(image, entry, address, options.initrd.bytes.length, 'the initrd');
    placeBytes(memory, options.initrd.bytes, address);
    initrd = { address, size: options.initrd.bytes.length };
    write('ramdisk_image', address % FOUR_GIB);
    write('ramdisk_size', initrd.size);
    params.initrd = initrd;
  }
  placeBytes(memory, page, bootParams);
  return { bootParams, commandLine, initrd };
}
