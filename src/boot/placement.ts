// Where a boot loader puts the command line and the initrd, shared by all entries of the boot protocol
// (boot.rst, "The kernel command line" and "Special command line options").

import { BootscopeError } from '../error.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import type { E820Entry } from '../machine/events.ts';
import type { BootOptions } from './options.ts';

/** `type_of_loader` of a loader without an assigned number. */
export const LOADER_TYPE_UNDEFINED = 0xff;

const VGA_MODES: Readonly<Record<string, number>> = { normal: 0xffff, ext: 0xfffe, ask: 0xfffd };
const NORMAL_VGA = 0xffff;

/** Longest command line without its NUL: `cmdline_size`, or 255 before protocol 2.06. */
export function maxCommandLineLength(image: KernelImage): number {
  const stated = image.header.get('cmdline_size');
  return image.header.has('cmdline_size') && stated > 0 ? stated : 255;
}

/**
 * The command line as the bytes that go into memory, NUL included.
 *
 * @throws BootscopeError `boot-cmdline` for one that the kernel would cut
 */
export function commandLineBytes(image: KernelImage, cmdline: string): Uint8Array {
  const bytes = new TextEncoder().encode(`${cmdline}\0`);
  if (cmdline.includes('\0'))
    throw new BootscopeError('boot-cmdline', 'the command line contains a NUL byte');
  const limit = maxCommandLineLength(image);
  if (bytes.length - 1 > limit) {
    throw new BootscopeError(
      'boot-cmdline',
      `the command line has ${bytes.length - 1} bytes, this kernel takes at most ${limit}`,
    );
  }
  return bytes;
}

/** `vid_mode` from a `vga=` option; boot.rst has the loader, not the kernel, interpret it. */
export function videoMode(cmdline: string): number {
  const value = cmdlineOption(cmdline, 'vga');
  if (value === null) return NORMAL_VGA;
  const named = VGA_MODES[value];
  if (named !== undefined) return named;
  const number = Number(value);
  return Number.isInteger(number) && number >= 0 && number <= 0xffff ? number : NORMAL_VGA;
}

/** The value of the last `name=value` on the command line, or null. */
export function cmdlineOption(cmdline: string, name: string): string | null {
  let value: string | null = null;
  for (const word of cmdline.split(/\s+/)) {
    if (word.startsWith(`${name}=`)) value = word.slice(name.length + 1);
  }
  return value;
}

/** Bytes of `mem=512M` and the like; null where the option is absent or not a size. */
function memOption(cmdline: string): number | null {
  const match = /^(0x[0-9a-f]+|\d+)([kmg]?)$/i.exec(cmdlineOption(cmdline, 'mem') ?? '');
  if (match === null) return null;
  const unit = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30 }[match[2]!.toLowerCase()] ?? 1;
  return Number(match[1]) * unit;
}

/** End of the usable RAM that begins at 1 MiB, or of the highest usable RAM below 4 GiB. */
export function endOfRam(e820: readonly E820Entry[]): number {
  let end = 0n;
  for (const entry of e820) {
    const entryEnd = entry.address + entry.size;
    if (entry.type === 1 && entry.address < 1n << 32n && entryEnd > end) end = entryEnd;
  }
  return Number(end > 1n << 32n ? 1n << 32n : end);
}

/**
 * Places the initrd as high as it may lie: page-aligned, below `initrd_addr_max`, the end of RAM and `mem=`.
 *
 * @returns its physical address
 * @throws BootscopeError `boot-initrd` where it does not fit above the protected-mode code
 */
export function placeInitrd(
  image: KernelImage,
  options: BootOptions,
  e820: readonly E820Entry[],
  floor: number,
): number {
  const initrd = options.initrd!;
  const size = initrd.bytes.length;
  if (size === 0) throw new BootscopeError('boot-initrd', `${initrd.path}: the initrd is empty (0 bytes)`);
  if (options.initrdAddress !== null) {
    if (options.initrdAddress + size > options.memory) {
      throw new BootscopeError(
        'boot-initrd',
        `${initrd.path}: ${size} bytes at ${hex(options.initrdAddress)} end at ${hex(options.initrdAddress + size)}, beyond ` +
          `the ${options.memory / 2 ** 20} MiB of RAM`,
      );
    }
    return options.initrdAddress;
  }
  // boot.rst: before protocol 2.03 the limit was 0x37ffffff.
  const addressMax = image.header.has('initrd_addr_max') ? image.header.get('initrd_addr_max') : 0x37ffffff;
  const limit = Math.min(
    endOfRam(e820),
    addressMax + 1,
    memOption(options.cmdline) ?? Number.POSITIVE_INFINITY,
  );
  const address = Math.floor((limit - size) / 0x1000) * 0x1000;
  if (address < floor) {
    throw new BootscopeError(
      'boot-initrd',
      `${initrd.path}: the initrd has ${size} bytes, but only ${Math.max(0, limit - floor)} bytes are free ` +
        `between the kernel at ${hex(floor)} and ${hex(limit)}; give the guest more RAM with --memory`,
    );
  }
  return address;
}

export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}
