import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32, gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { readKernelFile } from './describe-file.ts';
import { identifyFile } from './identify.ts';
import { isKernelFile } from './kernel-file.ts';
import { makeBootImage, makeElf, makePe, noise } from './test-images.ts';

const BANNER = Buffer.from('Linux version 6.1.0-test (builder@host) (gcc) #1 SMP\n\0');

/** The 64-byte header of ARM64, RISC-V: words by their offsets. */
function imageHeader(words: Readonly<Record<number, number>>, tail: Uint8Array = BANNER): Buffer {
  const header = Buffer.alloc(64);
  for (const [offset, value] of Object.entries(words)) header.writeUInt32LE(value, Number(offset));
  return Buffer.concat([header, noise(512), tail]);
}

const ARM64 = imageHeader({ 16: 0x200000, 24: 0xa, 56: 0x644d5241 });

describe('identifyFile', () => {
  const cases: readonly (readonly [string, Uint8Array, string, string])[] = [
    ['nothing', new Uint8Array(0), 'empty', 'an empty file'],
    [
      'a bzImage',
      makeBootImage({ protocol: 0x020f }),
      'x86-boot-image',
      'an image for the x86 boot protocol',
    ],
    ['an ARM64 Image', ARM64, 'arm64-image', 'an ARM64 kernel Image'],
    ['a RISC-V Image', imageHeader({ 56: 0x05435352 }), 'riscv-image', 'a RISC-V kernel Image'],
    ['an ARM zImage', imageHeader({ 36: 0x016f2818 }), 'arm-zimage', 'an ARM zImage'],
    ['a vmlinux', makeElf(64, BANNER), 'vmlinux', 'a vmlinux, the bare ELF64 kernel for x86-64'],
    [
      'an xipImage',
      Buffer.concat([noise(4096), BANNER]),
      'xip-image',
      'a raw kernel without any header (an xipImage, or the Image inside another format)',
    ],
    ['an EFI program', makePe({ '.text': noise(100) }), 'efi-pe', 'an EFI application for x86-64'],
    ['a UKI', makePe({ '.linux': noise(100) }), 'uki', 'a Unified Kernel Image for x86-64'],
    ['a JPEG picture', Buffer.from('ffd8ffe000104a464946', 'hex'), 'other', 'a JPEG picture'],
    ['a Debian package', Buffer.from('!<arch>\ndebian-binary   '), 'other', 'a Debian package'],
    ['an RPM package', Buffer.from('edabeedb0300', 'hex'), 'other', 'an RPM package'],
    ['a ZIP archive', Buffer.from('504b0304140000', 'hex'), 'other', 'a ZIP archive'],
    ['squashfs', Buffer.from('hsqs\0\0\0\0'), 'other', 'a squashfs file system'],
    [
      'an ISO image',
      Buffer.concat([new Uint8Array(0x8001), Buffer.from('CD001')]),
      'other',
      'an ISO 9660 image',
    ],
    [
      'an ELF object',
      Uint8Array.from(makeElf(64, noise(9))).fill(1, 16, 17),
      'elf',
      'an ELF64 object file or module for x86-64',
    ],
    [
      'a uImage',
      Buffer.concat([Buffer.from('27051956', 'hex'), new Uint8Array(60)]),
      'uimage',
      'a U-Boot uImage',
    ],
    ['an xz file', Buffer.from('fd377a585a000001', 'hex'), 'compressed', 'an xz file'],
    [
      'a PC boot sector',
      Buffer.concat([noise(510), Buffer.from('55aa', 'hex')]),
      'disk',
      'a boot sector or disk image without a Linux setup header',
    ],
  ];
  it.each(cases)('knows %s', (_name, bytes, kind, what) => {
    expect(identifyFile(bytes)).toMatchObject({ kind, what });
  });
});

