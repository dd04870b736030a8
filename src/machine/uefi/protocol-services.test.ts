// The protocols that stand from the start, by the offsets of their functions (UEFI 2.10, 12.3, 12.4, 12.9, 14.4, 37.5, 37.8, 13.2, 10.5).

import { describe, expect, it } from 'vitest';
import { encodeDevicePath, filePathNode, pciPath } from '../../protocol/efi-device-path.ts';
import { EFI_GUIDS, guidText } from '../../protocol/efi-guids.ts';
import { parseKeys } from '../keys.ts';
import { readChar16 } from './service.ts';
import { TEST_MAP, TestFirmware } from './test-firmware.ts';

/** EFI_MEMORY_XP, RO and RP. */
const [XP, RO, RP] = [0x4000n, 0x20000n, 0x2000n];

describe('SimpleTextOutput', () => {
  it('prints without carriage returns, in one mode of 80 by 25', () => {
    const firmware = new TestFirmware();
    const output = firmware.protocol('SimpleTextOutput');
    expect(firmware.method(output, 8, firmware.text16('a\r\nb\r\n'))).toBe('SUCCESS');
    expect(firmware.text).toBe('a\nb\n');
    const [columns, rows] = [firmware.put64(0), firmware.put64(0)];
    expect(firmware.method(output, 24, 0, columns, rows)).toBe('SUCCESS');
    expect([firmware.read64(columns), firmware.read64(rows)]).toEqual([80n, 25n]);
    expect(firmware.method(output, 24, 1, columns, rows)).toBe('UNSUPPORTED');
    for (const offset of [0, 16, 32, 40, 48, 56, 64])
      expect(firmware.method(output, offset, 0, 0)).toBe('SUCCESS');
    // Its mode: one of them, with a cursor that is seen.
    const mode = Number(firmware.read64(output + 72n));
    expect([firmware.memory.read32(mode), firmware.memory.read8(mode + 20)]).toEqual([1, 1]);
  });
});

describe('SimpleTextInput', () => {
  it('hands out the keys that were given, and says that there is none', () => {
    const keys = [...parseKeys('up,x')];
    const firmware = new TestFirmware({ nextKey: () => keys.shift() ?? null, hasKey: () => keys.length > 0 });
    const input = firmware.protocol('SimpleTextInput');
    const key = firmware.put64(0);
    const event = firmware.read64(input + 16n);
    expect(firmware.method(input, 0, 0)).toBe('SUCCESS');
    expect(firmware.boot('CheckEvent', event)).toBe('SUCCESS');
    const read = () => [
      firmware.method(input, 8, key),
      firmware.memory.read16(key),
      firmware.memory.read16(key + 2),
    ];
    // EFI_INPUT_KEY: the scan code, then the character.
    expect(read()).toEqual(['SUCCESS', 1, 0]);
    expect(read()).toEqual(['SUCCESS', 0, 'x'.charCodeAt(0)]);
    expect(read()[0]).toBe('NOT_READY');
    expect(firmware.boot('CheckEvent', event)).toBe('NOT_READY');
  });

  it('lets time pass for whoever asks again and again, and ends the run at last', () => {
    const firmware = new TestFirmware();
    const input = firmware.protocol('SimpleTextInput');
    const read = (times: number): void => {
      for (let time = 0; time < times; time++) expect(firmware.method(input, 8, 0)).toBe('NOT_READY');
    };
    read(16);
    expect(firmware.clock.ticks).toBe(0);
    read(1);
    expect(firmware.clock.ticks).toBe(1);
    read(8192 - 17);
    expect(firmware.stopped).toBeNull();
    expect(firmware.clock.ticks).toBe(8192 - 16);
    read(1);
    expect(firmware.stopped).toContain('nobody has pressed one for 7 minutes');
  });

  it('starts to wait anew with each key', () => {
    const keys = [...parseKeys('x')];
    let isPressed = false;
    const firmware = new TestFirmware({ nextKey: () => (isPressed ? (keys.shift() ?? null) : null) });
    const input = firmware.protocol('SimpleTextInput');
    const key = firmware.put64(0);
    for (let time = 0; time < 16; time++) firmware.method(input, 8, key);
    isPressed = true;
    expect(firmware.method(input, 8, key)).toBe('SUCCESS');
    for (let time = 0; time < 16; time++) firmware.method(input, 8, key);
    expect(firmware.clock.ticks).toBe(0);
  });
});

