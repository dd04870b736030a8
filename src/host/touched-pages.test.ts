import { existsSync } from 'node:fs';
import { expect, it } from 'vitest';
import { HostPages } from '../cpu/host-pages.ts';
import { requireKoffi } from './koffi.ts';
import { touchedPages } from './touched-pages.ts';

const MIB = 0x10_0000;
const SIZE = 256 * MIB;

const why = existsSync('/proc/self/pagemap') ? '' : ' (left out: the host does not tell)';

it.skipIf(why !== '')(`tells where a fresh block was touched, and not of most of it${why}`, () => {
  const pages = new HostPages(requireKoffi());
  const pointer = pages.allocate(SIZE)!;
  const touched = [5 * MIB, 130 * MIB + 4097, 130 * MIB + 2 * MIB, SIZE - 1];
  for (const at of touched) pages.view(pointer, SIZE)[at] = 1;
  const ranges = touchedPages(pointer, SIZE)!;
  for (const at of touched) expect(ranges.some(({ start, end }) => start <= at && at < end)).toBe(true);
  expect(ranges.reduce((sum, { start, end }) => sum + end - start, 0)).toBeLessThanOrEqual(16 * MIB);
  expect(ranges.map(({ start }) => start)).toEqual(ranges.map(({ start }) => start).sort((a, b) => a - b));
  for (const { start, end } of ranges) expect(start >= 0 && start < end && end <= SIZE).toBe(true);
  pages.free(pointer, SIZE);
});
