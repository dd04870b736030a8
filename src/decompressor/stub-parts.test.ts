import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { readKernelImage } from '../image/kernel-image.ts';
import { makeBootImage, noise } from '../image/test-images.ts';
import { findStubDetails } from './find-stub.ts';
import { findStubParts } from './stub-parts.ts';

const DEMO = fileURLToPath(new URL('../../images/demo', import.meta.url));
const demos = readdirSync(DEMO).filter((name) => name.endsWith('Image'));

describe('findStubParts', () => {
  it.each(demos)(
    '%s: the parts in the file follow each other without overlap, the others lie behind them',
    async (name) => {
      const image = await readKernelImage(name, readFileSync(join(DEMO, name)));
      const parts = findStubParts(image, findStubDetails(image));
      const inFile = parts.filter((part) => part.inFile);
      expect(inFile[0]?.start).toBe(0);
      for (const [index, part] of inFile.slice(1).entries()) {
        const before = inFile[index]!;
        expect(part.start).toBeGreaterThanOrEqual(before.end);
        expect(part.start - before.end).toBeLessThan(0x1000);
      }
      expect(inFile.at(-1)!.end).toBeLessThanOrEqual(image.protectedModeCode.length);
      const bss = parts.find((part) => part.name === 'bss')!;
      expect(bss.start).toBeGreaterThanOrEqual(inFile.at(-1)!.end);
      for (const part of parts) expect(part.end).toBeGreaterThan(part.start);
    },
  );

  it('says that bounds are deduced where nothing but a guess gives them', async () => {
    const image = await readKernelImage('demo', readFileSync(join(DEMO, 'demo-gzip.bzImage')));
    const parts = findStubParts(image, findStubDetails(image));
    const inferred = Object.fromEntries(parts.map((part) => [part.name, part.inferred]));
    expect(inferred).toMatchObject({ head: false, payload: false, bss: false, stack: true });
  });

  it('knows nothing of an image without payload and stub', async () => {
    const bytes = makeBootImage({ protocol: 0x0203, code: noise(4096) });
    const image = await readKernelImage('image', bytes);
    expect(image.payload).toBeNull();
    expect(findStubParts(image, null)).toEqual([]);
  });
});
