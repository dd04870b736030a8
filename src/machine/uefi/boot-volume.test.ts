// A disk as EFI programs read it: files by SimpleFileSystem (UEFI 2.10, 13.4 and 13.5), sectors by BlockIo and DiskIo (13.9 and 13.7),
// programs by their paths, and what firmware starts of it where the first program gives up.

import { describe, expect, it } from 'vitest';
import { diskOfBytes } from '../../image/disk-image.ts';
import type { Esp } from '../../image/esp.ts';
import type { FileNode } from '../../image/file-tree.ts';
import { encodeDevicePath, filePathNode } from '../../protocol/efi-device-path.ts';
import { EFI_GUIDS } from '../../protocol/efi-guids.ts';
import { EFI_STATUS } from '../../protocol/efi-tables.ts';
import type { BootChoice } from './boot-manager.ts';
import { char16Bytes, readChar16 } from './service.ts';
import { TestFirmware } from './test-firmware.ts';
import { efiProgram, ProgramWriter } from './test-program.ts';

const PROGRAM = efiProgram(new ProgramWriter().halt());
const START = 4;
const SECTORS = 10;

function file(name: string, bytes: Uint8Array): FileNode {
  return { name, isFolder: false, size: bytes.length, list: () => [], read: () => bytes };
}

function folder(name: string, ...nodes: readonly FileNode[]): FileNode {
  return { name, isFolder: true, size: 0, list: () => nodes, read: () => new Uint8Array(0) };
}

const TEXT = file('Text', Uint8Array.of(1, 2, 3, 4, 5));
const ROOT = folder(
  '',
  folder('EFI', folder('BOOT', file('BOOTX64.EFI', PROGRAM)), TEXT),
  file('Kernel', PROGRAM),
);

/** A disk of 16 sectors, each of which is full of its number, with a partition of ten. */
function makeEsp(parts: Partial<Esp> = {}): Esp {
  const bytes = Uint8Array.from({ length: 16 * 512 }, (_, at) => at >> 9);
  return {
    ...{ path: 'esp.img', root: ROOT, problems: [], disk: diskOfBytes('esp.img', bytes) },
    partition: {
      ...{
        number: 1,
        start: START,
        sectors: SECTORS,
        active: false,
        type: 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b',
      },
      id: '626f6f74-0000-4000-8000-000000000001',
    },
    ...parts,
  };
}

const open = (parts: Partial<Esp> = {}): TestFirmware => new TestFirmware({ image: { esp: makeEsp(parts) } });

