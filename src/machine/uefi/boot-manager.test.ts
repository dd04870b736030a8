// What firmware boots of an EFI system partition: by its variables, and without.

import { describe, expect, it } from 'vitest';
import type { Esp } from '../../image/esp.ts';
import type { FileNode } from '../../image/file-tree.ts';
import {
  ataNode,
  type DevicePathNode,
  encodeDevicePath,
  filePathNode,
  hardDriveNode,
  pciPath,
} from '../../protocol/efi-device-path.ts';
import { EFI_GUIDS, guidBytes } from '../../protocol/efi-guids.ts';
import type { EfiVariable } from '../../protocol/efi-variables.ts';
import { bootChoices, bootProgramOf } from './boot-manager.ts';
import { char16Bytes } from './service.ts';
import { efiProgram, ProgramWriter } from './test-program.ts';

const PROGRAM = efiProgram(new ProgramWriter().halt());
const PARTITION = {
  ...{ number: 1, start: 2048, sectors: 77_791, active: false },
  type: 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b',
  id: '626f6f74-0000-4000-8000-000000000001',
};

/** A tree of files by their paths. */
function folder(files: Readonly<Record<string, Uint8Array>>, name = ''): FileNode {
  const inside = new Map<string, Record<string, Uint8Array>>();
  const nodes: FileNode[] = [];
  for (const [path, bytes] of Object.entries(files)) {
    const [first, ...rest] = path.split('/');
    if (rest.length > 0) inside.set(first!, { ...inside.get(first!), [rest.join('/')]: bytes });
    else nodes.push({ name: first!, isFolder: false, size: bytes.length, list: () => [], read: () => bytes });
  }
  for (const [each, content] of inside) nodes.push(folder(content, each));
  return { name, isFolder: true, size: 0, list: () => nodes, read: () => new Uint8Array(0) };
}

function esp(files: Readonly<Record<string, Uint8Array>>, onDisk = true): Esp {
  const disk = { path: 'esp.img', size: 40 * 2 ** 20, read: () => {} } as unknown as Esp['disk'];
  return {
    ...{ path: 'esp.img', root: folder(files), problems: [] },
    ...(onDisk ? { disk, partition: PARTITION } : { disk: null, partition: null }),
  };
}

function global(name: string, data: Uint8Array): EfiVariable {
  return { name, vendor: EFI_GUIDS.GlobalVariable, attributes: 7, data };
}

const order = (name: 'BootOrder' | 'BootNext', ...numbers: readonly number[]): EfiVariable =>
  global(name, Uint8Array.from(numbers.flatMap((number) => [number & 0xff, number >> 8])));

function entry(
  number: number,
  description: string,
  path: readonly DevicePathNode[],
  { data = new Uint8Array(0), attributes = 1 }: { data?: Uint8Array; attributes?: number } = {},
): EfiVariable {
  const nodes = encodeDevicePath(path);
  const head = new Uint8Array(6);
  const view = new DataView(head.buffer);
  view.setUint32(0, attributes, true);
  view.setUint16(4, nodes.length, true);
  const bytes = Uint8Array.of(...head, ...char16Bytes(description), ...nodes, ...data);
  return global(`Boot${number.toString(16).toUpperCase().padStart(4, '0')}`, bytes);
}

const HERE = hardDriveNode(1, 2048n, 77_791n, PARTITION.id);
const ELSEWHERE = hardDriveNode(1, 2048n, 77_791n, '626f6f74-0000-4000-8000-000000000009');
const FILES = { 'EFI/BOOT/BOOTX64.EFI': PROGRAM, 'EFI/debian/shimx64.efi': PROGRAM, 'vmlinuz.efi': PROGRAM };
const filesOf = (each: Esp, variables: readonly EfiVariable[]): readonly string[] =>
  bootChoices(each, variables).map(({ file }) => file);