describe('readKernelFile', () => {
  it('gives the sizes of boot sector, setup and system', async () => {
    const file = await readKernelFile(
      'f',
      makeBootImage({ protocol: 0x020f, code: noise(4096), version: '6.1.0 (a@b) #1 SMP' }),
    );
    expect(file).toMatchObject({
      kind: 'x86-boot-image',
      what: 'an x86 bzImage',
      bootable: true,
      sizes: { bootSector: 512, setup: 2048, system: 4096 },
    });
  });

  it('checks the CRC that the build appends', async () => {
    const payload = gzipSync(noise(2000));
    const code = Buffer.concat([new Uint8Array(64), payload, new Uint8Array(80 - (payload.length % 16))]);
    const fields = { payload_offset: 64, payload_length: payload.length };
    const image = Buffer.from(makeBootImage({ protocol: 0x0208, code, fields }));
    image.writeUInt32LE(~crc32(image.subarray(0, image.length - 4)) >>> 0, image.length - 4);
    expect(await readKernelFile('f', image)).toMatchObject({ checksum: 'valid' });
    image.writeUInt8((image[1000] ?? 0) ^ 1, 1000);
    expect(await readKernelFile('f', image)).toMatchObject({ checksum: 'differs' });
  });

  it('reads kernel_info', async () => {
    const code = Buffer.alloc(256);
    code.write('LToP', 64, 'latin1');
    code.writeUInt32LE(16, 68);
    code.writeUInt32LE(20, 72);
    code.writeUInt32LE(0x80000009, 76);
    const image = makeBootImage({ protocol: 0x020f, code, fields: { kernel_info_offset: 64 } });
    expect(await readKernelFile('f', image)).toMatchObject({
      kernelInfo: { size: 16, totalSize: 20, setupTypeMax: 0x80000009 },
    });
  });

  it('describes a cut image as far as it goes, and says what is wrong', async () => {
    const file = await readKernelFile(
      'f',
      makeBootImage({ protocol: 0x020f, setupSectors: 200 }).subarray(0, 4096),
    );
    expect(file).toMatchObject({ kind: 'x86-boot-image', bootable: false, image: null });
    expect(file.problem).toContain('cut in its setup code');
  });

  it('decodes the flags of an ARM64 Image', async () => {
    const file = await readKernelFile('f', ARM64);
    expect(file.kernelVersion).toBe('6.1.0-test (builder@host) (gcc) #1 SMP');
    expect(file).toMatchObject({
      kind: 'arm64-image',
      bootable: false,
      header: { endianness: 'little', pageSize: 4096, anywhere: true, imageSize: 0x200000n },
    });
  });

  it('looks into an Image.gz', async () => {
    const file = await readKernelFile('f', gzipSync(ARM64));
    expect(file).toMatchObject({
      kind: 'compressed',
      what: 'an ARM64 kernel Image, compressed with gzip',
      bootable: false,
      inner: { kind: 'arm64-image' },
    });
    expect(file.advice).toContain('that architecture');
  });

  it('says that a gzip of a bzImage can be booted', async () => {
    expect(await readKernelFile('f', gzipSync(makeBootImage({ protocol: 0x020f })))).toMatchObject({
      bootable: true,
      advice: null,
    });
  });

  it('reads texts and kernel of a Unified Kernel Image', async () => {
    const uki = makePe({
      '.cmdline': Buffer.from('quiet\0'),
      '.uname': Buffer.from('6.1.0'),
      '.linux': makeBootImage({ protocol: 0x020f }),
    });
    expect(await readKernelFile('f', uki)).toMatchObject({
      kind: 'uki',
      bootable: true,
      texts: { '.cmdline': 'quiet', '.uname': '6.1.0' },
      inner: { kind: 'x86-boot-image' },
      kernelVersion: '6.1.0',
    });
  });

  it('says that a UKI for another machine cannot be booted', async () => {
    const file = await readKernelFile('f', makePe({ '.linux': ARM64 }, 0xaa64));
    expect(file).toMatchObject({ kind: 'uki', bootable: false, what: 'a Unified Kernel Image for ARM64' });
  });

  it('looks into an EFI zboot image', async () => {
    const payload = gzipSync(ARM64);
    const pe = Buffer.from(makePe({ '.text': payload }, 0xaa64));
    pe.write('zimg', 4, 'latin1');
    pe.writeUInt32LE(pe.indexOf(payload), 8);
    pe.writeUInt32LE(payload.length, 12);
    pe.write('gzip\0', 24, 'latin1');
    expect(await readKernelFile('f', pe)).toMatchObject({
      kind: 'efi-zboot',
      header: { compression: 'gzip', payloadLength: payload.length },
      inner: { kind: 'arm64-image' },
      kernelVersion: '6.1.0-test (builder@host) (gcc) #1 SMP',
    });
  });

  it('finds the payload of an ARM zImage and the version in it', async () => {
    const kernel = Buffer.concat([noise(2000), BANNER]);
    const zImage = imageHeader({ 36: 0x016f2818, 40: 0, 44: 0x200 }, gzipSync(kernel));
    expect(await readKernelFile('f', zImage)).toMatchObject({
      kind: 'arm-zimage',
      header: { length: 0x200, endianness: 'little' },
      payload: { codec: 'gzip', offset: 64 + 512 },
      kernelVersion: '6.1.0-test (builder@host) (gcc) #1 SMP',
    });
  });

  it('knows a kernel from what is none', async () => {
    expect(isKernelFile(await readKernelFile('f', ARM64))).toBe(true);
    expect(isKernelFile(await readKernelFile('f', gzipSync('text')))).toBe(false);
    expect(isKernelFile(await readKernelFile('f', makeElf(64, noise(9))))).toBe(false);
  });

  it('ends on a gzip file inside gzip files without end', async () => {
    let bytes: Uint8Array = ARM64;
    for (let layer = 0; layer < 20; layer++) bytes = gzipSync(bytes);
    await expect(readKernelFile('f', bytes)).resolves.toMatchObject({ kind: 'compressed' });
  });
});

