// KASLR's random numbers: the seed that the build and boot_params give, the sources that are asked, and how all are mixed.

import type { EntropySource } from './kaslr-entropy.ts';

/** One random number and what it came of. */
export interface KaslrDraw {
  readonly purpose: 'Physical' | 'Virtual';
  readonly seed: bigint;
  readonly rdrand: bigint | null;
  readonly rdtsc: bigint | null;
  readonly i8254: number | null;
  readonly random: bigint;
  readonly slots: number;
  readonly slot: number;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

const MASK64 = (1n << 64n) - 1n;
const MASK32 = (1n << 32n) - 1n;

/** rotate_xor: folds whole words into a hash, rotating it right by 7 before each. */
function rotateXor64(hash: bigint, bytes: Uint8Array): bigint {
  const view = viewOf(bytes);
  let result = hash;
  for (let at = 0; at + 8 <= bytes.length; at += 8) {
    result = (((result << 57n) & MASK64) | (result >> 7n)) ^ view.getBigUint64(at, true);
  }
  return result;
}

function rotateXor32(hash: number, bytes: Uint8Array): number {
  const view = viewOf(bytes);
  let result = hash;
  for (let at = 0; at + 4 <= bytes.length; at += 4) {
    result = ((result << 25) | (result >>> 7)) ^ view.getInt32(at, true);
  }
  return result >>> 0;
}

/**
 * get_boot_seed: the start of every random number, from the build's string and boot_params as they are.
 *
 * @param bootParams - its 4096 bytes
 */
export function bootSeed(buildString: string, bootParams: Uint8Array, bits: 32 | 64): bigint {
  const build = Uint8Array.from(`${buildString}\0`, (character) => character.charCodeAt(0));
  return bits === 64
    ? rotateXor64(rotateXor64(0n, build), bootParams)
    : BigInt(rotateXor32(rotateXor32(0, build), bootParams));
}

/** The last step of kaslr_get_random_long: both halves of a product, added up. */
export function mixRandom(value: bigint, bits: 32 | 64): bigint {
  if (bits === 64) {
    const product = (value & MASK64) * 0x5d6008cbf3848dd3n;
    return ((product & MASK64) + (product >> 64n)) & MASK64;
  }
  const product = (value & MASK32) * 0x3f39e593n;
  return ((product & MASK32) + (product >> 32n)) & MASK32;
}

/** kaslr_get_random_long: asks the sources in the stub's order. */
export function drawRandom(
  seed: bigint,
  bits: 32 | 64,
  entropy: EntropySource,
  i8254Swapped: boolean,
): Pick<KaslrDraw, 'seed' | 'rdrand' | 'rdtsc' | 'i8254' | 'random'> {
  const rdrand = entropy.rdrand();
  const rdtsc = entropy.rdtsc();
  const i8254 = rdrand === null && rdtsc === null ? entropy.i8254(i8254Swapped) : null;
  const mixed = seed ^ (rdrand ?? 0n) ^ (rdtsc ?? 0n) ^ BigInt(i8254 ?? 0);
  return { seed, rdrand, rdtsc, i8254, random: mixRandom(mixed, bits) };
}
