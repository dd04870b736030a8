// The machine's only source of randomness: a stream that the seed determines.

const MASK_64 = (1n << 64n) - 1n;

/** Values for RDRAND and for where the TSC and the PIT stand at power-on (SplitMix64, Steele et al. 2014). */
export class Entropy {
  #state: bigint;

  constructor(seed: bigint) {
    this.#state = seed & MASK_64;
  }

  /** The next 64-bit value, 0 to 2^64 - 1. */
  next64(): bigint {
    this.#state = (this.#state + 0x9e3779b97f4a7c15n) & MASK_64;
    let z = this.#state;
    z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK_64;
    z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & MASK_64;
    return z ^ (z >> 31n);
  }
}
