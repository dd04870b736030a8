import { describe, expect, it } from 'vitest';
import { allocatePages, freePages, movePages } from './movable-pages.ts';

const HUGE_PAGE = 2 ** 21;
const hasPages = process.platform === 'linux' && allocatePages(1) !== null;

describe.skipIf(!hasPages)('movable pages', () => {
  it.each([3 * HUGE_PAGE, HUGE_PAGE + 12_345, 4096, 5000])(
    'arrive with all of %i bytes, and change nothing behind them',
    (length) => {
      const [from, to] = [allocatePages(length)!, allocatePages(length)!];
      from.forEach((_, index) => {
        from[index] = (index * 2_654_435_761) >>> 13;
      });
      to.fill(0xee);
      const expected = from.slice(0, length);
      const target = to.subarray(0, length);
      if (movePages(from.subarray(0, length), target)) {
        expect(Buffer.compare(target, expected)).toBe(0);
        expect(to.subarray(length).every((byte) => byte === 0xee)).toBe(true);
        from.fill(1);
        expect(Buffer.compare(target, expected)).toBe(0);
      }
      for (const array of [from, to]) freePages(array);
    },
  );

  it('are not moved to memory that others have, to the middle of a page, or to another length', () => {
    const [from, to] = [allocatePages(HUGE_PAGE)!, allocatePages(HUGE_PAGE)!];
    from.fill(7);
    to.fill(8);
    expect(movePages(from, new Uint8Array(from.length))).toBe(false);
    expect(movePages(new Uint8Array(from.length), to)).toBe(false);
    expect(movePages(from.subarray(0, 8192), to.subarray(16, 16 + 8192))).toBe(false);
    expect(movePages(from, to.subarray(0, 8192))).toBe(false);
    expect(from.every((byte) => byte === 7) && to.every((byte) => byte === 8)).toBe(true);
    for (const array of [from, to]) freePages(array);
  });

  it('are used again when they were given back', () => {
    const array = allocatePages(7 * HUGE_PAGE)!;
    freePages(array);
    const again = allocatePages(7 * HUGE_PAGE - 5)!;
    expect(again.buffer === array.buffer).toBe(true);
    freePages(again);
  });
});
