import { describe, expect, it } from 'vitest';
import type { KernelImage } from '../image/kernel-image.ts';
import { decodeInstruction, type Instruction } from '../x86/instruction.ts';
import { functionReferences, gotAfter, reachesBefore } from './string-references.ts';
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

  it.each([
    ['by a thunk, to EBX', 'e8 1b 00 00 00 81 c3', '8b 1c 24 c3', 0x105],
    ['by a thunk, to EAX', 'e8 1b 00 00 00 05', '8b 04 24 c3', 0x105],
    ['by what is no thunk: another move', 'e8 1b 00 00 00 81 c3', '89 1c 24 c3', null],
    ['by what is no thunk: another place', 'e8 1b 00 00 00 81 c3', '8b 5c 10 c3', null],
    ['by what is no thunk: no return', 'e8 1b 00 00 00 81 c3', '8b 1c 24 90', null],
    ['by a pop of EBX', 'e8 00 00 00 00 5b 81 c3', '90', 0x105],
    ['by a pop of EAX', 'e8 00 00 00 00 58 05', '90', 0x105],
    ['by a pop of another register', 'e8 00 00 00 00 59 81 c3', '90', null],
    ['by a pop behind another call', 'e8 01 00 00 00 5b 81 c3', '90', null],
    ['by a pop alone', '90 90 90 90 90 5b 81 c3', '90', null],
    ['by a subtraction', 'e8 00 00 00 00 5b 81 eb', '90', null],
    ['by an addition in memory', 'e8 00 00 00 00 5b 81 03', '90', null],
  ])('have a GOT that is found %s', (_, before, thunk, expected) => {
    const bytes = new Assembler().emit(before, 0x100).padTo(0x20).emit(thunk).padTo(0x40).bytes();
    const history: Instruction[] = [];
    const found: (number | null)[] = [];
    for (let at = 0; at < 0x18; at = history[0]!.next) {
      const instruction = decodeInstruction(bytes, at, 32)!;
      found.push(gotAfter(bytes, instruction, history));
      history.unshift(instruction);
    }
    expect(found.filter((got) => got !== null)).toEqual(expected === null ? [] : [expected]);
    expect(gotAfter(bytes, decodeInstruction(Uint8Array.of(5, 0, 1, 0, 0), 0, 32)!, [])).toBeNull();
  });
});
