// What stands in memory when firmware starts an image: tables, page tables, protocols; and images that it does not start.

import { describe, expect, it } from 'vitest';
import { crc32 } from '../../codecs/checksums.ts';
import { EFI_GUIDS, type EfiGuidName } from '../../protocol/efi-guids.ts';
import { OPTIONAL_PROTOCOLS } from './optional-protocols.ts';
import { readChar16 } from './service.ts';
import { TEST_MAP, TestFirmware } from './test-firmware.ts';

const sumOf = (bytes: Uint8Array): number => bytes.reduce((sum, byte) => sum + byte, 0) & 0xff;
const ascii = (bytes: Uint8Array): string => new TextDecoder('latin1').decode(bytes);
const tableOf = (firmware: TestFirmware, name: EfiGuidName): number =>
  Number(firmware.firmware.configurationTables.find(({ guid }) => guid === EFI_GUIDS[name])!.address);

describe('the system table', () => {
  const firmware = new TestFirmware();
  const { memory } = firmware;
  const table = firmware.firmware.places.systemTable;

  it.each([
    ['itself', table, 'IBI SYST', 120],
    ['of boot services', Number(firmware.read64(table + 96)), 'BOOTSERV', 24 + 44 * 8],
    ['of runtime services', Number(firmware.read64(table + 88)), 'RUNTSERV', 24 + 14 * 8],
    ['of DXE services', tableOf(firmware, 'DxeServicesTable'), 'DXE_SERV', 24 + 18 * 8],
  ])('%s has a header with its size and checksum', (_, address, signature, size) => {
    const bytes = memory.copyOut(address, size);
    const view = new DataView(bytes.buffer);
    expect([ascii(bytes.subarray(0, 8)), view.getUint32(8, true), view.getUint32(12, true)]).toEqual([
      ...[signature, 0x20046, size], // UEFI 2.70
    ]);
    const stated = view.getUint32(16, true);
    view.setUint32(16, 0, true);
    expect(stated).toBe(crc32(bytes));
  });

  it('names the vendor, and has the consoles', () => {
    expect(readChar16(memory, Number(firmware.read64(table + 24)))).toBe('EDK II');
    expect(memory.read32(table + 32)).toBe(0x10000);
    const [console] = firmware.firmware.handles.find(EFI_GUIDS.SimpleTextOutput);
    expect([40, 56, 72].map((offset) => firmware.read64(table + offset))).toEqual([
      console,
      console,
      console,
    ]);
    expect([48, 64, 80].map((offset) => firmware.read64(table + offset))).toEqual([
      firmware.protocol('SimpleTextInput'),
      firmware.protocol('SimpleTextOutput'),
      firmware.protocol('SimpleTextOutput'),
    ]);
  });
});

describe('tables of other specifications', () => {
  it('are ACPI’s root pointers, of 20 and 36 bytes, with an XSDT of no entries', () => {
    const firmware = new TestFirmware();
    const [first, second] = [tableOf(firmware, 'Acpi10Table'), tableOf(firmware, 'Acpi20Table')];
    // At the end of the memory for ACPI tables.
    expect(first).toBe(0x3e10000 - 0x1000);
    const [old, next] = [firmware.memory.copyOut(first, 20), firmware.memory.copyOut(second, 36)];
    expect([ascii(old.subarray(0, 8)), ascii(next.subarray(0, 8))]).toEqual(['RSD PTR ', 'RSD PTR ']);
    expect([sumOf(old), sumOf(next.subarray(0, 20)), sumOf(next)]).toEqual([0, 0, 0]);
    expect([old[15], next[15], next[20]]).toEqual([0, 2, 36]);
    const xsdt = Number(firmware.read64(second + 24));
    const bytes = firmware.memory.copyOut(xsdt, 36);
    expect([ascii(bytes.subarray(0, 4)), bytes[4], bytes[8], sumOf(bytes)]).toEqual(['XSDT', 36, 1, 0]);
  });

  it('lie with the runtime’s data where there is no memory for ACPI', () => {
    const firmware = new TestFirmware({ map: TEST_MAP.filter(({ type }) => type !== 'AcpiReclaim') });
    expect(firmware.firmware.pages.typeAt(tableOf(firmware, 'Acpi10Table'))).toBe('RuntimeServicesData');
  });

  it('are SMBIOS’s entry point with the structure that ends its table', () => {
    const firmware = new TestFirmware();
    const entry = tableOf(firmware, 'SmbiosTable');
    const bytes = firmware.memory.copyOut(entry, 31);
    const view = new DataView(bytes.buffer);
    expect([ascii(bytes.subarray(0, 4)), ascii(bytes.subarray(16, 21)), bytes[5]]).toEqual([
      '_SM_',
      '_DMI_',
      31,
    ]);
    expect([sumOf(bytes), sumOf(bytes.subarray(16)), bytes[6], bytes[7], bytes[30]]).toEqual([
      0, 0, 2, 8, 0x28,
    ]);
    expect([view.getUint16(22, true), view.getUint16(28, true)]).toEqual([6, 1]);
    // Type 127, four bytes long, without texts.
    expect([...firmware.memory.copyOut(view.getUint32(24, true), 6)]).toEqual([127, 4, 0xff, 0xfe, 0, 0]);
  });

  it('say how the runtime’s memory may be mapped', () => {
    const firmware = new TestFirmware();
    const at = tableOf(firmware, 'MemoryAttributesTable');
    expect([0, 4, 8].map((offset) => firmware.memory.read32(at + offset))).toEqual([1, 2, 48]);
    const entries = [16, 64].map((offset) => [
      firmware.memory.read32(at + offset),
      ...[8, 24, 32].map((field) => firmware.read64(at + offset + field)),
    ]);
    // RuntimeServicesData is not executable (XP), RuntimeServicesCode not writable (RO).
    expect(entries).toEqual([
      [6, 0x3c00000n, 0x100n, (1n << 63n) | 0x4000n],
      [5, 0x3d00000n, 0x100n, (1n << 63n) | 0x20000n],
    ]);
  });
});

