import { describe, expect, it } from 'vitest';
import { BootscopeError } from '../../error.ts';
import { type KernelImage, readKernelImage } from '../../image/kernel-image.ts';
import { type BootImageRecipe, makeBootImage } from '../../image/test-images.ts';
import { machineMemoryMap, ramSizes } from '../../machine/memory-map.ts';
import type { E820Entry } from '../../protocol/e820.ts';
import { PhysicalMemory } from '../../x86/physical-memory.ts';
import { type BootOptions, DEFAULT_BOOT_OPTIONS } from '../options.ts';
import {
  cmdlineOption,
  commandLineBytes,
  maxCommandLineLength,
  placeBytes,
  placeInitrd,
  videoMode,
} from './placement.ts';

const MIB = 0x100000;

const imageOf = (recipe: BootImageRecipe): Promise<KernelImage> =>
  readKernelImage('image', makeBootImage(recipe));

describe('the command line', () => {
  it('ends in a NUL and is UTF-8', async () => {
    const image = await imageOf({ protocol: 0x020f, fields: { cmdline_size: 2047 } });
    expect([...commandLineBytes(image, '')]).toEqual([0]);
    expect([...commandLineBytes(image, 'aé')]).toEqual([0x61, 0xc3, 0xa9, 0]);
  });

  it('may be as long as cmdline_size, NUL not counted, or 255 before protocol 2.06', async () => {
    const modern = await imageOf({ protocol: 0x0206, fields: { cmdline_size: 2047 } });
    const old = await imageOf({ protocol: 0x0205 });
    expect(maxCommandLineLength(modern)).toBe(2047);
    expect(maxCommandLineLength(old)).toBe(255);
    expect(commandLineBytes(old, 'x'.repeat(255))).toHaveLength(256);
    expect(() => commandLineBytes(old, 'x'.repeat(256))).toThrow(
      'has 256 bytes, this kernel takes at most 255',
    );
    expect(() => commandLineBytes(modern, 'é'.repeat(1024))).toThrow('has 2048 bytes');
  });

  it('cannot hold a NUL', async () => {
    const image = await imageOf({ protocol: 0x020f });
    expect(() => commandLineBytes(image, 'a\0b')).toThrow(BootscopeError);
  });

  it('gives the value of the last of several options of one name', () => {
    expect(cmdlineOption('vga=1 mem=1G vga=ask', 'vga')).toBe('ask');
    expect(cmdlineOption('a=1 xvga=2', 'vga')).toBeNull();
    expect(cmdlineOption('vga=', 'vga')).toBe('');
  });

  it('sets vid_mode by vga=, in names, decimal, octal and hexadecimal', () => {
    const modes = [
      'vga=normal',
      'vga=ext',
      'vga=ask',
      'vga=791',
      'vga=0x317',
      'quiet',
      'vga=what',
      'vga=65536',
    ];
    expect(modes.map(videoMode)).toEqual([0xffff, 0xfffe, 0xfffd, 791, 0x317, 0xffff, 0xffff, 0xffff]);
    expect(videoMode('vga=')).toBe(0xffff);
    expect(videoMode('vga=01417')).toBe(0o1417);
    expect(videoMode('vga=-1')).toBe(0xffff);
  });
});

