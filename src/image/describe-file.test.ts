// Each kind of file told right, by inputs made here.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32, gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { readKernelFile } from './describe-file.ts';
import { isKernelFile } from './kernel-file.ts';
import { extractKernel } from './kernel-proper.ts';
import {
  makeBootImage,
  makeDeviceTree,
  makeElf,
  makeElfNotes,
  makePe,
  makeSegmentedElf,
  noise,
} from './test-images.ts';

const BANNER = Buffer.from('Linux version 6.1.0-test (builder@host) (gcc) #1 SMP\n\0');
const VERSION = '6.1.0-test (builder@host) (gcc) #1 SMP';
/** Looks like a raw kernel, and compresses to a good part of its length. */
const RAW_KERNEL = Buffer.concat([noise(3000), BANNER, new Uint8Array(1000)]);

function words(length: number, values: Readonly<Record<number, number>>): Buffer {
  const bytes = Buffer.alloc(length);
  for (const [offset, value] of Object.entries(values)) bytes.writeUInt32LE(value, Number(offset));
  return bytes;
}

function xz(content: Uint8Array, ...options: string[]): Buffer | null {
  const { status, stdout } = spawnSync('xz', ['-c', '--check=crc32', ...options], { input: content });
  return status === 0 ? stdout : null;
}

describe('an ARM zImage', () => {
  const header = words(0x200, { 36: 0x016f2818, 40: 0, 44: 0x4000 });

  it('is told before the EFI program that it is, too', async () => {
    const pe = Buffer.from(makePe({ '.text': gzipSync(RAW_KERNEL) }, 0x01c2));
    pe.copyWithin(0x80, 0x40, 0x1c0);
    pe.fill(0, 0x24, 0x3c);
    pe.writeUInt32LE(0x80, 0x3c);
    pe.writeUInt32LE(0x016f2818, 0x24);
    pe.writeUInt32LE(pe.length, 0x2c);
    expect(await readKernelFile('f', pe)).toMatchObject({
      kind: 'arm-zimage',
      what: 'an ARM zImage that is an EFI program, too',
      payload: { codec: 'gzip' },
      kernelVersion: VERSION,
    });
  });

  it('may have a device tree behind it', async () => {
    const zImage = Buffer.concat([header, gzipSync(RAW_KERNEL), new Uint8Array(16)]);
    zImage.writeUInt32LE(zImage.length, 0x2c);
    const tree = makeDeviceTree({ model: 'A board', compatible: 'maker,board' });
    expect(await readKernelFile('f', Buffer.concat([zImage, tree]))).toMatchObject({
      kernelVersion: VERSION,
      problem: null,
      notices: [`a flattened device tree for A board lies behind the zImage, at offset ${zImage.length}`],
    });
    expect(await readKernelFile('f', zImage)).toMatchObject({ notices: [] });
  });

  it('passes by a magic without a sound header, and takes the last stream that unpacks', async ({ skip }) => {
    const stream = xz(RAW_KERNEL, '--arm', '--lzma2=preset=0');
    if (stream === null) return skip('needs xz');
    const constant = Buffer.from('fd377a585a00585a206465636f6d707265737365642064617461', 'hex');
    const text = gzipSync(Buffer.concat([noise(2000), Buffer.from('no kernel'), new Uint8Array(900)]));
    const before = Buffer.concat([header, constant, noise(100), text, noise(77)]);
    const zImage = Buffer.concat([before, stream, words(4, { 0: RAW_KERNEL.length }), new Uint8Array(16)]);
    zImage.writeUInt32LE(zImage.length, 0x2c);
    expect(await readKernelFile('f', zImage)).toMatchObject({
      payload: { codec: 'xz', offset: before.length, length: stream.length, outputLength: RAW_KERNEL.length },
      kernelVersion: VERSION,
      problem: null,
    });
  });

  it('is told cut, with the place of the stream that does not end', async ({ skip }) => {
    const stream = xz(RAW_KERNEL, '--lzma2=preset=0');
    if (stream === null) return skip('needs xz');
    const zImage = Buffer.concat([header, stream.subarray(0, 300)]);
    expect(await readKernelFile('f', zImage)).toMatchObject({
      payload: { codec: 'xz', offset: header.length, length: null },
      problem: 'f: its header says it has 16384 bytes, the file has 812',
    });
  });
});

