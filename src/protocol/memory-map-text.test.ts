import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { BOOT_PARAMS_SIZE, BootParams } from './boot-params.ts';
import { FIRMWARE_MEMMAP_LOOP, readMemoryMap } from './memory-map-text.ts';

const read = (text: string) => readMemoryMap('map', new TextEncoder().encode(text));
const MAP = [
  { address: 0n, size: 0x9fc00n, type: 1 },
  { address: 0x9fc00n, size: 0x400n, type: 2 },
  { address: 0x100000n, size: 0x7fee0000n, type: 1 },
  { address: 0x1_0000_0000n, size: 0xf_8000_0000n, type: 1 },
];

describe('a memory map as text', () => {
  it('is lines of start, end behind the last byte, and type', () => {
    expect(
      read('# a map\n0x0 0x9fc00 1\n0x9fc00 0xa0000 2\n0x100000 0x7ffe0000 1\n0x100000000 0x1080000000 1\n'),
    ).toMatchObject({ form: 'table', entries: MAP });
  });

  const LOG = [
    '[    0.000000] Linux version 6.1.0 (a@b) (gcc) #1',
    '[    0.000000] Command line: BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro quiet',
    '[    0.000000] BIOS-provided physical RAM map:',
    '[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable',
    '[    0.000000] BIOS-e820: [mem 0x000000000009fc00-0x000000000009ffff] reserved',
    '[    0.000000] BIOS-e820: [mem 0x0000000000100000-0x000000007ffdffff] usable',
    '[    0.000000] BIOS-e820: [mem 0x0000000100000000-0x000000107fffffff] usable',
    '[    0.000000] e820: update [mem 0x00000000-0x00000fff] usable ==> reserved',
    '[    0.013000] RAMDISK: [mem 0x34a5c000-0x363fbfff]',
    '[    0.200000] Kernel command line: BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro quiet',
  ];

  it('is a whole log of a kernel, whose ends are inclusive, with the command line and initrd that it names', () => {
    expect(read(LOG.join('\n'))).toEqual({
      form: 'log',
      entries: MAP,
      commandLine: 'BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro quiet',
      initrd: { address: 0x34a5c000, size: 0x19a0000 },
      efiMap: null,
      bootedByEfi: false,
    });
  });

  it('is a log as journalctl or a terminal on Windows gives it', () => {
    const lines = LOG.map((line) => line.replace(/^\[.*?\]/, 'Nov 26 10:00:00 host kernel:'));
    expect(read(lines.join('\r\n'))).toMatchObject({ entries: MAP, commandLine: /quiet/ });
  });

  it('is a log of a kernel before 3.5, whose ends are exclusive', () => {
    const log = [
      'Linux version 2.6.32',
      'Command line: ro root=/dev/sda1',
      'BIOS-provided physical RAM map:',
      ' BIOS-e820: 0000000000000000 - 000000000009fc00 (usable)',
      ' BIOS-e820: 000000000009fc00 - 00000000000a0000 (reserved)',
      ' BIOS-e820: 0000000000100000 - 000000007ffe0000 (usable)',
      ' BIOS-e820: 0000000100000000 - 0000001080000000 (usable)',
      'RAMDISK: 37a2c000 - 37fef000',
    ];
    expect(read(log.join('\n'))).toMatchObject({
      entries: MAP,
      commandLine: 'ro root=/dev/sda1',
      initrd: { address: 0x37a2c000, size: 0x5c3000 },
    });
  });

  it('is a log that names sizes, and types of its own', () => {
    const { entries, bootedByEfi } = read(
      [
        '[    0.000000] efi: EFI v2.7 by EDK II',
        '[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff]  639.0 KB kernel usable RAM',
        '[    0.000000] BIOS-e820: [gap 0x00000000000a0000-0x00000000000effff]  320   KB ...',
        '[    0.000000] BIOS-e820: [mem 0x00000000000f0000-0x00000000000fffff]   64   KB device reserved',
        '[    0.000000] BIOS-e820: [mem 0x0000000000100000-0x00000000001fffff] persistent (type 12)',
      ].join('\n'),
    );
    expect(entries.map(({ type }) => type)).toEqual([1, 2, 12]);
    expect(bootedByEfi).toBe(true);
  });

  it('is /proc/iomem: the memory among its outer lines', () => {
    const { form, entries } = read(
      [
        '00000000-00000fff : Reserved',
        '00001000-0009fbff : System RAM',
        '000a0000-000bffff : PCI Bus 0000:00',
        '00100000-7ffdffff : System RAM',
        '  01000000-01ffffff : Kernel code',
        '7ffe0000-7fffffff : Reserved',
        'e0000000-efffffff : PCI MMCONFIG 0000 [bus 00-ff]',
        '  e0000000-efffffff : Reserved',
        '100000000-107fffffff : System RAM',
      ].join('\n'),
    );
    expect(form).toBe('iomem');
    expect(entries).toEqual([
      { address: 0n, size: 0x1000n, type: 2 },
      { address: 0x1000n, size: 0x9ec00n, type: 1 },
      { address: 0x100000n, size: 0x7fee0000n, type: 1 },
      { address: 0x7ffe0000n, size: 0x20000n, type: 2 },
      { address: 0x1_0000_0000n, size: 0xf_8000_0000n, type: 1 },
    ]);
  });

  it('is refused as a /proc/iomem that was not read as root', () => {
    expect(() => read('00000000-00000000 : Reserved\n00000000-00000000 : System RAM\n')).toThrow(
      'map: all 2 ranges of this /proc/iomem are 0 to 0, as the kernel shows it to users without CAP_SYS_ADMIN; read it as root',
    );
  });

  it('is /sys/firmware/memmap as its shell loop prints it', () => {
    const folder = mkdtempSync(join(tmpdir(), 'memmap-'));
    const files = MAP.map(({ address, size, type }, index) => [index * 5, address, size, type] as const);
    for (const [index, address, size, type] of files.toReversed()) {
      mkdirSync(join(folder, String(index)));
      writeFileSync(join(folder, String(index), 'start'), `0x${address.toString(16)}\n`);
      writeFileSync(join(folder, String(index), 'end'), `0x${(address + size - 1n).toString(16)}\n`);
      writeFileSync(join(folder, String(index), 'type'), type === 1 ? 'System RAM\n' : 'Reserved\n');
    }
    const loop = FIRMWARE_MEMMAP_LOOP.replace('/sys/firmware/memmap', folder);
    const printed = execFileSync('sh', ['-c', loop], { encoding: 'utf8' });
    rmSync(folder, { recursive: true });
    expect(read(printed)).toMatchObject({ form: 'firmware', entries: MAP });
  });

  it.each([
    ['0x0 0x9fc00 1\nall of it\n', 'map, line 2: `all of it` is not `START END TYPE`'],
    ['0x9fc00 0x0 1\n', 'map, line 1: 0x9fc00 to 0x0 is no range: it ends before it begins'],
    ['# nothing\n', 'map: 0 entries; a memory map has 1 to 128'],
    [
      '0x0 0x9fbff System RAM\n0x0 0x1 Cheese\n',
      'map, line 2: `0x0 0x1 Cheese` is no entry of /sys/firmware/memmap',
    ],
    ['BIOS-e820: [mem 0x0-0xfff] of some kind', 'map, line 1: memory of type `of some kind` is not known'],
    ['[    7.0] Linux version 6.1\n[    7.1] usb 1-1: new', "map is a kernel's log without its memory map"],
  ])('is refused where a line is none: %j', (text, message) => {
    expect(() => read(text)).toThrow(message);
  });
});

