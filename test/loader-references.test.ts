// Boot loaders on disks, run here and by QEMU with SeaBIOS or OVMF: the kernel must find the same in memory.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { judgeHandover } from '../src/boot/handover-rules.ts';
import { DEFAULT_BOOT_OPTIONS } from '../src/boot/options.ts';
import { openBoot } from '../src/boot/session.ts';
import { bootDisk, readFloppyImage } from '../src/image/boot-disk.ts';
import { openDisk } from '../src/image/disk-file.ts';
import { diskOfBytes } from '../src/image/disk-image.ts';
import { readEfiImage } from '../src/image/efi-program.ts';
import { readEfiVariables } from '../src/image/efi-variable-file.ts';
import { openEsp } from '../src/image/esp.ts';
import { readKernelImage } from '../src/image/kernel-image.ts';
import { bootProgramOf } from '../src/machine/uefi/boot-manager.ts';
import { bootscope, buildCommand } from './command.ts';
import { CLOUD_KERNEL } from './debian-kernels.ts';
import { leftOut } from './witnesses.ts';

interface Reference {
  /** Missing for the demo kernel. */
  readonly kernel?: { readonly name: string; readonly sha256: string };
  readonly entry: string;
  readonly bootParams: string;
  /** What is not zero of boot_params, by offset. */
  readonly page: Readonly<Record<string, string>>;
  readonly commandLine: { readonly address: string; readonly text: string };
  readonly initrd: { readonly address: string; readonly size: number; readonly sha256: string };
  readonly segments: readonly { readonly paddr: string; readonly filesz: string; readonly sha256: string }[];
}

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const IMAGES = join(ROOT, 'images/cache/loaders');
const referencesOf = (firmware: 'bios' | 'efi'): Readonly<Record<string, Reference>> =>
  JSON.parse(readFileSync(join(ROOT, `test/references/loaders/${firmware}.json`), 'utf8'));
const references = referencesOf('bios');
const efiReferences = referencesOf('efi');

type Difference = readonly [start: number, end: number, why: string];

/** Where the E820 map of boot_params is, and what an entry takes. */
const E820_MAP = 0x2d0;
const E820_ENTRY = 20;

/** Fields of boot_params in which the two PCs differ, and why. @param entries - of E820, here */
function bySeaBios(entries: number): readonly Difference[] {
  const added = E820_MAP + entries * E820_ENTRY;
  return [
    [0x1, 0x2, 'the row of the cursor: SeaBIOS has printed two lines before the loader'],
    [0x1e8, 0x1e9, 'the number of E820 entries: QEMU tells of one more'],
    [
      added,
      added + E820_ENTRY,
      'of the range below 1 TiB that AMD processors keep for HyperTransport, whatever the processor',
    ],
  ];
}

/** The same of OVMF. */
const BY_OVMF: readonly Difference[] = [
  [0x1d4, 0x1d8, 'the size of the memory map: the drivers of a disk hold memory here and there'],
];
/** For a kernel whose stub allocates from the top down: what lies there is moved by what the drivers hold. */
const MOVED_BY_DRIVERS: readonly Difference[] = [
  [0x218, 0x21c, 'ramdisk_image'],
  [0x228, 0x22c, 'cmd_line_ptr'],
  [0x250, 0x258, 'setup_data'],
];

/** GRUB copies setup's header to the end of its room, and behind the header lies what it has there. */
const BY_GRUB_HANDOVER: readonly Difference[] = [
  [0x214, 0x218, 'code32_start: what it has allocated for the kernel is moved by what the drivers hold'],
  [0x268, 0x2cc, 'bytes of its own, with addresses in them: it lies elsewhere for the same reason'],
];

/** What runs until the kernel does: each phase with its program. */
const PROGRAMS: Readonly<Record<string, readonly string[]>> = {
  'syslinux-mbr': [
    'boot-sector MBR',
    'boot-sector partition 1: boot sector of FAT16',
    'stage1.5 partition 1: /ldlinux.sys',
    'stage2 what partition 1: /ldlinux.sys has unpacked',
    'stage2 partition 1: /ldlinux.c32',
  ],
  isolinux: [
    'boot-sector /isolinux/isolinux.bin',
    'stage2 what /isolinux/isolinux.bin has unpacked',
    'stage2 /isolinux/ldlinux.c32',
  ],
  'grub-mbr': ['boot-sector MBR', 'stage1.5 core.img', 'stage2 what core.img has unpacked'],
  'grub-gpt': [
    'boot-sector MBR',
    'stage1.5 partition 1: core.img',
    'stage2 what partition 1: core.img has unpacked',
  ],
};

