import { describe, expect, it } from 'vitest';
import { showable, withoutControls } from './control-characters.ts';
import { printable, wrapLine } from './text-output.ts';

describe('text from a file', () => {
  it('keeps line ends and tabs, and loses what a terminal would take for commands', () => {
    expect(withoutControls('a\tb\nc\u001b[31m\u009b2J\r\u202ed')).toBe('a\tb\nc?[31m?2J??d');
  });

  it('is cleaned wherever it stands in plain data, which keeps its numbers', () => {
    const bytes = Uint8Array.of(27);
    const data = { name: '\u001b]0;x\u0007', list: [{ at: 0x1000n, none: null }], bytes };
    expect(printable(data)).toEqual({ name: '?]0;x?', list: [{ at: 0x1000n, none: null }], bytes });
  });

  it('is escaped in JSON, which means the same', () => {
    const value = { name: '\u009b31m\u202e\u001b' };
    const json = showable(JSON.stringify(value));
    expect(json).toMatch(/^[ -~]*$/);
    expect(JSON.parse(json)).toEqual(value);
  });
});

describe('a line that is too long', () => {
  it('goes on under its last column', () => {
    expect(wrapLine('kernel  0x100  what happened in it and then', 32)).toEqual([
      'kernel  0x100  what happened in',
      '               it and then',
    ]);
  });

  it('goes on to the right of its start where it has no columns', () => {
    expect(wrapLine('  one two three four', 12)).toEqual(['  one two', '      three', '      four']);
  });

  it('is left alone where it fits, and keeps words whole', () => {
    expect(wrapLine('fits', 4)).toEqual(['fits']);
    expect(wrapLine('0123456789 ab', 5)).toEqual(['0123456789', '  ab']);
    expect(wrapLine('01234567890123', 5)).toEqual(['01234567890123']);
  });
});
