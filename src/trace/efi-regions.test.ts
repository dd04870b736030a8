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
});
