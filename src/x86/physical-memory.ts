// Physical memory as devices, firmware and page walkers see it: blocks of RAM with holes between, little endian, by address.

import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';

/** A run of RAM: physical [start, end). */
export interface MemoryBlock {
  readonly start: number;
  readonly end: number;
}

/** Who has the memory. */
export interface MemoryOwner {
  /** By address, apart from each other. */
  readonly blocks: readonly MemoryBlock[];
  /**
   * The bytes [address, address + length), which lie in one block, shared with the guest. What a WASM heap gave becomes empty
   * when it grows, and is asked for anew.
   */
  ram(address: number, length: number): Uint8Array;
  /** Runs of it outside of which all is zeroes, by address; where nothing tells, it is missing. */
  touched?(): readonly MemoryBlock[];
  /** Drops what the engine has translated there. */
  invalidateCode(address: number, length: number): void;
}

/**
 * An array covers at most 4 GiB on every host, so blocks are looked at through windows, which begin at multiples of this: no
 * larger than has to be, since V8 takes what an array shares with the guest for memory of its own, and collects garbage for each
 * 64 MiB of it, which costs a small kernel's boot a tenth of its time.
 */
const WINDOW = 2 ** 23;
/** Windows of more than that, at most: then one of a gibibyte. */
const MAX_WIDE_WINDOWS = 8;
const WIDEST_WINDOW = 2 ** 30;

interface Window {
  readonly start: number;
  readonly end: number;
  view: DataView;
}

/** Also that what it covers is still there. */
function holds({ start, end, view }: Window, address: number, length: number): boolean {
  return address >= start && address + length <= end && view.buffer.byteLength > 0;
}

/**
 * All RAM. Whatever lies in a hole, or reaches from one block into another, throws `machine-address`. Nothing is kept but
 * windows on the memory, so that what nobody touches costs nothing.
 */
export class PhysicalMemory {
  readonly #owner: MemoryOwner;
  /** By their first address. */
  readonly #windows = new Map<number, Window>();
  /** Those of several times the size, for what lies in several. */
  #wide: readonly Window[] = [];
  #last: Window | null = null;

  constructor(owner: MemoryOwner) {
    this.#owner = owner;
  }

  /** Plain bytes as memory, for code that has no CPU. */
  static of(bytes: Uint8Array, start = 0): PhysicalMemory {
    return new PhysicalMemory({
      blocks: [{ start, end: start + bytes.length }],
      ram: (address, length) => bytes.subarray(address - start, address - start + length),
      invalidateCode: () => {},
    });
  }

  get blocks(): readonly MemoryBlock[] {
    return this.#owner.blocks;
  }

  /** Runs of RAM outside of which all is zeroes, by address: all RAM where nobody can tell. */
  touched(): readonly MemoryBlock[] {
    return this.#owner.touched?.() ?? this.blocks;
  }

  /** Address behind the highest byte of RAM. */
  get end(): number {
    return this.blocks.at(-1)?.end ?? 0;
  }

  /** Whether [address, address + length) is RAM, all of it in one block. */
  contains(address: number, length: number): boolean {
    return length >= 0 && this.#blockOf(address, length) !== null;
  }

  /** Bytes of RAM from `address` to the end of its block; 0 where there is none. */
  bytesFrom(address: number): number {
    const block = this.#blockOf(address, 1);
    return block === null ? 0 : block.end - address;
  }

