// What is particular to .lzma: sizes known and unknown, end markers, and headers that ask for much.

import { describe, expect, it } from 'vitest';
import { lzma } from './lzma.ts';
import { CONTENTS, compress, concatenate, filter, hasTool, RECIPES } from './test-streams.ts';

const recipe = RECIPES.find(({ codec }) => codec === 'lzma')!;
const plain = CONTENTS.get('code')!.subarray(0, 50_000);

/** The stream with another size in its header; null for unknown. */
function withSize(stream: Uint8Array, size: bigint | null): Uint8Array {
  const copy = Uint8Array.from(stream);
  new DataView(copy.buffer).setBigUint64(5, size ?? 0xffff_ffff_ffff_ffffn, true);
  return copy;
}

describe.skipIf(!hasTool('xz')).each([
  ['natively', false],
  ['portably', true],
])('lzma %s', (_way, portable) => {
  const decompress = (stream: Uint8Array, limit = plain.length) =>
    lzma.decompress(stream, new Uint8Array(limit), { portable });

  it('takes an end marker behind an unknown and behind a known size', async () => {
    const unknown = compress(recipe, plain);
    const known = withSize(unknown, BigInt(plain.length));
    const result = { bytesRead: unknown.length, bytesWritten: plain.length };
    expect(await decompress(unknown)).toEqual(result);
    expect(await decompress(known)).toEqual(result);
    expect(await decompress(unknown, 100_000)).toEqual(result);
  });

  it('refuses an end marker where the size says otherwise, and bytes beyond the size', async () => {
    const stream = compress(recipe, plain);
    for (const difference of [1n, -1n, -1000n]) {
      const wrong = withSize(stream, BigInt(plain.length) + difference);
      await expect(decompress(wrong, 100_000)).rejects.toMatchObject({ code: 'codec-corrupt' });
    }
  });

  it('allocates nothing for the largest dictionary and refuses a size beyond its output at once', async () => {
    const stream = Uint8Array.from(compress(recipe, plain)).fill(0xff, 1, 5);
    expect((await decompress(stream)).bytesWritten).toBe(plain.length);
    const large = withSize(stream, 2n ** 50n);
    await expect(decompress(large)).rejects.toMatchObject({ code: 'codec-output-limit' });
  });

  it('decodes with every kind of literal and position bits, also those that .xz forbids', async () => {
    for (const [lc, lp, pb] of [
      [0, 0, 0],
      [4, 0, 2],
      [0, 4, 4],
      [1, 2, 3],
      [3, 1, 0],
    ]) {
      const stream = filter('xz', ['--format=lzma', `--lzma1=dict=1MiB,lc=${lc},lp=${lp},pb=${pb}`], plain);
      const output = new Uint8Array(plain.length);
      const { bytesWritten } = await lzma.decompress(stream, output, { portable });
      expect(bytesWritten).toBe(plain.length);
      expect(Buffer.compare(output, plain)).toBe(0);
    }
    const stream = Uint8Array.from(compress(recipe, plain)).fill(8 + 9 * 4, 0, 1);
    await expect(decompress(stream)).rejects.toMatchObject({ code: expect.stringMatching(/^codec-/) });
  });

  it('refuses properties that cannot be', async () => {
    const stream = Uint8Array.from(compress(recipe, plain)).fill(225, 0, 1);
    await expect(decompress(stream)).rejects.toMatchObject({ code: 'codec-corrupt' });
  });

  it('stops at its end marker, whatever follows', async () => {
    const stream = compress(recipe, plain);
    const { bytesRead } = await decompress(concatenate(stream, new Uint8Array(100).fill(0xee)));
    expect(bytesRead).toBe(stream.length);
  });
});
