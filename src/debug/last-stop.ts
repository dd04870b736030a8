// Where a held boot was last before now at one of some addresses, or about to access one of some ranges: what a debugger that
// runs backwards asks for. Found by running forward again over ever longer spans that end now.

import type { BootSession } from '../boot/session.ts';
import type { Stop, WatchedRange } from '../boot/stop.ts';

/** Addresses and ranges to look for. */
export interface WatchedPoints {
  /** Linear addresses of instructions. */
  readonly addresses: readonly number[];
  /** Physical. */
  readonly writes: readonly WatchedRange[];
  readonly reads: readonly WatchedRange[];
}

/** The stop, and how many instructions had been executed before it (before the instruction that did the access). */
export interface LastStop {
  readonly stop: Stop;
  readonly instructions: number;
}

/** The first span that is looked at; each further one is so many times as long. */
const FIRST_SPAN = 10_000;
const SPAN_FACTOR = 16;

/**
 * Leaves the boot where it found something, or at its first instruction.
 *
 * @param cancelled - asked now and then; true ends the search where it is
 * @returns null where there is none
 */
export async function findLastStop(
  session: BootSession,
  points: WatchedPoints,
  cancelled: () => boolean = () => false,
): Promise<LastStop | null> {
  let end = session.instructions ?? 0;
  for (let span = FIRST_SPAN; end > 0; span *= SPAN_FACTOR) {
    const start = Math.max(0, end - span);
    const last = await lastWithin(session, points, start, end, cancelled);
    if (last !== null || cancelled()) {
      if (last !== null) await session.goTo(last.instructions);
      return last;
    }
    end = start;
  }
  await session.goTo(0);
  return null;
}

/** The last one from `start` on and before `end`. */
async function lastWithin(
  session: BootSession,
  points: WatchedPoints,
  start: number,
  end: number,
  cancelled: () => boolean,
): Promise<LastStop | null> {
  const until = points.addresses.map((address) => ({ kind: 'address', address }) as const);
  const { writes, reads } = points;
  let last: LastStop | null = null;
  let stop = await session.goTo(start);
  // It stands on the first instruction of the span, which a run would leave out.
  if (points.addresses.includes(Number(stop.address))) {
    last = {
      stop: { ...stop, reason: 'breakpoint', place: { kind: 'address', address: Number(stop.address) } },
      instructions: start,
    };
  }
  while (!cancelled()) {
    const left = end - session.instructions!;
    if (left <= 0) break;
    stop = await session.run({ until, writes, reads, instructions: left });
    if (stop.reason !== 'breakpoint' && stop.reason !== 'watchpoint') break;
    const now = stop.instructions!;
    // The access has been done: the instruction before it is meant.
    const instructions = stop.reason === 'watchpoint' ? now - 1 : now;
    if (instructions >= end) break;
    last = { stop, instructions };
  }
  return last;
}
