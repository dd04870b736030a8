import { existsSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { CLOUD_KERNEL, debianKernel } from '../../test/debian-kernels.ts';
import { readKernelImage } from '../image/kernel-image.ts';
import { type PeFile, readPe } from '../image/pe.ts';
import { efiProgram } from '../machine/uefi/test-program.ts';
import { addressOf, fileOffsetOf, findDecompressKernel } from './find-decompress-kernel.ts';
import { Assembler, makeStub64 } from './test-stubs.ts';

describe('decompress_kernel in an EFI stub', () => {
  for (const path of [debianKernel('6.1', 'amd64'), CLOUD_KERNEL, debianKernel('6.12', 'amd64')]) {
    const missing = existsSync(path) ? '' : ' (left out: it is not in images/cache)';
    it.skipIf(missing !== '')(`is found in ${basename(path)}, behind the payload${missing}`, async () => {
      const image = await readKernelImage(path, readFileSync(path));
      const found = findDecompressKernel(image);
      const payload = image.payload!;
      expect(found!.offset).toBeGreaterThan(payload.offset + payload.length);
      const pe = readPe(image.bytes)!;
      expect(addressOf(pe, found!.entry + image.setupSize)).toBe(pe.entryPoint);
      expect(fileOffsetOf(pe, pe.entryPoint)).toBe(found!.entry + image.setupSize);
    });
  }

  it('is not there in an image without a PE header', async () => {
    const path = 'images/demo/demo-lz4.bzImage';
    expect(findDecompressKernel(await readKernelImage(path, readFileSync(path)))).toBeNull();
  });
});

describe('decompress_kernel in a made-up stub', () => {
  const PAYLOAD = gzipSync(Buffer.alloc(500, 'kernel'));
  const INPUT = 0x300;
  /** In the protected-mode code: where the PE header enters. */
  const ENTRY = 0x100;
  const { extractKernel } = makeStub64('rmode-output', { payload: PAYLOAD }).labels;
  /** Functions at distances from extract_kernel, or from the code's start where negative: what they call and what they load. */
  const find = (
    functions: Readonly<Record<string, readonly (readonly ['call' | 'lea' | 'mov', number])[]>>,
  ) => {
    const { image } = makeStub64('rmode-output', { payload: PAYLOAD });
    const code = Uint8Array.from(image.protectedModeCode);
    for (const [name, parts] of Object.entries(functions)) {
      const at = name === 'entry' ? ENTRY : extractKernel + Number(name);
      const asm = new Assembler();
      for (const [kind, to] of parts) {
        const prefix = { call: 'e8', lea: '48 8d 15', mov: '48 8b 15' }[kind];
        const target = kind === 'call' ? extractKernel + to : to;
        asm.emit(prefix);
        asm.emit('', target - (at + asm.offset + 4));
      }
      code.set(asm.emit('c3').bytes(), at);
    }
    // Its .text lies at 200h of the file, and is entered at its start.
    const bytes = efiProgram(new Uint8Array(0));
    return findDecompressKernel({ ...image, bytes, setupSize: 0x200 - ENTRY, protectedModeCode: code });
  };
  const found = (at: number) => ({ offset: extractKernel + at, entry: ENTRY });
  const DECOMPRESS = [['lea', INPUT]] as const;

  it('is called by both extract_kernel and the code behind the entry, and takes the payload', () => {
    expect(
      find({ 0: [['call', 0x80]], entry: [['call', 0x40]], 64: [['call', 0x80]], 128: DECOMPRESS }),
    ).toEqual(found(0x80));
    expect(find({ 0: [['call', 0x80]], entry: [['call', 0x80]], 128: DECOMPRESS })).toEqual(found(0x80));
  });

  it.each([
    ['extract_kernel does not call it', { 0: [], entry: [['call', 0x80]], 128: DECOMPRESS }],
    ['the entry does not come to it', { 0: [['call', 0x80]], entry: [], 128: DECOMPRESS }],
    [
      'it is three calls away',
      {
        0: [['call', 0x80]],
        entry: [['call', 0x40]],
        64: [['call', 0x60]],
        96: [['call', 0x80]],
        128: DECOMPRESS,
      },
    ],
    ['it takes another address', { 0: [['call', 0x80]], entry: [['call', 0x80]], 128: [['lea', INPUT + 1]] }],
    ['it loads what is there', { 0: [['call', 0x80]], entry: [['call', 0x80]], 128: [['mov', INPUT]] }],
    [
      'another one does the same',
      {
        0: [
          ['call', 0x80],
          ['call', 0xa0],
        ],
        entry: [
          ['call', 0x80],
          ['call', 0xa0],
        ],
        128: DECOMPRESS,
        160: DECOMPRESS,
      },
    ],
  ] as const)('is not there where %s', (_, functions) => {
    expect(find(functions)).toBeNull();
  });
});

describe('addresses of a PE file', () => {
  const pe = {
    sizeOfHeaders: 0x200,
    sections: [
      { virtualAddress: 0x1000, fileOffset: 0x200, fileSize: 0x100 },
      { virtualAddress: 0x3000, fileOffset: 0x300, fileSize: 0x80 },
    ],
  } as unknown as PeFile;

  it.each([
    [0, 0],
    [0x1ff, 0x1ff],
    [0x1000, 0x200],
    [0x10ff, 0x2ff],
    [0x3000, 0x300],
    [0x307f, 0x37f],
  ])('%i lie at %i of the file, and back', (address, offset) => {
    expect([fileOffsetOf(pe, address), addressOf(pe, offset)]).toEqual([offset, address]);
  });

  it('are none outside of headers and sections', () => {
    expect([0x200, 0xfff, 0x1100, 0x3080].map((address) => fileOffsetOf(pe, address))).toEqual([
      null,
      null,
      null,
      null,
    ]);
    expect(addressOf(pe, 0x380)).toBeNull();
  });
});
