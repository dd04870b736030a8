import { describe, expect, it } from 'vitest';
import {
  decodeDevicePath,
  devicePathSize,
  efiDevicePathText,
  encodeDevicePath,
  filePathNode,
  memoryMapped,
  pciPath,
  vendorMedia,
} from './efi-device-path.ts';
import { EFI_GUIDS, guidBytes, guidName, guidText } from './efi-guids.ts';
import {
  decodeDescriptors,
  e820TypeOf,
  encodeDescriptors,
  isEfiMemoryMap,
  parseEfiMemoryMap,
} from './efi-memory-map.ts';
import { BOOT_SERVICES, EFI_STATUS, efiStatusName, isEfiError, TABLE_HEADER_SIZE } from './efi-tables.ts';

describe('GUIDs', () => {
  it('go to memory and back as they were', () => {
    for (const text of Object.values(EFI_GUIDS)) expect(guidText(guidBytes(text))).toBe(text);
  });

  it('lie in memory with their first three groups little endian', () => {
    const bytes = Buffer.from(guidBytes(EFI_GUIDS.LinuxInitrdMedia)).toString('hex');
    expect(bytes).toBe('27e46855fc683d4fac74ca555231cc68');
    expect(guidName(EFI_GUIDS.LoadedImage)).toBe('LoadedImage');
    expect(guidName('00000000-0000-0000-0000-000000000001')).toBe('00000000-0000-0000-0000-000000000001');
  });
});

describe('the tables of UEFI', () => {
  it('have the services at the offsets of the specification', () => {
    const at = (name: (typeof BOOT_SERVICES)[number]): number =>
      TABLE_HEADER_SIZE + BOOT_SERVICES.indexOf(name) * 8;
    expect([at('AllocatePages'), at('GetMemoryMap'), at('AllocatePool')]).toEqual([0x28, 0x38, 0x40]);
    expect([at('HandleProtocol'), at('LocateHandle'), at('Exit')]).toEqual([0x98, 0xb0, 0xd8]);
    expect([at('ExitBootServices'), at('LocateProtocol'), at('CreateEventEx')]).toEqual([0xe8, 0x140, 0x170]);
  });

  it('name a status, and tell errors', () => {
    expect(efiStatusName(0x8000_0000_0000_000en)).toBe('NOT_FOUND');
    expect(efiStatusName(0x123n)).toBe('0x123');
    expect([isEfiError(EFI_STATUS.SUCCESS), isEfiError(EFI_STATUS.NOT_READY)]).toEqual([false, true]);
  });
});

describe('device paths', () => {
  it('read as the specification writes them', () => {
    const nodes = [...pciPath(2, 0), vendorMedia(EFI_GUIDS.LinuxInitrdMedia), filePathNode('\\EFI\\a.efi')];
    const bytes = encodeDevicePath(nodes);
    expect(efiDevicePathText(bytes)).toBe(
      'PciRoot(0x0)/Pci(0x2,0x0)/VenMedia(5568E427-68FC-4F3D-AC74-CA555231CC68)/\\EFI\\a.efi',
    );
    expect(decodeDevicePath(bytes)).toEqual(nodes);
    expect(devicePathSize(bytes)).toBe(bytes.length);
    expect(efiDevicePathText(encodeDevicePath([memoryMapped(1, 0x1000n, 0x1fffn)]))).toBe(
      'MemoryMapped(0x1,0x1000,0x1FFF)',
    );
  });

  it('without an end are none', () => {
    expect(decodeDevicePath(Uint8Array.of(4, 3, 2, 0))).toBeNull();
    expect(decodeDevicePath(encodeDevicePath([filePathNode('a')]).subarray(0, 8))).toBeNull();
  });
});

describe('an EFI memory map as text', () => {
  const LOG = `
[    0.000000] efi: mem00: [Boot Code   |   |  |  |  |  |  |  |  |  |   |WB|WT|WC|UC] range=[0x0000000000000000-0x0000000000000fff] (0MB)
[    0.000000] efi: mem01: [Conventional|   |  |  |  |  |  |  |  |  |   |WB|WT|WC|UC] range=[0x0000000000001000-0x000000000009ffff] (0MB)
[    0.000000] efi: mem02: [Runtime Data|RUN|  |  |  |  |  |  |  |  |   |WB|WT|WC|UC] range=[0x000000007f8ee000-0x000000007fb6dfff] (2MB)
[    0.000000] tsc: Fast TSC calibration using PIT
`;

  it('is read from lines of start, end, type and attributes', () => {
    const text = '# a map\n0x0 0x1000 BootServicesCode 0xf\n0x1000 0xa0000 Conventional\n';
    expect(isEfiMemoryMap(text)).toBe(true);
    expect(parseEfiMemoryMap(text)).toEqual([
      { start: 0, end: 0x1000, type: 'BootServicesCode', attributes: 0xfn },
      { start: 0x1000, end: 0xa0000, type: 'Conventional', attributes: 0xfn },
    ]);
  });

  it('is read from a boot log, whatever stands between its lines', () => {
    expect(isEfiMemoryMap(LOG)).toBe(true);
    expect(parseEfiMemoryMap(LOG)).toEqual([
      { start: 0, end: 0x1000, type: 'BootServicesCode', attributes: 0xfn },
      { start: 0x1000, end: 0xa0000, type: 'Conventional', attributes: 0xfn },
      { start: 0x7f8ee000, end: 0x7fb6e000, type: 'RuntimeServicesData', attributes: 0x8000_0000_0000_000fn },
    ]);
  });

  it('is told from an E820 map', () => {
    expect(isEfiMemoryMap('BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable')).toBe(false);
    expect(isEfiMemoryMap('0x0 0x9fc00 usable')).toBe(false);
  });

  it('is refused with the line that is wrong', () => {
    expect(() => parseEfiMemoryMap('')).toThrow(/no descriptor/);
    expect(() => parseEfiMemoryMap('0x0 0x1000 Free 0xf')).toThrow(/line 1 is no descriptor .*Free/);
    expect(() => parseEfiMemoryMap('0x0 0x1001 Conventional')).toThrow(/line 1: 0x0\.\.0x1001 is no range/);
    expect(() => parseEfiMemoryMap('0x0 0x2000 Conventional\n0x1000 0x3000 Mmio')).toThrow(
      /0x1000\.\.0x2000: Conventional and Mmio/,
    );
  });

  it('goes to memory and back as it was', () => {
    const map = parseEfiMemoryMap(LOG);
    expect(decodeDescriptors(encodeDescriptors(map, 56), 56)).toEqual(map);
  });

  it('becomes E820 types as the EFI stub makes them', () => {
    expect(
      ['BootServicesData', 'AcpiReclaim', 'AcpiNvs', 'RuntimeServicesCode'].map((type) =>
        e820TypeOf(type as never),
      ),
    ).toEqual([1, 3, 4, 2]);
  });
});
