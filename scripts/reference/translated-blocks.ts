// QEMU's log of the blocks it translates (`-d in_asm`): which code runs first where, in the order of the boot.

import { readSync } from 'node:fs';

export interface Instruction {
  /** Linear address. */
  readonly address: bigint;
  readonly bytes: Uint8Array;
}

/** Code that QEMU translated at one go: it ends at a branch or at a page's end. */
export interface Block {
  readonly start: bigint;
  /** Address behind the last byte. */
  readonly end: bigint;
  readonly instructions: readonly Instruction[];
}

/** Arguments that make QEMU write the log, of RAM only: the BIOS and the kernel's virtual addresses are left out. */
export function logArguments(path: string, memoryMegabytes: number): readonly string[] {
  const ramEnd = (memoryMegabytes * 1024 * 1024 - 1).toString(16);
  return ['-d', 'in_asm', '-D', path, '-dfilter', `0x400..0x9ffff,0x100000..0x${ramEnd}`];
}

export const BLOCK_SEPARATOR = '----------------\n';

/** Reads one block of the log; null where there is none. */
export function parseBlock(text: string): Block | null {
  const instructions: Instruction[] = [];
  for (const line of text.split('\n')) {
    // A long instruction goes on in a second line with an address of its own; that makes no difference here.
    const [, address, hex] = /^(0x[0-9a-f]+):\s+((?:[0-9a-f]{2}(?:\s|$))+)/.exec(line) ?? [];
    if (address !== undefined) instructions.push({ address: BigInt(address), bytes: bytesOf(hex!) });
  }
  const first = instructions[0];
  const last = instructions.at(-1);
  if (first === undefined || last === undefined) return null;
  return { start: first.address, end: last.address + BigInt(last.bytes.length), instructions };
}

function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from(hex.trim().split(/\s+/), (digits) => Number.parseInt(digits, 16));
}

/** All bytes of a block. */
export function blockBytes(block: Block): Uint8Array {
  return Buffer.concat(block.instructions.map((instruction) => instruction.bytes));
}

/** Follows a log that is still being written. */
export class BlockReader {
  readonly #file: number;
  readonly #chunk = Buffer.alloc(1 << 20);
  #position = 0;
  #text = '';

  constructor(file: number) {
    this.#file = file;
  }

  /** The blocks that are complete by now; with `all`, the last one too. */
  read(all: boolean): Block[] {
    for (;;) {
      const length = readSync(this.#file, this.#chunk, 0, this.#chunk.length, this.#position);
      if (length === 0) break;
      this.#position += length;
      this.#text += this.#chunk.toString('latin1', 0, length);
    }
    const parts = this.#text.split(BLOCK_SEPARATOR);
    this.#text = all ? '' : parts.pop()!;
    return parts.map(parseBlock).filter((block) => block !== null);
  }
}
