import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { codecByName } from '../codecs/registry.ts';
import { allocatePages, freePages } from '../host/host.ts';
import { extractVmlinux } from '../image/extract-vmlinux.ts';
import { type KernelImage, readKernelImage } from '../image/kernel-image.ts';
import { PayloadAhead } from './payload-ahead.ts';

async function demo(codec: string, change: (bytes: Uint8Array) => void = () => {}): Promise<KernelImage> {
  const path = fileURLToPath(new URL(`../../images/demo/demo-${codec}.bzImage`, import.meta.url));
  const bytes = Uint8Array.from(readFileSync(path));
  change(bytes);
  return readKernelImage(path, bytes);
}

function payloadOf({ payload, protectedModeCode }: KernelImage): Uint8Array {
  return protectedModeCode.subarray(payload!.offset, payload!.offset + payload!.length);
}

describe.skipIf(availableParallelism() < 2)('PayloadAhead', () => {
  for (const codec of ['gzip', 'bzip2', 'lzma', 'xz', 'lz4', 'zstd'] as const) {
    it(`gives what the ${codec} payload of the image holds, and nothing for another stream`, async (test) => {
      if ((await (await codecByName(codec)).background()) === null) test.skip();
      const image = await demo(codec);
      const ahead = await PayloadAhead.begin(image);
      const bytes = await ahead!.take(payloadOf(image));
      expect(Buffer.compare(bytes!, (await extractVmlinux(image)).bytes)).toBe(0);
      expect(await ahead!.take(payloadOf(image).slice())).toBeNull();
    });
  }

  it('puts it to its place, and has nothing more once it was moved or closed', async () => {
    const image = await demo('gzip');
    const { bytes } = await extractVmlinux(image);
    const ahead = (await PayloadAhead.begin(image))!;
    const taken = (await ahead.take(payloadOf(image)))!;
    const own = new Uint8Array(bytes.length);
    ahead.moveTo(taken, own);
    expect(Buffer.compare(own, bytes)).toBe(0);
    expect(ahead.isMoved).toBe(false);
    const pages = allocatePages(bytes.length);
    if (pages !== null) {
      ahead.moveTo(taken, pages.subarray(0, bytes.length));
      expect(Buffer.compare(pages.subarray(0, bytes.length), bytes)).toBe(0);
      if (ahead.isMoved) expect(await ahead.take(payloadOf(image))).toBeNull();
      freePages(pages);
    }
    await ahead.close();
    expect(await ahead.take(payloadOf(image))).toBeNull();
  });

  it('gives nothing for a damaged stream', async () => {
    const { setupSize, payload } = await demo('gzip');
    const image = await demo('gzip', (bytes) => {
      bytes[setupSize + payload!.offset + (payload!.length >> 1)]! ^= 0x20;
    });
    const ahead = await PayloadAhead.begin(image);
    expect(ahead).not.toBeNull();
    expect(await ahead!.take(payloadOf(image))).toBeNull();
  });

  it('does not begin what is large, what nobody knows the length of, and what no other thread can do', async () => {
    const image = await demo('gzip');
    for (const outputLength of [16 * 2 ** 20 + 1, null]) {
      const other = { ...image, payload: { ...image.payload!, outputLength } } as KernelImage;
      expect(await PayloadAhead.begin(other)).toBeNull();
    }
    expect(await PayloadAhead.begin(await demo('lzo'))).toBeNull();
  });
});

describe('PayloadAhead.now', () => {
  it('gives what the payload holds, on this thread', async () => {
    const image = await demo('gzip');
    const ahead = await PayloadAhead.now(image);
    const bytes = await ahead!.take(payloadOf(image));
    expect(Buffer.compare(bytes!, (await extractVmlinux(image)).bytes)).toBe(0);
  });

  it('gives nothing for any other stream', async () => {
    const image = await demo('gzip');
    const ahead = await PayloadAhead.now(image);
    const own = payloadOf(image);
    const elsewhere = new Uint8Array(own.byteOffset + own.length).subarray(own.byteOffset);
    expect([elsewhere.byteOffset, elsewhere.length]).toEqual([own.byteOffset, own.length]);
    const moved = new Uint8Array(own.buffer, own.byteOffset - 1, own.length);
    const others = [elsewhere, moved, own.subarray(0, -1)].map((other) => ahead!.take(other));
    expect(await Promise.all(others)).toEqual([null, null, null]);
  });

  it('gives nothing for a damaged stream, and of an image without one', async () => {
    const { setupSize, payload } = await demo('gzip');
    const image = await demo('gzip', (bytes) => {
      bytes[setupSize + payload!.offset + (payload!.length >> 1)]! ^= 0x20;
    });
    expect(await PayloadAhead.now(image)).toBeNull();
    expect(await PayloadAhead.now({ ...image, payload: null })).toBeNull();
    const unknown = { ...image.payload!, outputLength: null };
    expect(await PayloadAhead.now({ ...image, payload: unknown })).toBeNull();
  });
});
