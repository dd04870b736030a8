// Damaged files of every kind: the readers end, and say what is wrong by a BootscopeError or not at all.

import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { BootscopeError } from '../error.ts';
import { readKernelFile } from './describe-file.ts';
import { elfFileLength, readElf, readElfNotes, readElfSymbols } from './elf.ts';
import { extractVmlinux } from './extract-vmlinux.ts';
import { readKernelImage } from './kernel-image.ts';
import { makeBootImage, makeElf, makePe, noise, setField } from './test-images.ts';

const PAYLOAD = gzipSync(makeElf(64, noise(3000)));
const CODE = Buffer.concat([new Uint8Array(64), PAYLOAD, new Uint8Array(64)]);

function bzImage(): Uint8Array {
  const fields = { payload_offset: 64, payload_length: PAYLOAD.length, kernel_info_offset: 8 };
  return makeBootImage({ protocol: 0x020f, code: CODE, version: '6.1.0', fields });
}

/** Runs every reader over the bytes; anything but a BootscopeError fails the test. */
async function readAll(bytes: Uint8Array): Promise<void> {
  const readers: readonly (() => unknown)[] = [
    () => readKernelFile('f', bytes),
    async () => extractVmlinux(await readKernelImage('f', bytes)),
    () => {
      const elf = readElf(bytes);
      readElfSymbols(elf);
      readElfNotes(elf);
      elfFileLength(elf);
    },
  ];
  for (const reader of readers) {
    try {
      await reader();
    } catch (error) {
      if (!(error instanceof BootscopeError)) throw error;
      expect(error.message).not.toMatch(/\n|NaN|undefined/);
    }
  }
}

const bases: readonly (readonly [string, Uint8Array])[] = [
  ['a bzImage', bzImage()],
  ['an image of protocol 2.03', makeBootImage({ protocol: 0x0203, code: CODE })],
  ['a zImage without a header', makeBootImage({ protocol: 0 })],
  ['an ELF64 file', makeElf(64, noise(600))],
  ['an ELF32 file', makeElf(32, noise(600))],
  ['a Unified Kernel Image', makePe({ '.cmdline': Buffer.from('quiet'), '.linux': bzImage() })],
  ['a gzip file', gzipSync(bzImage())],
  [
    'a uImage',
    Buffer.concat([
      Buffer.from('27051956', 'hex'),
      new Uint8Array(26),
      Uint8Array.of(4, 0),
      new Uint8Array(32),
      noise(300),
    ]),
  ],
];

describe('numbers that make no sense', () => {
  it.each(bases)('in %s harm nothing', async (_name, base) => {
    const random = noise(0x10000, 77);
    let next = 0;
    const draw = (limit: number): number => {
      const value = (random[next % random.length] ?? 0) * 256 + (random[(next + 1) % random.length] ?? 0);
      next += 2;
      return value % limit;
    };
    const edges = [0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff];
    for (let round = 0; round < 150; round++) {
      const bytes = Uint8Array.from(base);
      for (let change = draw(6); change >= 0; change--) {
        const at = draw(Math.min(bytes.length, draw(2) === 0 ? 0x300 : bytes.length));
        bytes.fill(edges[draw(edges.length)] ?? 0, at, at + 1 + draw(4));
      }
      await readAll(draw(3) === 0 ? bytes.subarray(0, draw(bytes.length)) : bytes);
    }
  });

  it.each(bases)(
    'and the end after any of its first 1200 bytes leave %s readable or refused',
    async (_name, base) => {
      for (let length = 0; length < Math.min(1200, base.length); length += 7)
        await readAll(base.subarray(0, length));
    },
  );
});

/** Each was once thought of or met; a name says what is wrong with it. */
const malformed: readonly (readonly [string, Uint8Array])[] = [
  [
    'payload_offset and payload_length that overflow 32 bits together',
    withFields({ payload_offset: 0xffffffff, payload_length: 0xffffffff }),
  ],
  ['a payload of one byte', withFields({ payload_length: 1 })],
  ['a payload that ends in the length of 4 GiB', withTail(0xffffffff)],
  ['a payload that ends in a length of 1 GiB', withTail(0x40000000)],
  ['a payload that ends in a length of 0', withTail(0)],
  ['setup_sects 255', withFields({ setup_sects: 255 })],
  ['syssize 0', withFields({ syssize: 0 })],
  ['the largest syssize', withFields({ syssize: 0xffffffff })],
  ['kernel_info_offset at the end of the address space', withFields({ kernel_info_offset: 0xffffffff })],
  ['kernel_version that points at the last byte of setup', withFields({ kernel_version: 0x7ff })],
  ['a protocol from the far future', withFields({ version: 0xffff })],
  ['protocol 0 under HdrS', withFields({ version: 0 })],
  ['a jump that goes backwards', withByte(0x201, 0xfe)],
  ['a jump into the middle of the header', withByte(0x201, 0x01)],
  ['a PE header offset into the setup header', withWord(0x3c, 0x1f0)],
  ['a PE header offset at the end of the address space', withWord(0x3c, 0xffffffff)],
];

function withFields(fields: Parameters<typeof makeBootImage>[0]['fields'] & object): Uint8Array {
  const image = bzImage();
  for (const [name, value] of Object.entries(fields))
    setField(image, name as Parameters<typeof setField>[1], value);
  return image;
}

function withTail(length: number): Uint8Array {
  const image = Buffer.from(bzImage());
  image.writeUInt32LE(length, image.length - 64 - 4);
  return image;
}

function withByte(offset: number, value: number): Uint8Array {
  const image = bzImage();
  image.set([value], offset);
  return image;
}

function withWord(offset: number, value: number): Uint8Array {
  const image = Buffer.from(bzImage());
  image.write('MZ', 0, 'latin1');
  image.writeUInt32LE(value, offset);
  return image;
}

describe('malformed images that were met', () => {
  it.each(malformed)('%s', async (_name, bytes) => {
    await readAll(bytes);
  });

  it('a payload that claims 1 GiB is refused by its codec and not by memory running out', async () => {
    const image = await readKernelImage('f', withTail(0x40000000));
    await expect(extractVmlinux(image)).rejects.toBeInstanceOf(BootscopeError);
  });
});
