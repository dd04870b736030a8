import { spawnSync } from 'node:child_process';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import type { CodecName } from '../codecs/codec.ts';
import { readSetupHeader } from '../protocol/setup-header.ts';
import { findPayload } from './payload.ts';
import { makeBootImage, makeElf, noise } from './test-images.ts';

const KERNEL = makeElf(32, noise(5000, 7));

/** The command lines with which the kernel's build compresses. */
const TOOLS: Readonly<Record<CodecName, readonly string[]>> = {
  gzip: ['gzip', '-n', '-9', '-c'],
  bzip2: ['bzip2', '-9', '-c'],
  lzma: ['xz', '--format=lzma', '-9', '-c'],
  xz: ['xz', '--check=crc32', '--x86', '--lzma2=preset=6', '-c'],
  lzo: ['lzop', '-9', '-c'],
  lz4: ['lz4', '-l', '-9', '-c'],
  zstd: ['zstd', '-22', '--ultra', '-c'],
};

function compress(codec: CodecName): Buffer | null {
  const [command = '', ...options] = TOOLS[codec];
  const result = spawnSync(command, options, { input: KERNEL });
  return result.status === 0 ? result.stdout : null;
}

/** The stream behind `before` bytes of code, with the decompressed length that the build appends to all but gzip. */
function codeWith(stream: Uint8Array, before: Uint8Array, appendLength: boolean): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(KERNEL.length);
  return Buffer.concat([
    before,
    stream,
    appendLength ? length : Buffer.alloc(0),
    new Uint8Array(32).fill(0xcc),
  ]);
}

for (const codec of Object.keys(TOOLS) as CodecName[]) {
  const stream = compress(codec);
  describe.skipIf(stream === null)(`a payload in ${codec} (needs ${TOOLS[codec][0]})`, () => {
    const length = (stream?.length ?? 0) + (codec === 'gzip' ? 0 : 4);
    const code = codeWith(stream ?? new Uint8Array(0), noise(200, 3), codec !== 'gzip');

    it('is where the header says it is', async () => {
      const header = readSetupHeader(
        makeBootImage({ protocol: 0x0208, fields: { payload_offset: 200, payload_length: length } }),
      );
      expect(await findPayload(header, code)).toEqual({
        codec,
        offset: 200,
        length,
        outputLength: KERNEL.length,
        source: 'header',
      });
    });

    it('is found by its magic in an older image', async () => {
      const header = readSetupHeader(makeBootImage({ protocol: 0x0203 }));
      expect(await findPayload(header, code)).toMatchObject({ codec, offset: 200, source: 'magic' });
    });

    it('is measured by the length that the build links in front of it', async () => {
      const before = Buffer.concat([noise(196, 3), Buffer.alloc(4)]);
      before.writeUInt32LE(length, 196);
      const header = readSetupHeader(makeBootImage({ protocol: 0x0203 }));
      const found = await findPayload(
        header,
        codeWith(stream ?? new Uint8Array(0), before, codec !== 'gzip'),
      );
      expect(found).toEqual({ codec, offset: 200, length, outputLength: KERNEL.length, source: 'magic' });
    });
  });
}

describe('the search for a payload', () => {
  const old = readSetupHeader(makeBootImage({ protocol: 0x0203 }));
  const stream = gzipSync(KERNEL);

  it('measures a gzip stream without a length before it by reading it', async () => {
    expect(await findPayload(old, codeWith(stream, noise(99), false))).toEqual({
      codec: 'gzip',
      offset: 99,
      length: stream.length,
      outputLength: KERNEL.length,
      source: 'magic',
    });
  });

  it('passes by a gzip magic that no deflate stream follows', async () => {
    const impostor = Buffer.concat([Buffer.from('1f8b0800000000000003', 'hex'), noise(500, 5)]);
    expect((await findPayload(old, codeWith(stream, impostor, false)))?.offset).toBe(impostor.length);
  });

  it('finds nothing in code without a stream', async () => {
    expect(await findPayload(old, noise(0x10000))).toBeNull();
    expect(await findPayload(old, new Uint8Array(0))).toBeNull();
    expect(await findPayload(old, Uint8Array.of(0x1f, 0x8b, 0x08))).toBeNull();
  });

  it('ends on code that is nothing but magics', async () => {
    const magics = Buffer.alloc(0x100000, Buffer.from('1f8b08001f8b08005d0000', 'hex'));
    expect(await findPayload(old, magics)).toBeNull();
  });

  it('does not search where the header names a payload of unknown format', async () => {
    const header = readSetupHeader(
      makeBootImage({ protocol: 0x0208, fields: { payload_offset: 16, payload_length: 64 } }),
    );
    expect(await findPayload(header, codeWith(stream, noise(200), false))).toBeNull();
  });

  it('takes no length for true that a compressed stream of that size cannot have', async () => {
    const code = codeWith(stream, new Uint8Array(0), false);
    code.writeUInt32LE(7, stream.length - 4);
    const header = readSetupHeader(
      makeBootImage({ protocol: 0x0208, fields: { payload_offset: 0, payload_length: 0 } }),
    );
    expect((await findPayload(header, code))?.outputLength ?? null).toBeNull();
  });
});
