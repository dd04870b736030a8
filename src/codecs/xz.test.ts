// What is particular to .xz: a container whose every part is checked before anything is decoded.

import { describe, expect, it } from 'vitest';
import { crc32 } from './checksums.ts';
import { CONTENTS, compress, filter, hasTool, RECIPES } from './test-streams.ts';
import { xz } from './xz.ts';

const recipe = RECIPES.find(({ codec }) => codec === 'xz')!;
const plain = CONTENTS.get('code')!.subarray(0, 50_000);
const BLOCK_HEADER = 12;

/** The stream with a byte of its first block header changed and the header's CRC32 made right again. */
function withBlockHeader(stream: Uint8Array, offset: number, value: number): Uint8Array {
  const copy = Uint8Array.from(stream);
  const length = (copy[BLOCK_HEADER]! + 1) * 4 - 4;
  copy[BLOCK_HEADER + offset] = value;
  const sum = crc32(copy.subarray(BLOCK_HEADER, BLOCK_HEADER + length));
  new DataView(copy.buffer).setUint32(BLOCK_HEADER + length, sum, true);
  return copy;
}

describe.skipIf(!hasTool('xz')).each([
  ['natively', false],
  ['portably', true],
])('xz %s', (_way, portable) => {
  const decompress = (stream: Uint8Array, limit = plain.length) =>
    xz.decompress(stream, new Uint8Array(limit), { portable });

  it('needs no memory for a dictionary larger than its output', async () => {
    // Size, flags, x86 filter without properties, LZMA2 with one: the dictionary's code.
    const stream = compress(recipe, plain);
    expect([...stream.subarray(BLOCK_HEADER + 1, BLOCK_HEADER + 6)]).toEqual([1, 0x04, 0, 0x21, 1]);
    for (const code of [40, 39, 30]) {
      expect((await decompress(withBlockHeader(stream, 6, code))).bytesWritten).toBe(plain.length);
    }
    await expect(decompress(withBlockHeader(stream, 6, 41))).rejects.toMatchObject({ code: 'codec-corrupt' });
  });

  it('names a filter that is not read, such as that of IA-64', async () => {
    const stream = withBlockHeader(compress(recipe, plain), 2, 0x06);
    await expect(decompress(stream)).rejects.toMatchObject({
      code: 'codec-corrupt',
      message: expect.stringContaining('filter 0x6 '),
    });
  });

  it('names the checksum of a block, of the index and of the footer that does not match', async () => {
    const stream = compress(recipe, plain);
    const cases = [
      [stream.length - 12, 'CRC32 of the footer'],
      [stream.length - 16, 'CRC32 of the index'],
      [8, 'CRC32 of the stream header'],
      [BLOCK_HEADER + 8, 'CRC32 of the block header'],
      [stream.length - 26, 'CRC32 of the 50000 bytes of the block'],
    ] as const;
    for (const [offset, what] of cases) {
      const bad = stream.with(offset, stream[offset]! ^ 1);
      await expect(decompress(bad)).rejects.toMatchObject({
        code: 'codec-checksum',
        message: expect.stringContaining(what),
      });
    }
  });

  it('says how much it holds before it decodes anything', async () => {
    const stream = compress(recipe, plain);
    await expect(decompress(stream, 49_999)).rejects.toMatchObject({
      code: 'codec-output-limit',
      message: 'the xz stream holds 50000 bytes, more than the 49999 bytes of output',
    });
  });

  it('decompresses one stream and leaves the next alone', async () => {
    const stream = compress(recipe, plain);
    const { bytesRead } = await decompress(Uint8Array.from([...stream, ...stream]), 200_000);
    expect(bytesRead).toBe(stream.length);
  });

  it('undoes the x86 filter anew in each block', async () => {
    const calls = CONTENTS.get('calls')!;
    const stream = filter('xz', ['--threads=1', '--block-size=4099', '--x86', '--lzma2=preset=1'], calls);
    const output = new Uint8Array(calls.length);
    await xz.decompress(stream, output, { portable });
    expect(Buffer.compare(output, calls)).toBe(0);
  });

  it('undoes the x86 filter at every length and for every order of its special bytes', async () => {
    const calls = CONTENTS.get('calls')!;
    for (let length = 1; length < 40; length++) {
      const part = calls.subarray(length * 100, length * 101);
      const output = new Uint8Array(part.length);
      await xz.decompress(filter('xz', ['--x86', '--lzma2=preset=0'], part), output, { portable });
      expect(Buffer.compare(output, part)).toBe(0);
    }
  });
});
