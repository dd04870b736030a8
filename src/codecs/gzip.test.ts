// What is particular to gzip: the fields of its header and trailer, and an expansion of a thousand times.

import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { crc32 } from './checksums.ts';
import { gzip } from './gzip.ts';
import { CONTENTS, concatenate } from './test-streams.ts';

const text = CONTENTS.get('text')!;
const plain = gzipSync(text);

/** The same member with other flags and more fields in its header. */
function withFields(flags: number, ...fields: readonly (number | string)[]): Uint8Array {
  const bytes = fields.flatMap((field) => (typeof field === 'string' ? [...Buffer.from(field)] : [field]));
  const header = Uint8Array.from(plain.subarray(0, 10)).with(3, flags);
  return concatenate(header, Uint8Array.from(bytes), plain.subarray(10));
}

describe.each([
  ['natively', false],
  ['portably', true],
])('gzip %s', (_way, portable) => {
  const decompress = (stream: Uint8Array, limit = text.length) =>
    gzip.decompress(stream, new Uint8Array(limit), { portable });

  it.each([
    ['a name', withFields(0x08, 'vmlinux.bin\0')],
    ['a name and a comment', withFields(0x18, 'a\0', 'b\0')],
    ['an extra field', withFields(0x04, 3, 0, 'xyz')],
    ['everything, with a CRC16', withCrc16(withFields(0x1e, 2, 0, 'xy', 'a\0', 'b\0', 0, 0), 18)],
  ])('skips %s in the header', async (_what, stream) => {
    expect(await decompress(stream)).toEqual({ bytesRead: stream.length, bytesWritten: text.length });
  });

  it.each([
    ['a CRC16 that does not match', withFields(0x02, 1, 2), 'codec-checksum'],
    ['a name without end', withFields(0x08).subarray(0, 14).fill(1, 10), 'codec-truncated'],
    ['another CRC32', patched(-8), 'codec-checksum'],
    ['another length', patched(-4), 'codec-corrupt'],
    ['a reserved flag', withFields(0x20), 'codec-corrupt'],
  ])('refuses %s', async (_what, stream, code) => {
    await expect(decompress(stream)).rejects.toMatchObject({ code });
  });

  it('decompresses one member and leaves the next alone', async () => {
    const result = await decompress(concatenate(plain, plain), 2 * text.length);
    expect(result).toEqual({ bytesRead: plain.length, bytesWritten: text.length });
  });

  it('fills an output far larger than its input, whatever stands behind it', async () => {
    const zeros = new Uint8Array(20_000_000);
    const stream = concatenate(gzipSync(zeros), new Uint8Array(1000).fill(0xff));
    const output = new Uint8Array(30_000_000).fill(1);
    const { bytesWritten } = await gzip.decompress(stream, output, { portable });
    expect(bytesWritten).toBe(zeros.length);
    expect(output.indexOf(1)).toBe(zeros.length);
    await expect(decompress(stream, 10_000_000)).rejects.toMatchObject({ code: 'codec-output-limit' });
  });
});

function withCrc16(stream: Uint8Array, offset: number): Uint8Array {
  const sum = crc32(stream.subarray(0, offset));
  return stream.with(offset, sum & 0xff).with(offset + 1, (sum >>> 8) & 0xff);
}

function patched(offset: number): Uint8Array {
  return Uint8Array.from(plain).with(offset, plain.at(offset)! ^ 1);
}
