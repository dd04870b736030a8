// Where KASLR's random numbers come from: values a user lists, or a stream; and how a user says so.

import { BootscopeError } from '../error.ts';

/** The CPU's and the machine's entropy, in the order the stub asks for it. */
export interface EntropySource {
  /** RDRAND's 64 (on i386 32) bits; null when the CPU has none or it failed ten times. */
  rdrand(): bigint | null;
  /**
   * RDTSC's 64 bits; null when the CPU has no time stamp counter. `announce` is called before it is read: the stub prints then,
   * which takes time.
   */
  rdtsc(announce?: () => void): bigint | null;
  /**
   * Counter 0 of the i8254, 16 bits; only asked when the others gave nothing. `swapped`: the command that latches the count
   * does not reach the timer, so three bytes of the running count are read.
   */
  i8254(swapped: boolean): number;
}

/** What a boot can be told of KASLR. */
export type KaslrOption =
  | { readonly kind: 'off' }
  /** The machine's sources deliver a stream that starts with the seed. */
  | { readonly kind: 'seed'; readonly seed: bigint }
  /** RDTSC returns these, in order; the CPU has no RDRAND. EFI_RNG_PROTOCOL gives these bytes, where there are any. */
  | { readonly kind: 'entropy'; readonly rdtsc: readonly bigint[]; readonly rng?: Uint8Array }
  /** Given addresses; `virtual` counts from __START_KERNEL_map. */
  | { readonly kind: 'forced'; readonly physical: number | null; readonly virtual: number | null };

/** __START_KERNEL_map of x86-64. */
const START_KERNEL_MAP = 0xffff_ffff_8000_0000n;

/**
 * Reads `off`, `seed:N`, `entropy:RDTSC1,RDTSC2`, with `,rng:HEX` for what EFI gives, `phys:ADDR`, `virt:ADDR` or `phys:ADDR,virt:ADDR`. A virtual address is the
 * kernel's own (0xffffffff9a000000) or its distance from __START_KERNEL_map (0x1a000000).
 *
 * @throws {@link BootscopeError} `kaslr-option` for anything else
 * @example
 * ```ts
 * import { parseKaslrOption } from 'bootscope';
 *
 * console.assert(parseKaslrOption('phys:0x2000000').kind === 'forced');
 * ```
 */
export function parseKaslrOption(text: string): KaslrOption {
  if (text === 'off') {
    return { kind: 'off' };
  }
  const [, kind, rest] = /^(seed|entropy|phys|virt):(.+)$/.exec(text) ?? [];
  if (kind === undefined || rest === undefined) {
    throw new BootscopeError(
      'kaslr-option',
      `the KASLR choice ${text} is none of off, seed:N, entropy:RDTSC1,RDTSC2, phys:ADDR,virt:ADDR`,
    );
  }
  if (kind === 'seed') {
    return { kind: 'seed', seed: parseInteger(rest, text) };
  }
  if (kind === 'entropy') {
    const parts = rest.split(',');
    const isRng = (part: string): boolean => part.startsWith(RNG);
    const rdtsc = parts.filter((part) => !isRng(part)).map((value) => parseInteger(value, text));
    const bytes = parts.filter(isRng).map((part) => part.slice(RNG.length));
    return { kind: 'entropy', rdtsc, ...(bytes.length > 0 ? { rng: parseBytes(bytes.join(''), text) } : {}) };
  }
  let physical: number | null = null;
  let virtual: number | null = null;
  for (const part of text.split(',')) {
    const [, which, value] = /^(phys|virt):(.+)$/.exec(part) ?? [];
    if (which === undefined || value === undefined) {
      throw new BootscopeError(
        'kaslr-option',
        `the KASLR choice ${text}: ${part} is neither phys:ADDR nor virt:ADDR`,
      );
    }
    const address = parseInteger(value, text);
    if (which === 'phys') {
      physical = Number(address);
    } else {
      virtual = Number(address >= START_KERNEL_MAP ? address - START_KERNEL_MAP : address);
    }
  }
  return { kind: 'forced', physical, virtual };
}

/** Before bytes of EFI_RNG_PROTOCOL, in hex. */
const RNG = 'rng:';

function parseBytes(text: string, option: string): Uint8Array {
  if (!/^(?:[0-9a-fA-F]{2})*$/.test(text)) {
    throw new BootscopeError(
      'kaslr-option',
      `the KASLR choice ${option}: ${text} are no bytes in hex, two digits each`,
    );
  }
  return Uint8Array.from(text.match(/../g) ?? [], (digits) => Number.parseInt(digits, 16));
}

function parseInteger(text: string, option: string): bigint {
  if (!/^(?:0x[0-9a-fA-F]+|[0-9]+)$/.test(text)) {
    throw new BootscopeError('kaslr-option', `the KASLR choice ${option}: ${text} is no number`);
  }
  const value = BigInt(text);
  if (value !== BigInt.asUintN(64, value))
    throw new BootscopeError('kaslr-option', `the KASLR choice ${option}: ${text} has more than 64 bits`);
  return value;
}

/**
 * A CPU without RDRAND whose RDTSC returns the given values.
 *
 * @throws BootscopeError `kaslr-entropy` from `rdtsc` when they are used up
 */
export function listedEntropy(values: readonly bigint[]): EntropySource {
  let used = 0;
  return {
    rdrand: () => null,
    rdtsc: (announce) => {
      announce?.();
      const value = values[used];
      if (value === undefined) {
        throw new BootscopeError(
          'kaslr-entropy',
          `the kernel reads the time stamp counter ${used + 1} times, the choice entropy: lists ${values.length} values`,
        );
      }
      used++;
      return value;
    },
    i8254: () => 0,
  };
}

/** A CPU with the given features whose sources all take the next value of one stream. */
export function streamEntropy(
  next64: () => bigint,
  cpu: { readonly rdrand: boolean; readonly tsc: boolean },
): EntropySource {
  return {
    rdrand: () => (cpu.rdrand ? next64() : null),
    rdtsc: (announce) => {
      if (!cpu.tsc) return null;
      announce?.();
      return next64();
    },
    i8254: () => Number(next64() & 0xffffn),
  };
}
