import { describe, expect, it } from 'vitest';
import type { KernelImage } from '../image/kernel-image.ts';
import { functionReferences, reachesBefore } from './string-references.ts';
import type { StubLayout } from './stub.ts';
import { stubStringOffsets } from './stub-text.ts';
import { Assembler } from './test-stubs.ts';

const FIRST = 0x100;
const SECOND = 0x140;

/** A function that calls another and names SECOND then; the other names FIRST. */
function code(): Uint8Array {
  return new Assembler()
    .relative('e8', 0x40)
    .relative('48 8d 3d', SECOND)
    .emit('c3')
    .padTo(0x40)
    .relative('48 8d 3d', FIRST)
    .emit('c3')
    .padTo(FIRST)
    .append(Buffer.from('one\0', 'latin1'))
    .padTo(SECOND)
    .append(Buffer.from('another\0two\0', 'latin1'))
    .bytes();
}

/** An image of which nothing else is looked at. */
const IMAGE = { protectedModeCode: code(), payload: null } as unknown as KernelImage;
const STUB = { bits: 64, extractKernel: 0 } as StubLayout;

describe('the strings that code names', () => {
  it('come in the order in which it is executed, those of called functions included', () => {
    expect(reachesBefore(IMAGE, STUB, 'one', 'another')).toBe(true);
    expect(reachesBefore(IMAGE, STUB, 'another', 'one')).toBe(false);
  });

  it('do not count when nothing names them', () => {
    expect(reachesBefore(IMAGE, STUB, 'two', 'one')).toBe(false);
    expect(reachesBefore(IMAGE, STUB, 'three', 'one')).toBe(false);
    expect(reachesBefore(IMAGE, STUB, 'one', 'three')).toBe(true);
  });

  it('are found in 32-bit code by their distance from the GOT', () => {
    const got = 0x200;
    const asm = new Assembler().relative('e8', 0x80);
    asm
      .emit('81 c3', got - asm.offset)
      .emit('8d 83', FIRST - got)
      .emit('c3');
    asm
      .padTo(0x80)
      .emit('8b 1c 24 c3')
      .padTo(FIRST + 0x20);
    const targets = [...functionReferences(asm.bytes(), 0, 32)].map(({ target }) => target);
    expect(targets.filter((target) => target !== null)).toEqual([FIRST]);
  });

  it('are looked up whole, with the NUL behind them, wherever they end', () => {
    expect(stubStringOffsets(IMAGE, 'one')).toEqual([FIRST]);
    expect(stubStringOffsets(IMAGE, 'other')).toEqual([SECOND + 2]);
    expect(stubStringOffsets(IMAGE, 'oth')).toEqual([]);
  });
});
