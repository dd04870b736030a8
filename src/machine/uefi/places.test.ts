// Where the firmware keeps its own: as OVMF in a map of its, in the largest ranges of any other.

import { describe, expect, it } from 'vitest';
import type { EfiMemoryDescriptor } from '../../protocol/efi-memory-map.ts';
import type { EfiMemoryType } from '../../protocol/efi-tables.ts';
import { ovmfMemoryMap } from './ovmf-map.ts';
import { firmwarePlaces } from './places.ts';
import { TEST_MAP } from './test-firmware.ts';

const MIB = 2 ** 20;
const OVMF = ovmfMemoryMap(512 * MIB, { fileSize: 0xb86200, imageSize: 0xbec000 }).map;

/** The map with all of what holds an address as another type. */
function changed(map: readonly EfiMemoryDescriptor[], address: number, type: EfiMemoryType) {
  return map.map((each) => (address >= each.start && address < each.end ? { ...each, type } : each));
}

describe('a map of OVMF', () => {
  // Read from OVMF 2022.11 at 512 MiB under a debugger: the system table and the CPU's registers at the entry of an image.
  const places = {
    systemTable: 0x1f5ec018,
    cr3: 0x1f801000,
    gdt: 0x1f5dc000,
    idt: 0x1f055018,
    rsp: 0x1fefa988,
  };

  it('has everything at the distances from its end that OVMF has', () => {
    expect(firmwarePlaces(OVMF)).toMatchObject(places);
  });

  it('leaves the rest of the types’ ranges for tables', () => {
    const { runtimeCode, runtimeData, bootData } = firmwarePlaces(OVMF);
    const typeOf = (at: number): EfiMemoryType =>
      OVMF.find(({ start, end }) => at >= start && at < end)!.type;
    expect(
      [runtimeCode, runtimeData, bootData].map(({ start, end }) => [typeOf(start), typeOf(end - 1)]),
    ).toEqual([
      ['RuntimeServicesCode', 'RuntimeServicesCode'],
      ['RuntimeServicesData', 'RuntimeServicesData'],
      ['BootServicesData', 'BootServicesData'],
    ]);
    expect([runtimeData.end, bootData.end - bootData.start >= 0x40000]).toEqual([places.gdt, true]);
  });

  it.each(['systemTable', 'gdt', 'cr3', 'idt', 'rsp'] as const)(
    'that has no memory of the right type for %s is any other',
    (name) => {
      const map = changed(
        OVMF,
        places[name],
        name === 'gdt' || name === 'systemTable' ? 'AcpiNvs' : 'Conventional',
      );
      const other = [
        ...map.map((each) => ({ ...each })),
        { start: 0x1_0000_0000, end: 0x1_0010_0000, type: 'RuntimeServicesData', attributes: 15n } as const,
        { start: 0x1_0010_0000, end: 0x1_0020_0000, type: 'BootServicesData', attributes: 15n } as const,
      ];
      expect(firmwarePlaces(other)[name]).not.toBe(places[name]);
    },
  );

  it('that has no room for boot services data below its bins is any other', () => {
    const bins = 0x1f4ed000;
    const small = OVMF.flatMap((each) =>
      each.end === bins
        ? [
            { ...each, end: bins - 0x3f000, type: 'Conventional' as const },
            { ...each, start: bins - 0x3f000 },
          ]
        : [each],
    );
    expect(firmwarePlaces(small).rsp).not.toBe(places.rsp);
  });
});

describe('any other map', () => {
  it('has them in its largest ranges', () => {
    const places = firmwarePlaces(TEST_MAP);
    expect(places).toEqual({
      systemTable: 0x3c00018,
      gdt: 0x3c01000,
      runtimeData: { start: 0x3c02000, end: 0x3d00000 },
      runtimeCode: expect.objectContaining({ start: 0x3d00000, end: 0x3e00000 }),
      rsp: 0x1000000 + 0x10000 - 0x1000 - 8,
      cr3: 0x1010000,
      idt: 0x1020000,
      bootData: { start: 0x1021000, end: 0x1100000 },
    });
    const more = [
      { start: 0xa0000, end: 0xc0000, type: 'BootServicesData', attributes: 15n } as const,
      ...TEST_MAP,
      { start: 0x4000000, end: 0x4200000, type: 'RuntimeServicesCode', attributes: 15n } as const,
    ];
    expect(firmwarePlaces(more)).toMatchObject({ cr3: 0x1010000, runtimeCode: { start: 0x4000000 } });
  });

  it.each([
    ['RuntimeServicesCode', 0x8000],
    ['RuntimeServicesData', 0x8000],
    ['BootServicesData', 0x40000],
  ] as const)('is refused without %s of 0x%x bytes', (type, needed) => {
    const without = TEST_MAP.filter((each) => each.type !== type);
    const message = `the EFI memory map has no ${type} of 0x${needed.toString(16)} bytes in one piece, which the firmware needs for itself`;
    expect(() => firmwarePlaces(without)).toThrow(message);
    const of = (size: number) => [
      ...without,
      { start: 0x5000000, end: 0x5000000 + size, type, attributes: 15n },
    ];
    expect(() => firmwarePlaces(of(needed - 0x1000))).toThrow(
      `(the largest has 0x${(needed - 0x1000).toString(16)})`,
    );
    expect(() => firmwarePlaces(of(needed))).not.toThrow();
  });
});
