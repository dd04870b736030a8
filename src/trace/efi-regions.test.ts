// What UEFI firmware says of memory, as regions.

import { describe, expect, it } from 'vitest';
import { efiRegions } from './efi-regions.ts';

const facts = {
  map: [{ start: 0x1000, end: 0x2000, type: 'BootServicesCode', attributes: 0xfn }],
  images: [{ name: 'kernel', base: 0x100000, size: 0x9000, fromFile: 0x8200 }],
  allocations: [
    {
      ...{ start: 0x200000, end: 0x201000, type: 'LoaderData', service: 'AllocatePages', call: 3 },
      ...{ freedIn: 5, caller: '0x100400' },
    },
  ],
  exitCall: 9,
} as never;

const regionsAfter = (calls: number): string[] =>
  efiRegions(facts, calls).map(
    ({ name, kind, start, end }) => `${name} ${kind} ${start.toString(16)}..${end.toString(16)}`,
  );

describe('regions of an EFI boot', () => {
  it('tell an image from its bss, which only its own code fills', () => {
    expect(regionsAfter(0)).toEqual([
      'EFI boot services firmware 1000..2000',
      'EFI image kernel compressed-kernel 100000..109000',
      'EFI image kernel bss bss 108200..109000',
    ]);
  });

  it('hold an allocation from its call until it is freed, and boot services until they go', () => {
    expect(regionsAfter(3)).toContain('EFI LoaderData of call 3 buffer 200000..201000');
    expect(regionsAfter(5).join()).not.toContain('LoaderData');
    expect(regionsAfter(9)[0]).toMatch(/^EFI image/);
  });

  it('join what the map has under one name, where it lies side by side', () => {
    const map = [
      { start: 0x1000, end: 0x2000, type: 'BootServicesCode' },
      { start: 0x2000, end: 0x3000, type: 'BootServicesData' },
      { start: 0x3000, end: 0x4000, type: 'AcpiNvs' },
      { start: 0x4000, end: 0x5000, type: 'Conventional' },
      { start: 0x5000, end: 0x6000, type: 'AcpiNvs' },
    ];
    const regions = efiRegions({ map, images: [], allocations: [], exitCall: null } as never, 0);
    expect(regions.map(({ name, start, end }) => [name, start, end])).toEqual([
      ['EFI boot services', 0x1000n, 0x3000n],
      ['EFI ACPI NVS', 0x3000n, 0x4000n],
      ['EFI ACPI NVS', 0x5000n, 0x6000n],
    ]);
    expect(regions[0]).toMatchObject({
      kind: 'firmware',
      role: 'firmware',
      source: "the firmware's memory map",
    });
  });

  it('hold an image from the call that loaded it, once, and a bss only where there is one', () => {
    const images = [
      { name: 'first', base: 0x100000, size: 0x1000, fromFile: 0x1000 },
      { name: 'second', base: 0x200000, size: 0x1000, fromFile: 0x1000 },
    ];
    const allocation = { end: 0x201000, type: 'LoaderCode', call: 4, freedIn: null, caller: 'first+0x10' };
    const loaded = { ...allocation, start: 0x200000, service: 'LoadImage' };
    // Given out again where the first image had been.
    const pages = { ...allocation, start: 0x100000, end: 0x101000, service: 'AllocatePages', call: 9 };
    const other = { ...allocation, start: 0x300000, end: 0x301000, service: 'LoadImage' };
    const names = (calls: number) =>
      efiRegions(
        { map: [], images, allocations: [pages, other, loaded], exitCall: null } as never,
        calls,
      ).map(({ name, source }) => `${name}: ${source}`);
    const image = 'ImageBase and ImageSize of its LoadedImage';
    expect(names(3)).toEqual([`EFI image first: ${image}`]);
    expect(names(4)).toEqual([
      `EFI image first: ${image}`,
      `EFI image second: ${image}`,
      'EFI LoaderCode of call 4: LoadImage from first+0x10',
    ]);
  });
});
