// Where efi_random_alloc may put a kernel, from maps of a few pieces: expected values are counted by hand.

import { describe, expect, it } from 'vitest';
import type { EfiMemoryDescriptor } from '../protocol/efi-memory-map.ts';
import type { EfiMemoryType } from '../protocol/efi-tables.ts';
import { drawEfiLocation, type EfiSlotsInput, findEfiSlots } from './efi-slots.ts';

const MIB = 2 ** 20;
/** EFI_MEMORY_MORE_RELIABLE and EFI_MEMORY_SP. */
const [MIRRORED, PURPOSE] = [0x10000n, 0x40000n];

const at = (
  start: number,
  end: number,
  type: EfiMemoryType = 'Conventional',
  attributes = 0n,
): EfiMemoryDescriptor => ({ start: start * MIB, end: end * MIB, type, attributes: attributes | 15n });

function slots(map: readonly EfiMemoryDescriptor[], more: Partial<EfiSlotsInput> = {}) {
  return findEfiSlots({
    map,
    ...{ allocation: 20 * MIB, kernelTotalSize: 32 * MIB, loadPhysicalAddress: 16 * MIB, alignment: 2 * MIB },
    ...{ commandLine: '', softReserve: true },
    ...more,
  });
}
const areas = (...args: Parameters<typeof slots>) =>
  slots(...args).areas.map(({ start, count }) => [start / MIB, count]);

describe('slots of the EFI stub', () => {
  it('lie in free memory, above the least address, aligned', () => {
    expect(areas([at(0, 40)])).toEqual([[16, 3]]);
    expect(areas([at(17, 40)])).toEqual([[18, 2]]);
    expect(areas([at(17, 39)])).toEqual([[18, 1]]);
    expect(areas([at(100, 119), at(200, 220), at(300, 321)])).toEqual([
      [200, 1],
      [300, 1],
    ]);
    expect(areas([at(0, 64, 'LoaderData'), at(64, 128, 'BootServicesData')])).toEqual([]);
  });

  it('are counted through all areas', () => {
    const found = slots([at(0, 40), at(40, 100, 'LoaderCode'), at(100, 124)]);
    expect(found).toMatchObject({
      physicalSlots: 6,
      minimum: 16 * MIB,
      limit: 124 * MIB,
      imageSize: 20 * MIB,
    });
    expect(found).toMatchObject({ memoryMap: 'EFI', alignment: 2 * MIB, largestRoom: 24 * MIB });
    expect(slots([at(0, 40), at(200, 300, 'Mmio')]).limit).toBe(40 * MIB);
    expect(slots([at(0, 40)]).largestRoom).toBe(24 * MIB);
    expect(slots([at(0, 10)]).largestRoom).toBe(0);
    expect(slots([at(17, 30)]).largestRoom).toBe(12 * MIB);
  });

  it('lie in mirrored memory alone, where there is room in it', () => {
    expect(areas([at(0, 40), at(100, 122, 'Conventional', MIRRORED)])).toEqual([[100, 2]]);
    expect(areas([at(0, 40), at(100, 119, 'Conventional', MIRRORED)])).toEqual([[16, 3]]);
  });

  it('leave memory with a purpose alone, unless the command line or the build gives it free', () => {
    const map = [at(0, 40, 'Conventional', PURPOSE), at(100, 122)];
    expect(areas(map)).toEqual([[100, 2]]);
    const both = [
      [16, 3],
      [100, 2],
    ];
    expect(areas(map, { softReserve: false })).toEqual(both);
    expect(areas(map, { commandLine: 'quiet efi=debug,nosoftreserve' })).toEqual(both);
    expect(areas(map, { commandLine: 'xefi=nosoftreserve efi' })).toEqual([[100, 2]]);
  });

  it('avoid the rest of the map, neighbours as one', () => {
    const map = [
      at(100, 110, 'LoaderData'),
      at(0, 8, 'BootServicesData'),
      at(8, 40),
      at(40, 50, 'LoaderCode'),
      at(50, 60, 'LoaderData'),
      at(60, 70, 'LoaderCode'),
      at(8, 16, 'AcpiNvs'),
    ];
    expect(slots(map).avoided).toEqual([
      { start: 40 * MIB, end: 70 * MIB, reason: "LoaderCode, LoaderData in the firmware's memory map" },
      { start: 100 * MIB, end: 110 * MIB, reason: "LoaderData in the firmware's memory map" },
    ]);
  });

  it('are drawn by the lower half of the random bits, the virtual address by the upper', () => {
    const found = slots([at(0, 40), at(100, 122)]);
    // Of 1 GiB less 16 and 32 MiB: 976 MiB.
    expect([found.virtualRange / MIB, found.virtualSlots, found.virtualStart / MIB]).toEqual([976, 488, 16]);
    const draw = (physical: bigint, virtual: bigint) => {
      const drawn = drawEfiLocation(found, (virtual << 32n) | physical);
      return [drawn.physical! / MIB, drawn.virtual! / MIB];
    };
    const MAX = 0xffff_ffffn;
    expect([draw(0n, 0n), draw(MAX, MAX), draw(MAX / 2n, MAX / 2n)]).toEqual([
      [16, 16],
      [102, 16 + 974],
      [20, 16 + 486],
    ]);
    // Two fifths of all: the first of the three in the first area are passed.
    expect(draw((MAX * 3n) / 5n + 1n, 0n)[0]).toBe(100);
    expect(drawEfiLocation(slots([at(0, 10)]), 5n).physical).toBeNull();
  });

  it('say that KASLR is off, and that the last virtual slot is drawn less often', () => {
    expect([slots([at(0, 40)]).disabled, slots([at(0, 40)]).notices]).toEqual([null, []]);
    expect(slots([at(0, 40)], { commandLine: 'nokaslr' }).disabled).toBe('nokaslr is on the command line');
    const odd = slots([at(0, 40)], { kernelTotalSize: 32.5 * MIB });
    expect([odd.virtualSlots, odd.notices]).toEqual([
      488,
      [expect.stringMatching(/^the last virtual slot is drawn in 75 % of the cases of another: /)],
    ]);
    expect(drawEfiLocation(odd, 0xffff_ffff_0000_0000n).virtual).toBe((16 + 974) * MIB);
  });
});
