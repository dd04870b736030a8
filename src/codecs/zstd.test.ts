// What is particular to Zstandard: frame headers of every size, and frames that promise more than they hold.

import { describe, expect, it } from 'vitest';
import { CONTENTS, compress, concatenate, filter, hasTool, RECIPES } from './test-streams.ts';
import { zstd } from './zstd.ts';

const recipe = RECIPES.find(({ codec }) => codec === 'zstd')!;
const plain = CONTENTS.get('code')!;
const MAGIC = [0x28, 0xb5, 0x2f, 0xfd];

describe.each([
  ['natively', false],
  ['portably', true],
])('zstd %s', (_way, portable) => {
  const decompress = (stream: Uint8Array, limit = plain.length) =>
    zstd.decompress(stream, new Uint8Array(limit), { portable });

  it.skipIf(!hasTool('zstd'))('reads a content size of every width', async () => {
    for (const length of [100, 255, 256, 1000, 65_791, 65_792, 1_000_000]) {
      const part = plain.subarray(0, length);
      const stream = filter('zstd', ['-3', `--stream-size=${length}`, '-c'], part);
      const output = new Uint8Array(length);
      expect(await zstd.decompress(stream, output, { portable })).toEqual({
        bytesRead: stream.length,
        bytesWritten: length,
      });
      expect(Buffer.compare(output, part)).toBe(0);
      await expect(decompress(stream, length - 1)).rejects.toMatchObject({
        code: 'codec-output-limit',
        message: expect.stringContaining(`holds ${length} bytes`),
      });
    }
  });

  it.skipIf(!hasTool('zstd'))('names a checksum that does not match', async () => {
    const stream = compress(recipe, plain);
    const bad = stream.with(-1, stream.at(-1)! ^ 1);
    await expect(decompress(bad)).rejects.toMatchObject({ code: 'codec-checksum' });
  });

  it.skipIf(!hasTool('zstd'))('decompresses one frame and leaves the next alone', async () => {
    const stream = compress(recipe, plain);
    const { bytesRead } = await decompress(concatenate(stream, stream), 3 * plain.length);
    expect(bytesRead).toBe(stream.length);
  });

  it.each([
    // Frame header descriptor, window of 1 KiB, then blocks: 24 bits of last, type and size.
    ['a reserved block type', [0x00, 0x00, 0x07, 0x00, 0x00], 'codec-corrupt'],
    ['a block of more than 128 KiB', [0x00, 0x00, 0x01, 0x10, 0x10], 'codec-corrupt'],
    ['a reserved bit in its header', [0x08, 0x00, 0x01, 0x00, 0x00], 'codec-corrupt'],
    ['a dictionary', [0x01, 0x00, 0x2a, 0x01, 0x00, 0x00], 'codec-corrupt'],
    ['more content in its header than in its blocks', [0x20, 0x05, 0x01, 0x00, 0x00], 'codec-corrupt'],
    [
      'a checksum of no content that does not match',
      [0x24, 0x00, 0x01, 0x00, 0x00, 1, 2, 3, 4],
      'codec-checksum',
    ],
    ['repeated bytes beyond the output', [0x00, 0x00, 0x03, 0x00, 0x10, 0x61], 'codec-output-limit'],
    ['compressed bytes that are none', [0x00, 0x00, 0x25, 0x00, 0x00, 9, 9, 9, 9], 'codec-corrupt'],
    ['no last block', [0x00, 0x00, 0x08, 0x00, 0x00, 0x61], 'codec-truncated'],
  ])('refuses a frame with %s', async (_what, bytes, code) => {
    await expect(decompress(Uint8Array.from([...MAGIC, ...bytes]), 1000)).rejects.toMatchObject({ code });
  });

  it('decompresses raw and repeated blocks, and nothing at all', async () => {
    const raw = Uint8Array.from([...MAGIC, 0x00, 0x00, 0x10, 0x00, 0x00, 0x61, 0x62, 0x1b, 0x00, 0x00, 0x63]);
    const output = new Uint8Array(10);
    expect(await zstd.decompress(raw, output, { portable })).toEqual({
      bytesRead: raw.length,
      bytesWritten: 5,
    });
    expect(new TextDecoder().decode(output.subarray(0, 5))).toBe('abccc');
    const empty = Uint8Array.from([...MAGIC, 0x24, 0x00, 0x01, 0x00, 0x00, 0x99, 0xe9, 0xd8, 0x51]);
    expect(await decompress(empty, 0)).toEqual({ bytesRead: empty.length, bytesWritten: 0 });
  });

  it('asks for no more memory than its blocks can fill, whatever window it names', async () => {
    const window = Uint8Array.from([...MAGIC, 0x00, 0xf8, 0x08 | 1, 0x00, 0x00, 0x61]);
    await expect(decompress(window, 1000)).rejects.toMatchObject({ code: 'codec-corrupt' });
  });
});