describe('an ELF file', () => {
  it('is an object file whatever text is in it', async () => {
    const object = makeSegmentedElf({ type: 1, segments: [{ bytes: BANNER }] });
    expect(await readKernelFile('f', object)).toMatchObject({
      kind: 'elf',
      what: 'an ELF64 object file or module for x86-64',
    });
  });

  it('is a vmlinux also where another machine orders its bytes the other way', async () => {
    const vmlinux = makeSegmentedElf({ bigEndian: true, machine: 22, segments: [{ bytes: BANNER }] });
    expect(await readKernelFile('f', vmlinux)).toMatchObject({
      kind: 'vmlinux',
      what: 'a vmlinux, the bare ELF64 kernel for s390',
      kernelVersion: VERSION,
    });
  });

  it('is User-mode Linux where a dynamic linker starts it', async () => {
    const segments = [
      { type: 3, bytes: Buffer.from('/lib64/ld-linux-x86-64.so.2\0') },
      { paddr: 0x60000000, bytes: BANNER },
    ];
    const file = await readKernelFile('f', makeSegmentedElf({ segments }));
    expect(file).toMatchObject({ kind: 'user-mode-linux', bootable: false, kernelVersion: VERSION });
    expect(file.what).toContain('User-mode Linux');
  });

  it('is cut without a banner, too', async () => {
    const elf = makeSegmentedElf({ segments: [{ bytes: noise(2000) }, { bytes: noise(4000) }] });
    const file = await readKernelFile('f', elf.subarray(0, elf.length - 1000));
    expect(file).toMatchObject({ kind: 'elf', problem: expect.stringMatching(/^f is cut: segment 1 needs/) });
  });

  it('is a cut vmlinux where a segment lies behind its end, with the numbers', async () => {
    const whole = makeSegmentedElf({ segments: [{ bytes: BANNER }, { bytes: noise(4000) }] });
    const file = await readKernelFile('f', whole.subarray(0, whole.length - 1000));
    expect(file.problem).toMatch(
      /^f is cut: segment 1 needs 4000 bytes at offset \d+, 1000 of them lie behind/,
    );
  });

  it.each([
    [1, 0x1badb002, 3, 4],
    [2, 0xe85250d6, 0, 8],
  ])('is a Multiboot %d kernel where its header says so', async (version, magic, flags, align) => {
    const header =
      version === 1
        ? words(12, { 0: magic, 4: flags, 8: -(magic + flags) >>> 0 })
        : words(16, { 0: magic, 4: flags, 8: 24, 12: -(magic + flags + 24) >>> 0 });
    const content = Buffer.concat([new Uint8Array(align * 3), header, noise(500)]);
    // The ELF headers before the segment have a length that is a multiple of 4, and with one padding of 8.
    const elf = Buffer.from(makeSegmentedElf({ bits: 32, machine: 3, segments: [{ bytes: content }] }));
    const aligned = version === 2 ? makeSegmentedElf({ segments: [{ bytes: content }] }) : elf;
    expect(await readKernelFile('f', aligned)).toMatchObject({
      kind: 'multiboot',
      header: { version },
      bootable: false,
    });
    const wrong = Buffer.from(aligned);
    const at = wrong.indexOf(header);
    wrong.writeUInt32LE(flags ^ 1, at + 4);
    expect(await readKernelFile('f', wrong)).toMatchObject({ kind: 'elf' });
  });

  it('is a boot program where it carries a kernel that unpacks', async () => {
    const mips = makeSegmentedElf({
      bits: 32,
      machine: 8,
      segments: [{ bytes: Buffer.concat([noise(200), gzipSync(RAW_KERNEL)]) }],
    });
    expect(await readKernelFile('f', mips)).toMatchObject({
      kind: 'boot-wrapper',
      what: 'a vmlinuz for MIPS, an ELF32 program that unpacks the kernel it carries',
      payload: { codec: 'gzip', outputLength: RAW_KERNEL.length },
      kernelVersion: VERSION,
    });
    const x86 = makeSegmentedElf({
      segments: [{ bytes: Buffer.concat([noise(200), gzipSync(makeElf(64, RAW_KERNEL))]) }],
    });
    const file = await readKernelFile('f', x86);
    expect(file).toMatchObject({ kind: 'boot-wrapper', kernelVersion: VERSION });
    expect(file.what).toContain('compressed/vmlinux');
  });

  it('is cut where its section headers lie behind its end, with the numbers', async () => {
    const whole = makeElf(64, RAW_KERNEL);
    expect((await readKernelFile('f', whole)).problem).toBeNull();
    expect((await readKernelFile('f', whole.subarray(0, -8))).problem).toBe(
      `f is cut: its section headers end at ${whole.length}, 8 bytes behind the end of the file of ${whole.length - 8} bytes`,
    );
  });

  it('is a program where what it carries is no kernel', async () => {
    const text = Buffer.concat([noise(3000), new Uint8Array(500)]);
    const program = makeSegmentedElf({ segments: [{ bytes: gzipSync(text) }] });
    expect(await readKernelFile('f', program)).toMatchObject({ kind: 'elf', what: 'an ELF64 program' });
  });
});

