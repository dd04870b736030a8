// Which pages of the process somebody has touched, as Linux tells: the others of fresh memory are zeroes that nobody has to look at.

import { closeSync, openSync, readSync } from 'node:fs';

/** Of the host, and the unit of its answer. */
const PAGE = 4096;
const ENTRY = 8;
/** Bytes of the entries that are told of as one. */
const GROUP = 512 * ENTRY;
/** Those that are read at once. */
const GROUPS = 16;
/** In the last byte of an entry: bits 62 and 63, swapped out and present (Linux, admin-guide/mm/pagemap.rst). */
const THERE = 0xc0;

/** [start, end) in bytes from the beginning of a block. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/**
 * Where the touched ones of [pointer, pointer + size) lie, in pieces of 2 MiB, neighbours as one; both are multiples of a page. Null
 * where the host does not tell.
 */
export function touchedPages(pointer: number, size: number): readonly ByteRange[] | null {
  if (process.platform !== 'linux') return null;
  let file: number | null = null;
  try {
    file = openSync('/proc/self/pagemap', 'r');
    return readTouched(file, pointer, size);
  } catch {
    // Without /proc, or where a sandbox has another one.
    return null;
  } finally {
    if (file !== null) closeSync(file);
  }
}

function readTouched(file: number, pointer: number, size: number): readonly ByteRange[] | null {
  const found: { start: number; end: number }[] = [];
  const bytes = Buffer.alloc(GROUPS * GROUP);
  for (let first = 0; first < size; first += GROUPS * GROUP * (PAGE / ENTRY)) {
    const length = Math.min(bytes.length, ((size - first) / PAGE) * ENTRY);
    if (readSync(file, bytes, 0, length, ((pointer + first) / PAGE) * ENTRY) !== length) return null;
    for (let at = 0; at < length; at += GROUP) {
      const end = Math.min(at + GROUP, length);
      // Looking at each entry takes longer than looking at the memory.
      const alike = bytes.compare(bytes, at, end - ENTRY, at + ENTRY, end) === 0;
      if (alike && (bytes[at + ENTRY - 1]! & THERE) === 0) continue;
      const range = { start: first + (at / ENTRY) * PAGE, end: first + (end / ENTRY) * PAGE };
      const last = found.at(-1);
      if (last?.end === range.start) last.end = range.end;
      else found.push(range);
    }
  }
  return found;
}
