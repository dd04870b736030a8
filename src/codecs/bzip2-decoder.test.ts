import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { decodeBzip2 } from './bzip2-decoder.ts';

const hasBzip2 = spawnSync('bzip2', ['--help']).error === undefined;
const why = hasBzip2 ? '' : ' (left out: no bzip2)';

/** Text and noise, with runs of each length that the format shortens. */
function someBytes(size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  let state = 1;
  for (let at = 0; at < size; ) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    const run = state % 7 === 0 ? (state >>> 8) % 600 : 1;
    bytes.fill(state >>> 16, at, at + run);
    at += run;
  }
  return bytes;
}

function compress(bytes: Uint8Array, level: number): Uint8Array {
  return spawnSync('bzip2', [`-${level}`], { input: bytes, maxBuffer: 1 << 26 }).stdout;
}

describe.skipIf(why !== '')(`our bzip2 decoder${why}`, () => {
  it.each([
    [1, 0],
    [1, 1],
    [1, 250_000],
    [9, 1_000_000],
  ])('undoes what bzip2 -%i makes of %i bytes', (level, size) => {
    const bytes = someBytes(size);
    const stream = compress(bytes, level);
    const output = new Uint8Array(size);
    expect(decodeBzip2(stream, output)).toEqual({ bytesRead: stream.length, bytesWritten: size });
    expect(Buffer.compare(output, bytes)).toBe(0);
  });

  it('tells a cut stream, a flipped bit and too small an output', () => {
    const stream = compress(someBytes(50_000), 9);
    const output = new Uint8Array(50_000);
    const codes = [
      () => decodeBzip2(stream.subarray(0, stream.length - 100), output),
      () => decodeBzip2(stream.with(stream.length - 2, stream.at(-2)! ^ 0x10), output),
      () => decodeBzip2(stream, output.subarray(1)),
    ].map((decode) => {
      try {
        decode();
        return 'none';
      } catch (error) {
        return (error as { code: string }).code;
      }
    });
    expect(codes).toEqual(['codec-truncated', 'codec-checksum', 'codec-output-limit']);
  });
});