describe('a boot manager', () => {
  it('takes BootNext, then BootOrder, then what a removable disk is booted by', () => {
    const variables = [
      order('BootOrder', 1, 2),
      order('BootNext', 3),
      entry(1, 'debian', [HERE, filePathNode('\\EFI\\debian\\shimx64.efi')]),
      entry(2, 'disk', [...pciPath(1, 1), ataNode(0, 0)]),
      entry(3, 'linux', [...pciPath(1, 1), ataNode(0, 0), HERE, filePathNode('\\vmlinuz.efi')], {
        data: char16Bytes('quiet'),
      }),
    ];
    const choices = bootChoices(esp(FILES), variables);
    expect(choices.map(({ option, name, file }) => [option, name, file])).toEqual([
      [3, 'Boot0003 (linux)', '\\vmlinuz.efi'],
      [1, 'Boot0001 (debian)', '\\EFI\\debian\\shimx64.efi'],
      [2, 'Boot0002 (disk)', '\\EFI\\BOOT\\BOOTX64.EFI'],
      [null, '\\EFI\\BOOT\\BOOTX64.EFI', '\\EFI\\BOOT\\BOOTX64.EFI'],
    ]);
    expect(choices.map(({ loadOptions }) => loadOptions)).toEqual([char16Bytes('quiet'), null, null, null]);
    expect(filesOf(esp(FILES), [])).toEqual(['\\EFI\\BOOT\\BOOTX64.EFI']);
  });

  it('passes over what cannot be booted, and says why', () => {
    const firmwareFile = { type: 4, subtype: 6, data: guidBytes(EFI_GUIDS.Rng) };
    const variables = [
      order('BootOrder', 1, 2, 3, 4, 5, 6, 7, 8, 0x1f),
      entry(1, 'other disk', [ELSEWHERE, filePathNode('\\vmlinuz.efi')]),
      entry(2, 'gone', [HERE, filePathNode('\\EFI\\gone.efi')]),
      entry(3, 'off', [HERE, filePathNode('\\vmlinuz.efi')], { attributes: 0 }),
      entry(4, 'tool', [HERE, filePathNode('\\vmlinuz.efi')], { attributes: 0x101 }),
      global('Boot0005', Uint8Array.of(1, 0, 0)),
      entry(6, 'shell', [{ type: 4, subtype: 7, data: guidBytes(EFI_GUIDS.Rng) }, firmwareFile]),
      entry(7, 'text', [HERE, filePathNode('\\text')]),
      entry(8, 'arm', [HERE, filePathNode('\\arm.efi')]),
    ];
    const arm = Uint8Array.from(PROGRAM);
    arm.set([0x64, 0xaa], 0x44);
    const disk = esp({ ...FILES, text: new Uint8Array(100), 'arm.efi': arm });
    expect(bootChoices(disk, variables)).toMatchObject([
      {
        option: null,
        passedOver: [
          'Boot0001 (other disk) is passed over: the partition on esp.img is not HD(1,GPT,626F6F74-0000-4000-8000-000000000009,0x800,0x12FDF)',
          'Boot0002 (gone) is passed over: there is no \\EFI\\gone.efi on esp.img',
          'Boot0003 (off) is passed over: it is not active',
          'Boot0004 (tool) is passed over: it is no boot entry but an application of a menu',
          'Boot0005 is passed over: its 3 bytes are no EFI_LOAD_OPTION',
          expect.stringMatching(/^Boot0006 \(shell\) is passed over: .* is not esp\.img, the only disk/),
          'Boot0007 (text) is passed over: \\text is no EFI program',
          expect.stringMatching(
            /^Boot0008 \(arm\) is passed over: \\arm\.efi is for .*, the firmware for x86-64$/,
          ),
          'Boot001F is passed over: there is no such variable',
        ],
      },
    ]);
  });

  it('takes a path without a device for one on the disk', () => {
    const variables = [
      order('BootOrder', 1, 2),
      entry(1, 'short', [filePathNode('\\EFI\\debian'), filePathNode('shimx64.efi')]),
      entry(2, 'volume', [HERE]),
    ];
    expect(filesOf(esp(FILES), variables)).toEqual([
      '\\EFI\\debian\\shimx64.efi',
      '\\EFI\\BOOT\\BOOTX64.EFI',
      '\\EFI\\BOOT\\BOOTX64.EFI',
    ]);
  });

  it('takes a folder for any partition, which has no identity', () => {
    const variables = [order('BootOrder', 1), entry(1, 'debian', [ELSEWHERE, filePathNode('\\vmlinuz.efi')])];
    expect(filesOf(esp(FILES, false), variables)[0]).toBe('\\vmlinuz.efi');
  });

  it('says what a disk holds that nothing can be booted of', () => {
    const read =
      (files: Readonly<Record<string, Uint8Array>>, variables: readonly EfiVariable[] = []) =>
      () =>
        bootProgramOf(esp(files), variables);
    expect(read({ 'loader.conf': PROGRAM, vmlinuz: PROGRAM })).toThrow(
      'esp.img has no EFI\\BOOT\\BOOTX64.EFI, which firmware starts; it holds loader.conf, vmlinuz',
    );
    expect(read({})).toThrow(/; it holds nothing$/);
    expect(read({ 'EFI/BOOT/BOOTIA32.EFI': PROGRAM })).toThrow(
      /; EFI\\BOOT\\BOOTIA32\.EFI is for firmware of 32 bits$/,
    );
    expect(read({}, [order('BootOrder', 1)])).toThrow(
      /, and no boot entry names a program on it; it holds nothing$/,
    );
    expect(bootProgramOf(esp(FILES))).toBe(PROGRAM);
  });
});
