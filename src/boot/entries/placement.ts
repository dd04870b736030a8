// Where a boot loader puts the command line and the initrd, shared by all entries of the boot protocol
// (boot.rst, "The kernel command line" and "Special command line options").

import { BootscopeError } from '../../error.ts';
import { hex } from '../../hex.ts';
import type { KernelImage } from '../../image/kernel-image.ts';
import type { E820Entry } from '../../protocol/e820.ts';
import type { PhysicalMemory } from '../../x86/physical-memory.ts';
import type { BootOptions } from '../options.ts';

/** `type_of_loader` of a loader without an assigned number. */
export const LOADER_TYPE_UNDEFINED = 0xff;

const VGA_MODES: Readonly<Record<string, number>> = { normal: 0xffff, ext: 0xfffe, ask: 0xfffd };
const NORMAL_VGA = 0xffff;
const PAGE = 0x1000;

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
  const number = cInteger(value);
  return number <= 0xffff ? number : NORMAL_VGA;
}

/** An integer "in C notation", as boot.rst has it: decimal, octal or hexadecimal; NaN for anything else. */
function cInteger(text: string): number {
  if (/^0[0-7]+$/.test(text)) return Number.parseInt(text, 8);
  return /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN;
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

const FOUR_GIB = 2 ** 32;
const XLF_CAN_BE_LOADED_ABOVE_4G = 0x02;

/**
 * Whether what lies there can be reached: from 4 GiB on only by the 64-bit protocol, and a bzImage has to say so in xloadflags.
 *
 * @throws BootscopeError `boot-above-4g`
 */
export function checkAbove4GiB(
  image: KernelImage,
  entry: 'prot32' | 'long64',
  address: number,
  size: number,
  what: string,
): void {
  if (address + size <= FOUR_GIB) return;
  const place = `${what} would lie at ${hex(address)}..${hex(address + size)}, from 4 GiB on`;
  if (entry === 'prot32') {
    throw new BootscopeError('boot-above-4g', `${place}, where the 32-bit protocol does not reach`);
  }
  const flags = image.header.get('xloadflags');
  if (image.kind === 'bzImage' && (flags & XLF_CAN_BE_LOADED_ABOVE_4G) === 0) {
    throw new BootscopeError(
      'boot-above-4g',
      `${place}, where this kernel does not look: its xloadflags ${hex(flags)} lack XLF_CAN_BE_LOADED_ABOVE_4G`,
    );
  }
}

/**
 * Puts bytes into RAM as a loader does that does not look: what lies beyond the end of RAM is lost. Only another loader's
 * addresses reach there; the trace names it as a hazard.
 */
export function placeBytes(memory: PhysicalMemory, bytes: Uint8Array, address: number): void {
  const there = memory.viewUpTo(address, bytes.length);
  there.set(bytes.subarray(0, there.length));
}

/** Usable RAM by the memory map: [start, end) by start. */
function usableRam(e820: readonly E820Entry[]): readonly (readonly [number, number])[] {
  return e820
    .filter(({ type }) => type === 1)
    .map(({ address, size }) => [Number(address), Number(address + size)] as const)
    .sort(([a], [b]) => a - b);
}

/**
 * Places the initrd as high as it may lie: page-aligned, in usable RAM, below `initrd_addr_max` and `mem=`. An address
 * that was asked for is taken as it is.
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
  if (options.initrdAddress !== null) return options.initrdAddress;
  // boot.rst: before protocol 2.03 the limit was 0x37ffffff.
  const addressMax = image.header.has('initrd_addr_max') ? image.header.get('initrd_addr_max') : 0x37ffffff;
  const limit = Math.min(addressMax + 1, memOption(options.cmdline) ?? Number.POSITIVE_INFINITY);
  const free = usableRam(e820).map(([start, end]) => [Math.max(start, floor), Math.min(end, limit)] as const);
  for (const [start, end] of free.toReversed()) {
    const address = Math.floor((end - size) / PAGE) * PAGE;
    if (address >= start) return address;
  }
  const largest = Math.max(0, ...free.map(([start, end]) => end - start));
  throw new BootscopeError(
    'boot-initrd',
    `${initrd.path}: the initrd has ${size} bytes, but only ${largest} bytes of usable RAM are free in one piece ` +
      `above the kernel's end at ${hex(floor)}${limit < options.memory ? ` and below ${hex(limit)}` : ''}; give the guest ` +
      'more RAM',
  );
}
