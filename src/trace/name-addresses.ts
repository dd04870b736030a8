// Puts the names of addresses into a finished trace: of phases and events in the boot stub, of the kernel's entry and of what
// its segments begin with.

import type { BootTrace, KernelAtJump, Phase } from './boot-trace.ts';
import type { SymbolNames } from './symbols.ts';

/** Where names for the addresses of a trace come from. */
export interface AddressNames {
  /** Names offsets in the protected-mode code; null where there are no symbols of the stub. */
  readonly stub: SymbolNames | null;
  /** Names physical addresses in the kernel as it was placed; null where there are no symbols of it. */
  readonly kernel: ((physical: bigint) => string | null) | null;
}

/**
 * The same trace with `symbol` and `entrySymbol` where an address has a name.
 *
 * @example
 * ```ts
 * import { boot, nameAddresses, readKernelImage, readSystemMap } from 'bootscope';
 *
 * const { trace, close } = await boot(await readKernelImage('demo-lz4.bzImage'));
 * close();
 * const map = '0000000001000000 T _text\n0000000001000040 T startup_64\n';
 * const symbols = readSystemMap('System.map', new TextEncoder().encode(map));
 * const named = nameAddresses(trace, { stub: null, kernel: (address) => symbols.name(address) });
 * console.assert(named.kernel?.entrySymbol === 'startup_64');
 * ```
 */
export function nameAddresses(trace: BootTrace, names: AddressNames): BootTrace {
  const phaseByName = new Map(trace.phases.map((phase) => [phase.name, phase]));
  const inStub = (phase: Phase | undefined, address: bigint): { symbol?: string } =>
    named(phase === undefined || names.stub === null ? null : nameInStub(names.stub, phase, address));
  const { kernel } = trace;
  return {
    ...trace,
    phases: trace.phases.map((phase) => ({
      ...phase,
      ...(phase.name === 'kernel'
        ? named(names.kernel?.(phase.address) ?? null)
        : inStub(phase, phase.address)),
    })),
    events: trace.events.map((event) => ({
      ...event,
      ...inStub(phaseByName.get(event.phase), event.address),
    })),
    kernel: kernel === null || names.kernel === null ? kernel : nameKernel(kernel, names.kernel),
  };
}

function named(symbol: string | null): { symbol?: string } {
  return symbol === null ? {} : { symbol };
}

function nameKernel(kernel: KernelAtJump, nameOf: (physical: bigint) => string | null): KernelAtJump {
  const entrySymbol = nameOf(kernel.entry);
  return {
    ...kernel,
    ...(entrySymbol === null ? {} : { entrySymbol }),
    segments: kernel.segments.map((segment) => {
      const symbol = nameOf(segment.paddr);
      // A segment does not start with a symbol that stands before it.
      return { ...segment, ...named(symbol?.includes('+') === true ? null : symbol) };
    }),
  };
}

function nameInStub(stub: SymbolNames, phase: Phase, address: bigint): string | null {
  const holds = phase.regions.filter(
    ({ role, start, end }) => role === 'zo' && start <= address && address < end,
  );
  // Where the two overlap, the copy is what runs once it is there.
  const runs = holds.find(({ zo }) => zo === 'copy') ?? holds[0];
  return runs === undefined ? null : stub.name(address - runs.start);
}