describe('a flat binary', () => {
  it('is a boot program where it carries a kernel that unpacks, which can be taken out', async () => {
    const kernel = Buffer.concat([noise(3000), gzipSync(RAW_KERNEL), noise(100)]);
    expect(await readKernelFile('f', kernel)).toMatchObject({
      kind: 'boot-wrapper',
      what: 'a flat binary that unpacks the kernel it carries',
      payload: { codec: 'gzip', offset: 3000, outputLength: RAW_KERNEL.length },
      kernelVersion: VERSION,
    });
    const { bytes } = await extractKernel('f', kernel);
    expect(Buffer.compare(bytes, RAW_KERNEL)).toBe(0);
  });

  it('is nothing that is known where what it carries is no kernel, or a small part of it', async () => {
    const text = gzipSync(Buffer.concat([noise(3000), new Uint8Array(500)]));
    const unknown = { kind: 'other', what: 'no kernel image that Bootscope knows', advice: null };
    expect(await readKernelFile('f', Buffer.concat([noise(1000), text]))).toMatchObject(unknown);
    const small = Buffer.concat([noise(50000), gzipSync(RAW_KERNEL)]);
    expect(await readKernelFile('f', small)).toMatchObject(unknown);
  });
});

it('tells an s390 image by its magic, with payload and version', async () => {
  const head = Buffer.alloc(0x10200);
  head.write('S390EP', 0x10008, 'latin1');
  const image = Buffer.concat([head, gzipSync(RAW_KERNEL)]);
  expect(await readKernelFile('f', image)).toMatchObject({
    kind: 's390-image',
    payload: { codec: 'gzip', offset: head.length },
    kernelVersion: VERSION,
  });
  const stating = Buffer.from('6.1.0-9-s390x (builder@host.org) #1 SMP Debian (2026)\0');
  expect(await readKernelFile('f', Buffer.concat([head, stating]))).toMatchObject({
    kernelVersion: '6.1.0-9-s390x (builder@host.org) #1 SMP Debian (2026)',
  });
});

it('tells a LoongArch Image from other EFI programs', async () => {
  const pe = Buffer.from(makePe({ '.text': RAW_KERNEL }, 0x6264));
  pe.copyWithin(0x80, 0x40, 0x1c0);
  pe.writeUInt32LE(0x818223cd, 0x38);
  pe.writeUInt32LE(0x80, 0x3c);
  expect(await readKernelFile('f', pe)).toMatchObject({ kind: 'loongarch-image', kernelVersion: VERSION });
});

