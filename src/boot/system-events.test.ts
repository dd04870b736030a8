import { describe, expect, it } from 'vitest';
import { findSystemInstructions } from './system-events.ts';

const find = (bytes: number[], everything = false) => {
  const code = Uint8Array.from([0x90, ...bytes, 0x90, 0x90, 0x90]);
  return findSystemInstructions(code, 0, code.length, everything).sort((a, b) => a - b);
};

describe('findSystemInstructions', () => {
  it('finds loads of control registers, and MSRs that are written or read', () => {
    expect(find([0x0f, 0x22, 0xc0])).toEqual([1]);
    expect(find([0x0f, 0x30])).toEqual([1]);
    expect(find([0x0f, 0x32])).toEqual([1]);
  });

  it('finds LGDT where its prefix begins, too', () => {
    expect(find([0x66, 0x0f, 0x01, 0x16, 0x40, 0x43])).toEqual([1, 2]);
  });

  it('leaves out SGDT and moves from control registers', () => {
    expect(find([0x0f, 0x01, 0x06])).toEqual([]);
    expect(find([0x0f, 0x20, 0xc0])).toEqual([]);
  });

  it('finds one-byte far transfers only where it is asked for everything', () => {
    expect(find([0xcb])).toEqual([]);
    expect(find([0xcb], true)).toEqual([1]);
  });
});
