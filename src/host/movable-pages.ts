// Memory whose pages are handed over to another place instead of copied, where the host has a call for that: Linux from 5.7 on.

import { requireKoffi } from './koffi.ts';

const PAGE = 0x1000;
const HUGE_PAGE = 0x20_0000;
/** Pieces that are kept for later. */
const MAX_KEPT = 2;

// sys/mman.h
const PROT_READ_WRITE = 3;
const MAP_PRIVATE_ANONYMOUS = 0x22;
const MAP_FIXED = 0x10;
const MAP_NORESERVE = 0x4000;
const MADV_HUGEPAGE = 14;
/** MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP: what was moved is left with empty pages. */
const MREMAP_LEAVING_EMPTY = 7;

interface PageCalls {
  /** Memory on huge pages, as JavaScript sees it; null where there is none. */
  readonly map: (size: number) => Uint8Array<ArrayBuffer> | null;
  /** False where the kernel does not do it; `from` is as it was then. */
  readonly move: (from: Uint8Array, to: Uint8Array, size: number) => boolean;
  readonly unmap: (array: Uint8Array) => void;
}

let calls: PageCalls | null | undefined;

/** What lies on pages of their own, mapped by us: those of others are not to be replaced. */
const ours = new WeakSet<ArrayBufferLike>();
const kept: Uint8Array<ArrayBuffer>[] = [];

/** Says that the pages below the array are anonymous ones that this process has mapped for it. */
export function ownPages(array: Uint8Array): void {
  ours.add(array.buffer);
}

/** Bytes for `movePages`, with anything in them; null where this host does not move pages. `freePages` gives them back. */
export function allocatePages(length: number): Uint8Array<ArrayBuffer> | null {
  const index = kept.findIndex((array) => array.length >= length && array.length < length + 2 * HUGE_PAGE);
  const [known] = index < 0 ? [] : kept.splice(index, 1);
  if (known !== undefined) return known;
  calls ??= process.platform === 'linux' ? linuxCalls() : null;
  const array = calls?.map(Math.ceil(length / HUGE_PAGE) * HUGE_PAGE) ?? null;
  if (array !== null) ownPages(array);
  return array;
}

/** Nothing may use them any more. V8 collects garbage for new memory of this size, so a few are kept. */
export function freePages(array: Uint8Array<ArrayBuffer>): void {
  kept.push(array);
  if (kept.length > MAX_KEPT) calls!.unmap(kept.shift()!);
}

/**
 * Moves the bytes of `from` to `to`, of the same length. Whole pages are handed over, so that `from` is lost.
 *
 * @returns false where that is impossible: `from` is as it was then, `to` may be empty
 */
export function movePages(from: Uint8Array, to: Uint8Array): boolean {
  if (!calls || from.length !== to.length || !ours.has(from.buffer) || !ours.has(to.buffer)) return false;
  const whole = from.length - (from.length % PAGE);
  if (whole === 0 || !calls.move(from, to, whole)) return false;
  to.set(from.subarray(whole), whole);
  return true;
}

function linuxCalls(): PageCalls | null {
  try {
    const koffi = requireKoffi();
    const libc = koffi.load(null);
    const mmap = libc.func('mmap', 'intptr_t', ['uintptr_t', 'size_t', 'int', 'int', 'int', 'int64_t']);
    const madvise = libc.func('madvise', 'int', ['uintptr_t', 'size_t', 'int']);
    const munmap = libc.func('munmap', 'int', ['uintptr_t', 'size_t']);
    const mremap = libc.func('mremap', 'intptr_t', ['uintptr_t', 'size_t', 'size_t', 'int', 'uintptr_t']);
    return {
      map: (size) => {
        const flags = MAP_PRIVATE_ANONYMOUS | MAP_NORESERVE;
        const pointer: number = mmap(0, size + HUGE_PAGE, PROT_READ_WRITE, flags, -1, 0);
        if (pointer === -1) return null;
        const start = Math.ceil(pointer / HUGE_PAGE) * HUGE_PAGE;
        madvise(start, size, MADV_HUGEPAGE);
        return new Uint8Array(koffi.view(BigInt(start), size));
      },
      move: (from, to, size) => {
        const place = koffi.address(to);
        if (mremap(koffi.address(from), size, size, MREMAP_LEAVING_EMPTY, place) !== -1) return true;
        // Without memory left the kernel may have taken away what was there.
        mmap(place, size, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
        return false;
      },
      unmap: (array) => munmap(koffi.address(array), array.length),
    };
  } catch {
    return null;
  }
}
