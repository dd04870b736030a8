// How KASLR's choice is written, and the sources of entropy that stand behind it.

import { describe, expect, it } from 'vitest';
import { listedEntropy, parseKaslrOption, streamEntropy } from './kaslr-entropy.ts';

describe('a choice of KASLR', () => {
  it.each([
    ['off', { kind: 'off' }],
    ['seed:0x10', { kind: 'seed', seed: 16n }],
    ['seed:18446744073709551615', { kind: 'seed', seed: 2n ** 64n - 1n }],
    ['entropy:1,0x2', { kind: 'entropy', rdtsc: [1n, 2n] }],
    ['entropy:1,rng:0aFF', { kind: 'entropy', rdtsc: [1n], rng: Uint8Array.of(10, 255) }],
    ['entropy:rng:01,5,rng:02', { kind: 'entropy', rdtsc: [5n], rng: Uint8Array.of(1, 2) }],
    ['entropy:rng:', { kind: 'entropy', rdtsc: [], rng: new Uint8Array(0) }],
    ['phys:0x2000000', { kind: 'forced', physical: 0x2000000, virtual: null }],
    ['virt:0x1a000000', { kind: 'forced', physical: null, virtual: 0x1a000000 }],
    ['virt:0xffffffff9a000000,phys:16777216', { kind: 'forced', physical: 0x1000000, virtual: 0x1a000000 }],
    ['virt:0xffffffff80000000', { kind: 'forced', physical: null, virtual: 0 }],
  ])('%s', (text, expected) => {
    expect(parseKaslrOption(text)).toEqual(expected);
  });

  it.each([
    ['on', 'the KASLR choice on is none of off, seed:N'],
    ['seed:', 'the KASLR choice seed: is none of off'],
    ['xseed:1', 'is none of off'],
    ['seed:x', 'the KASLR choice seed:x: x is no number'],
    ['seed:1x', '1x is no number'],
    ['seed:-1', '-1 is no number'],
    ['seed:0x10000000000000000', '0x10000000000000000 has more than 64 bits'],
    ['entropy:1,', ' is no number'],
    ['entropy:rng:0', '0 are no bytes in hex, two digits each'],
    ['entropy:rng:zz', 'zz are no bytes in hex'],
    ['phys:1,seed:2', 'seed:2 is neither phys:ADDR nor virt:ADDR'],
    ['phys:1,xvirt:2', 'xvirt:2 is neither'],
    ['phys:1,', 'is neither phys:ADDR nor virt:ADDR'],
    ['phys:1,virt:', 'virt: is neither'],
  ])('is none: %s', (text, message) => {
    expect(() => parseKaslrOption(text)).toThrow(message);
  });
});

describe('sources of entropy', () => {
  it('that are listed are used up', () => {
    const source = listedEntropy([5n, 6n]);
    let announced = 0;
    expect([source.rdrand(), source.rdtsc(() => announced++), source.rdtsc(), source.i8254(true)]).toEqual([
      null,
      5n,
      6n,
      0,
    ]);
    expect(announced).toBe(1);
    expect(() => source.rdtsc()).toThrow(
      'the kernel reads the time stamp counter 3 times, the choice entropy: lists 2 values',
    );
  });

  it('of a stream are those that the CPU has', () => {
    const make = (rdrand: boolean, tsc: boolean) => {
      let next = 0x1_0000n;
      return streamEntropy(() => ++next, { rdrand, tsc });
    };
    let announced = 0;
    const all = make(true, true);
    expect([all.rdrand(), all.rdtsc(() => announced++), all.i8254(false)]).toEqual([0x10001n, 0x10002n, 3]);
    const none = make(false, false);
    expect([none.rdrand(), none.rdtsc(() => announced++), none.i8254(false), announced]).toEqual([
      null,
      null,
      1,
      1,
    ]);
  });
});