describe('GraphicsOutput', () => {
  const frameBuffer = { width: 1280, height: 800, address: 0x8000_0000, size: 0x3e_8000 };

  it('shows one mode with its frame buffer', () => {
    const firmware = new TestFirmware({ configuration: { frameBuffer } });
    const output = firmware.protocol('GraphicsOutput');
    const { memory } = firmware;
    const mode = Number(firmware.read64(output + 24n));
    expect([memory.read32(mode), memory.read32(mode + 4), firmware.read64(mode + 16)]).toEqual([1, 0, 36n]);
    expect([firmware.read64(mode + 24), firmware.read64(mode + 32)]).toEqual([0x8000_0000n, 0x3e_8000n]);
    // Version, resolution, pixel format (blue, green, red), masks, pixels a line.
    const words = (at: number): readonly number[] =>
      [0, 4, 8, 12, 32].map((offset) => memory.read32(at + offset));
    expect(words(Number(firmware.read64(mode + 8)))).toEqual([0, 1280, 800, 1, 1280]);

    const [size, info] = [firmware.put64(0), firmware.put64(0)];
    expect(firmware.method(output, 0, 1, size, info)).toBe('INVALID_PARAMETER');
    expect(firmware.method(output, 0, 0, size, info)).toBe('SUCCESS');
    const copy = Number(firmware.read64(info));
    expect([firmware.read64(size), words(copy)]).toEqual([36n, [0, 1280, 800, 1, 1280]]);
    // The caller frees what it was given.
    expect(firmware.boot('FreePool', copy)).toBe('SUCCESS');
    expect([firmware.method(output, 8, 0), firmware.method(output, 8, 1)]).toEqual([
      'SUCCESS',
      'UNSUPPORTED',
    ]);
    expect(firmware.method(output, 16, 0, 0)).toBe('SUCCESS');
  });

  it('stands on two handles, the first marked as what is printed on', () => {
    const firmware = new TestFirmware({ configuration: { frameBuffer } });
    const { handles } = firmware.firmware;
    const screens = handles.find(EFI_GUIDS.GraphicsOutput);
    expect(screens).toHaveLength(2);
    expect(handles.find(EFI_GUIDS.ConsoleOut)).toEqual(screens.slice(0, 1));
    expect(new TestFirmware().firmware.handles.find(EFI_GUIDS.GraphicsOutput)).toEqual([]);
  });
});

describe('PciIo', () => {
  const configuration = Uint8Array.from({ length: 64 }, (_, index) => index);
  const pci = [
    { bus: 0, device: 2, function: 1, configuration, rom: Uint8Array.of(0x55, 0xaa, 1) },
    { bus: 3, device: 4, function: 5, configuration, rom: new Uint8Array(0) },
  ];
  const firmware = new TestFirmware({ configuration: { pci } });
  const [first, second] = firmware.firmware.handles
    .find(EFI_GUIDS.PciIo)
    .map((handle) => firmware.firmware.handles.get(handle, EFI_GUIDS.PciIo)!);

  it.each([
    ['bytes', 0, 0, 2, [0, 1, 0, 0]],
    ['words', 1, 4, 1, [4, 5, 0, 0]],
    ['doublewords', 2, 8, 1, [8, 9, 10, 11]],
    ['what is not there, as all ones', 0, 62, 4, [62, 63, 0xff, 0xff]],
  ])('reads configuration space: %s', (_, width, offset, count, bytes) => {
    const buffer = firmware.put(new Uint8Array(8));
    expect(firmware.method(first!, 48, width, offset, count, buffer)).toBe('SUCCESS');
    expect([...firmware.memory.copyOut(buffer, 4)]).toEqual(bytes);
  });

  it('tells where the function is, and has its ROM in memory', () => {
    const pointers = [0, 0, 0, 0].map(() => firmware.put64(0xff));
    expect(firmware.method(second!, 112, ...pointers)).toBe('SUCCESS');
    expect(pointers.map((pointer) => firmware.read64(pointer))).toEqual([0n, 3n, 4n, 5n]);
    expect(firmware.read64(first! + 144n)).toBe(3n);
    expect([...firmware.memory.copyOut(Number(firmware.read64(first! + 152n)), 3)]).toEqual([0x55, 0xaa, 1]);
    expect([firmware.read64(second! + 144n), firmware.read64(second! + 152n)]).toEqual([0n, 0n]);
    const [handle] = firmware.firmware.handles.find(EFI_GUIDS.PciIo);
    const path = firmware.firmware.handles.get(handle!, EFI_GUIDS.DevicePath)!;
    const bytes = encodeDevicePath(pciPath(2, 1));
    expect([...firmware.memory.copyOut(Number(path), bytes.length)]).toEqual([...bytes]);
  });

  it('has no attributes, and says UNSUPPORTED to what nobody wrote', () => {
    const result = firmware.put64(0xff);
    expect(firmware.method(first!, 120, 0, 0, result)).toBe('SUCCESS');
    expect(firmware.read64(result)).toBe(0n);
    const before = firmware.memory.copyOut(0, 16);
    expect(firmware.method(first!, 120, 1, 0, 0)).toBe('SUCCESS');
    expect(firmware.memory.copyOut(0, 16)).toEqual(before);
    for (const offset of [0, 8, 16, 24, 32, 40, 56, 64, 72, 80, 88, 96, 104, 128, 136])
      expect(firmware.method(first!, offset)).toBe('UNSUPPORTED');
    expect(firmware.firmware.notices).toContain(
      'the EFI service PciIo.Mem.Read is not provided: it answered UNSUPPORTED once',
    );
  });
});

