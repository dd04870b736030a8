// The 16-bit boot protocol: setup at 0x90000, the protected-mode code at 0x100000 (zImage: 0x10000), the header
// fields filled in, and the CPU at the first instruction of setup (boot.rst, "The real-mode kernel header",
// "Loading the rest of the kernel", "Running the kernel").

import { enterRealMode } from '../../cpu/enter-mode.ts';
import { BootscopeError } from '../../error.ts';
import { hex } from '../../hex.ts';
import type { KernelImage } from '../../image/kernel-image.ts';
import type { Machine } from '../../machine/machine.ts';
import { BOOT_PARAMS_SIZE } from '../../protocol/boot-params.ts';
import { writeSetupHeaderField } from '../../protocol/setup-header.ts';
import { formatSize } from '../../size.ts';
import { SETUP_ADDRESS, ZIMAGE_RUN_ADDRESS } from '../low-memory.ts';
import type { BootOptions } from '../options.ts';
import { watchForKernelOfLoader } from '../watch/kernel-from-disk.ts';
import { watchStartup32 } from '../watch/startup.ts';
import { type Entry, speaksBootProtocol } from './entry.ts';
import type { LoadedImage } from './loaded-image.ts';
import { commandLineBytes, LOADER_TYPE_UNDEFINED, placeBytes, placeInitrd, videoMode } from './placement.ts';

const HIGH_LOAD_ADDRESS = 0x100000;
const LOW_LOAD_ADDRESS = 0x10000;

const LOADED_HIGH = 0x01;
const CAN_USE_HEAP = 0x80;
const COMMAND_LINE_MAGIC = 0xa33f;
const COMMAND_LINE_MAGIC_OFFSET = 0x20;
const COMMAND_LINE_OFFSET_OFFSET = 0x22;

export const real16: Entry = {
  name: 'real16',
  summary: "the boot protocol's 16-bit entry, at the first instruction of setup",
  accepts: speaksBootProtocol,
  load: loadReal16,
  enter: enterReal16,
  watch: (boot, { startup32 }) => {
    boot.beginPhase('setup');
    watchStartup32(boot, startup32);
    if (boot.image.program !== null) watchForKernelOfLoader(boot);
  },
};

