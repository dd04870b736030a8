import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { findStubDetails } from './find-stub.ts';
import { initSizeNeeds } from './init-size.ts';
import { makeMoveParamsStub, makeStub64 } from './test-stubs.ts';

const PLAIN = new Uint8Array(0x200000);

describe('what init_size must hold', () => {
  const { image } = makeStub64('rmode-output', { payload: gzipSync(PLAIN) });
  const details = findStubDetails(image);

  it('is the stub up to _end, and the kernel with what lies behind the payload', () => {
    const { offset, length } = image.payload!;
    expect(initSizeNeeds(image, details, []).map(({ bytes }) => bytes)).toEqual([
      0x40000,
      PLAIN.length + 0x40000 - (offset + length),
    ]);
  });

  it('is from the first byte of the kernel’s segments to the end of their bss', () => {
    const segments = [
      { paddr: 0x1200000n, memsz: 0x800000n },
      { paddr: 0x1000000n, memsz: 0x100000n },
    ];
    expect(initSizeNeeds(image, null, segments)).toEqual([
      { bytes: 0xa00000, what: "the kernel's segments take" },
    ]);
  });

  it('is not told by a stub that stays where it was loaded', () => {
    const old = makeMoveParamsStub('bzImage', { payload: gzipSync(PLAIN) }).image;
    expect(initSizeNeeds(old, findStubDetails(old), [])).toEqual([]);
  });
});