/** Which disk it is, where that is called otherwise. */
const DISKS: Readonly<Record<string, string>> = { 'boot-order': 'systemd-boot-debian' };
/** OVMF has had these in its flash. */
const VARIABLES: Readonly<Record<string, string>> = { 'boot-order': 'boot-order.vars.json' };
/** What is not in Debian 12. */
const TAKES: Readonly<Record<string, string>> = {
  'grub-efi-loadfile2': 'GRUB 2.12',
  'loadlin-floppy': 'FreeDOS',
};
/** What runs first, where that is no loader by its usual name. */
const FIRST_PROGRAM: Readonly<Record<string, string | undefined>> = { 'boot-order': undefined };
const diskOf = (name: string): string => join(IMAGES, `${DISKS[name] ?? name}.img`);

/** GRUB takes seconds: one of it, and one of each other loader, are compared always. */
const QUICK = ['syslinux-mbr', 'isolinux', 'grub-mbr', 'grub-efi-32', 'systemd-boot-debian', 'boot-order'];

const TOOLS = ['syslinux', 'mcopy', 'mkfs.vfat', 'sfdisk', 'mke2fs', 'xorriso', 'grub-mkimage'];
const env = { ...process.env, PATH: `${process.env.PATH}:/sbin:/usr/sbin` };
const missing = TOOLS.filter((tool) => spawnSync('sh', ['-c', `command -v ${tool}`], { env }).status !== 0);
for (const file of ['/usr/lib/grub/i386-pc/boot.img', '/usr/lib/ISOLINUX/isolinux.bin']) {
  if (!existsSync(file)) missing.push(file);
}
const suite = missing.length === 0 ? describe : describe.skip;

/** Of a host that is busy. */
const timeoutSeconds = 600;

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

/** By offset, without what differs. */
function bytesOf(page: Uint8Array, different: readonly Difference[]): Readonly<Record<string, number>> {
  const bytes: Record<string, number> = {};
  for (const [at, byte] of page.entries()) {
    if (byte !== 0 && !different.some(([start, end]) => at >= start && at < end)) bytes[hex(at)] = byte;
  }
  return bytes;
}

/** The newest of its kind is on the disk, which may be another one. */
function isThere(kernel: Reference['kernel']): boolean {
  return (
    kernel === undefined ||
    kernel.name.startsWith('demo-') ||
    (existsSync(CLOUD_KERNEL) && sha256(readFileSync(CLOUD_KERNEL)) === kernel.sha256)
  );
}

function pageOf(pieces: Reference['page']): Uint8Array {
  const page = new Uint8Array(4096);
  for (const [at, text] of Object.entries(pieces)) page.set(Buffer.from(text, 'hex'), Number(at));
  return page;
}

async function open(name: string) {
  const path = join(IMAGES, `${name}.img`);
  if (name.includes('floppy')) {
    const floppy = readFileSync(path);
    return openBoot(await readFloppyImage(path, floppy), { floppy, entry: 'boot-sector', timeoutSeconds });
  }
  const isCd = readFileSync(path).toString('latin1', 0x8001, 0x8006) === 'CD001';
  const disk = openDisk(path);
  return openBoot(bootDisk(path, isCd ? 'cdrom' : 'disk'), {
    ...DEFAULT_BOOT_OPTIONS,
    ...(isCd ? { cdrom: disk } : { disks: [disk] }),
    entry: 'boot-sector',
    timeoutSeconds,
  });
}

