// kernel_total_size, looked for in the instructions of extract_kernel.

import { describe, expect, it } from 'vitest';
import type { KernelImage } from '../image/kernel-image.ts';
import { findKernelTotalSize } from './kernel-size.ts';
import type { KernelElf } from './place-kernel.ts';
import type { StubLayout } from './stub.ts';

/** A kernel whose last segment begins at 1000000h of 2000000h bytes and a bit. */
const ELF = {
  totalSize: 0x1fffff8,
  physicalBase: 0x1000000,
  segments: [{ paddr: 0x1000000 }, { paddr: 0x2000000 }, { paddr: 0x1800000 }],
} as unknown as KernelElf;

function find(code: string, bits: 32 | 64 = 64, { preferred = 0x1000000, at = 0 } = {}) {
  const bytes = Uint8Array.from(Buffer.from(code.replaceAll(' ', ''), 'hex'));
  const image = { protectedModeCode: bytes, header: { get: () => preferred } } as unknown as KernelImage;
  const { bytes: size, confirmed } = findKernelTotalSize(
    image,
    { extractKernel: at, bits } as StubLayout,
    ELF,
  );
  return [size, confirmed];
}
const WHOLE = 0x2000000;

describe('kernel_total_size', () => {
  it.each([
    ['the whole file', '48 c7 c0 00 00 00 02', [WHOLE, true]],
    ['less than that', '48 c7 c0 00 00 f0 01', [0x1f00000, true]],
    ['no more than the last segment’s start', '48 c7 c0 00 00 00 01', [WHOLE, false]],
    ['a page more than that', '48 c7 c0 00 10 00 01', [0x1001000, true]],
    ['more than the whole', '48 c7 c0 00 10 00 02', [WHOLE, false]],
    ['what is no whole pages', '48 c7 c0 00 01 f0 01', [WHOLE, false]],
    ['the same twice', '48 c7 c0 00 00 f0 01 48 c7 c1 00 00 f0 01', [0x1f00000, true]],
    ['two candidates', '48 c7 c0 00 00 f0 01 48 c7 c1 00 00 e0 01', [WHOLE, false]],
    ['two of which one is the whole', '48 c7 c0 00 00 f0 01 48 c7 c1 00 00 00 02', [WHOLE, true]],
    ['none', '90', [WHOLE, false]],
    ['one behind what is no code', '0f ff 48 c7 c0 00 00 f0 01', [WHOLE, false]],
    ['a displacement by a register', '48 8d 80 00 00 f0 01', [0x1f00000, true]],
  ])('is %s', (_, code, expected) => {
    expect(find(code)).toEqual(expected);
  });

  it('is not the preferred address', () => {
    const code = '48 c7 c0 00 00 80 01';
    expect(find(code, 64, { preferred: 0x1800000 })).toEqual([WHOLE, false]);
    expect(find(`${code} 48 c7 c1 00 00 f0 01`, 64, { preferred: 0x1800000 })).toEqual([0x1f00000, true]);
  });

  it('may be a variable of the stub, at its distance from the instruction', () => {
    // mov 0(%rip), %rax; the number
    expect(find('48 8b 05 00 00 00 00 00 00 f0 01')).toEqual([0x1f00000, true]);
    expect(find('48 8b 05 01 00 00 00 00 00 f0 01')).toEqual([WHOLE, false]);
    expect(find('00 00 f0 01 48 8b 05 f5 ff ff ff', 64, { at: 4 })).toEqual([0x1f00000, true]);
    expect(find('00 00 f0 01 48 8b 05 f4 ff ff ff', 64, { at: 4 })).toEqual([WHOLE, false]);
  });

  it('may be a displacement in a 32-bit stub', () => {
    expect(find('8d 80 00 00 f0 01', 32)).toEqual([0x1f00000, true]);
    expect(find('8b 05 00 00 f0 01', 32)).toEqual([0x1f00000, true]);
    expect(find('8d 40 10 90', 32)).toEqual([WHOLE, false]);
  });
});
