// Choices that a seed determines: the same target, seed and case number make the same input on every host.

import { createHash } from 'node:crypto';
import { randomNumbers } from '../../src/codecs/test-streams.ts';

/** Bytes that sit at the edges of what fields hold. */
const EDGE_BYTES = [0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff] as const;
const EDGE_NUMBERS = [0n, 1n, 2n, 0x7fn, 0x80n, 0xffn, 0xfffn, 0x1000n, 0x7fffn, 0x8000n, 0xffffn] as const;
const WIDE_EDGES = [0x7fff_ffffn, 0x8000_0000n, 0xffff_f000n, 0xffff_ffffn, 0xffff_ffff_ffff_ffffn] as const;

export class Dice {
  readonly below: (limit: number) => number;

  constructor(target: string, seed: number, number: number) {
    const hash = createHash('sha256').update(`${target} ${seed} ${number}`).digest();
    this.below = randomNumbers(hash.readInt32LE(0));
  }

  /** True once in so many times. */
  once(times: number): boolean {
    return this.below(times) === 0;
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)]!;
  }

  /** A small number mostly, a large one now and then. */
  small(limit: number): number {
    return this.once(8) ? this.below(limit) : this.below(Math.min(limit, 16));
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.below(256));
  }

  edgeByte(): number {
    return this.once(2) ? this.pick(EDGE_BYTES) : this.below(256);
  }

  /** A number for a field of `size` bytes: an edge, near the old value, one bit off, or any. */
  number(size: number, old: bigint): bigint {
    const bits = size * 8;
    switch (this.below(5)) {
      case 0:
        return BigInt.asUintN(bits, this.pick(EDGE_NUMBERS));
      case 1:
        return BigInt.asUintN(bits, this.pick(WIDE_EDGES));
      case 2:
        return BigInt.asUintN(bits, old + BigInt(this.below(513) - 256));
      case 3:
        return BigInt.asUintN(bits, old ^ (1n << BigInt(this.below(bits))));
      default:
        return BigInt.asUintN(bits, BigInt(this.below(0x1_0000_0000)) * BigInt(1 + this.small(0x10000)));
    }
  }
}
