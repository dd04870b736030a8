// Where AllocatePool takes memory from: OVMF's (EDK2's) pool, page by page cut into blocks of a few sizes.

import type { EfiMemoryType } from '../../protocol/efi-tables.ts';
import { EFI_PAGE } from '../../protocol/efi-tables.ts';

/** Blocks that a page is cut into, header and tail included; more goes in whole pages. */
const BLOCK_SIZES = [128, 256, 384, 640, 1024, 1664, 2688] as const;
/** What stands before the caller's bytes, and with what stands behind them. */
const HEADER = 0x18;
export const POOL_OVERHEAD = 0x28;

/** Whole pages from the page allocator; null where there are none. */
export interface PageSource {
  allocate(type: EfiMemoryType, pages: number): number | null;
  free(address: number, pages: number): void;
}

interface Block {
  readonly address: number;
  readonly size: number;
}

interface Allocation {
  readonly type: EfiMemoryType;
  /** Of the block or the pages, from the header on. */
  readonly block: Block;
}

export class PoolAllocator {
  readonly #pages: PageSource;
  /** Free blocks by type and size; the last freed is taken first. */
  readonly #free = new Map<EfiMemoryType, Map<number, number[]>>();
  /** Every block of a page that was cut, by the page's address: its size by its address. */
  readonly #cut = new Map<number, Map<number, number>>();
  /** By what the caller was given. */
  readonly #allocations = new Map<number, Allocation>();

  constructor(pages: PageSource) {
    this.#pages = pages;
  }

  /** @returns the address of `size` bytes; null where there is no room */
  allocate(type: EfiMemoryType, size: number): number | null {
    const needed = Math.ceil(size / 8) * 8 + POOL_OVERHEAD;
    const index = BLOCK_SIZES.findIndex((each) => each >= needed);
    const block = index < 0 ? this.#wholePages(type, needed) : this.#block(type, index);
    if (block === null) return null;
    const address = block.address + HEADER;
    this.#allocations.set(address, { type, block });
    return address;
  }

  /** The block that holds an allocation, header and tail included; undefined for an address that nobody was given. */
  blockOf(address: number): Block | undefined {
    return this.#allocations.get(address)?.block;
  }

  /** @returns false for an address that nobody was given */
  free(address: number): boolean {
    const allocation = this.#allocations.get(address);
    if (allocation === undefined) return false;
    this.#allocations.delete(address);
    const { type, block } = allocation;
    if (block.size % EFI_PAGE === 0) {
      this.#pages.free(block.address, block.size / EFI_PAGE);
      return true;
    }
    this.#list(type, block.size).unshift(block.address);
    this.#returnPage(type, block.address - (block.address % EFI_PAGE));
    return true;
  }

  #wholePages(type: EfiMemoryType, needed: number): Block | null {
    const pages = Math.ceil(needed / EFI_PAGE);
    const address = this.#pages.allocate(type, pages);
    return address === null ? null : { address, size: pages * EFI_PAGE };
  }

  #block(type: EfiMemoryType, index: number): Block | null {
    const size = BLOCK_SIZES[index]!;
    const ready = this.#list(type, size).shift();
    if (ready !== undefined) return { address: ready, size };
    const larger = BLOCK_SIZES.slice(index + 1).find((each) => this.#list(type, each).length > 0);
    if (larger !== undefined) {
      const address = this.#list(type, larger).shift()!;
      this.#carve(type, address, size, larger);
      return { address, size };
    }
    const page = this.#pages.allocate(type, 1);
    if (page === null) return null;
    this.#cut.set(page, new Map());
    this.#carve(type, page, size, EFI_PAGE);
    return { address: page, size };
  }

  /** Takes `size` bytes from the head of [address, address + length) and cuts the rest into the largest blocks that fit. */
  #carve(type: EfiMemoryType, address: number, size: number, length: number): void {
    const blocks = this.#cut.get(address - (address % EFI_PAGE))!;
    blocks.set(address, size);
    let offset = size;
    for (const each of BLOCK_SIZES.toReversed()) {
      if (each >= length) continue;
      while (offset + each <= length) {
        blocks.set(address + offset, each);
        this.#list(type, each).unshift(address + offset);
        offset += each;
      }
    }
  }

  /** A page of which every block is free goes back. */
  #returnPage(type: EfiMemoryType, page: number): void {
    const blocks = this.#cut.get(page)!;
    for (const [address, size] of blocks) {
      if (!this.#list(type, size).includes(address)) return;
    }
    for (const [address, size] of blocks) {
      const list = this.#list(type, size);
      list.splice(list.indexOf(address), 1);
    }
    this.#cut.delete(page);
    this.#pages.free(page, 1);
  }

  #list(type: EfiMemoryType, size: number): number[] {
    let bySize = this.#free.get(type);
    if (bySize === undefined) {
      bySize = new Map();
      this.#free.set(type, bySize);
    }
    let list = bySize.get(size);
    if (list === undefined) {
      list = [];
      bySize.set(size, list);
    }
    return list;
  }
}
