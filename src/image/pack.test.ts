// Images taken apart and put together: the demo images, and made-up ones for what goes wrong.

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { crc32 as crc, gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import type { CodecName } from '../codecs/codec.ts';
import { imageChecksum } from './describe-x86.ts';
import { extractVmlinux } from './extract-vmlinux.ts';
import { type ImageParts, takeApart } from './image-parts.ts';
import { readKernelImage } from './kernel-image.ts';
import { type PackChanges, type Packed, packImage } from './pack.ts';
import { makeManifest, parseManifest } from './part-manifest.ts';
import { readPe } from './pe.ts';
import { makeBootImage, makePe, makeSegmentedElf, noise } from './test-images.ts';

const DEMO = new URL('../../images/demo/', import.meta.url).pathname;
const NOTHING: PackChanges = {
  kernel: null,
  relocations: null,
  level: null,
  stub: null,
  codec: null,
  cmdline: null,
  fields: [],
};

/** Packs what taking apart gave, with some files of the folder replaced. */
function pack(
  apart: ImageParts,
  changes: Partial<PackChanges> = {},
  replaced: Readonly<Record<string, Uint8Array>> = {},
): Promise<Packed> {
  const manifest = parseManifest('manifest.json', JSON.stringify(makeManifest('image', apart)));
  const read = async (file: string): Promise<Uint8Array> => {
    const piece = apart.parts.find((part) => part.file === file);
    const bytes =
      piece === undefined
        ? apart.unpacked.find((part) => part.file === file)?.bytes
        : apart.bytes.subarray(piece.offset, piece.offset + piece.length);
    const content = replaced[file] ?? bytes;
    if (content === undefined) throw new Error(`no part ${file}`);
    return content;
  };
  return packImage(manifest, read, { ...NOTHING, ...changes });
}

function hasTool(codec: CodecName): boolean {
  const tools = { gzip: 'gzip', bzip2: 'bzip2', lzma: 'xz', xz: 'xz', lzo: 'lzop', lz4: 'lz4', zstd: 'zstd' };
  return spawnSync(tools[codec], ['--version']).error === undefined;
}

describe('a demo image', () => {
  for (const name of readdirSync(DEMO)) {
    it(`${name} is made of parts that give the same bytes again`, async () => {
      const bytes = readFileSync(DEMO + name);
      const apart = await takeApart(name, bytes);
      expect(apart.parts.map(({ role }) => role)).toEqual(
        expect.arrayContaining(['setup', 'head', 'payload', 'stub']),
      );
      const packed = await pack(apart);
      expect(packed.same).toBe(true);
      expect(Buffer.compare(packed.bytes, bytes)).toBe(0);
    });
  }

  for (const codec of ['gzip', 'bzip2', 'lzma', 'xz', 'lzo', 'lz4', 'zstd'] as const) {
    it.skipIf(!hasTool(codec))(
      `with the stub of demo-${codec} becomes that one (needs its tool)`,
      async () => {
        const other = readFileSync(`${DEMO}demo-${codec}.bzImage`);
        const from = await takeApart(
          'from',
          readFileSync(`${DEMO}demo-${codec === 'gzip' ? 'xz' : 'gzip'}.bzImage`),
        );
        const packed = await pack(from, { stub: await takeApart('stub', other), codec });
        expect(packed.command).not.toBeNull();
        expect(Buffer.compare(packed.bytes, other)).toBe(0);
      },
    );
  }

  it('keeps its codec: another one is refused with the reason', async () => {
    const apart = await takeApart('demo', readFileSync(`${DEMO}demo-gzip.bzImage`));
    await expect(pack(apart, { codec: 'xz' })).rejects.toThrow(
      /the one codec it was built with: this one gzip, not xz/,
    );
  });

  it('gets header fields by name, and refuses those that follow from its parts', async () => {
    const apart = await takeApart('demo', readFileSync(`${DEMO}demo-gzip.bzImage`));
    const { bytes } = await pack(apart, { fields: [['vid_mode', 0xfffdn]] });
    expect((await readKernelImage('f', bytes)).header.get('vid_mode')).toBe(0xfffd);
    await expect(pack(apart, { fields: [['syssize', 1n]] })).rejects.toMatchObject({ code: 'pack-field' });
  });
});

/** A bzImage whose stub has its payload's sizes the way `style` says, with a checksum. */
function imageWith(kernel: Uint8Array, style: 'words' | 'instructions' | 'twice'): Uint8Array {
  const payload = gzipSync(kernel, { level: 1 });
  const head = Buffer.alloc(64, 0x90);
  head.set([0x8b, 0x9e, 0x60, 0x02, 0, 0], 16);
  const tail = Buffer.alloc(256, 0xcc);
  const [input, output] = [payload.length, kernel.length];
  if (style === 'words') {
    tail.writeUInt32LE(input, 100);
    tail.writeUInt32LE(output, 104);
  } else {
    tail.writeUInt8(0xb9, 99);
    tail.writeUInt32LE(input, 100);
    tail.set([0x49, 0xc7, 0xc1], 109);
    tail.writeUInt32LE(output, 112);
  }
  if (style === 'twice') tail.writeUInt32LE(input, 200);
  const code = Buffer.concat([head, payload, tail]);
  const padded = Buffer.concat([code, new Uint8Array(20 - ((code.length + 4) % 16))]);
  const fields = {
    payload_offset: 64,
    payload_length: payload.length,
    init_size: 0x100000,
    pref_address: 0x1000000,
  };
  const image = Buffer.from(
    makeBootImage({ protocol: 0x020f, code: padded, version: '6.1.0 (a@b) #1', fields }),
  );
  const size = image.readUInt32LE(0x1f4) * 16 + 5 * 512;
  image.writeUInt32LE(~crc(image.subarray(0, size - 4)) >>> 0, size - 4);
  return image;
}

function kernelOf(text: string, options: { memsz?: number; paddr?: number } = {}): Uint8Array {
  const bytes = Buffer.concat([noise(4000), Buffer.from(text), new Uint8Array(4000)]);
  return makeSegmentedElf({
    entry: 0x1000000,
    segments: [{ paddr: options.paddr ?? 0x1000000, bytes, memsz: options.memsz ?? 0x10000 }],
  });
}

const OLD = kernelOf('an old kernel, this one, with words that do not compress: 8f3a 77b1 e04c 91d2');

describe.skipIf(!hasTool('gzip'))('another kernel (needs gzip)', () => {
  const shorter = kernelOf('a new kernel');

  it.each(['words', 'instructions'] as const)(
    'goes in, with the sizes in %s of the stub put right',
    async (style) => {
      const image = imageWith(OLD, style);
      const packed = await pack(await takeApart('f', image), { kernel: shorter });
      const after = await readKernelImage('f', packed.bytes);
      const { payload } = after;
      if (payload === null) throw new Error('no payload');
      expect(Buffer.compare((await extractVmlinux(after)).bytes, shorter)).toBe(0);
      expect(payload.length).toBeLessThan(image.length - 64 - 256);
      const tail = Buffer.from(after.protectedModeCode).lastIndexOf(Buffer.alloc(8, 0xcc));
      expect(tail).toBeGreaterThan(0);
      const words = Buffer.from(after.protectedModeCode);
      const input = Buffer.alloc(4);
      input.writeUInt32LE(payload.length);
      expect(words.indexOf(input, payload.offset + payload.length)).toBeGreaterThan(0);
      expect(after.header.get('payload_length')).toBe(payload.length);
      expect(imageChecksum(after.header, after.bytes, after.setupSize, readPe(after.bytes))).toBe('valid');
    },
  );

  it('is refused where it takes more room than the old one, in the image or in memory', async () => {
    const apart = await takeApart('f', imageWith(OLD, 'words'));
    const larger = makeSegmentedElf({
      entry: 0x1000000,
      segments: [{ paddr: 0x1000000, bytes: noise(9000, 3), memsz: 0x10000 }],
    });
    await expect(pack(apart, { kernel: larger })).rejects.toThrow(
      /its place in the image \d+ \(\d+ too few\)/,
    );
    await expect(pack(apart, { kernel: kernelOf('x', { memsz: 0x20000 }) })).rejects.toThrow(
      /takes memory up to 0x1020000, 65536 bytes more than the old one/,
    );
  });

  it('is refused where it is linked for another address or another processor', async () => {
    const apart = await takeApart('f', imageWith(OLD, 'words'));
    await expect(pack(apart, { kernel: kernelOf('x', { paddr: 0x2000000 }) })).rejects.toThrow(
      /linked for 0x2000000/,
    );
    const i386 = makeSegmentedElf({
      bits: 32,
      machine: 3,
      segments: [{ paddr: 0x1000000, bytes: noise(100) }],
    });
    await expect(pack(apart, { kernel: i386 })).rejects.toThrow(/ELF32 for i386, the boot stub starts ELF64/);
  });

  it('is refused where the stub has the length in a way that is not understood', async () => {
    const apart = await takeApart('f', imageWith(OLD, 'twice'));
    await expect(pack(apart, { kernel: shorter })).rejects.toMatchObject({ code: 'pack-stub' });
  });

  it('may be written into the folder, but not beside another payload', async () => {
    const apart = await takeApart('f', imageWith(OLD, 'words'));
    const { bytes } = await pack(apart, {}, { vmlinux: shorter });
    expect(Buffer.compare((await extractVmlinux(await readKernelImage('f', bytes))).bytes, shorter)).toBe(0);
    const both = { vmlinux: shorter, 'vmlinux.bin.gz': gzipSync(OLD) };
    await expect(pack(apart, {}, both)).rejects.toMatchObject({ code: 'pack-both' });
  });

  it('does not take a part of another length than its place', async () => {
    const apart = await takeApart('f', imageWith(OLD, 'words'));
    await expect(pack(apart, {}, { 'setup.bin': new Uint8Array(100) })).rejects.toThrow(
      /setup.bin has 100 bytes, its place in the image 2560/,
    );
  });
});

describe('a Unified Kernel Image', () => {
  const uki = makePe({
    '.text': noise(700),
    '.cmdline': Buffer.from('quiet splash'),
    '.linux': imageWith(OLD, 'words'),
    '.initrd': Buffer.from('070701'),
  });

  it('is taken apart down to its kernel, and put together again', async () => {
    const apart = await takeApart('uki', uki);
    expect(apart.parts.map(({ file }) => file)).toEqual(
      expect.arrayContaining([
        'pe-headers.bin',
        'section.cmdline',
        'linux/setup.bin',
        'linux/vmlinux.bin.gz',
      ]),
    );
    expect(Buffer.compare((await pack(apart)).bytes, uki)).toBe(0);
  });

  it('gets another command line where there is room for it', async () => {
    const apart = await takeApart('uki', uki);
    const { bytes } = await pack(apart, { cmdline: 'nokaslr' });
    const pe = readPe(bytes);
    const section = pe?.sections.find(({ name }) => name === '.cmdline');
    expect(section?.virtualSize).toBe(7);
    const at = section?.fileOffset ?? 0;
    expect(Buffer.from(bytes.subarray(at, at + 12)).toString('latin1')).toBe('nokaslr\0\0\0\0\0');
    await expect(pack(apart, { cmdline: 'x'.repeat(600) })).rejects.toThrow(/has 600 bytes, .* room for 512/);
  });
});

const debian = new URL('../../images/cache/debian/', import.meta.url).pathname;
const kernels = existsSync(debian) ? readdirSync(debian) : [];
describe('a signed kernel', () => {
  if (kernels.length === 0) it.skip('is taken apart (images/cache has no kernel)', () => {});
  for (const name of kernels) {
    it(`${name} is made of parts that give the same bytes again, and loses its signature with a change`, async () => {
      const bytes = readFileSync(debian + name);
      const apart = await takeApart(name, bytes);
      expect(apart.parts.map(({ file }) => file)).toContain('signature.p7');
      expect(Buffer.compare((await pack(apart)).bytes, bytes)).toBe(0);
      const changed = await pack(apart, { fields: [['root_flags', 0n]] });
      const after = readPe(changed.bytes);
      expect(after?.certificates).toBeNull();
      const image = await readKernelImage(name, changed.bytes);
      expect(imageChecksum(image.header, image.bytes, image.setupSize, after)).toBe('valid');
      expect(changed.notices[0]).toContain('the signature was left out');
    });
  }
});