describe('protocols that not all firmware has', () => {
  it.each([
    ['rng', 'Rng'],
    ['memory-attribute', 'MemoryAttribute'],
    ['tcg', 'Tcg'],
    ['tcg2', 'Tcg2'],
  ] as const)('are there where they are asked for: %s', (name, guid) => {
    const has = (protocols: readonly (typeof OPTIONAL_PROTOCOLS)[number][]): number =>
      new TestFirmware({ configuration: { protocols } }).firmware.handles.find(EFI_GUIDS[guid]).length;
    expect([has([name]), has(OPTIONAL_PROTOCOLS.filter((each) => each !== name))]).toEqual([1, 0]);
  });
});

describe('page tables', () => {
  it('map 4 GiB and all memory to itself, in pages of 2 MiB', () => {
    const firmware = new TestFirmware();
    const { cr3 } = firmware.firmware.places;
    const pointers = Number(firmware.read64(cr3)) - 3;
    const entry = (address: number): bigint => {
      const directory = Number(firmware.read64(pointers + Math.floor(address / 2 ** 30) * 8)) - 3;
      return firmware.read64(directory + (Math.floor(address / 2 ** 21) % 512) * 8);
    };
    for (const address of [0, 0x200000, 0x3fe00000, 0x40000000, 0xffe00000])
      expect(entry(address)).toBe(BigInt(address) + 0x83n);
    expect(firmware.read64(pointers + 4 * 8)).toBe(0n);
  });

  it('do not reach beyond 512 GiB', () => {
    const far = {
      start: 512 * 2 ** 30,
      end: 512 * 2 ** 30 + 0x1000,
      type: 'Conventional',
      attributes: 15n,
    } as const;
    const room = { start: 0x2000000, end: 0x3000000, type: 'BootServicesData', attributes: 15n } as const;
    expect(() => new TestFirmware({ map: [...TEST_MAP, room, far] })).toThrow(
      "the memory map reaches to 0x8000001000, the firmware's page tables to 512 GiB",
    );
  });
});

describe('an image', () => {
  it('that firmware would not load ends the start with what is wrong', () => {
    expect(() => new TestFirmware({ image: { bytes: new Uint8Array(100) } })).toThrow(
      'program: the firmware does not load this program (LOAD_ERROR): it is no PE file',
    );
  });

  it('that is not run has its memory, where the map has it or where there is room', () => {
    const loader = new TestFirmware({ image: { bytes: null, size: 0x2001 } });
    const [first] = loader.firmware.images;
    expect(first).toMatchObject({ entry: first!.base, size: 0x2001, fromFile: 0x2001 });
    const { pages } = loader.firmware;
    expect([pages.typeAt(first!.base), pages.typeAt(first!.base + 0x2fff)]).toEqual([
      'LoaderCode',
      'LoaderCode',
    ]);
    expect(pages.typeAt(first!.base - 1)).toBe('Conventional');
    const small = new TestFirmware({ image: { bytes: null } });
    expect(small.firmware.images[0]!.size).toBe(0x1000);
    const placed = new TestFirmware({ image: { bytes: null }, imageBase: 0x1234000 });
    expect([placed.firmware.images[0]!.base, placed.firmware.allocations]).toEqual([0x1234000, []]);
    expect(() => new TestFirmware({ image: { bytes: null, size: 2 ** 30 } })).toThrow(
      '(OUT_OF_RESOURCES): there are no 0x40000000 bytes for it',
    );
  });

  it('has its command line, and a parent that waits for keys', () => {
    const firmware = new TestFirmware({ image: { loadOptions: 'quiet' } });
    const { handles, images } = firmware.firmware;
    const loaded = Number(handles.get(images[0]!.handle, EFI_GUIDS.LoadedImage));
    expect(firmware.memory.read32(loaded + 48)).toBe(12);
    expect(readChar16(firmware.memory, Number(firmware.read64(loaded + 56)))).toBe('quiet');
    expect(handles.find(EFI_GUIDS.SimpleTextInputEx)).toEqual([firmware.read64(loaded + 8)]);
    expect(handles.find(EFI_GUIDS.SimpleFileSystem)).toEqual([firmware.read64(loaded + 24)]);
  });
});