describe('files', () => {
  const [OPEN, CLOSE, READ, GET_POSITION, SET_POSITION, GET_INFO] = [8, 16, 32, 48, 56, 64];

  const openRoot = (firmware: TestFirmware): bigint => {
    const pointer = firmware.put64(0);
    expect(firmware.method(firmware.protocol('SimpleFileSystem'), 8, pointer)).toBe('SUCCESS');
    return firmware.read64(pointer);
  };
  const openFile = (
    firmware: TestFirmware,
    from: bigint,
    name: string,
    mode: bigint | number = 1,
  ): readonly [string, bigint] => {
    const pointer = firmware.put64(0);
    return [firmware.method(from, OPEN, pointer, firmware.text16(name), mode, 0), firmware.read64(pointer)];
  };
  const read = (firmware: TestFirmware, from: bigint, room: number) => {
    const [size, buffer] = [firmware.put64(room), firmware.put(new Uint8Array(128))];
    const status = firmware.method(from, READ, size, buffer);
    const length = Number(firmware.read64(size));
    return { status, length, bytes: firmware.memory.copyOut(buffer, 128) };
  };
  const textIn = (firmware: TestFirmware, bytes: Uint8Array, at: number): string =>
    readChar16(firmware.memory, firmware.put(bytes.subarray(at)));

  it.each([
    ['efi\\TEXT', 'SUCCESS'],
    ['\\EFI\\Text', 'SUCCESS'],
    ['EFI/./text', 'SUCCESS'],
    ['EFI\\BOOT\\..\\Text', 'SUCCESS'],
    ['EFI\\BOOT\\..\\..\\kernel', 'SUCCESS'],
    ['EFI\\BOOT\\Text', 'NOT_FOUND'],
    ['Text', 'NOT_FOUND'],
  ])('are opened by path: %s', (path, status) => {
    const firmware = open();
    expect(openFile(firmware, openRoot(firmware), path)[0]).toBe(status);
  });

  it('are opened from the folder that they are in, and never to be written', () => {
    const firmware = open();
    const root = openRoot(firmware);
    const [, efi] = openFile(firmware, root, 'EFI');
    expect(openFile(firmware, efi, 'Text')[0]).toBe('SUCCESS');
    expect(openFile(firmware, efi, '..\\Kernel')[0]).toBe('SUCCESS');
    expect(openFile(firmware, efi, 'Kernel')[0]).toBe('NOT_FOUND');
    expect(openFile(firmware, efi, '\\Kernel')[0]).toBe('SUCCESS');
    expect(openFile(firmware, root, 'Kernel', 3)[0]).toBe('WRITE_PROTECTED');
    const [, text] = openFile(firmware, efi, 'Text');
    for (const offset of [24, 40, 72]) expect(firmware.method(text, offset, 0, 0, 0)).toBe('WRITE_PROTECTED');
    expect(firmware.method(text, 80)).toBe('SUCCESS');
  });

  it('are read from a position on, which moves', () => {
    const firmware = open();
    const [, text] = openFile(firmware, openRoot(firmware), '\\EFI\\Text');
    const position = firmware.put64(0);
    const at = (): bigint => {
      expect(firmware.method(text, GET_POSITION, position)).toBe('SUCCESS');
      return firmware.read64(position);
    };
    expect(read(firmware, text, 2)).toMatchObject({ status: 'SUCCESS', length: 2 });
    expect(firmware.calls.at(-1)).toMatch(/: \\EFI\\Text from 0x0 on$/);
    expect(at()).toBe(2n);
    const rest = read(firmware, text, 100);
    expect([rest.length, ...rest.bytes.subarray(0, 4)]).toEqual([3, 3, 4, 5, 0]);
    expect(firmware.calls.at(-1)).toMatch(/from 0x2 on$/);
    expect(read(firmware, text, 100)).toMatchObject({ status: 'SUCCESS', length: 0 });
    expect(firmware.method(text, SET_POSITION, 1)).toBe('SUCCESS');
    expect(read(firmware, text, 1).bytes[0]).toBe(2);
    expect([firmware.method(text, SET_POSITION, -1), at()]).toEqual(['SUCCESS', 5n]);
    expect(firmware.method(text, SET_POSITION, 6)).toBe('SUCCESS');
    expect(read(firmware, text, 1).status).toBe('DEVICE_ERROR');
    expect([...firmware.firmware.files.values()]).toEqual([{ name: '\\EFI\\Text', file: TEXT }]);
  });

  it('do nothing once they are closed', () => {
    const firmware = open();
    const [, text] = openFile(firmware, openRoot(firmware), '\\EFI\\Text');
    const other = openFile(firmware, openRoot(firmware), '\\EFI\\Text')[1];
    expect(firmware.method(text, CLOSE)).toBe('SUCCESS');
    expect(read(firmware, text, 1).status).toBe('UNSUPPORTED');
    expect(firmware.method(text, SET_POSITION, 0)).toBe('UNSUPPORTED');
    expect(openFile(firmware, text, 'x')[0]).toBe('UNSUPPORTED');
    const info = firmware.guid('FileInfo');
    expect(firmware.method(text, GET_INFO, info, firmware.put64(0), 0)).toBe('UNSUPPORTED');
    expect(read(firmware, other, 1).status).toBe('SUCCESS');
  });

  it('are listed by reading their folder: EFI_FILE_INFO, then nothing', () => {
    const firmware = open();
    const [, efi] = openFile(firmware, openRoot(firmware), 'EFI');
    // 80 bytes, then the name with its NUL.
    expect(read(firmware, efi, 80)).toMatchObject({ status: 'BUFFER_TOO_SMALL', length: 90 });
    const first = read(firmware, efi, 90);
    expect([first.status, first.length, textIn(firmware, first.bytes, 80)]).toEqual(['SUCCESS', 90, 'BOOT']);
    const view = new DataView(first.bytes.buffer);
    expect([0, 8, 16, 72].map((offset) => view.getBigUint64(offset, true))).toEqual([90n, 0n, 0n, 0x10n]);
    const second = read(firmware, efi, 128);
    const file = new DataView(second.bytes.buffer);
    expect([0, 8, 16, 72].map((offset) => file.getBigUint64(offset, true))).toEqual([90n, 5n, 5n, 1n]);
    expect(textIn(firmware, second.bytes, 80)).toBe('Text');
    expect(read(firmware, efi, 128)).toMatchObject({ status: 'SUCCESS', length: 0 });
    // The position of a folder is set to its beginning.
    firmware.method(efi, SET_POSITION, 0);
    expect(read(firmware, efi, 128).length).toBe(90);
  });

  it.each([
    ['a partition', {}, BigInt(SECTORS * 512)],
    ['a disk without partitions', { partition: null }, BigInt(16 * 512)],
    ['a folder', { partition: null, disk: null }, 1_032_129n * 512n],
  ])('tell of themselves and the volume: %s', (_, parts, size) => {
    const firmware = open(parts);
    const root = openRoot(firmware);
    const [, text] = openFile(firmware, root, '\\EFI\\Text');
    const buffer = firmware.put(new Uint8Array(128));
    const room = firmware.put64(0);
    const info = (name: 'FileInfo' | 'FileSystemInfo' | 'FileSystemVolumeLabel' | 'Rng', bytes: number) => {
      firmware.memory.write64(room, BigInt(bytes));
      const status = firmware.method(text, GET_INFO, firmware.guid(name), room, buffer);
      return [status, Number(firmware.read64(room))];
    };
    expect(info('FileInfo', 89)).toEqual(['BUFFER_TOO_SMALL', 90]);
    expect(info('FileInfo', 90)).toEqual(['SUCCESS', 90]);
    expect([firmware.read64(buffer + 8), readChar16(firmware.memory, buffer + 80)]).toEqual([5n, 'Text']);
    // EFI_FILE_SYSTEM_INFO: size, read-only, size of the volume, free space, block size, label.
    expect(info('FileSystemInfo', 128)).toEqual(['SUCCESS', 44]);
    expect([
      firmware.read64(buffer),
      firmware.memory.read8(buffer + 8),
      firmware.read64(buffer + 16),
      firmware.read64(buffer + 24),
      firmware.memory.read32(buffer + 32),
      readChar16(firmware.memory, buffer + 36),
    ]).toEqual([44n, 1, size, 0n, 512, 'ESP']);
    expect(info('FileSystemVolumeLabel', 128)).toEqual(['SUCCESS', 8]);
    expect(readChar16(firmware.memory, buffer)).toBe('ESP');
    expect(info('Rng', 128)[0]).toBe('UNSUPPORTED');
  });

  it('of QEMU’s kernel loader are the kernel and the initrd', () => {
    const firmware = new TestFirmware({ image: { initrd: Uint8Array.of(1, 2, 3) } });
    const root = openRoot(firmware);
    const [, initrd] = openFile(firmware, root, 'initrd');
    expect(read(firmware, initrd, 9)).toMatchObject({ status: 'SUCCESS', length: 3 });
    expect(openFile(firmware, root, 'kernel')[0]).toBe('SUCCESS');
  });
});

