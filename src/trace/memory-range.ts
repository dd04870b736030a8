// What part of physical memory is meant: a range by its addresses, or a region of the layout by its name.

import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import type { MemoryRegion } from './boot-trace.ts';

/** Physical [start, end). */
export interface MemoryRange {
  readonly start: number;
  readonly end: number;
}

/** For texts that tell what a range may be. */
export const RANGE_HELP =
  'START..END, START+LENGTH (0x… addresses, END exclusive), one address, or the name of a region';

/** `0x90000..0x90200`, `0x90000+0x200`, `0x90000`: null for a text that begins with no number. */
function parseNumbers(text: string, single: number): MemoryRange | null {
  const number = String.raw`(0x[0-9a-f]+|\d+)`;
  const match = new RegExp(String.raw`^${number}(?:(\.\.|\+)${number})?$`, 'i').exec(text);
  if (match === null) return null;
  const start = Number(match[1]);
  const second = Number(match[3]);
  const end = match[2] === undefined ? start + single : match[2] === '+' ? start + second : second;
  if (!Number.isSafeInteger(start) || !Number.isSafeInteger(end) || end <= start) {
    throw new BootscopeError('debug-range', `${text} is no range: it ends at ${hex(end)}, before it begins`);
  }
  return { start, end };
}

/**
 * @param text - see `RANGE_HELP`
 * @param regions - the layout at the place that is looked at
 * @param single - bytes that one address alone stands for
 * @throws BootscopeError `debug-range`
 */
export function parseRange(text: string, regions: readonly MemoryRegion[], single: number): MemoryRange {
  const range = parseNumbers(text, single) ?? findRegion(text, regions);
  if (range !== null) return range;
  const names = regions.map(({ name }) => name).join(', ');
  throw new BootscopeError(
    'debug-range',
    `"${text}" is no range and no region here: name ${RANGE_HELP}; regions here are ${names}`,
  );
}

/** By its name, else by a part of it that only one region has. */
function findRegion(text: string, regions: readonly MemoryRegion[]): MemoryRange | null {
  const lower = text.toLowerCase();
  const exact = regions.filter(({ name }) => name.toLowerCase() === lower);
  const found = exact.length > 0 ? exact : regions.filter(({ name }) => name.toLowerCase().includes(lower));
  if (found.length > 1) {
    throw new BootscopeError(
      'debug-range',
      `"${text}" may be several regions: ${found.map(({ name }) => name).join(', ')}`,
    );
  }
  const [region] = found;
  return region === undefined ? null : { start: Number(region.start), end: Number(region.end) };
}
