import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import type { CodecName } from '../codecs/codec.ts';
import { extractVmlinux } from './extract-vmlinux.ts';
import { readImageFile } from './image-file.ts';
import { readKernelImage } from './kernel-image.ts';
import { makeBootImage, makeElf, noise } from './test-images.ts';

/** A bzImage whose payload holds `content`, compressed with gzip. */
async function imageOf(content: Uint8Array, protocol = 0x020f, relocatable = 0) {
  const payload = gzipSync(content);
  const code = Buffer.concat([new Uint8Array(64), payload, new Uint8Array(64)]);
  const fields = {
    ...(protocol >= 0x0208 ? { payload_offset: 64, payload_length: payload.length } : {}),
    ...(relocatable === 0 ? {} : { relocatable_kernel: relocatable }),
  };
  return readKernelImage('image', makeBootImage({ protocol, code, fields }));
}

describe('extractVmlinux', () => {
  const elf = makeElf(64, noise(2000));

  it('tells the ELF file from the relocation lists behind it', async () => {
    const relocations = noise(400);
    const kernel = await extractVmlinux(await imageOf(Buffer.concat([elf, relocations])));
    expect(kernel.kernelLength).toBe(elf.length);
    expect(kernel.bytes.length).toBe(elf.length + relocations.length);
    expect(Buffer.from(kernel.bytes.subarray(0, kernel.kernelLength))).toEqual(Buffer.from(elf));
  });

  it('takes a flat binary whole', async () => {
    const kernel = await extractVmlinux(await imageOf(noise(3000), 0x0203));
    expect(kernel.elf).toBeNull();
    expect(kernel.kernelLength).toBe(3000);
  });

  it('tells a flat binary from the relocation list behind it', async () => {
    const list = Buffer.from(Uint32Array.of(0, 0xc0100010, 0xc0100020, 0xc0100400).buffer);
    const content = Buffer.concat([noise(3000), list]);
    expect((await extractVmlinux(await imageOf(content, 0x0207, 1))).kernelLength).toBe(3000);
    expect((await extractVmlinux(await imageOf(content, 0x0207, 0))).kernelLength).toBe(content.length);
    expect((await extractVmlinux(await imageOf(noise(3000), 0x0207, 1))).kernelLength).toBe(3000);
  });

  it('refuses an ELF file that reaches beyond the payload', async () => {
    const image = await imageOf(elf.subarray(0, elf.length - 10));
    await expect(extractVmlinux(image)).rejects.toThrow(/the ELF file's tables reach to byte/);
  });

  it('refuses a payload with a flipped byte', async () => {
    const image = await imageOf(elf);
    const at = image.setupSize + 64 + 1000;
    image.bytes.set([(image.bytes[at] ?? 0) ^ 0x10], at);
    await expect(extractVmlinux(image)).rejects.toThrow();
  });

  it('says that there is no compressed kernel', async () => {
    const image = await readKernelImage('memdisk', makeBootImage({ protocol: 0x0203, code: noise(5000) }));
    await expect(extractVmlinux(image)).rejects.toThrow(
      /^memdisk has no compressed kernel: its header names none \(boot protocol 2\.03\)/,
    );
  });

  it('says with what bytes a payload of unknown format begins', async () => {
    const code = Buffer.from('00112233445566778899', 'hex');
    const fields = { payload_offset: 1, payload_length: 9 };
    const image = await readKernelImage('odd', makeBootImage({ protocol: 0x020f, code, fields }));
    await expect(extractVmlinux(image)).rejects.toThrow(
      /begins with 1122334455667788, which is none of gzip/,
    );
  });
});

/** The decompressors to compare with. */
const TOOLS: Readonly<Record<CodecName, readonly string[]>> = {
  gzip: ['gzip', '-dc'],
  bzip2: ['bzip2', '-dc'],
  lzma: ['xz', '--format=lzma', '--single-stream', '-dc'],
  xz: ['xz', '--single-stream', '-dc'],
  lzo: ['lzop', '-dc'],
  lz4: ['lz4', '-dc'],
  zstd: ['zstd', '-dc'],
};

const cache = new URL('../../images/cache/', import.meta.url).pathname;
const debian = join(cache, 'debian');
const built = join(cache, 'built');
const kernels = [
  ...(existsSync(debian) ? readdirSync(debian).map((name) => join(debian, name)) : []),
  ...(existsSync(built) ? readdirSync(built).map((name) => join(built, name, 'bzImage')) : []),
].filter((path) => existsSync(path));

describe('a real kernel', () => {
  if (kernels.length === 0)
    it.skip('is compared with its decompressor (images/cache has no kernel)', () => {});

  for (const path of kernels) {
    const name = path.slice(cache.length);
    it(`${name} holds what its decompressor gives, an ELF file that readelf reads to its end`, async ({
      skip,
    }) => {
      const image = await readKernelImage(path, await readImageFile(path));
      if (image.payload === null) throw new Error('no payload');
      const { codec, offset, length } = image.payload;
      const kernel = await extractVmlinux(image);
      const [command = '', ...options] = TOOLS[codec];
      if (spawnSync(command, ['--version']).status !== 0) return skip(`needs ${command}`);
      const folder = mkdtempSync(join(tmpdir(), 'bootscope-'));
      try {
        const tool = spawnSync(command, options, {
          input: image.protectedModeCode.subarray(offset, offset + length),
          maxBuffer: 1 << 29,
        });
        expect(Buffer.compare(tool.stdout, kernel.bytes)).toBe(0);
        if (spawnSync('readelf', ['--version']).status !== 0) return skip('needs readelf');
        const vmlinux = join(folder, 'vmlinux');
        writeFileSync(vmlinux, kernel.bytes.subarray(0, kernel.kernelLength));
        const readelf = spawnSync('readelf', ['-hlSW', vmlinux], { encoding: 'utf8' });
        expect(readelf.stderr).toBe('');
        const number = (label: string): number =>
          Number(new RegExp(`${label}:\\s+(\\d+)`).exec(readelf.stdout)?.[1]);
        expect(kernel.kernelLength).toBe(
          number('Start of section headers') +
            number('Size of section headers') * number('Number of section headers'),
        );
      } finally {
        rmSync(folder, { recursive: true });
      }
    });
  }

  const links = kernels.map((path) => [path, join(dirname(path), 'vmlinux')] as const);
  for (const [bzImage, vmlinux] of links.filter(([, path]) => existsSync(path))) {
    it(`${bzImage.slice(cache.length)} holds byte for byte what its build stripped off vmlinux`, async ({
      skip,
    }) => {
      const folder = mkdtempSync(join(tmpdir(), 'bootscope-'));
      try {
        const stripped = join(folder, 'vmlinux.bin');
        // The build's own command line, OBJCOPYFLAGS_vmlinux.bin of arch/x86/boot/compressed.
        if (spawnSync('objcopy', ['-R', '.comment', '-S', vmlinux, stripped]).status !== 0)
          return skip('needs objcopy');
        const kernel = await extractVmlinux(await readKernelImage(bzImage, await readImageFile(bzImage)));
        expect(Buffer.compare(kernel.bytes.subarray(0, kernel.kernelLength), readFileSync(stripped))).toBe(0);
      } finally {
        rmSync(folder, { recursive: true });
      }
    });
  }
});
