import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BootscopeError } from '../error.ts';
import { readImageFile } from './image-file.ts';
import { readKernelImage } from './kernel-image.ts';
import { makeBootImage, makeElf, makePe, noise } from './test-images.ts';

const KERNEL = makeElf(64, noise(3000));
const PAYLOAD = gzipSync(KERNEL);

/** A bzImage of protocol 2.15 with a gzip payload at 0x100 of its code, and a stub of 64 bytes behind it. */
function bzImage(): Uint8Array {
  const code = new Uint8Array(0x100 + PAYLOAD.length + 64).fill(0x90);
  code.set(PAYLOAD, 0x100);
  return makeBootImage({
    protocol: 0x020f,
    code,
    version: '6.1.0-test (builder@host) #1 SMP',
    fields: { payload_offset: 0x100, payload_length: PAYLOAD.length },
  });
}

async function refusal(promise: Promise<unknown>): Promise<BootscopeError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof BootscopeError) {
      expect(error.message).not.toContain('\n');
      return error;
    }
    throw error;
  }
  throw new Error('nothing was refused');
}

describe('an image that can be booted', () => {
  it('is split into setup and protected-mode code, with its payload', async () => {
    const image = await readKernelImage('bzImage', bzImage());
    expect(image.kind).toBe('bzImage');
    expect(image.wrappers).toEqual([]);
    expect(image.setupSize).toBe(5 * 512);
    expect(image.setup.length).toBe(5 * 512);
    expect(image.protectedModeCode.length).toBe(image.bytes.length - image.setupSize);
    expect(image.kernelVersion).toBe('6.1.0-test (builder@host) #1 SMP');
    expect(image.payload).toEqual({
      codec: 'gzip',
      offset: 0x100,
      length: PAYLOAD.length,
      outputLength: KERNEL.length,
      source: 'header',
    });
  });

  it('has four sectors of setup where setup_sects is 0', async () => {
    const image = await readKernelImage('zImage', makeBootImage({ protocol: 0x0200, setupSectors: 0 }));
    expect(image.setupSize).toBe(5 * 512);
  });

  it('is a zImage without LOADED_HIGH', async () => {
    const image = await readKernelImage(
      'zImage',
      makeBootImage({ protocol: 0x0202, fields: { loadflags: 0 } }),
    );
    expect(image.kind).toBe('zImage');
  });

  it('is a zImage without HdrS where the old boot sector is there', async () => {
    const image = await readKernelImage('Image', makeBootImage({ protocol: 0 }));
    expect(image.kind).toBe('zImage');
    expect(image.header.protocol).toBe(0);
    expect(image.kernelVersion).toBeNull();
  });

  it('may have bytes behind its end, as a signature adds them', async () => {
    const signed = Buffer.concat([bzImage(), noise(1472)]);
    expect((await readKernelImage('signed', signed)).payload?.codec).toBe('gzip');
  });

  it('may lack the padding of its last paragraph', async () => {
    const image = bzImage();
    await expect(readKernelImage('short', image.subarray(0, image.length - 4))).resolves.toBeDefined();
  });

  it('may have a syssize that does not count its high bits, below protocol 2.04', async () => {
    const image = makeBootImage({ protocol: 0x0203, code: noise(0x1000), fields: { syssize: 0xffff } });
    await expect(readKernelImage('old', image)).resolves.toBeDefined();
  });

  it('may have a payload in a format nobody knows, which is then no payload', async () => {
    const image = makeBootImage({
      protocol: 0x020f,
      code: noise(4096),
      fields: { payload_offset: 0x100, payload_length: 0x400 },
    });
    expect((await readKernelImage('odd', image)).payload).toBeNull();
  });

  it('may have a version pointer that leads nowhere', async () => {
    const image = makeBootImage({ protocol: 0x020f, fields: { kernel_version: 0xfff0 } });
    expect((await readKernelImage('odd', image)).kernelVersion).toBeNull();
  });
});