describe('sectors', () => {
  const interfaces = (firmware: TestFirmware, name: 'BlockIo' | 'DiskIo'): readonly bigint[] => {
    const { handles } = firmware.firmware;
    return handles.find(EFI_GUIDS[name]).map((handle) => handles.get(handle, EFI_GUIDS[name])!);
  };

  it('are there for the disk and for its partition, with their last block', () => {
    const firmware = open();
    const media = interfaces(firmware, 'BlockIo').map((at) => Number(firmware.read64(at + 8n)));
    // MediaPresent, LogicalPartition, BlockSize, LastBlock.
    expect(
      media.map((at) => [
        firmware.memory.read8(at + 5),
        firmware.memory.read8(at + 6),
        firmware.memory.read32(at + 12),
        firmware.read64(at + 24),
      ]),
    ).toEqual([
      [1, 0, 512, 15n],
      [1, 1, 512, BigInt(SECTORS - 1)],
    ]);
    expect(interfaces(firmware, 'BlockIo').map((at) => firmware.read64(at))).toEqual([0x20031n, 0x20031n]);
    expect(interfaces(firmware, 'DiskIo').map((at) => firmware.read64(at))).toEqual([0x10000n, 0x10000n]);
    expect(interfaces(open({ partition: null }), 'BlockIo')).toHaveLength(1);
    expect(interfaces(open({ partition: null, disk: null }), 'BlockIo')).toHaveLength(0);
  });

  it.each([
    ['the disk', 0, 0, 16],
    ['a partition', 1, START, SECTORS],
  ])('of %s are read and written, those behind the end not', (_, which, start, sectors) => {
    const firmware = open();
    const block = interfaces(firmware, 'BlockIo')[which]!;
    const buffer = firmware.put(new Uint8Array(2048));
    const [READ, WRITE] = [24, 32];
    const move = (offset: number, lba: number, size: number): string =>
      firmware.method(block, offset, 0, lba, size, buffer);
    expect(move(READ, 1, 1024)).toBe('SUCCESS');
    expect(firmware.calls.at(-1)).toContain(`: sectors ${start + 1} to ${start + 2} (`);
    expect([0, 511, 512, 1023, 1024].map((at) => firmware.memory.read8(buffer + at))).toEqual([
      ...[start + 1, start + 1, start + 2, start + 2, 0],
    ]);
    expect(move(READ, sectors - 2, 1024)).toBe('SUCCESS');
    expect(move(READ, sectors - 1, 1024)).toBe('INVALID_PARAMETER');
    expect([move(READ, 0, 500), move(WRITE, 0, 500)]).toEqual(['BAD_BUFFER_SIZE', 'BAD_BUFFER_SIZE']);
    expect(move(WRITE, sectors - 1, 1024)).toBe('INVALID_PARAMETER');
    firmware.memory.fill(buffer, 512, 0xee);
    expect(move(WRITE, 3, 512)).toBe('SUCCESS');
    firmware.memory.fill(buffer, 512, 0);
    expect(move(READ, 2, 1024)).toBe('SUCCESS');
    expect([0, 512].map((at) => firmware.memory.read8(buffer + at))).toEqual([start + 2, 0xee]);
    expect([16, 40].map((offset) => firmware.method(block, offset, 0))).toEqual(['SUCCESS', 'SUCCESS']);
  });

  it.each([
    ['the disk', 0, 0, 16],
    ['a partition', 1, START, SECTORS],
  ])('of %s are read and written by the byte', (_, which, start, sectors) => {
    const firmware = open();
    const disk = interfaces(firmware, 'DiskIo')[which]!;
    const buffer = firmware.put(new Uint8Array(1024));
    const [READ, WRITE] = [8, 16];
    const move = (offset: number, from: number, size: number): string =>
      firmware.method(disk, offset, 0, from, size, buffer);
    expect(move(READ, 1023, 2)).toBe('SUCCESS');
    expect([0, 1, 2].map((at) => firmware.memory.read8(buffer + at))).toEqual([start + 1, start + 2, 0]);
    expect(firmware.calls.at(-1)).toContain(`: sectors ${start + 1} to ${start + 2} (`);
    expect(move(READ, sectors * 512 - 8, 8)).toBe('SUCCESS');
    expect(move(READ, sectors * 512 - 8, 9)).toBe('INVALID_PARAMETER');
    expect(move(WRITE, sectors * 512 - 8, 9)).toBe('INVALID_PARAMETER');
    firmware.memory.fill(buffer, 4, 0xee);
    expect(move(WRITE, 1022, 4)).toBe('SUCCESS');
    expect(move(READ, 1020, 8)).toBe('SUCCESS');
    expect([...firmware.memory.copyOut(buffer, 8)]).toEqual([
      ...[start + 1, start + 1, 0xee, 0xee, 0xee, 0xee, start + 2, start + 2],
    ]);
  });
});