const why = missing.length === 0 ? '' : ` (left out: there is no ${missing.join(', ')})`;
suite(`boot loaders on disks, as with QEMU${why}`, () => {
  beforeAll(() => {
    buildCommand();
    const wanted = [...biosNames, ...efiNames]
      .filter(({ runs }) => runs)
      .map(({ name }) => DISKS[name] ?? name);
    const arguments_ = [...new Set([...wanted, 'grub-gpt'])];
    const made = spawnSync(join(ROOT, 'scripts/loader-images'), arguments_, { encoding: 'utf8' });
    expect(made.stderr + String(made.status)).toMatch(/0$/);
  }, 120_000);

  const namesOf = (all: Readonly<Record<string, Reference>>) =>
    Object.entries(all).map(([name, { kernel }]) => {
      const isQuick = QUICK.includes(name) || process.env.BOOTSCOPE_ALL_LOADERS !== undefined;
      const hasKernel = isThere(kernel);
      const why = [
        ...(hasKernel ? [] : ['its kernel is not in images/cache/debian']),
        ...(isQuick ? [] : ['takes BOOTSCOPE_ALL_LOADERS']),
        ...(name in TAKES && !existsSync(diskOf(name)) ? [`its disk takes ${TAKES[name]}`] : []),
      ][0];
      return { name, runs: why === undefined, left: why === undefined ? '' : ` (left out: ${why})` };
    });
  const biosNames = namesOf(references);
  const efiNames = namesOf(efiReferences);
  it.for(biosNames)(
    '$name leaves the kernel the same$left',
    { timeout: 120_000 },
    async ({ name, runs }, { skip }) => {
      if (!runs || !existsSync(join(IMAGES, `${name}.img`))) skip();
      const path = join(IMAGES, `${name}.img`);
      const before = sha256(readFileSync(path));
      const reference = references[name]!;
      const session = await open(name);
      await session.run();
      const { kernel, stopped, phases } = session.trace();
      expect(stopped).toBeNull();
      const programs = phases.flatMap((each) =>
        each.program === undefined ? [] : [`${each.name} ${each.program}`],
      );
      if (name in PROGRAMS) expect(programs).toEqual(PROGRAMS[name]);
      expect([hex(kernel!.entry), hex(kernel!.bootParams)]).toEqual([reference.entry, reference.bootParams]);
      const page = session.memory.read(kernel!.bootParams, 4096);
      const different = bySeaBios(page[0x1e8]!);
      expect(bytesOf(page, different)).toEqual(bytesOf(pageOf(reference.page), different));
      const view = new DataView(page.buffer, page.byteOffset);
      const line = view.getUint32(0x228, true);
      const text = new TextDecoder('latin1').decode(session.memory.read(line, 2048));
      expect({ address: hex(line), text: text.slice(0, text.indexOf('\0')) }).toEqual(reference.commandLine);
      const [initrd, size] = [view.getUint32(0x218, true), view.getUint32(0x21c, true)];
      expect({ address: hex(initrd), size, sha256: sha256(session.memory.read(initrd, size)) }).toEqual(
        reference.initrd,
      );
      const segments = kernel!.segments.map(({ paddr, filesz, sha256: hash }) => ({
        ...{ paddr: hex(paddr), filesz: hex(filesz), sha256: hash },
      }));
      expect(segments).toEqual(reference.segments);
      session.close();
      expect(sha256(readFileSync(path)), 'the disk has not changed').toBe(before);
    },
  );

  it.for(efiNames)(
    '$name leaves the kernel the same under UEFI$left',
    { timeout: 120_000 },
    async ({ name, runs }, { skip }) => {
      // What the loader's package is missing for has not been made.
      const path = diskOf(name);
      if (!runs || !existsSync(path)) skip();
      const before = sha256(readFileSync(path));
      const reference = efiReferences[name]!;
      const esp = openEsp(path);
      const file =
        VARIABLES[name] === undefined ? null : join(ROOT, 'test/references/loaders', VARIABLES[name]);
      const efiVariables = file === null ? [] : readEfiVariables(file, readFileSync(file));
      const image = await readEfiImage(path, bootProgramOf(esp, efiVariables));
      const session = await openBoot(image, { esp, efiVariables, entry: 'efi', timeoutSeconds });
      await session.run();
      const { kernel, stopped, phases } = session.trace();
      expect(stopped).toBeNull();
      expect(phases[0]!.program).toBe(name in FIRST_PROGRAM ? FIRST_PROGRAM[name] : 'BOOTX64.EFI');
      expect(hex(kernel!.entry)).toBe(reference.entry);
      const page = session.memory.read(kernel!.bootParams, 4096);
      // By the 32-bit protocol the loader chooses each place, by the stub the firmware does.
      const isLoaders = !phases.some((each) => each.name === 'exit_boot_services');
      const different = [
        ...BY_OVMF,
        ...(isLoaders ? [] : MOVED_BY_DRIVERS),
        ...(name === 'grub-efi-handover' ? BY_GRUB_HANDOVER : []),
      ];
      expect(bytesOf(page, different)).toEqual(bytesOf(pageOf(reference.page), different));
      const view = new DataView(page.buffer, page.byteOffset);
      const line = view.getUint32(0x228, true);
      const text = new TextDecoder('latin1').decode(session.memory.read(line, 2048));
      expect(text.slice(0, text.indexOf('\0'))).toBe(reference.commandLine.text);
      const [initrd, size] = [view.getUint32(0x218, true), view.getUint32(0x21c, true)];
      expect({ size, sha256: sha256(session.memory.read(initrd, size)) }).toEqual({
        size: reference.initrd.size,
        sha256: reference.initrd.sha256,
      });
      if (isLoaders) {
        expect([hex(kernel!.bootParams), hex(line), hex(initrd)]).toEqual([
          reference.bootParams,
          reference.commandLine.address,
          reference.initrd.address,
        ]);
      }
      const segments = kernel!.segments.map(({ paddr, filesz, sha256: hash }) => ({
        ...{ paddr: hex(paddr), filesz: hex(filesz), sha256: hash },
      }));
      expect(segments).toEqual(reference.segments);
      session.close();
      expect(sha256(readFileSync(path)), 'the disk has not changed').toBe(before);
    },
  );

  describe('what is broken is named', () => {
    /** Opened with what `change` has made of the disk. */
    function openChanged(name: string, change: (bytes: Buffer) => void) {
      const bytes = readFileSync(join(IMAGES, `${name}.img`));
      change(bytes);
      const disks = [diskOfBytes(`${name}.img`, bytes)];
      return openBoot(bootDisk(`${name}.img`, 'disk'), { disks, entry: 'boot-sector', timeoutSeconds });
    }

    const hasNasm = spawnSync('sh', ['-c', 'command -v nasm'], { env }).status === 0;
    it.skipIf(!hasNasm).each([
      [
        'wrong-initrd',
        /^run-area-overlap 0x1008000\.\.0x1010000\n {2}The kernel takes .* \(init_size 0x65000\) .*, and the initrd lies at 0x1008000\.\./,
        'boot.rst, "Details of Header Fields": init_size',
      ],
      [
        'wrong-cmd-line-ptr',
        /^handover-command-line 0x90228\.\.0x9022c\n {2}cmd_line_ptr is 0xa0000, setup looks below 0xa0000\.\n/,
        'boot.rst, "The Kernel Command Line": cmd_line_ptr, cmdline_size',
      ],
    ] as const)(
      '%s, by lint, with the rule (left out where nasm is missing)',
      async (name, text, section) => {
        const made = spawnSync(join(ROOT, 'scripts/loader-images'), [name], { encoding: 'utf8' });
        expect(made.status, made.stderr).toBe(0);
        const { status, stdout } = await bootscope(['lint', '--disk', join(IMAGES, `${name}.img`)]);
        expect(status).toBe(1);
        expect(stdout).toMatch(text);
        expect(stdout.split('\n')[3]).toBe(`  ${section}`);
      },
    );

    it.skipIf(!hasNasm)(
      'a kernel behind a hook of the loader is found (left out where nasm is missing)',
      { timeout: 120_000 },
      async () => {
        const made = spawnSync(join(ROOT, 'scripts/loader-images'), ['hook'], { encoding: 'utf8' });
        expect(made.status, made.stderr).toBe(0);
        using session = await open('hook');
        await session.run();
        const { phases, kernel, hazards } = session.trace();
        expect(phases.slice(0, 4).map(({ name, address }) => `${name} ${hex(address)}`)).toEqual([
          ...['boot-sector 0x7c00', 'setup 0x90200', 'startup_32 0x100000', 'startup_64 0x100200'],
        ]);
        expect([hex(kernel!.entry), kernel!.segments.length, hazards]).toEqual(['0x1000040', 2, []]);
      },
    );

    it('a command line that setup does not find', { timeout: 120_000 }, async () => {
      using session = await openChanged('syslinux-mbr', () => {});
      await session.run({ until: 'setup' });
      const { machine, registers } = session;
      const setup = Number(registers.cs) * 16 - 512;
      const path = join(ROOT, 'images/demo/demo-zstd.bzImage');
      const kernel = await readKernelImage(path, readFileSync(path));
      const judge = (address: number): readonly string[] => {
        const { cpu, memory } = machine;
        memory.write32(setup + 0x228, address);
        const gdtr = cpu.readDescriptorTable('gdtr');
        return judgeHandover(kernel, { entry: 'real16', registers, gdtr, memory }).map(({ text }) => text);
      };
      expect(judge(machine.memory.read32(setup + 0x228))).toEqual([]);
      expect(judge(0xa0000)).toEqual(['cmd_line_ptr is 0xa0000, setup looks below 0xa0000']);
      expect(judge(0xf000_0000)).toEqual(['cmd_line_ptr 0xf0000000 points to where there is no RAM']);
    });

    const allLoaders = process.env.BOOTSCOPE_ALL_LOADERS !== undefined;
    for (const [name, from, owner, phase, left] of [
      ['grub-mbr', 135, 'core.img', 'stage1.5', allLoaders ? null : leftOut],
      [
        'grub-gpt',
        100,
        'partition 1: core.img',
        'stage1.5',
        allLoaders ? null : 'takes BOOTSCOPE_ALL_LOADERS',
      ],
    ] as const)
      it.skipIf(left !== null)(
        `a core.img of GRUB that is cut, on ${name}${left === null ? '' : ` (left out: ${left})`}`,
        { timeout: 120_000 },
        async () => {
          using session = await openChanged(name, (bytes) => bytes.fill(0, from * 512, 2048 * 512));
          await session.run();
          const { stopped } = session.trace();
          expect(stopped).toContain(`in phase ${phase} at `);
          expect(stopped).toMatch(
            new RegExp(
              `; the loader has read sectors ${from} to \\d+ of ${name}\\.img \\(${owner}\\), which hold nothing but zeroes$`,
            ),
          );
        },
      );
  });
});
