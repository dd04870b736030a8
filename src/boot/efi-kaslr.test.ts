// What the choice of KASLR makes of the firmware's random numbers.

import { describe, expect, it } from 'vitest';
import { Entropy } from '../machine/entropy.ts';
import type { Machine } from '../machine/machine.ts';
import { efiProtocolsOf, efiRandom } from './efi-kaslr.ts';
import { DEFAULT_BOOT_OPTIONS } from './options.ts';

const SEED = 7n;
const machine = (): Machine => ({ entropy: new Entropy(SEED) }) as unknown as Machine;
const listed = (...rng: number[]) => ({ kind: 'entropy', rdtsc: [], rng: Uint8Array.from(rng) }) as const;

/** The machine's own bytes, from its first 64-bit number on. */
function own(numbers: number): readonly number[] {
  const entropy = new Entropy(SEED);
  const bytes = new DataView(new ArrayBuffer(numbers * 8));
  for (let at = 0; at < numbers * 8; at += 8) bytes.setBigUint64(at, entropy.next64(), true);
  return [...new Uint8Array(bytes.buffer)];
}

describe('the random number protocol', () => {
  it("gives the machine's bytes, a number of 8 for each call that needs one", () => {
    const random = efiRandom(machine(), { kind: 'seed', seed: SEED });
    expect([...random(8)]).toEqual(own(1));
    expect([...random(3)]).toEqual(own(2).slice(8, 11));
    expect([...random(16)]).toEqual(own(4).slice(16));
    expect([...random(0)]).toEqual([]);
  });

  it("gives what was listed first, over all calls, and draws none of the machine's for it", () => {
    const random = efiRandom(machine(), listed(1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
    expect([...random(8)]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect([...random(4)]).toEqual([9, 10, ...own(1).slice(2, 4)]);
    expect([...random(8)]).toEqual(own(2).slice(8));
  });

  it('is there where it was asked for, or where its bytes were listed, and once', () => {
    const protocols = (options: Partial<typeof DEFAULT_BOOT_OPTIONS>): readonly string[] =>
      efiProtocolsOf({ ...DEFAULT_BOOT_OPTIONS, ...options });
    expect(protocols({})).toEqual([]);
    expect(protocols({ efiProtocols: ['tcg2'] })).toEqual(['tcg2']);
    expect(protocols({ efiProtocols: ['tcg2'], kaslr: listed(1) })).toEqual(['tcg2', 'rng']);
    expect(protocols({ efiProtocols: ['rng'], kaslr: listed(1) })).toEqual(['rng']);
    expect(protocols({ kaslr: { kind: 'entropy', rdtsc: [1n] } })).toEqual([]);
  });
});