describe('a wrapped image', () => {
  it('comes out of gzip', async () => {
    const image = await readKernelImage('vmlinuz.gz', gzipSync(bzImage()));
    expect(image.wrappers).toEqual(['gzip']);
    expect(image.bytes).toEqual(Buffer.from(bzImage()));
  });

  it('comes out of the .linux section of a Unified Kernel Image, without the padding', async () => {
    const uki = makePe({ '.osrel': Buffer.from('NAME=x'), '.linux': bzImage(), '.initrd': noise(700) });
    const image = await readKernelImage('linux.efi', uki);
    expect(image.wrappers).toEqual(['UKI section .linux']);
    expect(Buffer.from(image.bytes)).toEqual(Buffer.from(bzImage()));
  });

  it('comes out of both at once', async () => {
    const image = await readKernelImage('linux.efi.gz', gzipSync(makePe({ '.linux': bzImage() })));
    expect(image.wrappers).toEqual(['gzip', 'UKI section .linux']);
  });

  it('is refused when the gzip file is cut', async () => {
    const gzipped = gzipSync(bzImage());
    const error = await refusal(readKernelImage('cut.gz', gzipped.subarray(0, gzipped.length - 20)));
    expect(error.code).toBe('image-truncated');
    expect(error.message).toContain('cut.gz is a cut gzip file');
  });

  it('is refused when a byte of the gzip file is flipped', async () => {
    const gzipped = Uint8Array.from(gzipSync(bzImage()));
    const last = gzipped.length - 5;
    gzipped[last] = (gzipped[last] ?? 0) ^ 1;
    expect((await refusal(readKernelImage('bad.gz', gzipped))).code).toBe('image-corrupt');
  });

  it('is refused when gzip is wrapped in gzip again and again', async () => {
    let bytes: Uint8Array = bzImage();
    for (let layer = 0; layer < 8; layer++) bytes = gzipSync(bytes);
    expect((await refusal(readKernelImage('onion.gz', bytes))).message).toContain(
      'wrapped more than 4 times',
    );
  });

  it('is refused when its section lies outside the file', async () => {
    const uki = makePe({ '.linux': bzImage() });
    const error = await refusal(readKernelImage('cut.efi', uki.subarray(0, 1024)));
    expect(error.code).toBe('image-truncated');
    expect(error.message).toContain('.linux');
  });
});

describe('an image that is cut', () => {
  it('in the setup code says how many bytes setup_sects needs', async () => {
    const image = makeBootImage({ protocol: 0x020f, setupSectors: 200 });
    const error = await refusal(readKernelImage('cut', image.subarray(0, 4096)));
    expect(error.code).toBe('image-truncated');
    expect(error.message).toBe(
      'cut is cut in its setup code: setup_sects 200 needs 102912 bytes, the file has 4096',
    );
  });

  it('right behind setup says that nothing follows', async () => {
    const error = await refusal(readKernelImage('cut', bzImage().subarray(0, 5 * 512)));
    expect(error.message).toContain('no protected-mode code follows');
  });

  it('in the stub before the payload says so', async () => {
    const error = await refusal(readKernelImage('cut', bzImage().subarray(0, 5 * 512 + 0x80)));
    expect(error.code).toBe('image-truncated');
    expect(error.message).toMatch(/^cut is cut in its boot stub, before its payload: payload_offset 256 and/);
  });

  it('in the payload says so', async () => {
    const error = await refusal(readKernelImage('cut', bzImage().subarray(0, 5 * 512 + 0x200)));
    expect(error.code).toBe('image-truncated');
    expect(error.message).toMatch(/^cut is cut in its payload: .* the file has 512$/);
  });

  it('in the stub behind the payload is told by syssize', async () => {
    const image = bzImage();
    const error = await refusal(readKernelImage('cut', image.subarray(0, image.length - 50)));
    expect(error.code).toBe('image-truncated');
    expect(error.message).toMatch(/^cut is cut in its boot stub: syssize \d+ needs \d+ bytes/);
  });

  it('in a payload that was found by its magic says so', async () => {
    const code = Buffer.alloc(0x104 + PAYLOAD.length);
    code.writeUInt32LE(PAYLOAD.length, 0x100);
    code.set(PAYLOAD, 0x104);
    const image = makeBootImage({ protocol: 0x0203, code });
    expect((await readKernelImage('2.4', image)).payload?.length).toBe(PAYLOAD.length);
    const error = await refusal(readKernelImage('2.4', image.subarray(0, image.length - 500)));
    expect(error.message).toContain('cut in its payload');
  });
});