describe('programs on a volume', () => {
  const load = (firmware: TestFirmware, nodes: Parameters<typeof encodeDevicePath>[0]): string =>
    firmware.boot(
      'LoadImage',
      ...[0, firmware.firmware.images[0]!.handle, firmware.put(encodeDevicePath(nodes)), 0, 0],
      firmware.put64(0),
    );

  it('are loaded by their full path, with the rest of it beside them', () => {
    const firmware = open();
    const { volume, images, handles } = firmware.firmware;
    expect(load(firmware, [...volume!.path, filePathNode('\\EFI'), filePathNode('BOOT\\bootx64.efi')])).toBe(
      'SUCCESS',
    );
    const { name, handle } = images[1]!;
    expect(name).toBe('bootx64.efi');
    const loaded = Number(handles.get(handle, EFI_GUIDS.LoadedImage));
    // ParentHandle, SystemTable, DeviceHandle, ImageBase, ImageSize; code and data types.
    expect([8, 16, 24, 64, 72].map((offset) => firmware.read64(loaded + offset))).toEqual([
      images[0]!.handle,
      BigInt(firmware.firmware.places.systemTable),
      volume!.device,
      BigInt(images[1]!.base),
      0x2000n,
    ]);
    expect([0, 80, 84].map((offset) => firmware.memory.read32(loaded + offset))).toEqual([0x1000, 1, 2]);
    const rest = encodeDevicePath([filePathNode('\\EFI'), filePathNode('BOOT\\bootx64.efi')]);
    const at = Number(firmware.read64(loaded + 32));
    expect(firmware.memory.copyOut(at, rest.length)).toEqual(rest);
    const full = Number(handles.get(handle, EFI_GUIDS.LoadedImageDevicePath));
    const path = encodeDevicePath(volume!.path);
    expect(firmware.memory.copyOut(full, path.length - 4)).toEqual(path.subarray(0, -4));
  });

  it('are not found elsewhere, in folders, or where they are not', () => {
    const firmware = open();
    const { path } = firmware.firmware.volume!;
    expect(load(firmware, [filePathNode('\\Kernel')])).toBe('NOT_FOUND');
    expect(load(firmware, path)).toBe('NOT_FOUND');
    expect(load(firmware, [...path, filePathNode('\\EFI')])).toBe('NOT_FOUND');
    expect(load(firmware, [...path, filePathNode('\\gone')])).toBe('NOT_FOUND');
    expect(load(firmware, [...path.slice(0, -1), path[0]!, filePathNode('\\Kernel')])).toBe('NOT_FOUND');
    expect(load(firmware, [...path, path[0]!])).toBe('NOT_FOUND');
  });
});