  #blockOf(address: number, length: number): MemoryBlock | null {
    for (const block of this.#owner.blocks) {
      if (address >= block.start && address + length <= block.end) return block;
    }
    return null;
  }

  /**
   * The bytes [address, address + length), shared with the guest. Take them anew after the CPU has run.
   *
   * @throws BootscopeError `machine-address`
   */
  view(address: number, length: number): Uint8Array {
    const { view, start } = this.#window(address, length);
    return new Uint8Array(view.buffer, view.byteOffset + (address - start), length);
  }

  /** The same as numbers. */
  dataView(address: number, length: number): DataView {
    const { view, start } = this.#window(address, length);
    return new DataView(view.buffer, view.byteOffset + (address - start), length);
  }

  /** What of [address, address + length) is RAM from `address` on, as `view`; shorter at the end of a block, empty in a hole. */
  viewUpTo(address: number, length: number): Uint8Array {
    const available = Math.min(length, this.bytesFrom(address));
    return available === 0 ? new Uint8Array(0) : this.view(address, available);
  }

  /** A window that holds [address, address + length). */
  #window(address: number, length: number): Window {
    const last = this.#last;
    if (last !== null && holds(last, address, length)) return last;
    const window = this.#find(address, length);
    this.#last = window;
    return window;
  }

  #find(address: number, length: number): Window {
    const block = length >= 0 ? this.#blockOf(address, length) : null;
    if (block === null) throw this.#outside(address, length);
    const known = this.#wide.find((window) => holds(window, address, length));
    if (known !== undefined) return known;
    const around = (size: number): readonly [number, number] => {
      const first = Math.floor((address - block.start) / size);
      const behind = Math.max(Math.ceil((address + length - block.start) / size), first + 1);
      return [block.start + first * size, Math.min(block.start + behind * size, block.end)];
    };
    const [start, end] = around(WINDOW);
    if (end - start <= WINDOW) {
      const ordinary = this.#windows.get(start);
      if (ordinary !== undefined && holds(ordinary, address, length)) return ordinary;
      const window = this.#open(start, end);
      this.#windows.set(start, window);
      return window;
    }
    const [from, to] = this.#wide.length < MAX_WIDE_WINDOWS ? [start, end] : around(WIDEST_WINDOW);
    if (to - from > WIDEST_WINDOW) return this.#open(address, address + length);
    const window = this.#open(from, to);
    this.#wide = [...this.#wide.filter((other) => other.start < from || other.end > to), window];
    return window;
  }

  #open(start: number, end: number): Window {
    const bytes = this.#owner.ram(start, end - start);
    return { start, end, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length) };
  }

  #outside(address: number, length: number): BootscopeError {
    const ram = this.blocks.map(({ start, end }) => `${hex(start)}..${hex(end)}`).join(' and ');
    return new BootscopeError(
      'machine-address',
      `${length} bytes at ${hex(address)} are not all RAM, which is ${ram || 'nowhere'}`,
    );
  }

  read8(address: number): number {
    const { view, start } = this.#window(address, 1);
    return view.getUint8(address - start);
  }

  read16(address: number): number {
    const { view, start } = this.#window(address, 2);
    return view.getUint16(address - start, true);
  }

  read32(address: number): number {
    const { view, start } = this.#window(address, 4);
    return view.getUint32(address - start, true);
  }

  read64(address: number): bigint {
    const { view, start } = this.#window(address, 8);
    return view.getBigUint64(address - start, true);
  }

  write8(address: number, value: number): void {
    const { view, start } = this.#window(address, 1);
    view.setUint8(address - start, value);
  }

  write16(address: number, value: number): void {
    const { view, start } = this.#window(address, 2);
    view.setUint16(address - start, value, true);
  }

  write32(address: number, value: number): void {
    const { view, start } = this.#window(address, 4);
    view.setUint32(address - start, value, true);
  }

  write64(address: number, value: bigint): void {
    const { view, start } = this.#window(address, 8);
    view.setBigUint64(address - start, value, true);
  }

  /** A copy of [address, address + length). */
  copyOut(address: number, length: number): Uint8Array {
    return this.view(address, length).slice();
  }

  /** Writes bytes that may be code, and drops what the engine has translated there. */
  copyIn(address: number, bytes: Uint8Array): void {
    this.view(address, bytes.length).set(bytes);
    this.#owner.invalidateCode(address, bytes.length);
  }

  /** Moves bytes as `memmove` does; translated code is not dropped. */
  copyWithin(target: number, source: number, length: number): void {
    // V8 moves elements of one type in one piece, also where two buffers share their memory.
    this.view(target, length).set(this.view(source, length));
  }

  fill(address: number, length: number, value: number): void {
    this.view(address, length).fill(value);
  }

  /** Writes `count` words of 16 bits; `address` is even. */
  fill16(address: number, count: number, value: number): void {
    const { buffer, byteOffset } = this.view(address, count * 2);
    new Uint16Array(buffer, byteOffset, count).fill(value);
  }
}
