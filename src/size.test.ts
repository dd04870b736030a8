import { describe, expect, it } from 'vitest';
import { formatSize } from './size.ts';

describe('formatSize', () => {
  it('writes bytes below 1 KiB and one decimal where a unit is not whole', () => {
    expect([0, 1, 1023, 1024, 0x4cc078, 2 ** 32].map(formatSize)).toEqual([
      '0 bytes',
      '1 byte',
      '1023 bytes',
      '1 KiB',
      '4.8 MiB',
      '4 GiB',
    ]);
  });

  it('takes sizes that only a bigint holds exactly', () => {
    expect(formatSize(1n << 52n)).toBe('4 PiB');
    expect(formatSize(0xffff_ffff_ffff_ffffn)).toBe('16 EiB');
  });
});