it('notices that an Image ends before its PE sections do', async () => {
  const pe = Buffer.from(makePe({ '.text': noise(5000) }, 0xaa64));
  pe.copyWithin(0x80, 0x40, 0x1c0);
  pe.writeUInt32LE(0x644d5241, 0x38);
  pe.writeUInt32LE(0x80, 0x3c);
  expect((await readKernelFile('f', pe)).problem).toBeNull();
  expect((await readKernelFile('f', pe.subarray(0, 4000))).problem).toMatch(
    /^f is cut: section .text has 5120 bytes at offset 512, 1632 of them lie behind the end/,
  );
});

describe('an initrd', () => {
  function cpio(...files: readonly (readonly [string, Uint8Array])[]): Buffer {
    const pad = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
    const entries = [...files, ['TRAILER!!!', new Uint8Array(0)] as const].map(([name, content]) => {
      const fields = Array.from({ length: 13 }, () => 0);
      fields[6] = content.length;
      fields[11] = name.length + 1;
      const head = `070701${fields.map((value) => value.toString(16).padStart(8, '0')).join('')}`;
      return Buffer.concat([pad(Buffer.from(`${head}${name}\0`)), pad(Buffer.from(content))]);
    });
    return Buffer.concat(entries);
  }

  it('is told as such, plain and compressed', async () => {
    const archive = cpio(['init', noise(500)]);
    const plain = await readKernelFile('f', archive);
    expect(plain).toMatchObject({ kind: 'initrd', what: 'an initrd (a cpio archive)' });
    expect(isKernelFile(plain)).toBe(false);
    expect(await readKernelFile('f', gzipSync(archive))).toMatchObject({
      kind: 'initrd',
      what: 'an initrd (a cpio archive compressed with gzip)',
    });
  });

  it('is told with the microcode in front', async () => {
    const early = cpio(['kernel/x86/microcode/GenuineIntel.bin', noise(600)]);
    const file = Buffer.concat([early, new Uint8Array(512), gzipSync(cpio(['init', noise(500)]))]);
    expect(await readKernelFile('f', file)).toMatchObject({
      kind: 'initrd',
      what: 'an initrd (a cpio archive with Intel microcode, then one compressed with gzip)',
      parts: [
        { offset: 0, microcode: ['Intel'] },
        { offset: early.length + 512, compression: 'gzip' },
      ],
    });
  });

  it('is told to be cut where the archive behind the microcode is', async () => {
    const early = cpio(['kernel/x86/microcode/GenuineIntel.bin', noise(600)]);
    const whole = Buffer.concat([early, gzipSync(cpio(['init', noise(500)]))]);
    expect(await readKernelFile('f', whole)).toMatchObject({ problem: null });
    expect(await readKernelFile('f', whole.subarray(0, -200))).toMatchObject({
      kind: 'initrd',
      problem: expect.stringContaining(`the archive at offset ${early.length} of f is a cut gzip file`),
    });
  });

  it('is found behind skippable frames in front of a zstd or lz4 one', async () => {
    const frame = Buffer.from('5e2a4d1803000000616263', 'hex');
    // Of the archive as it is: a frame with one raw block.
    const archive = cpio(['init', noise(500)]);
    const header = Buffer.from('28b52ffd0058', 'hex');
    const block = Buffer.alloc(3);
    block.writeUIntLE((archive.length << 3) | 1, 0, 3);
    const stream = Buffer.concat([header, block, archive]);
    for (const bytes of [stream, Buffer.concat([frame, frame, stream])]) {
      expect(await readKernelFile('f', bytes)).toMatchObject({
        what: 'an initrd (a cpio archive compressed with zstd)',
      });
    }
    expect(await readKernelFile('f', Buffer.concat([frame, frame]))).toMatchObject({ kind: 'other' });
  });
});

