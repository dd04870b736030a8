// What may be asked of a stub that draws by itself: addresses that its own search would find.

import { describe, expect, it } from 'vitest';
import { readKernelImage } from '../../image/kernel-image.ts';
import { makeBootImage } from '../../image/test-images.ts';
import { PhysicalMemory } from '../../x86/physical-memory.ts';
import type { BootRun } from '../boot-run.ts';
import { isForKernel, watchEfiChoice } from './efi-kaslr.ts';

const MIB = 0x100000;
const LENGTH = 3 * MIB;
const image = await readKernelImage(
  'made',
  makeBootImage({ protocol: 0x020f, fields: { kernel_alignment: 2 * MIB, pref_address: 16 * MIB } }),
);

function watched(kaslr: object) {
  const told: string[] = [];
  const firmware = {
    onAllocateAt: null as null | ((wanted: object) => number),
    pages: {
      describe: () => [
        { type: 'Conventional', start: MIB, end: 64 * MIB },
        { type: 'BootServicesData', start: 40 * MIB, end: 40 * MIB + 0x1000 },
      ],
    },
  };
  const boot = {
    options: { kaslr },
    image: { ...image, payload: { outputLength: LENGTH } },
    machine: {
      memory: PhysicalMemory.of(new Uint8Array(64 * MIB)),
      timeStamps: null as null | (() => bigint | null),
      halt: (reason: string) => told.push(reason),
    },
  };
  const virtual = watchEfiChoice(boot as unknown as BootRun, firmware as never);
  const ask = (pages: number, type = 'LoaderCode'): number =>
    firmware.onAllocateAt!({ type, pages, address: 0x1234_5000 });
  return { virtual, ask, boot, told, firmware };
}

const forced = (physical: number | null, virtual: number | null = null) => ({
  kind: 'forced',
  physical,
  virtual,
});
const PAGES = LENGTH / 0x1000;

describe('a forced physical address', () => {
  it('is given for the memory of the kernel, once', () => {
    const { ask, virtual } = watched(forced(32 * MIB));
    expect(virtual).toBeNull();
    expect(ask(PAGES - 1)).toBe(0x1234_5000);
    expect(ask(PAGES, 'LoaderData')).toBe(0x1234_5000);
    expect(ask(PAGES)).toBe(32 * MIB);
    expect(ask(PAGES)).toBe(0x1234_5000);
  });

  it('may be the lowest that there is, end where something else begins, or where RAM does', () => {
    expect(watched(forced(16 * MIB)).ask(PAGES)).toBe(16 * MIB);
    expect(watched(forced(36 * MIB)).ask(4 * 256)).toBe(36 * MIB);
    expect(watched(forced(60 * MIB)).ask(4 * 256)).toBe(60 * MIB);
  });

  it.each([
    [33 * MIB, PAGES, 'the forced physical address 0x2100000 is no multiple of 0x200000'],
    [
      14 * MIB,
      PAGES,
      'the forced physical address 0xe00000 lies below 0x1000000, where the kernel may begin',
    ],
    [40 * MIB, PAGES, 'lies over BootServicesData at 0x2800000 to 0x2801000'],
    [38 * MIB, PAGES, 'a kernel of 0x300000 bytes at 0x2600000 lies over BootServicesData'],
    [
      62 * MIB,
      PAGES,
      'a kernel of 0x300000 bytes at 0x3e00000 does not fit into RAM, which ends at 0x4000000',
    ],
  ])('%d is refused for %d pages', (physical, pages, text) => {
    expect(() => watched(forced(physical)).ask(pages)).toThrow(text);
  });
});

describe('a forced virtual address', () => {
  const HIGHEST = 2 ** 30 - LENGTH;
  it('lies between pref_address and the end of the kernel image', () => {
    expect(watched(forced(null, 16 * MIB)).virtual).toBe(16 * MIB);
    expect(watched(forced(null, 1020 * MIB)).virtual).toBe(1020 * MIB);
    expect(() => watched(forced(null, 14 * MIB))).toThrow(
      `the forced virtual address 0xe00000 is outside 0x1000000 to 0x${HIGHEST.toString(16)}`,
    );
    expect(() => watched(forced(null, 1022 * MIB))).toThrow('is outside');
    expect(() => watched(forced(null, 17 * MIB))).toThrow('0x1100000 is no multiple of 0x200000');
  });

  it('may be the last of all', () => {
    const { boot, firmware } = watched({ kind: 'off' });
    const whole = { ...boot, image: { ...boot.image, payload: { outputLength: 4 * MIB } } };
    const at = (virtual: number) =>
      watchEfiChoice({ ...whole, options: { kaslr: forced(null, virtual) } } as never, firmware as never);
    expect(at(1020 * MIB)).toBe(1020 * MIB);
    expect(() => at(1022 * MIB)).toThrow('is outside 0x1000000 to 0x3fc00000');
  });
});

describe('listed entropy', () => {
  it('is what RDTSC gives, and one read more ends the boot', () => {
    const { boot, told, firmware } = watched({ kind: 'entropy', rdtsc: [5n, 6n] });
    const read = boot.machine.timeStamps!;
    expect([read(), read()]).toEqual([5n, 6n]);
    expect(told).toEqual([]);
    expect(read()).toBe(0n);
    expect(told).toEqual([
      'the stub reads the time stamp counter 3 times, the choice entropy: lists 2 values',
    ]);
    expect(firmware.onAllocateAt).toBeNull();
  });

  it('is not there where nothing was asked for', () => {
    const { boot, firmware, virtual } = watched({ kind: 'seed', seed: 1n });
    expect([boot.machine.timeStamps, firmware.onAllocateAt, virtual]).toEqual([null, null, null]);
  });
});

it('memory for a kernel is code of at least its size', () => {
  const boot = { image: { payload: { outputLength: LENGTH } } } as unknown as BootRun;
  const wants = (type: string, pages: number): boolean => isForKernel(boot, { type, pages } as never);
  expect(wants('LoaderCode', PAGES)).toBe(true);
  expect(wants('LoaderCode', PAGES - 1)).toBe(false);
  expect(wants('LoaderData', PAGES)).toBe(false);
});
