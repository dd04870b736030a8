// Finds the addresses of the boot's phases from what QEMU really executed, without knowing any kernel's code.

import { type Block, blockBytes } from './translated-blocks.ts';

export interface BootAddresses {
  readonly startup32: bigint;
  /** Where 64-bit code of the stub is known to begin, startup_32 + 0x200, if it was executed. */
  readonly startup64: bigint | null;
  /** Where the stub goes on after copying itself; null where it stays. */
  readonly relocated: bigint | null;
  /** Where the copy lies, as the file's protected-mode part; null likewise. */
  readonly relocatedBase: bigint | null;
  /** First instruction of extract_kernel (decompress_kernel); null where no call leads to the kernel. */
  readonly extractKernel: bigint | null;
  /** The instruction behind the call of it. */
  readonly returnSite: bigint | null;
  /** Addresses of RDTSC and RDRAND instructions that the stub executed. */
  readonly entropyReads: readonly { readonly address: bigint; readonly instruction: 'rdtsc' | 'rdrand' }[];
  readonly kernel: bigint;
}

const ONE_MEGABYTE = 0x100000n;
const SHORTEST_PROOF = 8;

/**
 * Takes blocks in the order of their translation until the first one of the kernel proper.
 *
 * The stub's blocks consist of the image's own bytes: at the place where the image was loaded, then at
 * the place the stub copied itself to. The first block above 1 MiB that is neither is the kernel.
 */
export class BootFollower {
  readonly #code: Buffer;
  readonly #loadedAt: bigint;
  readonly #blocks: Block[] = [];
  #relocated: bigint | null = null;
  #relocatedBase: bigint | null = null;

  constructor(protectedModeCode: Buffer, loadedAt: bigint) {
    this.#code = protectedModeCode;
    this.#loadedAt = loadedAt;
  }

  /** The last blocks that were seen, for an error message. */
  get lastBlocks(): readonly Block[] {
    return this.#blocks.slice(-5);
  }

  /** Takes the next block; returns the result when it is the kernel's first. */
  take(block: Block): BootAddresses | null {
    // The BIOS runs from RAM too, but only before startup_32.
    if (this.#blocks.length === 0 && block.start !== this.#loadedAt) return null;
    if (this.#blocks.length > 0 && block.start >= ONE_MEGABYTE && !this.#isStub(block)) {
      if (this.#relocatedBase !== null || !this.#isCopy(block)) return this.#finish(block.start);
    }
    this.#blocks.push(block);
    return null;
  }

  #isStub(block: Block): boolean {
    if (this.#relocatedBase !== null) return this.#isInside(block, this.#relocatedBase);
    return this.#isInside(block, this.#loadedAt) && this.#matches(block, this.#loadedAt);
  }

  #isInside(block: Block, base: bigint): boolean {
    return block.start >= base && block.end <= base + BigInt(this.#code.length);
  }

  #matches(block: Block, base: bigint): boolean {
    const bytes = blockBytes(block);
    const offset = Number(block.start - base);
    return this.#code.subarray(offset, offset + bytes.length).equals(bytes);
  }

  /** Whether the block is the image's code at a new place, and if so keeps the place. */
  #isCopy(block: Block): boolean {
    const bytes = Buffer.from(blockBytes(block));
    const offset = this.#code.indexOf(bytes);
    if (bytes.length < SHORTEST_PROOF || offset < 0) return false;
    this.#relocated = block.start;
    this.#relocatedBase = block.start - BigInt(offset);
    return true;
  }

  #finish(kernel: bigint): BootAddresses {
    const starts = new Set(this.#blocks.map((block) => block.start));
    const startup64 = this.#loadedAt + 0x200n;
    const call = this.#callBeforeKernel();
    return {
      startup32: this.#loadedAt,
      startup64: starts.has(startup64) ? startup64 : null,
      relocated: this.#relocated,
      relocatedBase: this.#relocatedBase,
      extractKernel: call?.target ?? null,
      returnSite: call?.returnSite ?? null,
      entropyReads: this.#entropyReads(),
      kernel,
    };
  }

  /** The last call that the code on the way out of the stub came back from. */
  #callBeforeKernel(): { target: bigint; returnSite: bigint } | null {
    const targets = new Map<bigint, bigint>();
    for (const block of this.#blocks) {
      const last = block.instructions.at(-1)!;
      if (last.bytes[0] !== 0xe8 || last.bytes.length !== 5) continue;
      const displacement = Buffer.from(last.bytes).readInt32LE(1);
      targets.set(block.end, block.end + BigInt(displacement));
    }
    for (const block of this.#blocks.toReversed()) {
      const target = targets.get(block.start);
      if (target !== undefined) return { target, returnSite: block.start };
    }
    return null;
  }

  #entropyReads(): BootAddresses['entropyReads'] {
    const reads = new Map<bigint, 'rdtsc' | 'rdrand'>();
    for (const { instructions } of this.#blocks) {
      for (const { address, bytes } of instructions) {
        if (bytes[0] === 0x0f && bytes[1] === 0x31) reads.set(address, 'rdtsc');
        const opcode = (bytes[0]! & 0xf0) === 0x40 ? 1 : 0;
        const isRdrand =
          bytes[opcode] === 0x0f && bytes[opcode + 1] === 0xc7 && (bytes[opcode + 2] ?? 0) >> 3 === 0x1e;
        if (isRdrand) reads.set(address, 'rdrand');
      }
    }
    return [...reads].map(([address, instruction]) => ({ address, instruction }));
  }
}
