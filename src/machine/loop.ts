// Where a guest goes round when its boot is ended: the loop that its last instructions are in.

import type { Cpu } from '../cpu/cpu.ts';
import { hex } from '../hex.ts';

/** Instructions that are looked at. */
export const LOOKED_AT = 20_000;
/** Host time that a look after the end may take, in milliseconds. */
const LONGEST_LOOK = 100;
const LAST_ADDRESS = 0xffff_ffff_ffff_ffffn;

export interface Loop {
  /** Linear addresses of instructions. */
  readonly lowest: number;
  readonly highest: number;
  /** Instructions of a round. */
  readonly length: number;
  /** Rounds that were seen, one after the other and all the same. */
  readonly rounds: number;
}

/**
 * The shortest round that the last instructions repeat at least once.
 * @param addresses - of instructions, in the order that they were executed
 */
export function findLoop(addresses: readonly number[]): Loop | null {
  const end = addresses.length;
  const repeats = (length: number): number => {
    let at = end - 1;
    while (at >= length && addresses[at] === addresses[at - length]) at--;
    return end - 1 - at;
  };
  for (let length = 1; length * 2 <= end; length++) {
    if (addresses[end - 1 - length] !== addresses[end - 1]) continue;
    const same = repeats(length);
    if (same < length) continue;
    const round = addresses.slice(end - length);
    return {
      ...{ lowest: Math.min(...round), highest: Math.max(...round) },
      ...{ length, rounds: Math.floor(same / length) + 1 },
    };
  }
  return null;
}

/** Notes the instructions that are executed from here on, one for all iterations of a repeated one. */
export class RecentInstructions {
  readonly #addresses: number[] = [];
  #last: number | null = null;
  readonly #unhook: () => void;

  constructor(cpu: Cpu) {
    this.#unhook = cpu.hookCode(0n, LAST_ADDRESS, (address) => {
      const { instructions } = cpu;
      if (instructions !== null && instructions === this.#last) return;
      this.#last = instructions;
      if (this.#addresses.length === 2 * LOOKED_AT) this.#addresses.splice(0, LOOKED_AT);
      this.#addresses.push(Number(address));
    });
  }

  /** A clause on the loop that they end in; empty where they end in none. */
  end(): string {
    this.#unhook();
    const loop = findLoop(this.#addresses);
    if (loop === null) return '';
    const { lowest, highest, length, rounds } = loop;
    const where = lowest === highest ? `at ${hex(lowest)}` : `from ${hex(lowest)} to ${hex(highest)}`;
    const of = `${length} ${length === 1 ? 'instruction' : 'instructions'} a round`;
    return `; it was going round in a loop ${where} (${of}, ${rounds} rounds and more)`;
  }
}

/** The same of a guest whose time is up, which runs on a little for it. */
export function loopFromHere(cpu: Cpu): string {
  const recent = new RecentInstructions(cpu);
  cpu.run({ instructions: LOOKED_AT, sliceMilliseconds: LONGEST_LOOK });
  return recent.end();
}
