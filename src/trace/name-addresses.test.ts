import { describe, expect, it } from 'vitest';
import type { BootTrace, PhaseName } from './boot-trace.ts';
import { nameAddresses } from './name-addresses.ts';
import { SymbolTable } from './symbols.ts';

const LOADED = { role: 'zo', zo: 'loaded', start: 0x10_0000n, end: 0x20_0000n };
/** Begins inside what was loaded. */
const COPY = { role: 'zo', zo: 'copy', start: 0x18_0000n, end: 0x28_0000n };

function phase(name: PhaseName, address: bigint, regions: readonly object[]): object {
  return { name, address, regions };
}

const TRACE = {
  phases: [
    phase('setup', 0x9_0200n, [LOADED]),
    phase('startup_32', 0x10_0000n, [LOADED]),
    phase('relocated', 0x18_0300n, [LOADED, COPY]),
    phase('kernel', 0x100_0040n, [COPY]),
  ],
  events: [
    { phase: 'setup', address: 0x9_0345n },
    { phase: 'startup_32', address: 0x18_0210n },
    { phase: 'relocated', address: 0x18_0210n },
    { phase: 'relocated', address: 0x10_0210n },
    { phase: 'extract_kernel', address: 0x18_0210n },
  ],
  kernel: {
    entry: 0x100_0040n,
    segments: [{ paddr: 0x100_0000n }, { paddr: 0x200_0000n }, { paddr: 0x180_0000n }],
  },
} as unknown as BootTrace;

const stub = new SymbolTable([
  { address: 0n, name: 'startup_32' },
  { address: 0x200n, name: 'startup_64' },
  { address: 0x300n, name: 'relocated' },
  { address: 0x8_0000n, name: 'far' },
]);
const kernel = (physical: bigint): string | null => {
  if (physical >= 0x200_0000n) return null;
  return physical === 0x100_0000n ? '_text' : `before+0x${(physical - 0x100_0000n).toString(16)}`;
};

describe('nameAddresses', () => {
  it('names what lies in the stub by its distance from where the stub ran at that phase', () => {
    const { phases, events } = nameAddresses(TRACE, { stub, kernel: null });
    expect(phases.map(({ symbol }) => symbol)).toEqual([undefined, 'startup_32', 'relocated', undefined]);
    expect(events.map(({ symbol }) => symbol)).toEqual([
      undefined,
      // Before the jump into the copy what was loaded runs, though the copy lies over it.
      'far+0x210',
      'startup_64+0x10',
      'startup_64+0x10',
      // A phase that the trace lacks.
      undefined,
    ]);
  });

  it('names the entry and what the segments start with, and leaves out what has no name', () => {
    const named = nameAddresses(TRACE, { stub: null, kernel });
    expect(named.kernel?.entrySymbol).toBe('before+0x40');
    expect(named.kernel?.segments).toEqual([
      { paddr: 0x100_0000n, symbol: '_text' },
      { paddr: 0x200_0000n },
      // A symbol that stands before the segment is not what it starts with.
      { paddr: 0x180_0000n },
    ]);
    expect(named.phases.map(({ symbol }) => symbol)).toEqual([
      undefined,
      undefined,
      undefined,
      'before+0x40',
    ]);
    expect(named.events).toEqual(TRACE.events);
  });

  it('changes nothing where there are no symbols, or no kernel was reached', () => {
    expect(nameAddresses(TRACE, { stub: null, kernel: null })).toEqual(TRACE);
    expect(nameAddresses({ ...TRACE, kernel: null }, { stub: null, kernel }).kernel).toBeNull();
  });
});
