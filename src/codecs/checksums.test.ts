// The checksums against published check values and against Node's own.

import { describe, expect, it } from 'vitest';
import { adler32, crc32, crc64, portableCrc32, sha256 } from './checksums.ts';
import { noise } from './test-streams.ts';

const DIGITS = new TextEncoder().encode('123456789');

describe('checksums', () => {
  it('have the published check values', async () => {
    expect(crc32(DIGITS)).toBe(0xcbf43926);
    expect(portableCrc32(DIGITS)).toBe(0xcbf43926);
    expect(crc64(DIGITS)).toBe(0x995dc9bbdf1939fan);
    expect(adler32(DIGITS)).toBe(0x091e01de);
    expect(Buffer.from(await sha256(DIGITS)).toString('hex')).toBe(
      '15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225',
    );
  });

  it('of nothing are their initial values', () => {
    const nothing = new Uint8Array(0);
    expect([crc32(nothing), portableCrc32(nothing), crc64(nothing), adler32(nothing)]).toEqual([0, 0, 0n, 1]);
  });

  it('continue where they stopped, at any length', () => {
    const bytes = noise(10_007, 3);
    for (const middle of [0, 1, 7, 8, 9, 3799, 3800, 3801, 10_007]) {
      const [head, tail] = [bytes.subarray(0, middle), bytes.subarray(middle)];
      expect(portableCrc32(tail, portableCrc32(head))).toBe(crc32(bytes));
      expect(adler32(tail, adler32(head))).toBe(adler32(bytes));
    }
  });

  it('do not overflow: Adler-32 of a megabyte of 0xff', () => {
    let [a, b] = [1n, 0n];
    for (let i = 0; i < 1_000_000; i++) {
      a += 255n;
      b += a;
    }
    expect(adler32(new Uint8Array(1_000_000).fill(0xff))).toBe(Number((b % 65521n) * 65536n + (a % 65521n)));
  });
});