describe('the initrd', () => {
  async function place(
    bytes: number,
    given: {
      readonly memory?: number;
      readonly addressMax?: number;
      readonly protocol?: number;
      readonly cmdline?: string;
      readonly floor?: number;
      readonly e820?: readonly E820Entry[];
      readonly address?: number;
    } = {},
  ): Promise<number> {
    const protocol = given.protocol ?? 0x020f;
    const max = protocol >= 0x0203 ? { initrd_addr_max: given.addressMax ?? 0x7fffffff } : {};
    const image = await imageOf({ protocol, fields: max });
    const memory = given.memory ?? 512 * MIB;
    const options: BootOptions = {
      ...DEFAULT_BOOT_OPTIONS,
      memory,
      cmdline: given.cmdline ?? '',
      initrd: { path: 'initrd', bytes: new Uint8Array(bytes) },
      initrdAddress: given.address ?? null,
    };
    return placeInitrd(
      image,
      options,
      given.e820 ?? machineMemoryMap('pc', ramSizes('pc', memory)),
      given.floor ?? 2 * MIB,
    );
  }
  const usable = (memory: number): number => {
    const last = machineMemoryMap('pc', ramSizes('pc', memory)).findLast(
      ({ type, address }) => type === 1 && address >= BigInt(MIB),
    )!;
    return Number(last.address + last.size);
  };

  it('lies page-aligned at the end of usable RAM', async () => {
    expect(await place(1)).toBe(usable(512 * MIB) - 0x1000);
    expect(await place(0x1001, { memory: 64 * MIB })).toBe(usable(64 * MIB) - 0x2000);
  });

  it('ends at initrd_addr_max, which is its last possible byte', async () => {
    expect(await place(0x1000, { addressMax: 0x7ffffff })).toBe(0x7fff000);
    expect(await place(0x1000, { addressMax: 0x7fffffe })).toBe(0x7ffe000);
  });

  it('ends at 0x37ffffff before protocol 2.03', async () => {
    expect(await place(0x1000, { protocol: 0x0202, memory: 1024 * MIB })).toBe(0x37fff000);
  });

  it('stays below mem=, in all the units it comes in', async () => {
    for (const mem of ['mem=128M', 'mem=0x8000000', 'mem=131072K', 'mem=131072k quiet', 'mem=1G mem=128m']) {
      expect(await place(0x1000, { cmdline: mem })).toBe(128 * MIB - 0x1000);
    }
    expect(await place(0x1000, { cmdline: 'mem=nopentium' })).toBe(usable(512 * MIB) - 0x1000);
    expect(await place(0x1000, { cmdline: 'mem=1G' })).toBe(usable(512 * MIB) - 0x1000);
  });

  it('lies in RAM that the memory map calls usable', async () => {
    const e820 = [
      { address: 0n, size: 0x9fc00n, type: 1 },
      { address: BigInt(MIB), size: BigInt(63 * MIB), type: 1 },
      { address: BigInt(64 * MIB), size: BigInt(MIB), type: 2 },
      { address: BigInt(65 * MIB), size: BigInt(MIB), type: 1 },
    ];
    expect(await place(MIB, { e820 })).toBe(65 * MIB);
    expect(await place(MIB + 1, { e820 })).toBe(64 * MIB - MIB - 0x1000);
  });

  it('may fill all there is above the kernel, and not a byte more', async () => {
    const room = usable(64 * MIB) - 2 * MIB;
    expect(await place(room, { memory: 64 * MIB })).toBe(2 * MIB);
    const refused = place(room + 1, { memory: 64 * MIB });
    await expect(refused).rejects.toThrow(`${room + 1} bytes, but only ${room} bytes`);
    await expect(refused).rejects.toThrow('more RAM');
    await expect(place(4 * MIB, { cmdline: 'mem=4M' })).rejects.toThrow('below 0x400000');
  });

  it('goes where it was asked to go, wherever that is', async () => {
    expect(await place(0x1000, { address: 0x123 })).toBe(0x123);
    expect(await place(0x1000, { address: 0xffff0000 })).toBe(0xffff0000);
  });

  it('is refused when it is empty', async () => {
    await expect(place(0)).rejects.toThrow('0 bytes');
  });
});

it('bytes placed across the end of RAM, or behind it, are lost', () => {
  const ram = new Uint8Array(16);
  placeBytes(PhysicalMemory.of(ram), Uint8Array.of(1, 2, 3, 4), 14);
  placeBytes(PhysicalMemory.of(ram), Uint8Array.of(5), 16);
  placeBytes(PhysicalMemory.of(ram), Uint8Array.of(5), 100);
  expect([...ram.subarray(12)]).toEqual([0, 0, 1, 2]);
});