describe('Rng', () => {
  it('hands out so many bytes, by the raw algorithm', () => {
    const firmware = new TestFirmware({ configuration: { protocols: ['rng'] } });
    const rng = firmware.protocol('Rng');
    const buffer = firmware.put(new Uint8Array(32));
    expect(firmware.method(rng, 8, 0, 5, buffer)).toBe('SUCCESS');
    expect([...firmware.memory.copyOut(buffer, 6)]).toEqual([0x42, 0x42, 0x42, 0x42, 0x42, 0]);
    expect([
      firmware.method(rng, 8, 0, 0, buffer),
      firmware.method(rng, 8, 0, 5, 0),
      firmware.method(rng, 8, 0, 2 ** 20, 0x400000),
      firmware.method(rng, 8, 0, 2 ** 20 + 1, 0x400000),
    ]).toEqual(['INVALID_PARAMETER', 'INVALID_PARAMETER', 'SUCCESS', 'DEVICE_ERROR']);
    const size = firmware.put64(15);
    expect(firmware.method(rng, 0, size, buffer)).toBe('BUFFER_TOO_SMALL');
    expect(firmware.read64(size)).toBe(16n);
    expect(firmware.method(rng, 0, size, buffer)).toBe('SUCCESS');
    // EFI_RNG_ALGORITHM_RAW
    expect(guidText(firmware.memory.copyOut(buffer, 16))).toBe('e43176d7-b6e8-4827-b784-7ffdc4b68561');
  });
});

describe('LoadFile2 of the initrd', () => {
  const firmware = new TestFirmware({ image: { initrd: Uint8Array.of(1, 2, 3) } });
  const loader = firmware.protocol('LoadFile2');
  const load = (room: number, buffer: number, policy = 0): readonly [string, bigint] => {
    const size = firmware.put64(room);
    return [firmware.method(loader, 0, 0, policy, size, buffer), firmware.read64(size)];
  };

  it('says how large the initrd is, then hands it out', () => {
    const buffer = firmware.put(new Uint8Array(8));
    expect(load(0, 0)).toEqual(['BUFFER_TOO_SMALL', 3n]);
    expect(load(3, 0)).toEqual(['BUFFER_TOO_SMALL', 3n]);
    expect(load(2, buffer)).toEqual(['BUFFER_TOO_SMALL', 3n]);
    expect([...firmware.memory.copyOut(buffer, 3)]).toEqual([0, 0, 0]);
    expect(load(8, buffer, 1)[0]).toBe('UNSUPPORTED');
    // BOOLEAN is one byte.
    expect(load(8, buffer, 0x100)).toEqual(['SUCCESS', 3n]);
    expect([...firmware.memory.copyOut(buffer, 4)]).toEqual([1, 2, 3, 0]);
  });

  it('is found by the vendor media path that Linux looks for', () => {
    const [handle] = firmware.firmware.handles.find(EFI_GUIDS.LoadFile2);
    const path = Number(firmware.firmware.handles.get(handle!, EFI_GUIDS.DevicePath));
    // MEDIA_DEVICE_PATH, MEDIA_VENDOR_DP, 20 bytes, LINUX_EFI_INITRD_MEDIA_GUID; the end.
    expect([...firmware.memory.copyOut(path, 4)]).toEqual([4, 3, 20, 0]);
    expect(guidText(firmware.memory.copyOut(path + 4, 16))).toBe('5568e427-68fc-4f3d-ac74-ca555231cc68');
    expect([...firmware.memory.copyOut(path + 20, 4)]).toEqual([0x7f, 0xff, 4, 0]);
    expect(new TestFirmware().firmware.handles.find(EFI_GUIDS.LoadFile2)).toEqual([]);
  });

  it('has nothing where the initrd is empty', () => {
    const empty = new TestFirmware({ image: { initrd: new Uint8Array(0) } });
    expect(empty.method(empty.protocol('LoadFile2'), 0, 0, 0, empty.put64(9), 0)).toBe('NOT_FOUND');
  });
});