describe('a program that speaks the boot protocol', () => {
  it.each(['MEMDISK 6.03 2014-10-06', 'Memtest86+ v6.10'])('is not called Linux: %s', async (version) => {
    const file = await readKernelFile('f', makeBootImage({ protocol: 0x0203, version }));
    expect(file.what).toBe(`a program for the x86 boot protocol, not Linux (${version})`);
    expect(file.kernelVersion).toBeNull();
  });

  it('is named by its own text where its header has only a release', async () => {
    const code = Buffer.concat([Buffer.from('iPXE initialising devices'), noise(100)]);
    const file = await readKernelFile('f', makeBootImage({ protocol: 0x0207, version: '1.21.1+', code }));
    expect(file.what).toContain('not Linux (iPXE 1.21.1+)');
  });

  it('is Linux where its version is one of a kernel, or a payload is in it', async () => {
    const version = '2.2.26 (root@host) #1 Thu Jan 1 00:00:00 UTC 1999';
    expect(await readKernelFile('f', makeBootImage({ protocol: 0x0201, version }))).toMatchObject({
      what: 'an x86 bzImage',
      kernelVersion: version,
    });
    const code = Buffer.concat([noise(64), gzipSync(noise(3000))]);
    expect(await readKernelFile('f', makeBootImage({ protocol: 0x0203, code }))).toMatchObject({
      what: 'an x86 bzImage',
    });
  });

  it('is from before the protocol where it has no header', async () => {
    expect(await readKernelFile('f', makeBootImage({ protocol: 0, code: noise(3000) }))).toMatchObject({
      what: 'an x86 kernel from before the boot protocol, not compressed',
    });
  });
});

describe('a bzImage', () => {
  const notes = makeElfNotes(
    ['Xen', 1, Buffer.from('0040008100ffffff', 'hex')],
    ['Xen', 18, Buffer.from('50070001', 'hex')],
  );

  function bzImage(kernel: Uint8Array): Uint8Array {
    const payload = gzipSync(kernel);
    const code = Buffer.concat([new Uint8Array(64), payload, new Uint8Array(80 - (payload.length % 16))]);
    const fields = { payload_offset: 64, payload_length: payload.length };
    return makeBootImage({ protocol: 0x020f, code, fields });
  }

  it('says what Xen notes the kernel inside has', async () => {
    const kernel = makeSegmentedElf({ segments: [{ bytes: noise(2000) }, { type: 4, bytes: notes }] });
    expect(await readKernelFile('f', bzImage(kernel))).toMatchObject({
      xen: { pvEntry: 0xffffff0081004000n, pvhEntry: 0x1000750n },
    });
    const without = makeSegmentedElf({ segments: [{ bytes: noise(2000) }] });
    expect(await readKernelFile('f', bzImage(without))).toMatchObject({
      xen: { pvEntry: null, pvhEntry: null },
    });
  });

  it('has no checksum where zeroes stand in its place, as from 6.15 on', async () => {
    const image = Buffer.from(bzImage(makeElf(64, noise(2000))));
    expect(await readKernelFile('f', image)).toMatchObject({ checksum: 'none' });
    image.writeUInt32LE(0x12345678, image.length - 4);
    expect(await readKernelFile('f', image)).toMatchObject({ checksum: 'differs' });
  });
});

