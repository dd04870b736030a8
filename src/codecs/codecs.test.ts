// All codecs against what the real tools write: sound, cut, damaged and too large, natively and portably.

import { describe, expect, it } from 'vitest';
import { BootscopeError } from '../error.ts';
import type { Codec, CodecName, DecompressOptions, DecompressResult } from './codec.ts';
import { CODEC_NAMES, codecByName, detectCodec } from './registry.ts';
import {
  CONTENTS,
  compress,
  concatenate,
  hasTool,
  RECIPES,
  type Recipe,
  randomNumbers,
} from './test-streams.ts';

const CANARY = 0xa5;
const WAYS: readonly (readonly [string, DecompressOptions])[] = [
  ['natively', {}],
  ['portably', { portable: true }],
];
const missing = (recipe: Recipe) => !hasTool(recipe.tool);
/** The first recipe of a format is the kernel's own. */
const KERNEL_RECIPES = CODEC_NAMES.map((name) => RECIPES.find((recipe) => recipe.codec === name)!);

/** Decompresses into the middle of a larger array and checks that nothing around it was touched, nor the input. */
async function run(codec: Codec, stream: Uint8Array, limit: number, options: DecompressOptions) {
  const memory = new Uint8Array(limit + 128).fill(CANARY);
  const output = memory.subarray(64, 64 + limit);
  const before = Uint8Array.from(stream);
  let result: DecompressResult | null = null;
  let error: BootscopeError | null = null;
  try {
    result = await codec.decompress(stream, output, options);
  } catch (thrown) {
    if (!(thrown instanceof BootscopeError)) throw thrown;
    error = thrown;
  }
  expect(Buffer.compare(stream, before), 'the input was changed').toBe(0);
  expect(memory.subarray(0, 64).every((byte) => byte === CANARY)).toBe(true);
  expect(memory.subarray(64 + limit).every((byte) => byte === CANARY)).toBe(true);
  return { result, error, output };
}

/** Where lzop's header and its first block have their checksums, by the header's fields; without a file name. */
function lzopChecksums(stream: Uint8Array): readonly number[] {
  const header = 9 + 2 + 2 + 2 + 1 + 1 + 4 + 12 + 1 + stream[33]!;
  const blocksHaveOne = (stream[20]! & 1) !== 0;
  return blocksHaveOne ? [header, header + 4 + 8] : [header];
}

function lengthWord(length: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(length).buffer);
}