describe('DevicePathToText', () => {
  it('turns paths into text that the caller frees', () => {
    const firmware = new TestFirmware();
    const protocol = firmware.protocol('DevicePathToText');
    const path = firmware.put(encodeDevicePath([...pciPath(1, 1), filePathNode('\\vmlinuz')]));
    for (const offset of [0, 8]) {
      const address = firmware.call(firmware.read64(protocol + BigInt(offset)), path, 0, 0);
      expect(readChar16(firmware.memory, Number(address))).toBe('PciRoot(0x0)/Pci(0x1,0x1)/\\vmlinuz');
      expect(firmware.boot('FreePool', address)).toBe('SUCCESS');
    }
    const convert = firmware.read64(protocol + 8n);
    expect(firmware.call(convert, 0, 0, 0)).toBe(0n);
    expect(firmware.call(convert, firmware.put([1, 1, 1, 0]), 0, 0)).toBe(0n);
  });
});

describe('UnicodeCollation', () => {
  const firmware = new TestFirmware();
  const protocol = firmware.protocol('UnicodeCollation');
  const compare = (a: string, b: string): bigint =>
    BigInt.asIntN(64, firmware.valueOf(protocol, 0, firmware.text16(a), firmware.text16(b)));
  const matches = (text: string, pattern: string): bigint =>
    firmware.valueOf(protocol, 8, firmware.text16(text), firmware.text16(pattern));

  it('compares without regard to case', () => {
    expect([compare('Abc', 'aBC'), compare('abc', 'ABD'), compare('b', 'A')]).toEqual([0n, -1n, 1n]);
  });

  it.each([
    ['vmlinuz.EFI', '*.efi', 1n],
    ['vmlinuzxefi', '*.efi', 0n],
    ['a.efi', '?.efi', 1n],
    ['ab.efi', '?.efi', 0n],
    ['b', '[a-c]', 1n],
    ['d', '[a-c]', 0n],
    ['a+b', 'A+b', 1n],
    ['aab', 'a+b', 0n],
    ['xab', 'ab', 0n],
  ])('matches %s with %s: %i', (text, pattern, result) => {
    expect(matches(text, pattern)).toBe(result);
  });

  it('changes case in place, and names its language', () => {
    const text = firmware.text16('Ab.Efi');
    expect(firmware.method(protocol, 16, text)).toBe('SUCCESS');
    expect(readChar16(firmware.memory, text)).toBe('ab.efi');
    expect(firmware.method(protocol, 24, text)).toBe('SUCCESS');
    expect(readChar16(firmware.memory, text)).toBe('AB.EFI');
    expect(firmware.method(protocol, 32, 0, 0, 0)).toBe('UNSUPPORTED');
    const languages = Number(firmware.read64(protocol + 48n));
    expect([...firmware.memory.copyOut(languages, 3)]).toEqual([0x65, 0x6e, 0]);
    expect(firmware.protocol('UnicodeCollation2')).toBe(protocol);
  });
});