const hasMkimage = spawnSync('mkimage', ['-V']).status === 0;
describe.skipIf(!hasMkimage)('a uImage by mkimage (needs u-boot-tools)', () => {
  function mkimage(options: readonly string[], contents: readonly Uint8Array[]): Buffer {
    const folder = mkdtempSync(join(tmpdir(), 'bootscope-'));
    try {
      const files = contents.map((content, index) => {
        const path = join(folder, `part${index}`);
        writeFileSync(path, content);
        return path;
      });
      spawnSync('mkimage', [...options, '-d', files.join(':'), join(folder, 'uImage')]);
      return readFileSync(join(folder, 'uImage'));
    } finally {
      rmSync(folder, { recursive: true });
    }
  }
  const kernelOptions = [
    '-A',
    'arm64',
    '-O',
    'linux',
    '-T',
    'kernel',
    '-C',
    'gzip',
    '-a',
    '0x80000',
    '-e',
    '0x80040',
    '-n',
    'test',
  ];

  it('has its header fields and two valid CRCs', async () => {
    const file = await readKernelFile('f', mkimage(kernelOptions, [gzipSync(ARM64)]));
    expect(file.problem).toBeNull();
    expect(file.kernelVersion).toContain('6.1.0-test');
    expect(file).toMatchObject({
      kind: 'uimage',
      header: {
        name: 'test',
        operatingSystem: 'Linux',
        architecture: 'ARM64',
        type: 'kernel',
        compression: 'gzip',
        loadAddress: 0x80000,
        entryPoint: 0x80040,
      },
    });
  });

  it('has several parts in a multi-file image', async () => {
    const image = mkimage(
      ['-A', 'x86', '-O', 'linux', '-T', 'multi', '-C', 'none', '-n', 'multi'],
      [ARM64, Buffer.from('a text\n')],
    );
    expect(await readKernelFile('f', image)).toMatchObject({
      problem: null,
      parts: [{ kind: 'arm64-image' }, { what: 'a text file' }],
    });
  });

  it('is told damaged by its data CRC', async () => {
    const image = mkimage(kernelOptions, [gzipSync(ARM64)]);
    image.writeUInt8((image.at(-1) ?? 0) ^ 1, image.length - 1);
    expect((await readKernelFile('f', image)).problem).toMatch(/^f: its data CRC is 0x/);
  });

  it('is told damaged by its header CRC', async () => {
    const image = mkimage(kernelOptions, [gzipSync(ARM64)]);
    image.writeUInt8(0x21, 33);
    expect((await readKernelFile('f', image)).problem).toMatch(/^f: its header CRC is 0x/);
  });

  it('is told cut', async () => {
    const image = mkimage(kernelOptions, [gzipSync(ARM64)]);
    expect((await readKernelFile('f', image.subarray(0, image.length - 9))).problem).toMatch(/^f is cut: /);
  });
});
