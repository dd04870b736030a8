// What a reference records of the options of a boot makes the same boot again, from wherever the reference lies.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { parseKaslrOption } from '../decompressor/kaslr-entropy.ts';
import { openDisk } from '../image/disk-file.ts';
import { openEsp } from '../image/esp.ts';
import { parseKeys } from '../machine/keys.ts';
import { type BootOptions, DEFAULT_BOOT_OPTIONS, readEfiFaults } from './options.ts';
import { optionsOf, type RecordedOptions, recordedOptions } from './recorded-options.ts';

const folder = mkdtempSync(join(tmpdir(), 'bootscope-recorded-'));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string): string => join(folder, name);
const reference = at('reference.json');
const bytes = Uint8Array.from({ length: 512 }, (_, index) => index & 0xff);
for (const name of ['initrd', 'floppy', 'first', 'second', 'cd']) writeFileSync(at(name), bytes);
mkdirSync(at('esp'));

/** As a reference keeps them: JSON, with names of files as it lies beside them. */
function kept(recorded: RecordedOptions): RecordedOptions {
  return JSON.parse(JSON.stringify(recorded).replaceAll(`${folder}/`, ''));
}

async function again(options: Partial<BootOptions>, floppy: string | null = null): Promise<BootOptions> {
  const whole = { ...DEFAULT_BOOT_OPTIONS, ...options };
  return optionsOf(reference, { options: kept(recordedOptions(whole, 'real16', floppy)) });
}

describe('the options that a reference records', () => {
  it.each([
    'off',
    'seed:17',
    'entropy:1,2',
    'entropy:1,2,rng:0011ff',
    'phys:0x2000000',
    'virt:0x1a000000',
    'phys:0x2000000,virt:0x1a000000',
  ])('name KASLR as it is asked for: %s', async (text) => {
    const kaslr = parseKaslrOption(text);
    expect(recordedOptions({ ...DEFAULT_BOOT_OPTIONS, kaslr }, 'real16', null).kaslr).toBe(text);
    expect((await again({ kaslr })).kaslr).toEqual(kaslr);
  });

  it('make the default boot again, by the entry that it took', async () => {
    expect(await again({})).toMatchObject({ ...DEFAULT_BOOT_OPTIONS, entry: 'real16' });
  });

  it('keep machine, memory, command line and addresses', async () => {
    const options = {
      ...{ machine: 'q35', memory: 96 << 20, cpu: 'max', decompress: 'emulated', cmdline: 'quiet nokaslr' },
      ...{ loadAddress: 0x200000, initrdAddress: 0x3000000, cmdlineAddress: 0x20000 },
      ...{ bootParamsAddress: 0x14000, bootOrder: ['cdrom', 'disk'], keys: parseKeys('down,enter,e') },
      ...{ efiNx: true, handoverRoom: 'file', efiProtocols: ['rng', 'tcg2'] },
    } as const satisfies Partial<BootOptions>;
    expect(await again(options)).toMatchObject(options);
    expect(recordedOptions({ ...DEFAULT_BOOT_OPTIONS, ...options }, 'prot32', null)).toMatchObject({
      ...{ entry: 'prot32', keys: 'down,enter,e' },
      ...{ withoutImage: false, floppy: null, initrd: null, cdrom: null, esp: null, disks: [] },
    });
  });

  it('keep memory maps as the lines that are read, in both forms', async () => {
    const memoryMap = [
      { address: 0n, size: 0x9fc00n, type: 1 },
      { address: 0x100000n, size: 0x7ee0000n, type: 1 },
      { address: 0xfffc0000n, size: 0x40000n, type: 2 },
    ];
    const efiMemoryMap = [
      { start: 0, end: 0xa0000, type: 'Conventional', attributes: 0xfn },
      { start: 0x100000, end: 0x200000, type: 'RuntimeServicesData', attributes: 0x8000_0000_0000_000fn },
    ] as const;
    const recorded = recordedOptions({ ...DEFAULT_BOOT_OPTIONS, memoryMap, efiMemoryMap }, 'efi', null);
    expect(recorded.memoryMap).toEqual(['0x0 0x9fc00 1', '0x100000 0x7fe0000 1', '0xfffc0000 0x100000000 2']);
    expect(recorded.efiMemoryMap).toEqual([
      '0x0 0xa0000 Conventional 0xf',
      '0x100000 0x200000 RuntimeServicesData 0x800000000000000f',
    ]);
    const { memoryMap: map, efiMemoryMap: efi } = await again({ memoryMap, efiMemoryMap });
    expect(map).toEqual(memoryMap);
    expect(efi).toEqual(efiMemoryMap);
  });

  it('keep variables of the firmware, and services that fail', async () => {
    const efiVariables = [
      {
        ...{ name: 'BootOrder', vendor: '8be4df61-93ca-11d2-aa0d-00e098032b8c', attributes: 7 },
        data: Uint8Array.of(0, 0, 1, 0xff),
      },
    ];
    const efiFaults = await readEfiFaults([
      'ExitBootServices:1=EFI_INVALID_PARAMETER',
      'GetTime=EFI_DEVICE_ERROR',
    ]);
    const { efiFaults: texts, efiVariables: json } = recordedOptions(
      { ...DEFAULT_BOOT_OPTIONS, efiVariables, efiFaults },
      'efi',
      null,
    );
    expect(texts).toEqual(['ExitBootServices:1=INVALID_PARAMETER', 'GetTime=DEVICE_ERROR']);
    expect(json).toEqual([
      { name: 'BootOrder', guid: '8be4df61-93ca-11d2-aa0d-00e098032b8c', attr: 7, data: '000001ff' },
    ]);
    expect(await again({ efiVariables, efiFaults })).toMatchObject({ efiVariables, efiFaults });
  });

  it('name files, which are found beside the reference', async () => {
    const disks = [openDisk(at('first')), openDisk(at('second'))];
    const [cdrom, esp] = [openDisk(at('cd')), openEsp(at('esp'))];
    const initrd = { path: at('initrd'), bytes };
    const options = { ...DEFAULT_BOOT_OPTIONS, initrd, disks, cdrom, esp };
    const recorded = kept(recordedOptions(options, 'boot-sector', at('floppy'), true));
    expect(recorded).toMatchObject({
      ...{ initrd: 'initrd', floppy: 'floppy', disks: ['first', 'second'], cdrom: 'cd', esp: 'esp' },
      withoutImage: true,
    });
    const found = await optionsOf(reference, { options: recorded });
    expect([...found.initrd!.bytes]).toEqual([...bytes]);
    expect(found.initrd!.path).toBe(initrd.path);
    expect([...found.floppy!]).toEqual([...bytes]);
    expect(found.disks.map(({ path }) => path)).toEqual([at('first'), at('second')]);
    expect([found.cdrom!.path, found.esp!.path]).toEqual([at('cd'), at('esp')]);
    for (const disk of [...disks, cdrom, ...found.disks, found.cdrom!]) (disk as typeof cdrom).close();
  });
});