describe('a container of firmware or a boot loader', () => {
  const kernel = makeBootImage({ protocol: 0x020f, version: VERSION, code: noise(0x1000) });

  it('shows the kernel in a ChromeOS partition, put together from setup and body', async () => {
    const setup = kernel.subarray(0, 5 * 512);
    const body = Buffer.alloc(0x8000);
    body.set(kernel.subarray(5 * 512));
    body.write('console=tty1', 0x3000, 'latin1');
    body.set(setup, 0x6000);
    const head = words(0x400, { 16: 0x200, 512: 0x200, 544: 2, 548: 2, 560: 0x100000, 568: 0x105000 });
    head.write('CHROMEOS', 0, 'latin1');
    head.writeUInt32LE(0x1000, 0x240);
    head.writeUInt32LE(body.length, 0x258);
    head.writeUInt32LE(0x106000, 0x260);
    head.writeUInt32LE(setup.length, 0x268);
    expect(await readKernelFile('f', Buffer.concat([head, body]))).toMatchObject({
      kind: 'vboot',
      bootable: true,
      partition: { version: '2.2', cmdline: 'console=tty1', hasSetupCode: true },
      inner: { kind: 'x86-boot-image', kernelVersion: VERSION },
    });
    head.writeUInt32LE(0, 0x268);
    body.set(setup.subarray(0x1f1, 0x270), 0x4000 + 0x1f1);
    expect(await readKernelFile('f', Buffer.concat([head, body]))).toMatchObject({
      bootable: true,
      partition: { hasSetupCode: false },
      notices: [expect.stringContaining('only the 32-bit and 64-bit entries can be used')],
    });
    body.fill(0, 0x4000, 0x5000);
    expect(await readKernelFile('f', Buffer.concat([head, body]))).toMatchObject({
      bootable: false,
      advice: 'its body holds no kernel for the x86 boot protocol',
    });
  });

  it('shows the kernel in an Android boot image', async () => {
    const head = words(2048, { 8: kernel.length, 16: 100, 36: 2048 });
    head.write('ANDROID!', 0, 'latin1');
    head.write('androidboot.hardware=x86', 64, 'latin1');
    const padding = new Uint8Array(2048 - (kernel.length % 2048));
    const file = Buffer.concat([head, kernel, padding, noise(100)]);
    expect(await readKernelFile('f', file)).toMatchObject({
      kind: 'android-boot',
      bootable: true,
      header: { headerVersion: 0, cmdline: 'androidboot.hardware=x86' },
      inner: { kernelVersion: VERSION },
    });
    expect((await readKernelFile('f', file.subarray(0, 3000))).problem).toMatch(/^f is cut: its kernel has/);
  });

  const hasMkimage = spawnSync('mkimage', ['-V']).status === 0 && spawnSync('dtc', ['-v']).status === 0;
  it.skipIf(!hasMkimage)(
    'shows images, hashes and the default of a FIT (needs mkimage and dtc)',
    async () => {
      const folder = mkdtempSync(join(tmpdir(), 'bootscope-'));
      try {
        writeFileSync(join(folder, 'kernel'), kernel);
        writeFileSync(
          join(folder, 'fit.its'),
          `/dts-v1/; / { description = "a FIT"; images { kernel-1 { description = "Linux"; data = /incbin/("kernel");
          type = "kernel"; arch = "x86_64"; os = "linux"; compression = "none"; load = <0x100000>; entry = <0>;
          hash-1 { algo = "sha256"; }; }; }; configurations { default = "one"; one { kernel = "kernel-1"; }; }; };`,
        );
        for (const options of [[], ['-E']]) {
          const itb = join(folder, 'itb');
          spawnSync('mkimage', [...options, '-f', 'fit.its', itb], { cwd: folder });
          const fit = readFileSync(itb);
          expect(await readKernelFile('f', fit)).toMatchObject({
            kind: 'fit',
            bootable: true,
            fit: {
              defaultConfiguration: 'one',
              images: [
                { name: 'kernel-1', compression: 'none', hashes: [{ algorithm: 'sha256', valid: true }] },
              ],
            },
            inner: { kernelVersion: VERSION },
          });
          const at = fit.indexOf(kernel.subarray(0, 64)) + 700;
          fit.writeUInt8(fit[at]! ^ 1, at);
          expect((await readKernelFile('f', fit)).problem).toContain('does not have the sha256');
        }
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
  );

  it.skipIf(!hasMkimage)('tells a plain device tree by its model (needs dtc)', async () => {
    const source = '/dts-v1/; / { model = "A board"; compatible = "maker,board", "maker,soc"; };';
    const { stdout } = spawnSync('dtc', ['-O', 'dtb'], { input: source });
    const file = await readKernelFile('f', stdout);
    expect(file).toMatchObject({
      kind: 'device-tree',
      what: 'a flattened device tree for A board',
      compatible: ['maker,board', 'maker,soc'],
    });
    expect(isKernelFile(file)).toBe(false);
  });

  it.skipIf(!hasMkimage)('tells a device tree overlay (needs dtc)', async () => {
    const source =
      '/dts-v1/; /plugin/; / { compatible = "maker,soc"; fragment@0 { target-path = "/"; __overlay__ { a = <1>; }; }; };';
    const { stdout } = spawnSync('dtc', ['-O', 'dtb'], { input: source });
    expect(await readKernelFile('f', stdout)).toMatchObject({
      kind: 'device-tree',
      what: 'a device tree overlay, changes to a device tree',
      compatible: ['maker,soc'],
    });
  });
});

describe('what is cut', () => {
  it.each([
    ['a vboot partition', Buffer.from('CHROMEOS'), 'a ChromeOS kernel partition has a header that'],
    [
      'a device tree',
      words(300, { 0: 0xedfe0dd0, 4: 0x00100000, 8: 0x00080000 }),
      'its header says it has 4096 bytes',
    ],
    [
      'a cpio archive',
      Buffer.from(`070701${'0'.repeat(88)}00000005${'0'.repeat(8)}init\0`),
      'the cpio archive at offset 0 does not end in its',
    ],
  ])('is named: %s', async (_name, start, problem) => {
    const bytes = Buffer.concat([start, new Uint8Array(300)]);
    expect((await readKernelFile('f', bytes)).problem).toContain(problem);
  });

  it('is named where not even the header is there', async () => {
    const start = Buffer.from('2705195600000000', 'hex');
    expect((await readKernelFile('f', start)).problem).toBe(
      'f is cut or damaged: a U-Boot uImage has a header that its 8 bytes do not hold whole',
    );
  });

  it('is noticed in the payload of a bzImage', async () => {
    const image = readFileSync('images/demo/demo-gzip.bzImage');
    const at = image.indexOf(Buffer.from('1f8b08', 'hex'), 0x600) + 100;
    image.writeUInt8(image[at]! ^ 0x55, at);
    expect(await readKernelFile('f', image)).toMatchObject({
      bootable: true,
      notices: [expect.stringMatching(/^the payload does not unpack: the gzip stream is damaged/)],
    });
  });
});

it('tells a kernel in the a.out format', async () => {
  const aout = Buffer.concat([words(32, { 0: 0x0064010b }), RAW_KERNEL]);
  expect(await readKernelFile('f', aout)).toMatchObject({
    kind: 'xip-image',
    what: 'a vmlinux for i386 in the a.out format',
    kernelVersion: VERSION,
  });
});

it('knows an initrd behind the zeroes that the kernel passes over', async () => {
  const trailer = Buffer.from(`070701${'0'.repeat(88)}0000000b${'0'.repeat(8)}TRAILER!!!\0`);
  const file = await readKernelFile('f', Buffer.concat([new Uint8Array(64), trailer, new Uint8Array(8)]));
  expect(file).toMatchObject({ kind: 'initrd', problem: null, parts: [{ offset: 64 }] });
});

describe('a Unified Kernel Image', () => {
  it('warns of sections that its kernel writes over where it lies', async () => {
    const linux = makeBootImage({ protocol: 0x020f, fields: { init_size: 0x3000 } });
    const uki = makePe({
      '.linux': linux,
      '.initrd': Buffer.from('070701'),
      '.far': noise(10),
      '.ucode': noise(9),
    });
    const file = await readKernelFile('f', uki);
    expect(file.notices).toEqual([
      'section .initrd lies at 0x2000..0x2006 of the image, and the kernel in .linux takes 0x1000..0x4000 (init_size 0x3000): a stub ' +
        'that starts it where its section lies loses 0x6 bytes of .initrd',
    ]);
    expect(file).toMatchObject({ summaries: { '.initrd': expect.stringContaining('an initrd') } });
  });
});

describe('a uImage that is not for a kernel', () => {
  it.each([
    [2, 'a U-Boot uImage', true],
    [3, 'a U-Boot uImage of type RAM disk', false],
    [6, 'a U-Boot uImage of type script', false],
  ])('of type %i is %s', async (type, what, isKernel) => {
    const data = noise(300);
    const head = Buffer.alloc(64);
    head.writeUInt32BE(0x27051956, 0);
    head.writeUInt32BE(data.length, 12);
    head.writeUInt32BE(crc32(data), 24);
    head.set([5, 2, type, 0], 28);
    head.writeUInt32BE(crc32(head), 4);
    const file = await readKernelFile('f', Buffer.concat([head, data]));
    expect(file).toMatchObject({ kind: 'uimage', what, problem: null });
    expect(isKernelFile(file)).toBe(isKernel);
  });
});

describe.skipIf(spawnSync('lz4', ['--version']).error !== undefined)('a uImage (needs lz4)', () => {
  it('is looked into whichever of both lz4 formats it is compressed with', async () => {
    for (const options of [['-c'], ['-c', '-l']]) {
      const { stdout } = spawnSync('lz4', options, { input: RAW_KERNEL });
      const head = Buffer.alloc(64);
      head.writeUInt32BE(0x27051956, 0);
      head.writeUInt32BE(stdout.length, 12);
      head.writeUInt32BE(crc32(stdout), 24);
      head.set([5, 2, 2, 5], 28);
      head.writeUInt32BE(crc32(head), 4);
      const file = await readKernelFile('f', Buffer.concat([head, stdout]));
      expect(file).toMatchObject({ kind: 'uimage', problem: null, kernelVersion: VERSION });
    }
  });
});

it.each([
  ['45 3d cd 28', 'a cramfs file system'],
  ['2d 72 6f 6d 31 66 73 2d', 'a romfs file system'],
  ['55 42 49 23', 'a UBI image'],
  ['85 19 03 20', 'a JFFS2 file system'],
  ['55 aa 4d', 'a PC option ROM'],
  ['56 4e 44 52 42 4f 4f 54', 'an Android vendor_boot image, which has no kernel'],
  [Buffer.from('<!DOCTYPE html><html>').toString('hex'), 'a page of the web'],
  ['3a ff 26 ed', 'an Android sparse image'],
  ['48 44 52 30', 'a TRX firmware image, as Broadcom routers take it'],
  ['4d 5a 90 00', 'a DOS program'],
  ['ea 05 00 c0 07', 'a boot program that begins at 0x7c00, as PXE network cards and boot loaders start it'],
  [
    'ea 24 7c 00 00 90',
    'a boot program that begins at 0x7c00, as PXE network cards and boot loaders start it',
  ],
  [
    Buffer.from('\xea\x24\x7c\0\0\r\nPXELINUX 4.06', 'latin1').toString('hex'),
    'PXELINUX, a boot loader that network cards start',
  ],
  ['b8 fe 4c cd 21 fc', 'a module of SYSLINUX (COM32)'],
  [Buffer.from('\0U-Boot 2023.01').toString('hex'), 'U-Boot, a boot loader'],
  [Buffer.from('\0etc/table-loader\0').toString('hex'), 'firmware for QEMU'],
])('knows what is no kernel by %s: %s', async (magic, what) => {
  const bytes = Buffer.concat([Buffer.from(magic.replaceAll(' ', ''), 'hex'), noise(5000)]);
  expect(await readKernelFile('f', bytes)).toMatchObject({ kind: 'other', what });
});
