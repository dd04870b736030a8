// Where two machines with the same RAM have something else in it.

import { equalBytes } from '../host/host.ts';
import { merge } from '../trace/hazards.ts';
import type { PhysicalMemory } from '../x86/physical-memory.ts';

const CHUNK = 0x10000;
/** A view of the guest's memory costs more than comparing what a small one shows; none reaches over a multiple of this. */
const VIEW = 0x40_0000;

/** A piece of RAM of which the two have something else; the bytes are shared with them. */
export interface DifferingChunk {
  readonly start: number;
  readonly ours: Uint8Array;
  readonly theirs: Uint8Array;
}

/** Of all RAM, by address; what nobody has touched in either is zeroes in both. */
export function* differingChunks(our: PhysicalMemory, their: PhysicalMemory): Generator<DifferingChunk> {
  for (const { start: first, end } of merge([...our.touched(), ...their.touched()])) {
    for (let start = first; start < end; ) {
      const next = Math.min(end, (Math.floor(start / VIEW) + 1) * VIEW);
      const [ours, theirs] = [our.view(start, next - start), their.view(start, next - start)];
      const equal = equalBytes(ours, theirs);
      for (let at = 0; !equal && at < ours.length; at += CHUNK) {
        const [mine, other] = [ours.subarray(at, at + CHUNK), theirs.subarray(at, at + CHUNK)];
        if (!equalBytes(mine, other)) yield { start: start + at, ours: mine, theirs: other };
      }
      start = next;
    }
  }
}