describe('a reference from elsewhere', () => {
  it('tells of its machine what a boot needs, and the rest is the default', async () => {
    const machine = { ram: 128 << 20, entry: 'prot32', cmdline: 'quiet' };
    expect(await optionsOf(reference, { machine })).toEqual({
      ...DEFAULT_BOOT_OPTIONS,
      ...{ memory: 128 << 20, entry: 'prot32', cmdline: 'quiet' },
    });
    expect(await optionsOf(reference, {})).toEqual(DEFAULT_BOOT_OPTIONS);
  });

  it('that is older has its memory map by another name, and none of what came later', async () => {
    const options = {
      ...{
        memory: 64 << 20,
        cpu: 'qemu64',
        entry: 'real16',
        decompress: 'hooked',
        cmdline: '',
        kaslr: 'off',
      },
      ...{ initrd: null, e820: ['0x0 0x9fc00 1', '0x100000 0x4000000 1'] },
      ...{ loadAddress: null, initrdAddress: null, cmdlineAddress: null, bootParamsAddress: null },
    };
    const found = await optionsOf(reference, { options });
    expect(found.memoryMap).toEqual([
      { address: 0n, size: 0x9fc00n, type: 1 },
      { address: 0x100000n, size: 0x3f00000n, type: 1 },
    ]);
    expect(found).toMatchObject({
      ...{ machine: 'pc', floppy: null, disks: [], cdrom: null, esp: null, keys: [], efiMemoryMap: null },
      ...{ efiVariables: [], efiFaults: [], bootOrder: DEFAULT_BOOT_OPTIONS.bootOrder },
    });
  });
});
