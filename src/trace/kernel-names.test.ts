import { describe, expect, it } from 'vitest';
import { readElf } from '../image/elf.ts';
import { makeSegmentedElf } from '../image/test-images.ts';
import type { KernelSegment } from './boot-trace.ts';
import { kernelNames } from './kernel-symbols.ts';
import { SymbolTable } from './symbols.ts';

const TEXT = 0xffff_ffff_8100_0000n;
const DATA = 0xffff_ffff_8200_0000n;
const elf = readElf(
  makeSegmentedElf({
    segments: [
      { type: 4, paddr: 0, vaddr: 0n, bytes: new Uint8Array(8) },
      { paddr: 0x100_0000, vaddr: TEXT, bytes: new Uint8Array(16), memsz: 0x2000 },
      { paddr: 0x200_0000, vaddr: DATA, bytes: new Uint8Array(16), memsz: 0x1000 },
    ],
  }),
);
const symbols = new SymbolTable([
  { address: TEXT, name: '_text' },
  { address: TEXT + 0x1800n, name: 'late' },
  { address: DATA, name: '_data' },
]);
const segment = (paddr: bigint, memsz: bigint): KernelSegment => ({ paddr, memsz }) as KernelSegment;

describe('kernelNames', () => {
  // Where KASLR put it: the segments lie otherwise than they were linked.
  const name = kernelNames(symbols, elf, [segment(0x900_0000n, 0x2000n), segment(0x500_0000n, 0x1000n)]);

  it('names physical addresses by the symbols of the segment that lies there', () => {
    expect(name(0x900_0000n)).toBe('_text');
    expect(name(0x900_1804n)).toBe('late+0x4');
    expect(name(0x900_1fffn)).toBe('late+0x7ff');
    expect(name(0x500_0010n)).toBe('_data+0x10');
  });

  it('has no names outside of the segments', () => {
    for (const address of [0x8ff_ffffn, 0x900_2000n, 0x4ff_ffffn, 0x500_1000n])
      expect(name(address)).toBeNull();
  });

  it('has no name in a segment that the file has no header of', () => {
    const all = [segment(0n, 1n), segment(1n, 1n), segment(0x700_0000n, 0x10n)];
    expect(kernelNames(symbols, elf, all)(0x700_0000n)).toBeNull();
  });
});