describe("EFI's memory map", () => {
  it('becomes what the EFI stub makes of it: one entry of neighbours that are RAM afterwards', () => {
    const { form, entries, efiMap } = read(
      '0x0 0x1000 BootServicesCode 0xf\n0x1000 0xa0000 Conventional 0xf\n0x100000 0x200000 AcpiNvs 0xf\n' +
        '0x200000 0x300000 LoaderCode 0xf\n',
    );
    expect(form).toBe('efi');
    expect(entries).toEqual([
      { address: 0n, size: 0xa0000n, type: 1 },
      { address: 0x100000n, size: 0x100000n, type: 4 },
      { address: 0x200000n, size: 0x100000n, type: 1 },
    ]);
    expect(efiMap).toHaveLength(4);
  });

  it('comes with the E820 map where a log has both', () => {
    const { form, entries, efiMap } = read(
      [
        '[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable',
        '[    0.000000] efi: EFI v2.7 by EDK II',
        '[    0.000000] efi: mem00: [Conventional|   |  |  |  |  |  |  |  |  |   |WB|WT|WC|UC] range=[0x0000000000000000-0x000000000009ffff] (0MB)',
      ].join('\n'),
    );
    expect(form).toBe('log');
    expect(entries).toHaveLength(1);
    expect(efiMap).toMatchObject([{ start: 0, end: 0xa0000, type: 'Conventional' }]);
  });
});

describe('a memory map in a recorded boot_params', () => {
  it('comes with the initrd', () => {
    const bytes = new Uint8Array(BOOT_PARAMS_SIZE);
    const params = new BootParams(bytes);
    params.memoryMap = MAP;
    params.initrd = { address: 0x1_2000_0000, size: 0x1000 };
    expect(readMemoryMap('data', bytes)).toEqual({
      form: 'boot-params',
      entries: MAP,
      commandLine: null,
      initrd: { address: 0x1_2000_0000, size: 0x1000 },
      efiMap: null,
      bootedByEfi: false,
    });
  });

  it('is refused where the file has another size', () => {
    expect(() => readMemoryMap('data', new Uint8Array(512))).toThrow(
      'data is no text, and with 512 bytes no boot_params, which has 4096',
    );
  });
});
