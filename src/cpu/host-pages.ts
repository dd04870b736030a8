// Pages of the host for the native engine: guest RAM, and what hooks count in. Large blocks are kept for the next boot of the
// process, emptied, with the arrays that JavaScript sees them by.

import { ownPages } from '../host/host.ts';
import type { Koffi } from '../host/koffi.ts';
import type { Pointer } from './transport.ts';

const HUGE_PAGE = 0x20_0000;
/** Linux, sys/mman.h. */
const MADV_HUGEPAGE = 14;
/** What is worth keeping. */
const LARGE_BLOCK = 0x10_0000;
/** Blocks that are kept for later: of two machines, RAM and what is counted in. */
const MAX_KEPT = 4;
/** Arrays that are kept of one block. */
const MAX_ARRAYS = 16;

/** The host's own calls. */
interface PageCalls {
  /** Anonymous pages, zero-filled and committed when first touched; null where there are not so many. */
  readonly allocate: (size: number) => Pointer | null;
  readonly free: (pointer: Pointer, size: number) => void;
  /** Makes the pages new ones, in the same place; false where the host has no call for that or refuses. */
  readonly renew: (pointer: Pointer, size: number) => boolean;
  /** False where the host forbids it. */
  readonly makeExecutable: (pointer: Pointer, size: number) => boolean;
}

interface Block {
  readonly pointer: Pointer;
  readonly size: number;
  /** By offset and length. */
  readonly arrays: Map<string, Uint8Array<ArrayBuffer>>;
}

export class HostPages {
  readonly #koffi: Koffi;
  readonly #calls: PageCalls;
  /** Large blocks in use, by their first address. */
  readonly #used = new Map<Pointer, Block>();
  readonly #kept: Block[] = [];

  constructor(koffi: Koffi) {
    this.#koffi = koffi;
    this.#calls = process.platform === 'win32' ? windowsCalls(koffi) : posixCalls(koffi);
  }

  /** Zero-filled pages, committed when first touched; null where the host has not so many. */
  allocate(size: number): Pointer | null {
    if (size < LARGE_BLOCK) return this.#calls.allocate(size);
    const index = this.#kept.findIndex((block) => block.size === size);
    const [kept] = index < 0 ? [] : this.#kept.splice(index, 1);
    const pointer = kept?.pointer ?? this.#calls.allocate(size);
    if (pointer !== null) this.#used.set(pointer, kept ?? { pointer, size, arrays: new Map() });
    return pointer;
  }

  /** Nothing may use them any more. */
  free(pointer: Pointer, size: number): void {
    const block = this.#used.get(pointer);
    this.#used.delete(pointer);
    if (block === undefined || !this.#calls.renew(pointer, size)) {
      this.#calls.free(pointer, size);
      return;
    }
    this.#kept.push(block);
    const surplus = this.#kept.length > MAX_KEPT ? this.#kept.shift() : undefined;
    if (surplus !== undefined) this.#calls.free(surplus.pointer, surplus.size);
  }

  /**
   * The bytes [pointer, pointer + size). V8 takes what an array shares with the engine for memory of its own, and collects
   * garbage for each 64 MiB of it that is new: so an array on a large block is made once.
   */
  view(pointer: Pointer, size: number): Uint8Array<ArrayBuffer> {
    const block = size < LARGE_BLOCK ? null : this.#blockOf(pointer, size);
    if (block === null) return this.#array(pointer, size);
    const name = `${pointer - block.pointer} ${size}`;
    const known = block.arrays.get(name);
    // A detached one is empty.
    if (known !== undefined && known.length === size) return known;
    if (block.arrays.size >= MAX_ARRAYS) block.arrays.clear();
    const array = this.#array(pointer, size);
    ownPages(array);
    block.arrays.set(name, array);
    return array;
  }

  #array(pointer: Pointer, size: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#koffi.view(BigInt(pointer), size));
  }

  #blockOf(pointer: Pointer, size: number): Block | null {
    for (const block of this.#used.values()) {
      if (pointer >= block.pointer && pointer + size <= block.pointer + block.size) return block;
    }
    return null;
  }

  /** False where the host forbids it. */
  makeExecutable(pointer: Pointer, size: number): boolean {
    return this.#calls.makeExecutable(pointer, size);
  }
}

function windowsCalls(koffi: Koffi): PageCalls {
  const kernel = koffi.load('kernel32.dll');
  const virtualAlloc = kernel.func('VirtualAlloc', 'uintptr_t', [
    'uintptr_t',
    'size_t',
    'uint32_t',
    'uint32_t',
  ]);
  const virtualFree = kernel.func('VirtualFree', 'int', ['uintptr_t', 'size_t', 'uint32_t']);
  const MEM_RESERVE_COMMIT = 0x3000;
  const MEM_RELEASE = 0x8000;
  const PAGE_READWRITE = 4;
  return {
    allocate: (size) => {
      const pointer: number = virtualAlloc(0, size, MEM_RESERVE_COMMIT, PAGE_READWRITE);
      return pointer === 0 ? null : pointer;
    },
    free: (pointer) => {
      virtualFree(pointer, 0, MEM_RELEASE);
    },
    renew: () => false,
    makeExecutable: () => false,
  };
}

function posixCalls(koffi: Koffi): PageCalls {
  const libc = koffi.load(null);
  const mmap = libc.func('mmap', 'intptr_t', ['uintptr_t', 'size_t', 'int', 'int', 'int', 'int64_t']);
  const madvise = libc.func('madvise', 'int', ['uintptr_t', 'size_t', 'int']);
  const munmap = libc.func('munmap', 'int', ['uintptr_t', 'size_t']);
  const mprotect = libc.func('mprotect', 'int', ['uintptr_t', 'size_t', 'int']);
  const PROT_READ_WRITE = 3;
  const PROT_READ_EXECUTE = 5;
  const MAP_PRIVATE = 2;
  const MAP_FIXED = 0x10;
  const MAP_ANONYMOUS = process.platform === 'linux' || process.platform === 'android' ? 0x20 : 0x1000;
  // Without it a host that accounts for memory strictly refuses gigabytes that nobody will touch.
  const MAP_NORESERVE = process.platform === 'linux' ? 0x4000 : process.platform === 'darwin' ? 0x40 : 0;
  const map = (address: Pointer, size: number, fixed: number): Pointer | null => {
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed;
    const pointer: number = mmap(address, size, PROT_READ_WRITE, flags, -1, 0);
    if (pointer === -1) return null;
    // Filling tens of megabytes takes a quarter of the time with 2 MiB pages. Only advice: a refusal is no error.
    if (process.platform === 'linux' && size >= HUGE_PAGE) madvise(pointer, size, MADV_HUGEPAGE);
    return pointer;
  };
  return {
    allocate: (size) => map(0, size, 0),
    free: (pointer, size) => {
      munmap(pointer, size);
    },
    renew: (pointer, size) => map(pointer, size, MAP_FIXED) !== null,
    makeExecutable: (pointer, size) => mprotect(pointer, size, PROT_READ_EXECUTE) === 0,
  };
}
