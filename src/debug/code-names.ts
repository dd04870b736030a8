// Names of instructions that run before the kernel: in setup and in the boot stub, where each lies in the phase that is asked about.

import type { BootSession } from '../boot/session.ts';
import type { MemoryRegion, PhaseName } from '../trace/boot-trace.ts';
import type { SymbolNames } from '../trace/symbols.ts';

export interface CodeSymbols {
  /** By offset in setup; null where there are none. */
  readonly setup: SymbolNames | null;
  /** By offset in the protected-mode code. */
  readonly stub: SymbolNames | null;
}

/** Of a linear address in a phase: `startup_64+0x10`; null where nothing names it. */
export type CodeNames = (address: number, phase: PhaseName | null) => string | null;

/** Of a boot as far as it has come. */
export function codeNames(session: BootSession, { setup, stub }: CodeSymbols): CodeNames {
  if (setup === null && stub === null) return () => null;
  const phases = session.trace().phases;
  return (address, name) => {
    const phase = phases.findLast((each) => name === null || each.name === name);
    const holds = (phase?.regions ?? []).filter(({ start, end }) => start <= address && address < end);
    // Where the two overlap, the copy is what runs once it is there.
    const inStub =
      holds.find(({ role, zo }) => role === 'zo' && zo === 'copy') ?? holds.find(({ role }) => role === 'zo');
    const inSetup = holds.find(({ role }) => role === 'setup');
    return nameIn(stub, inStub, address) ?? nameIn(setup, inSetup, address);
  };
}

function nameIn(names: SymbolNames | null, region: MemoryRegion | undefined, address: number): string | null {
  return names === null || region === undefined ? null : names.name(BigInt(address) - region.start);
}