describe.each(WAYS)('%s', (_way, options) => {
  for (const recipe of RECIPES) {
    describe.skipIf(missing(recipe))(`what \`${recipe.name}\` writes`, () => {
      it.each([...CONTENTS.keys()])('is decompressed and ends where the stream ends: %s', async (content) => {
        const plain = CONTENTS.get(content)!;
        const stream = compress(recipe, plain);
        const codec = await codecByName(recipe.codec);
        expect(detectCodec(stream)).toBe(recipe.codec);
        // The kernel's build appends the length.
        const payload = concatenate(stream, lengthWord(plain.length));
        const { result, output } = await run(codec, payload, plain.length + 1000, options);
        expect(result).toEqual({ bytesRead: stream.length, bytesWritten: plain.length });
        expect(Buffer.compare(output.subarray(0, plain.length), plain)).toBe(0);
      });

      it.skipIf(!['gzip', 'lzo'].includes(recipe.codec))(
        'is taken with other checksums where the kernel does not look at them',
        async () => {
          const plain = CONTENTS.get('text')!;
          const stream = Uint8Array.from(compress(recipe, plain));
          // gzip: the trailer's CRC. lzop: the Adler-32 of the header and of the first block, which follow the lengths.
          const offsets = recipe.codec === 'gzip' ? [stream.length - 8] : lzopChecksums(stream);
          for (const offset of offsets) stream[offset]! ^= 1;
          const codec = await codecByName(recipe.codec);
          const checked = await run(codec, stream, plain.length, options);
          expect(checked.error?.code).toBe('codec-checksum');
          const { result, output } = await run(codec, stream, plain.length, { ...options, unchecked: true });
          expect(result).toEqual({ bytesRead: stream.length, bytesWritten: plain.length });
          expect(Buffer.compare(output, plain)).toBe(0);
        },
      );

      it('fits an output of exactly its size and no smaller one', async () => {
        const codec = await codecByName(recipe.codec);
        for (const plain of [CONTENTS.get('text')!, CONTENTS.get('noise')!]) {
          const stream = compress(recipe, plain);
          const fitting = await run(codec, stream, plain.length, options);
          expect(fitting.result?.bytesWritten).toBe(plain.length);
          for (const less of [1, 100, plain.length - 1, plain.length]) {
            const { error } = await run(codec, stream, plain.length - less, options);
            expect(error?.code, error?.message).toBe('codec-output-limit');
          }
        }
      });

      it('may hold nothing', async () => {
        const codec = await codecByName(recipe.codec);
        const stream = compress(recipe, new Uint8Array(0));
        const { result } = await run(codec, stream, 10, options);
        expect(result).toEqual({ bytesRead: stream.length, bytesWritten: 0 });
      });
    });
  }

  for (const recipe of KERNEL_RECIPES) {
    describe.skipIf(missing(recipe))(`damage to what \`${recipe.name}\` writes`, () => {
      it('is called a cut wherever the stream is cut', async () => {
        const codec = await codecByName(recipe.codec);
        const plain = CONTENTS.get('text')!;
        const stream = compress(recipe, plain);
        for (let length = 0; length < stream.length; length++) {
          const { error } = await run(codec, stream.subarray(0, length), plain.length, options);
          // A legacy lz4 frame has no end: cut behind its magic it is one without blocks.
          if (recipe.codec === 'lz4' && length >= 4 && length < 8) continue;
          expect(error?.code, `${length} of ${stream.length}: ${error?.message}`).toBe('codec-truncated');
        }
      });

      it('is noticed, or changes nothing, wherever a checksum covers it', async () => {
        const codec = await codecByName(recipe.codec);
        const plain = CONTENTS.get('code')!.subarray(0, 30_000);
        const stream = compress(recipe, plain);
        const random = randomNumbers(42);
        for (let round = 0; round < 120; round++) {
          const bad = Uint8Array.from(stream);
          const offset = round < 60 ? round % bad.length : random(bad.length);
          bad[offset]! ^= 1 << random(8);
          const { result, error, output } = await run(codec, bad, plain.length, options);
          if (error !== null) {
            expect(error.code).toMatch(/^codec-(corrupt|truncated|checksum|output-limit)$/);
          } else if (!['lzma', 'lz4'].includes(recipe.codec)) {
            expect(result?.bytesWritten, `flip at ${offset}`).toBe(plain.length);
            expect(Buffer.compare(output, plain), `flip at ${offset}`).toBe(0);
          }
        }
      });

      it('is survived where it is thorough', async () => {
        const codec = await codecByName(recipe.codec);
        const plain = CONTENTS.get('code')!.subarray(0, 20_000);
        const stream = compress(recipe, plain);
        const random = randomNumbers(4711);
        for (let round = 0; round < 60; round++) {
          const bad = Uint8Array.from(stream);
          // The magic stays, so that the rest is looked at.
          for (let count = 1 + random(20); count > 0; count--) {
            const start = 10 + random(bad.length - 10);
            bad.fill([0, 0xff, random(256)][random(3)]!, start, start + 1 + random(12));
          }
          const { result, error } = await run(codec, bad, plain.length * 2, options);
          if (error === null) expect(result!.bytesWritten).toBeLessThanOrEqual(plain.length * 2);
        }
      });
    });
  }

  it.each(CODEC_NAMES)('calls bytes that are no %s stream damaged, and no bytes cut', async (name) => {
    const codec = await codecByName(name);
    const foreign = new TextEncoder().encode('MZ, which is not the start of a compressed stream.');
    expect(codec.matches(foreign)).toBe(false);
    expect((await run(codec, foreign, 100, options)).error?.code).toBe('codec-corrupt');
    expect((await run(codec, new Uint8Array(0), 100, options)).error?.code).toBe('codec-truncated');
  });

  const present = CODEC_NAMES.filter((_name, index) => !missing(KERNEL_RECIPES[index]!));
  it.each(present)('decompresses several %s streams at once and after a failed one', async (name) => {
    const recipe = KERNEL_RECIPES.find(({ codec }) => codec === name)!;
    const codec = await codecByName(name);
    const plain = CONTENTS.get('code')!.subarray(0, 400_000);
    const stream = compress(recipe, plain);
    const bad = Uint8Array.from(stream).fill(0x55, stream.length >> 1, (stream.length >> 1) + 3000);
    const runs = await Promise.all(
      [stream, bad, stream, bad, stream].map((input) => run(codec, input, plain.length, options)),
    );
    const sound = runs.filter((_run, index) => index % 2 === 0);
    for (const { result, output } of sound) {
      expect(result?.bytesWritten).toBe(plain.length);
      expect(Buffer.compare(output, plain)).toBe(0);
    }
  });
});

describe('detectCodec', () => {
  it('knows no codec in an ELF file, a PE file, zeros or nothing', () => {
    for (const start of ['\x7fELF', 'MZ', '\0\0\0\0', '']) {
      expect(
        detectCodec(new TextEncoder().encode(start.padEnd(start.length === 0 ? 0 : 32, '\0'))),
      ).toBeNull();
    }
  });

  it('tells a .lzma header with a possible dictionary and size from bytes that only start like one', () => {
    const header = (dictionary: number, ...size: number[]) => withProperties(0x5d, dictionary, ...size);
    const withProperties = (properties: number, dictionary: number, ...size: number[]) =>
      new Uint8Array([properties, ...lengthWord(dictionary), ...size, 0, 0, 0]);
    const unknown = new Array<number>(8).fill(0xff);
    const expected: readonly (readonly [Uint8Array, CodecName | null])[] = [
      [header(2 ** 25, ...unknown), 'lzma'],
      [header(2 ** 22 + 2 ** 21, ...unknown), 'lzma'],
      [header(2 ** 23, 0, 0, 0x40, 0, 0, 0, 0, 0), 'lzma'],
      [header(2 ** 23 + 2 ** 20, ...unknown), null],
      [header(2 ** 23, 0, 0, 0, 0, 0, 0, 0, 0x10), null],
      [header(0, ...unknown), null],
      [withProperties(0x2d, 2 ** 26, ...unknown), 'lzma'],
      [withProperties(0, 2 ** 16, ...unknown), 'lzma'],
      [withProperties(0xe0, 2 ** 16, ...unknown), 'lzma'],
      [withProperties(0xe1, 2 ** 16, ...unknown), null],
    ];
    for (const [bytes, name] of expected) expect(detectCodec(bytes)).toBe(name);
  });
});
