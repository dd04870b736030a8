import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { readKernelImage } from '../image/kernel-image.ts';
import { readPe } from '../image/pe.ts';
import { addressOf, fileOffsetOf, findDecompressKernel } from './find-decompress-kernel.ts';

describe('decompress_kernel in an EFI stub', () => {
  for (const name of [
    'vmlinuz-6.1.0-50-amd64',
    'vmlinuz-6.1.0-50-cloud-amd64',
    'vmlinuz-6.12.111+deb12-amd64',
  ]) {
    const path = `images/cache/debian/${name}`;
    const missing = existsSync(path) ? '' : ` (left out: ${path} is not there)`;
    it.skipIf(missing !== '')(`is found in ${name}, behind the payload${missing}`, async () => {
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