describe('the boot order', () => {
  const choice = (option: number | null, name: string, node: FileNode, more: Partial<BootChoice> = {}) => ({
    ...{ option, name, file: `\\EFI\\${node.name}`, node, loadOptions: null, passedOver: [] },
    ...more,
  });
  const start = (choices: readonly BootChoice[], loadOptions = ''): TestFirmware =>
    new TestFirmware({
      image: { esp: makeEsp(), choices, loadOptions },
      variables: [
        {
          name: 'BootNext',
          vendor: EFI_GUIDS.GlobalVariable,
          attributes: 7,
          data: Uint8Array.of(0x34, 0x12),
        },
      ],
    });
  const variable = (firmware: TestFirmware, name: string): readonly number[] | null => {
    const found = firmware.firmware.variables.get(name, EFI_GUIDS.GlobalVariable, false);
    return found === undefined ? null : [...found.data];
  };
  const optionsOf = (firmware: TestFirmware, index: number): string | null => {
    const { handles, images } = firmware.firmware;
    const loaded = Number(handles.get(images[index]!.handle, EFI_GUIDS.LoadedImage));
    const size = firmware.memory.read32(loaded + 48);
    return size === 0 ? null : readChar16(firmware.memory, Number(firmware.read64(loaded + 56)), size / 2);
  };
  const shim = file('shim.efi', PROGRAM);
  const fail = (firmware: TestFirmware): void => {
    firmware.firmware.onImageStarted ??= () => {};
    firmware.boot('Exit', firmware.firmware.images.at(-1)!.handle, EFI_STATUS.ABORTED, 0, 0);
  };

  it('is gone through where programs give up: each with its number, options and name', () => {
    const firmware = start([
      choice(0x1234, 'Boot1234 (debian)', shim, {
        loadOptions: char16Bytes('quiet'),
        passedOver: ['x is gone'],
      }),
      choice(2, 'Boot0002 (text)', TEXT),
      choice(null, '\\EFI\\BOOT\\BOOTX64.EFI', file('BOOTX64.EFI', PROGRAM)),
    ]);
    const { images } = firmware.firmware;
    expect([variable(firmware, 'BootCurrent'), variable(firmware, 'BootNext')]).toEqual([[0x34, 0x12], null]);
    expect([images[0]!.name, optionsOf(firmware, 0)]).toEqual(['shim.efi', 'quiet']);
    expect(images[0]!.bytes).toBeUndefined();
    expect(firmware.firmware.notices).toEqual(['x is gone', 'Boot1234 (debian) starts \\EFI\\shim.efi']);
    fail(firmware);
    expect(images.map(({ name }) => name)).toEqual(['shim.efi', 'BOOTX64.EFI']);
    expect([optionsOf(firmware, 1), images[1]!.bytes]).toEqual([null, PROGRAM]);
    expect(variable(firmware, 'BootCurrent')).toBeNull();
    expect(firmware.firmware.notices.slice(2)).toEqual([
      'Boot0002 (text) is passed over: it is no PE file',
      'the image gave up: it called Exit with ABORTED: \\EFI\\BOOT\\BOOTX64.EFI is next',
    ]);
    expect(firmware.stopped).toBeNull();
    fail(firmware);
    expect(firmware.stopped).toBe('the image gave up: it called Exit with ABORTED');
  });

  it('gives way to options of the caller’s', () => {
    const firmware = start([choice(1, 'Boot0001', shim, { loadOptions: char16Bytes('quiet') })], 'single');
    expect(optionsOf(firmware, 0)).toBe('single');
    // Without an entry the program is said to lie in the disk's root.
    const plain = open();
    expect([plain.firmware.images[0]!.name, plain.firmware.notices]).toEqual(['program', []]);
    expect(variable(plain, 'BootCurrent')).toBeNull();
  });
});