describe('a file that is no image', () => {
  const cases: readonly (readonly [string, Uint8Array, RegExp])[] = [
    ['empty', new Uint8Array(0), /^f is an empty file/],
    ['text', Buffer.from('root:x:0:0:root\n'.repeat(99)), /^f is a text file/],
    ['PNG', Buffer.from('\x89PNG\r\n\x1a\n\0\0\0\rIHDR', 'latin1'), /^f is a PNG picture/],
    ['ELF program', makeElf(64, noise(100)), /^f is an ELF64 program for x86-64/],
    ['gzip of text', gzipSync('hello world\n'), /^the content of f \(gzip\) is a text file/],
    [
      'cpio',
      Buffer.from(`070701${'0'.repeat(104)}`),
      /^f is a cpio archive .*: give it to a kernel as its initial RAM disk/,
    ],
    ['one byte', Uint8Array.of(0x90), /^f is no kernel image that Bootscope knows/],
    ['zeroes', new Uint8Array(10000), /^f is a file of nothing but zeroes/],
  ];
  it.each(cases)('is refused with what it is: %s', async (name, bytes, message) => {
    const error = await refusal(readKernelImage('f', bytes));
    expect(error.code).toBe(name === 'cpio' ? 'image-initrd' : 'image-not-bootable');
    expect(error.message).toMatch(message);
  });
});

describe('readImageFile', () => {
  let folder = '';
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'bootscope-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it('says that a file does not exist', async () => {
    const error = await refusal(readImageFile(join(folder, 'nothing')));
    expect(error.code).toBe('image-not-found');
    expect(error.message).toContain('does not exist');
  });

  it('says that a directory is one', async () => {
    expect((await refusal(readImageFile(folder))).message).toContain('is a directory');
  });

  it('names the limit that a file is beyond', async () => {
    const path = join(folder, 'large');
    writeFileSync(path, new Uint8Array(100));
    expect((await refusal(readImageFile(path, { limit: 99 }))).message).toContain(
      'has 100 bytes, at most 99',
    );
  });

  it.skipIf(spawnSync('mkfifo', ['--version']).status !== 0)(
    'does not wait for a named pipe (needs mkfifo)',
    async () => {
      const path = join(folder, 'pipe');
      spawnSync('mkfifo', [path]);
      expect((await refusal(readImageFile(path))).message).toContain('is not a regular file');
    },
  );
});

describe('kernels of Debian', () => {
  const folder = new URL('../../images/cache/debian/', import.meta.url).pathname;
  const kernels: readonly (readonly [string, string, number])[] = [
    ['vmlinuz-6.1.0-56-amd64', 'xz', 65906612],
    ['vmlinuz-6.1.0-56-cloud-amd64', 'lz4', 53243444],
    ['vmlinuz-6.12.111+deb12-amd64', 'zstd', 57646140],
  ];
  for (const [name, codec, outputLength] of kernels) {
    const path = join(folder, name);
    it.skipIf(!existsSync(path))(
      `${name} is read with its ${codec} payload (needs images/cache/debian)`,
      async () => {
        const image = await readKernelImage(path, await readImageFile(path));
        expect(image.header.version).toBe('2.15');
        expect(image.payload).toMatchObject({ codec, outputLength, source: 'header' });
        expect(`vmlinuz-${image.kernelVersion}`.startsWith(`${name} `)).toBe(true);
      },
    );
  }
});
