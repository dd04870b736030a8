import { describe, expect, it } from 'vitest';
import { hexdump } from './hexdump.ts';

describe('hexdump', () => {
  it('begins its lines at multiples of sixteen and leaves blank what was not asked for', () => {
    expect(hexdump(new TextEncoder().encode('HdrS'), 0x90202)).toBe(
      `00090200        48 64 72 53${' '.repeat(33)}|  HdrS${' '.repeat(10)}|\n`,
    );
  });

  it('folds equal lines, but shows the last', () => {
    expect(
      hexdump(new Uint8Array(80), 0x100)
        .split('\n')
        .map((line) => line.slice(0, 8)),
    ).toEqual(['00000100', '*', '00000140', '']);
  });
});
