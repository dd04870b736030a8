import { describe, expect, it } from 'vitest';
import { findOption, hasOption, memparse, splitArguments } from './command-line.ts';

describe('the stub’s command line', () => {
  it('has an option only as a whole word', () => {
    expect(hasOption('quiet nokaslr', 'nokaslr')).toBe(true);
    expect(hasOption('nokaslr=1 xnokaslr nokaslrx', 'nokaslr')).toBe(false);
    expect(hasOption('a\tnokaslr\u0001b', 'nokaslr')).toBe(true);
    expect(hasOption('', 'nokaslr')).toBe(false);
  });

  it('has every option where cmd_line_ptr is 0', () => {
    expect(hasOption(null, 'nokaslr')).toBe(true);
    expect(findOption(null, 'console', 64)).toBeNull();
  });

  it('gives the last value of an option, cut to the buffer', () => {
    expect(findOption('console=tty0 console=ttyS0,115200', 'console', 64)).toBe('ttyS0,115200');
    expect(findOption('console=abcdefgh', 'console', 5)).toBe('abcd');
    expect(findOption('consoles=1', 'console', 64)).toBeNull();
  });

  it.each([
    ['16M', 16n << 20n, 3],
    ['0x10k', 16n << 10n, 5],
    ['010', 8n, 3],
    ['2G$1G', 2n << 30n, 2],
    ['1T', 1n << 40n, 2],
    ['x', 0n, 0],
    ['0x', 0n, 1],
    ['089', 0n, 1],
  ])('reads %s as the kernel’s memparse', (text, value, end) => {
    expect(memparse(text)).toEqual({ value, end });
  });

  it('splits arguments with quotes as next_arg does', () => {
    expect(splitArguments('  a=1 "b c"  d="e f" "g=h i" -- =x')).toEqual([
      { param: 'a', value: '1' },
      { param: 'b c', value: null },
      { param: 'd', value: 'e f' },
      { param: 'g', value: 'h i' },
      { param: '--', value: null },
      { param: '=x', value: null },
    ]);
  });
});
