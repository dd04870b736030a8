import { describe, expect, it } from 'vitest';
import { readSetupExtents } from './setup-code.ts';

/** Setup whose assembly part stands at 0x26c, as header.S encodes it. */
function setupWith(bytes: readonly number[]): Uint8Array {
  const setup = new Uint8Array(0x2000);
  setup.set(bytes, 0x279);
  return setup;
}

const ADD_STACK_SIZE = [0x81, 0xc2, 0x00, 0x04];
const COMPARE_SIGNATURE = [0x66, 0x81, 0x3e, 0x58, 0x46, 0x55, 0xaa, 0x5a, 0x5a, 0x75, 0x17];
const CLEAR_BSS = [0xbf, 0x60, 0x46, 0xb9, 0xe3, 0x59, 0x66, 0x31, 0xc0];

describe('readSetupExtents', () => {
  it('reads bss, end and stack size from the instructions that clear the one and set up the other', () => {
    const setup = setupWith([...ADD_STACK_SIZE, 0x73, 0x02, ...COMPARE_SIGNATURE, ...CLEAR_BSS]);
    expect(readSetupExtents(setup)).toEqual({ bss: { start: 0x4660, end: 0x59e0 }, stackSize: 0x400 });
  });

  it('takes the stack size of old setups where none is named', () => {
    expect(readSetupExtents(setupWith([...COMPARE_SIGNATURE, ...CLEAR_BSS]))?.stackSize).toBe(0x200);
  });

  it('knows nothing of setups without that part', () => {
    expect(readSetupExtents(setupWith([]))).toBeNull();
    expect(readSetupExtents(setupWith(COMPARE_SIGNATURE))).toBeNull();
    expect(readSetupExtents(new Uint8Array(0x200))).toBeNull();
  });

  it('takes no bss that ends before it starts', () => {
    const backwards = [0xbf, 0x60, 0x46, 0xb9, 0x03, 0x40];
    expect(readSetupExtents(setupWith([...COMPARE_SIGNATURE, ...backwards]))).toBeNull();
  });
});
