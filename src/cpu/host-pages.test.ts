import { expect, it } from 'vitest';
import { requireKoffi } from '../host/koffi.ts';
import { HostPages } from './host-pages.ts';

const MIB = 0x10_0000;

it.skipIf(process.platform === 'win32')(
  'gives a large block again: emptied, writable, and seen by the same array',
  () => {
    const pages = new HostPages(requireKoffi());
    const first = pages.allocate(4 * MIB)!;
    const array = pages.view(first + MIB, 2 * MIB);
    array.fill(7);
    expect(pages.makeExecutable(first, MIB)).toBe(true);
    pages.free(first, 4 * MIB);
    expect(pages.allocate(8 * MIB)).not.toBe(first);
    expect(pages.allocate(4 * MIB)).toBe(first);
    expect(pages.view(first + MIB, 2 * MIB)).toBe(array);
    expect(array.every((byte) => byte === 0)).toBe(true);
    pages.view(first, MIB).fill(1);
    expect(pages.allocate(4 * MIB)).not.toBe(first);
  },
);

it('gives small ones back to the host', () => {
  const pages = new HostPages(requireKoffi());
  const pointer = pages.allocate(4096)!;
  pages.view(pointer, 4096).fill(7);
  pages.free(pointer, 4096);
  const next = pages.allocate(4096)!;
  expect([...pages.view(next, 4096).subarray(0, 2)]).toEqual([0, 0]);
  pages.free(next, 4096);
});