describe('MemoryAttribute', () => {
  it('remembers page by page what it is asked for', () => {
    const firmware = new TestFirmware({ configuration: { protocols: ['memory-attribute'] } });
    const protocol = firmware.protocol('MemoryAttribute');
    const result = firmware.put64(0);
    const get = (address: number): readonly [string, bigint] => [
      firmware.method(protocol, 0, address, 0x1000, result),
      firmware.read64(result),
    ];
    expect(firmware.method(protocol, 8, 0x200000, 0x2000, RO | XP)).toBe('SUCCESS');
    expect([0x1ff000, 0x200000, 0x201000, 0x202000].map((address) => get(address)[1])).toEqual([
      0n,
      RO | XP,
      RO | XP,
      0n,
    ]);
    expect(firmware.method(protocol, 16, 0x201000, 0x1000, XP)).toBe('SUCCESS');
    expect([get(0x200000), get(0x201fff)]).toEqual([
      ['SUCCESS', RO | XP],
      ['SUCCESS', RO],
    ]);
  });
});

describe('the DXE services table', () => {
  const table = (firmware: TestFirmware): number => {
    const { address } = firmware.firmware.configurationTables.find(
      ({ guid }) => guid === EFI_GUIDS.DxeServicesTable,
    )!;
    return Number(address);
  };
  /** Offsets of the functions behind the header of 24 bytes (PI 1.7, volume 2, 7.1). */
  const [GET, SET] = [24 + 4 * 8, 24 + 5 * 8];
  const describeSpace = (firmware: TestFirmware, address: number) => {
    const at = firmware.put(new Uint8Array(64).fill(0xff));
    const status = firmware.call(firmware.read64(table(firmware) + GET), address, at);
    const fields = [0, 8, 16, 24].map((offset) => firmware.read64(at + offset));
    return { status, fields, type: firmware.memory.read32(at + 32) };
  };

  it('has its signature', () => {
    const firmware = new TestFirmware();
    expect(new TextDecoder().decode(firmware.memory.copyOut(table(firmware), 8))).toBe('DXE_SERV');
    expect(firmware.call(firmware.read64(table(firmware) + 24))).toBe((1n << 63n) + 3n);
    expect(firmware.firmware.notices).toEqual([
      'the EFI service DXE.AddMemorySpace is not provided: it answered UNSUPPORTED once',
    ]);
  });

  it('describes RAM without gaps as one space, with what can be asked of it', () => {
    const firmware = new TestFirmware();
    expect(describeSpace(firmware, 0x1234)).toEqual({
      status: 0n,
      fields: [0n, 0xa0000n, 0xfn | XP, 8n],
      type: 2, // EfiGcdMemoryTypeSystemMemory
    });
    for (const address of [0x100000, 0x1080000, 0x3ffffff])
      expect(describeSpace(firmware, address).fields.slice(0, 2)).toEqual([0x100000n, 0x3f00000n]);
    for (const address of [0xa0000, 0xfffff, 0x4000000])
      expect(describeSpace(firmware, address).status).toBe((1n << 63n) + 14n);
  });

  it('does not count devices as RAM', () => {
    const map = [
      ...TEST_MAP,
      { start: 0x4000000, end: 0x5000000, type: 'Mmio', attributes: 1n } as const,
      { start: 0x5000000, end: 0x5001000, type: 'MmioPort', attributes: 1n } as const,
    ];
    const firmware = new TestFirmware({ map });
    expect(firmware.firmware.memorySpaceAt(0x3000000)).toEqual({ start: 0x100000, end: 0x4000000 });
    expect([0x4800000, 0x5000000].map((at) => firmware.firmware.memorySpaceAt(at))).toEqual([null, null]);
  });

  it('describes pages one by one where some may not be executed', () => {
    const firmware = new TestFirmware({ enforcesNx: true });
    const set = (address: number, length: number, value: bigint): bigint =>
      firmware.call(firmware.read64(table(firmware) + SET), address, length, value);
    expect(set(0x400000, 0x3000, RO)).toBe(0n);
    expect(describeSpace(firmware, 0x401234).fields).toEqual([0x401000n, 0x2000n, 0xfn | XP, 8n | RO]);
    // What is not named again is taken away.
    expect(set(0x401000, 0x1000, RP | 8n)).toBe(0n);
    expect(describeSpace(firmware, 0x400000).fields).toEqual([0x400000n, 0x1000n, 0xfn | XP, 8n | RO]);
    expect(describeSpace(firmware, 0x401000).fields).toEqual([0x401000n, 0x1000n, 0xfn | XP, 8n | RP]);
    expect(describeSpace(firmware, 0x600000).fields[3]).toBe(8n | XP);
  });
});
