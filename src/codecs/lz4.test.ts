// What is particular to lz4's legacy frame: it has no end mark, no checksum and no length.

import { describe, expect, it } from 'vitest';
import { lz4 } from './lz4.ts';
import { compress, concatenate, hasTool, noise, RECIPES } from './test-streams.ts';

const MAGIC = Uint8Array.of(0x02, 0x21, 0x4c, 0x18);
const MEGABYTE = 1024 * 1024;
const recipe = RECIPES.find(({ codec }) => codec === 'lz4')!;

function word(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

/** One block of literals: token, length bytes, bytes. */
function literalBlock(plain: Uint8Array): Uint8Array {
  if (plain.length < 15) return concatenate(Uint8Array.of(plain.length << 4), plain);
  const rest = plain.length - 15;
  const length = [...new Array<number>(Math.floor(rest / 255)).fill(255), rest % 255];
  return concatenate(Uint8Array.of(0xf0, ...length), plain);
}

function frame(...blocks: readonly Uint8Array[]): Uint8Array {
  return concatenate(MAGIC, ...blocks.flatMap((block) => [word(block.length), block]));
}

async function decompress(stream: Uint8Array, limit: number, portable: boolean) {
  const output = new Uint8Array(limit);
  const { bytesRead, bytesWritten } = await lz4.decompress(stream, output, { portable });
  return { bytesRead, plain: output.subarray(0, bytesWritten) };
}

describe.each([
  ['natively', false],
  ['portably', true],
])('lz4 %s', (_way, portable) => {
  it('decompresses frames one behind the other', async () => {
    const plain = noise(1000, 5);
    const stream = concatenate(
      frame(literalBlock(plain.subarray(0, 10))),
      frame(literalBlock(plain.subarray(10, 500)), literalBlock(plain.subarray(500))),
    );
    const result = await decompress(concatenate(stream, word(1000)), 1000, portable);
    expect(result.bytesRead).toBe(stream.length);
    expect(Buffer.compare(result.plain, plain)).toBe(0);
  });

  it.skipIf(!hasTool(recipe.tool))('decompresses blocks of 8 MiB up to a last one of any size', async () => {
    for (const length of [8 * MEGABYTE - 1, 8 * MEGABYTE, 8 * MEGABYTE + 1, 17 * MEGABYTE]) {
      const plain = noise(length, 6).fill(0x90, 1000, length - 1000);
      const stream = compress(recipe, plain);
      for (const tail of [new Uint8Array(0), word(length), new Uint8Array(64)]) {
        const result = await decompress(concatenate(stream, tail), length, portable);
        expect(result.bytesRead).toBe(stream.length);
        expect(Buffer.compare(result.plain, plain)).toBe(0);
      }
    }
  });

  it.skipIf(!hasTool(recipe.tool))('decompresses a whole block that does not compress', async () => {
    const plain = noise(8 * MEGABYTE, 9);
    const stream = compress(recipe, plain);
    expect(stream.length).toBeGreaterThan(8 * MEGABYTE);
    const result = await decompress(concatenate(stream, word(plain.length)), plain.length, portable);
    expect(result.bytesRead).toBe(stream.length);
    expect(Buffer.compare(result.plain, plain)).toBe(0);
  });

  it('takes an appended length for what it is even where it could be the length of a block', async () => {
    const stream = frame(literalBlock(noise(100, 8)));
    for (const tail of [word(100), concatenate(word(100), new Uint8Array(200).fill(0x11))]) {
      expect((await decompress(concatenate(stream, tail), 100, portable)).bytesRead).toBe(stream.length);
    }
  });

  it.each([
    ['a match before the first byte', [0x00, 0x01, 0x00], 'codec-corrupt'],
    ['a match 0 bytes back', [0x10, 0x41, 0x00, 0x00, 0x10, 0x41], 'codec-corrupt'],
    ['a match beyond what was written', [0x10, 0x41, 0x02, 0x00, 0x10, 0x41], 'codec-corrupt'],
    ['literals beyond the block', [0x50, 0x41], 'codec-corrupt'],
    ['a literal length that does not end', [0xf0, 0xff, 0xff], 'codec-corrupt'],
    ['a match length that does not end', [0x1f, 0x41, 0x01, 0x00, 0xff, 0xff], 'codec-corrupt'],
    ['half a match offset', [0x10, 0x41, 0x01], 'codec-corrupt'],
    ['a match at its end', [0x10, 0x41, 0x01, 0x00], 'codec-corrupt'],
    ['more than the output takes', [0xb0, ...new Array<number>(11).fill(0x41)], 'codec-output-limit'],
    ['a match that passes the output', [0x1a, 0x41, 0x01, 0x00, 0x10, 0x41], 'codec-output-limit'],
  ])('refuses a block with %s', async (_what, bytes, code) => {
    await expect(decompress(frame(Uint8Array.from(bytes)), 10, portable)).rejects.toMatchObject({ code });
  });

  it('refuses a block of more than 8 MiB', async () => {
    const long = [0x1f, 0x41, 0x01, 0x00, ...new Array<number>(33_000).fill(255), 0, 0x10, 0x41];
    const stream = frame(Uint8Array.from(long));
    await expect(decompress(stream, 9 * MEGABYTE, portable)).rejects.toMatchObject({ code: 'codec-corrupt' });
  });

  it('refuses a block length that no block of 8 MiB can have', async () => {
    const stream = concatenate(MAGIC, word(0x7fffffff), new Uint8Array(100));
    await expect(decompress(stream, 100, portable)).rejects.toMatchObject({ code: 'codec-corrupt' });
  });
});