/** Puts the image into memory and returns where everything is; the CPU is not touched. */
export function loadReal16(machine: Machine, image: KernelImage, options: BootOptions): LoadedImage {
  const { memory } = machine;
  const { header } = image;
  const high = image.kind === 'bzImage';
  const loadAddress = high ? HIGH_LOAD_ADDRESS : LOW_LOAD_ADDRESS;
  const code = systemOf(image);
  if (options.loadAddress !== null && options.loadAddress !== loadAddress) {
    throw new BootscopeError(
      'boot-load-address',
      `the 16-bit protocol loads a ${image.kind} at ${hex(loadAddress)}; another load address, ${hex(options.loadAddress)}, ` +
        'needs the entry prot32 or long64',
    );
  }
  if (high && !memory.contains(loadAddress, code.length)) {
    throw new BootscopeError(
      'boot-memory',
      `the protected-mode code has ${code.length} bytes and goes to ${hex(loadAddress)}, the guest has only ` +
        `${formatSize(options.memory)} of RAM; give it more`,
    );
  }
  if (!high && loadAddress + code.length > SETUP_ADDRESS) {
    throw new BootscopeError(
      'boot-zimage-size',
      `a zImage's system must fit between ${hex(loadAddress)} and ${hex(SETUP_ADDRESS)}, this one has ${code.length} bytes`,
    );
  }

  // boot.rst: the heap may reach to 0xe000 with a high-loaded 2.02 kernel, to 0x9800 otherwise.
  const modern = header.protocol >= 0x0202;
  const heapEnd = modern && high ? 0xe000 : 0x9800;
  if (image.setupSize > heapEnd) {
    throw new BootscopeError(
      'boot-setup-size',
      `setup has ${image.setupSize} bytes, its segment has room for ${heapEnd} below the heap end at ${hex(SETUP_ADDRESS + heapEnd)}`,
    );
  }
  memory.view(SETUP_ADDRESS, image.setupSize).set(image.setup);
  memory.fill(SETUP_ADDRESS + image.setupSize, heapEnd - image.setupSize, 0);
  memory.view(loadAddress, code.length).set(code);

  const cmdline = commandLineBytes(image, options.cmdline);
  const cmdlineAddress = options.cmdlineAddress ?? SETUP_ADDRESS + heapEnd;
  if (options.cmdlineAddress === null && cmdlineAddress + cmdline.length > machine.ebdaAddress) {
    throw new BootscopeError(
      'boot-cmdline',
      `the command line's ${cmdline.length} bytes at ${hex(cmdlineAddress)} do not fit below ${hex(machine.ebdaAddress)}`,
    );
  }
  placeBytes(memory, cmdline, cmdlineAddress);

  const write = (name: Parameters<typeof writeSetupHeaderField>[2], value: number): void =>
    writeSetupHeaderField(memory.view(SETUP_ADDRESS, BOOT_PARAMS_SIZE), 0, name, value);
  write('vid_mode', videoMode(options.cmdline));
  let initrd: LoadedImage['initrd'] = null;
  if (header.protocol >= 0x0200) {
    write('type_of_loader', LOADER_TYPE_UNDEFINED);
    if (header.protocol >= 0x0201) {
      write('heap_end_ptr', heapEnd - 0x200);
      write('loadflags', header.get('loadflags') | CAN_USE_HEAP | (high ? LOADED_HIGH : 0));
    }
    if (options.initrd !== null) {
      const address = placeInitrd(
        image,
        options,
        machine.memoryMap,
        high ? loadAddress + code.length : HIGH_LOAD_ADDRESS,
      );
      placeBytes(memory, options.initrd.bytes, address);
      initrd = { address, size: options.initrd.bytes.length };
      write('ramdisk_image', address);
      write('ramdisk_size', initrd.size);
    }
  } else if (options.initrd !== null) {
    throw new BootscopeError(
      'boot-initrd',
      'this kernel has no setup header (boot protocol before 2.00) and cannot be given an initrd',
    );
  }
  if (modern) {
    write('cmd_line_ptr', cmdlineAddress);
  } else {
    const offset = cmdlineAddress - SETUP_ADDRESS;
    if (offset < 0 || offset + cmdline.length > 0xffff) {
      throw new BootscopeError(
        'boot-cmdline',
        `before boot protocol 2.02 the command line lies in setup's segment, ${hex(cmdlineAddress)} does not`,
      );
    }
    memory.write16(SETUP_ADDRESS + COMMAND_LINE_MAGIC_OFFSET, COMMAND_LINE_MAGIC);
    memory.write16(SETUP_ADDRESS + COMMAND_LINE_OFFSET_OFFSET, offset);
    if (header.protocol >= 0x0200) write('setup_move_size', offset + cmdline.length);
  }

  const code32Start = header.protocol >= 0x0200 ? header.get('code32_start') : 0;
  return {
    entry: 'real16',
    setup: { address: SETUP_ADDRESS, size: image.setupSize },
    heapEnd: SETUP_ADDRESS + heapEnd,
    protectedModeCode: { address: loadAddress, size: code.length },
    startup32: high ? code32Start || HIGH_LOAD_ADDRESS : ZIMAGE_RUN_ADDRESS,
    commandLine: { address: cmdlineAddress, size: cmdline.length },
    initrd,
    bootParams: null,
    kernel: null,
    start: SETUP_ADDRESS + 0x200,
  };
}

/** Puts the CPU at CS:IP = setup's segment + 0x20:0 with the registers that boot.rst demands. */
export function enterReal16(machine: Machine, loaded: LoadedImage): void {
  const segment = SETUP_ADDRESS >> 4;
  enterRealMode(machine.cpu, {
    cs: segment + 0x20,
    ip: 0,
    ss: segment,
    sp: loaded.heapEnd! - SETUP_ADDRESS,
    ds: segment,
    es: segment,
    fs: segment,
    gs: segment,
  });
}

/** A zImage may stand at the start of a whole floppy image: its system is what syssize says, and nothing behind it. */
function systemOf(image: KernelImage): Uint8Array {
  const paragraphs = image.header.get('syssize');
  if (image.kind === 'bzImage' || paragraphs === 0) return image.protectedModeCode;
  return image.protectedModeCode.subarray(0, paragraphs * 16);
}
