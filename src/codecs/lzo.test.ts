// What is particular to lzop's format: its header's versions, stored blocks, and every instruction of LZO1X.

import { describe, expect, it } from 'vitest';
import { adler32 } from './checksums.ts';
import { lzo } from './lzo.ts';
import { decodeLzo1x } from './lzo1x.ts';
import { compress, concatenate, hasTool, RECIPES } from './test-streams.ts';

const MAGIC = Uint8Array.of(0x89, 0x4c, 0x5a, 0x4f, 0x00, 0x0d, 0x0a, 0x1a, 0x0a);

function bigEndian(...words: readonly number[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(words.length * 4));
  for (const [index, value] of words.entries()) view.setUint32(index * 4, value);
  return new Uint8Array(view.buffer);
}

/** A file around stored blocks; `fields` are those between the magic and the header's checksum. */
function file(fields: readonly number[], ...blocks: readonly Uint8Array[]): Uint8Array {
  const header = Uint8Array.from(fields);
  return concatenate(MAGIC, header, bigEndian(adler32(header)), ...blocks, bigEndian(0));
}

function decode(bytes: readonly number[], length: number): Uint8Array {
  const output = new Uint8Array(length);
  decodeLzo1x(Uint8Array.from(bytes), output, 0);
  return output;
}

const ascii = (text: string) => [...new TextEncoder().encode(text)];
const END = [0x11, 0, 0];

describe('lzo', () => {
  // Version 0x0900: no version needed, no level, no upper half of the time.
  const oldHeader = [0x09, 0x00, 0x20, 0x80, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0x61, 0x2e, 0x62];
  const text = Uint8Array.from(ascii('stored as it is'));

  it('reads the header of old versions, with a file name, and a stored block', async () => {
    const block = concatenate(bigEndian(text.length, text.length, adler32(text)), text);
    const stream = file(oldHeader, block);
    const output = new Uint8Array(100);
    const result = await lzo.decompress(concatenate(stream, Uint8Array.of(1, 2, 3, 4)), output);
    expect(result).toEqual({ bytesRead: stream.length, bytesWritten: text.length });
    expect(Buffer.compare(output.subarray(0, text.length), text)).toBe(0);
  });

  it('names a checksum of a block that does not match', async () => {
    const block = concatenate(bigEndian(text.length, text.length, adler32(text) ^ 1), text);
    await expect(lzo.decompress(file(oldHeader, block), new Uint8Array(100))).rejects.toMatchObject({
      code: 'codec-checksum',
      message: expect.stringContaining('Adler-32 of the block at'),
    });
  });

  it('refuses a damaged header, an unknown method, a filter and a block that grew', async () => {
    const changed = (offset: number, value: number) => oldHeader.with(offset, value);
    const cases: readonly (readonly [Uint8Array, string])[] = [
      [file(oldHeader).fill(0xff, 20, 21), 'codec-checksum'],
      [file(changed(4, 0x80)), 'codec-corrupt'],
      [file(changed(7, 0x08)), 'codec-corrupt'],
      [file(oldHeader, bigEndian(4, 5, 0, 0, 0)), 'codec-corrupt'],
      [file(oldHeader, bigEndian(0x7fffffff, 4, 0, 0, 0)), 'codec-corrupt'],
    ];
    for (const [stream, code] of cases) {
      await expect(lzo.decompress(stream, new Uint8Array(100))).rejects.toMatchObject({ code });
    }
  });

  it.skipIf(!hasTool('lzop'))('verifies the checksums of both sides of a block', async () => {
    const recipe = RECIPES.find(({ name }) => name === 'lzop -1 --crc32')!;
    const plain = new Uint8Array(5000).fill(0x20);
    const stream = compress(recipe, plain);
    // The last block ends four bytes before the end, in its compressed data.
    const bad = Uint8Array.from(stream);
    bad[stream.length - 10]! ^= 1;
    await expect(lzo.decompress(bad, new Uint8Array(5000))).rejects.toBeDefined();
  });
});

describe('LZO1X', () => {
  const first = (text: string) => [text.length + 17, ...ascii(text)];

  it.each<readonly [string, readonly number[], string]>([
    ['a first literal run of 4 and more', [...first('abcd'), ...END], 'abcd'],
    ['a first run of 3 and a match of 2 within 1 KiB', [...first('abc'), 0x08, 0x00, ...END], 'abcab'],
    ['a long literal run', [0x01, ...ascii('wxyz'), ...END], 'wxyz'],
    [
      'a literal run longer than 18',
      [0x00, 0x03, ...ascii('abcdefghijklmnopqrstu'), ...END],
      'abcdefghijklmnopqrstu',
    ],
    ['a match of 3 to 4 within 2 KiB', [...first('abcd'), 0x6c, 0x00, ...END], 'abcdabcd'],
    ['a match of 5 to 8 that overlaps itself', [...first('abcd'), 0xe0, 0x00, ...END], 'abcddddddddd'],
    ['literals behind a match', [...first('abcd'), 0x4e, 0x00, ...ascii('XY'), ...END], 'abcdabcXY'],
    ['a match within 16 KiB', [...first('abcd'), 0x23, 0x0c, 0x00, ...END], 'abcdabcda'],
    [
      'a long match within 16 KiB',
      [...first('abcd'), 0x20, 0x01, 0x00, 0x00, ...END],
      `abcd${'d'.repeat(34)}`,
    ],
  ])('decodes %s', (_what, bytes, text) => {
    expect(new TextDecoder().decode(decode(bytes, text.length))).toBe(text);
  });

  it('reaches back 2 to 3 KiB after a long literal run, and up to 48 KiB', () => {
    const filler = Array.from({ length: 2050 }, (_, index) => index & 0xff);
    // 2050 = 18 + 7 * 255 + 247 literals, then a match of 3 bytes 2049 back.
    const near = decode([0, ...new Array<number>(7).fill(0), 247, ...filler, 0x00, 0x00, ...END], 2053);
    expect([...near.subarray(2050)]).toEqual(filler.slice(1, 4));
    const far = new Array<number>(16_400).fill(0).map((_, index) => (index * 7) & 0xff);
    const zeros = new Array<number>(Math.floor((16_400 - 18 - 1) / 255)).fill(0);
    const last = 16_400 - 18 - zeros.length * 255;
    const output = decode([0, ...zeros, last, ...far, 0x12, 0x20, 0x00, ...END], 16_404);
    expect([...output.subarray(16_400)]).toEqual(far.slice(16_400 - 16_392, 16_400 - 16_388));
  });

  it.each<readonly [string, readonly number[]]>([
    ['nothing', []],
    ['no end', first('abcd')],
    ['half an instruction', [...first('abcd'), 0x20]],
    ['literals beyond its end', [0x30, 0x41]],
    ['a match before the first byte', [0x40, 0x00, ...END]],
    ['a match too far back', [...first('abcd'), 0x7c, 0x00, ...END]],
    ['less than its length says', [...first('abc'), ...END]],
    ['more than its length says', [...first('abcdefghijklmnop'), ...END]],
    ['bytes behind its end', [...first('abcd'), ...END, 0]],
    ['an end of another length', [...first('abcd'), 0x12, 0, 0]],
    ['a length that does not end', [0x00, ...new Array<number>(1000).fill(0)]],
  ])('refuses a block with %s', (_what, bytes) => {
    expect(() => decode(bytes, 8)).toThrow(expect.objectContaining({ code: 'codec-corrupt' }));
  });
});
