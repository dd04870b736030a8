// The search for the last stop before now, in a boot made up of addresses: instruction N is about to run at `addresses[N]`.

import { describe, expect, it } from 'vitest';
import type { BootSession } from '../boot/session.ts';
import type { RunOptions, Stop } from '../boot/stop.ts';
import { findLastStop } from './last-stop.ts';
import { stopsAhead } from './stops-ahead.ts';

const NOWHERE = 0x1000;
const [FIRST, SECOND] = [0x2000, 0x3000];

/** A boot of many instructions that stands behind the last; `writes` are the instructions that write what is watched. */
class MadeUpBoot {
  readonly runs: number[] = [];
  instructions: number;
  readonly #at: ReadonlyMap<number, number>;
  readonly #writes: readonly number[];

  constructor(length: number, at: readonly (readonly [number, number])[], writes: readonly number[] = []) {
    this.instructions = length;
    this.#at = new Map(at);
    this.#writes = writes;
  }

  get session(): BootSession {
    return this as unknown as BootSession;
  }

  #stop(cause: object): Stop {
    const address = BigInt(this.#at.get(this.instructions) ?? NOWHERE);
    return { ...cause, address, instructions: this.instructions } as unknown as Stop;
  }

  async goTo(instructions: number): Promise<Stop> {
    this.instructions = instructions;
    return this.#stop({ reason: 'count' });
  }

  async run({ until, writes, instructions }: RunOptions): Promise<Stop> {
    this.runs.push(instructions!);
    const end = this.instructions + instructions!;
    const addresses = (until as readonly { address: number }[]).map(({ address }) => address);
    while (this.instructions < end) {
      const wrote = this.#writes.includes(this.instructions) && (writes as readonly object[]).length > 0;
      this.instructions++;
      if (wrote) return this.#stop({ reason: 'watchpoint' });
      if (addresses.includes(this.#at.get(this.instructions) ?? NOWHERE))
        return this.#stop({ reason: 'breakpoint' });
    }
    return this.#stop({ reason: 'count' });
  }
}

const points = (...addresses: readonly number[]) => ({ addresses, writes: [], reads: [] });
const watched = { addresses: [], writes: [{ start: 0, end: 4 }], reads: [] };

describe('findLastStop', () => {
  it('finds the last of several, and stands there', async () => {
    const boot = new MadeUpBoot(9000, [
      [100, FIRST],
      [200, SECOND],
      [300, FIRST],
      [400, 0x4000],
    ]);
    expect(await findLastStop(boot.session, points(FIRST, SECOND))).toMatchObject({
      ...{ instructions: 300, stop: { reason: 'breakpoint', address: BigInt(FIRST), instructions: 300 } },
    });
    expect(boot.instructions).toBe(300);
    expect(await findLastStop(boot.session, points(FIRST, SECOND))).toMatchObject({ instructions: 200 });
    expect(await findLastStop(boot.session, points(FIRST, SECOND))).toMatchObject({ instructions: 100 });
    expect(await findLastStop(boot.session, points(FIRST, SECOND))).toBeNull();
    expect(boot.instructions).toBe(0);
  });

  it('stands before the instruction that wrote, and does not find the one that it stands before', async () => {
    const boot = new MadeUpBoot(9000, [], [50, 60]);
    expect(await findLastStop(boot.session, watched)).toMatchObject({
      ...{ instructions: 60, stop: { reason: 'watchpoint', instructions: 61 } },
    });
    expect(boot.instructions).toBe(60);
    expect(await findLastStop(boot.session, watched)).toMatchObject({ instructions: 50 });
    expect(await findLastStop(boot.session, watched)).toBeNull();
  });

  it('looks at the last ten thousand instructions first, then sixteen times as many before them', async () => {
    const boot = new MadeUpBoot(300_000, [[20_000, FIRST]]);
    expect(await findLastStop(boot.session, points(FIRST))).toMatchObject({ instructions: 20_000 });
    expect(boot.runs.slice(0, 3)).toEqual([10_000, 160_000, 130_000]);
    const whole = new MadeUpBoot(300_000, []);
    expect(await findLastStop(whole.session, points(FIRST))).toBeNull();
    expect(whole.runs).toEqual([10_000, 160_000, 130_000]);
  });

  it('finds one on the first instruction of a span, also of the boot', async () => {
    for (const instructions of [0, 290_000, 130_000]) {
      const boot = new MadeUpBoot(300_000, [[instructions, FIRST]]);
      expect(await findLastStop(boot.session, points(FIRST))).toMatchObject({
        ...{ instructions, stop: { reason: 'breakpoint', place: { kind: 'address', address: FIRST } } },
      });
      expect(boot.instructions).toBe(instructions);
    }
  });

  it('has nothing before the first instruction', async () => {
    const boot = new MadeUpBoot(0, [[0, FIRST]]);
    expect(await findLastStop(boot.session, points(FIRST))).toBeNull();
    expect(boot.runs).toEqual([]);
  });

  it('ends where it is when it is cancelled, with what it has found', async () => {
    const boot = new MadeUpBoot(300_000, [
      [295_000, FIRST],
      [296_000, FIRST],
    ]);
    const cancelAfter = (runs: number) => () => boot.runs.length >= runs;
    expect(await findLastStop(boot.session, points(FIRST), cancelAfter(1))).toMatchObject({
      instructions: 295_000,
    });
    const none = new MadeUpBoot(300_000, []);
    expect(await findLastStop(none.session, points(FIRST), () => none.runs.length >= 1)).toBeNull();
    expect(none.runs).toEqual([10_000]);
    expect(none.instructions).toBe(300_000);
  });
});

describe('stopsAhead', () => {
  it('leaves out counts that lie behind, and nothing else', () => {
    const counts = [2, 3, 4].map((instructions) => ({ kind: 'count', instructions }) as const);
    const phase = { kind: 'phase', phase: 'setup' } as const;
    const at = (instructions: number | null) => ({ instructions }) as unknown as BootSession;
    expect(stopsAhead(at(3), [...counts, phase])).toEqual([counts[2], phase]);
    expect(stopsAhead(at(null), counts)).toEqual(counts);
  });
});
