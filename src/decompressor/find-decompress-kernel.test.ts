import { existsSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { describe, expect, it } from 'vitest';
import { CLOUD_KERNEL, debianKernel } from '../../test/debian-kernels.ts';
import { readKernelImage } from '../image/kernel-image.ts';
import { readPe } from '../image/pe.ts';
import { addressOf, fileOffsetOf, findDecompressKernel } from './find-decompress-kernel.ts';

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
