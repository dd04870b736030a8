// Guest memory that the host has given to the engine, and what JavaScript sees of it.

import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import type { MemoryBlock } from '../x86/physical-memory.ts';
import type { Pointer, Transport } from './transport.ts';

const PAGE_SIZE = 4096;
const UC_PROT_ALL = 7;
/** What one array can cover: the limit of V8 in Node 20; Node-API ends the process beyond it. */
const MAX_VIEW = 2 ** 32;

interface Block {
  /** Guest-physical. */
  readonly address: number;
  readonly size: number;
  readonly pointer: Pointer;
  /** Null where nobody has asked for all of it. */
  view: Uint8Array<ArrayBuffer> | null;
}

export class GuestBlocks {
  readonly #transport: Transport;
  readonly #blocks = new Map<number, Block>();
  /** What was mapped as RAM, by address. */
  ram: readonly MemoryBlock[] = [];

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  [Symbol.iterator](): Iterator<Block> {
    return this.#blocks.values();
  }

  /** See `Cpu.mapRam` and `Cpu.mapDevice`. */
  map(address: number, size: number, isRam: true): void;
  map(address: number, size: number, isRam: false): Uint8Array<ArrayBuffer>;
  map(address: number, size: number, isRam: boolean): Uint8Array<ArrayBuffer> | undefined {
    if (address % PAGE_SIZE !== 0 || size % PAGE_SIZE !== 0 || size <= 0) {
      throw new BootscopeError(
        'cpu-memory',
        `RAM at ${hex(address)} of ${size} bytes is not a whole number of ${PAGE_SIZE}-byte pages`,
      );
    }
    const pointer = this.#transport.allocate(size);
    if (pointer === null) {
      throw new BootscopeError('cpu-memory', `The host has no ${size} bytes for the guest's RAM`);
    }
    const error = this.#transport.memMapPtr(BigInt(address), size, UC_PROT_ALL, pointer);
    if (error !== 0) {
      const reason = this.#transport.errorText(error);
      throw new BootscopeError('cpu-engine', `Mapping ${size} bytes at ${hex(address)} failed: ${reason}`);
    }
    const block: Block = { address, size, pointer, view: null };
    this.#blocks.set(address, block);
    if (!isRam) return this.#whole(block);
    this.ram = [...this.ram, { start: address, end: address + size }].sort((a, b) => a.start - b.start);
    return undefined;
  }

  /** The block that starts there. @throws BootscopeError `cpu-memory` */
  at(address: number): Block {
    const block = this.#blocks.get(address);
    if (block === undefined) {
      throw new BootscopeError('cpu-memory', `No RAM block starts at ${hex(address)}`);
    }
    return block;
  }

  /** See `Cpu.ram`. */
  view(address: number, length?: number): Uint8Array<ArrayBuffer> {
    if (length === undefined) return this.#whole(this.at(address));
    const range = this.ram.find(({ start, end }) => address >= start && address + length <= end);
    if (range === undefined) {
      throw new BootscopeError('cpu-memory', `No RAM block holds ${length} bytes at ${hex(address)}`);
    }
    return this.#transport.view(this.at(range.start).pointer + (address - range.start), length);
  }

  /** See `Cpu.touched`. */
  touched(): readonly MemoryBlock[] {
    return this.ram.flatMap(({ start, end }) => {
      const ranges = this.#transport.touched(this.at(start).pointer, end - start);
      return (
        ranges?.map((range) => ({ start: start + range.start, end: start + range.end })) ?? [{ start, end }]
      );
    });
  }

  #whole(block: Block): Uint8Array<ArrayBuffer> {
    if (block.view === null || block.view.byteLength === 0) {
      block.view = this.#transport.view(block.pointer, Math.min(block.size, MAX_VIEW));
    }
    return block.view;
  }

  /** The engine that had them is closed. */
  clear(): void {
    this.#blocks.clear();
    this.ram = [];
  }
}
