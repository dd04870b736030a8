// What has a name or lies at an address: phases, what lies in memory at the moment, and the kernel's symbols, the closest first.

import { hex } from '../../hex.ts';
import type { ModelRegion } from '../../report/report-model.ts';
import { PHASE_NAMES } from '../../trace/boot-trace.ts';
import type { FoundSymbol } from '../protocol.ts';

/** Something that has the name or the address that was looked for. */
export interface FoundLine {
  readonly kind: 'phase' | 'region' | 'symbol' | 'address';
  readonly name: string;
  /** Physical, of what lies in memory; null for a phase. */
  readonly address: string | null;
}

const SHOWN = 40;

/** @param symbols - what the machine has found for the same text */
export function foundLines(
  text: string,
  regions: readonly ModelRegion[],
  symbols: readonly FoundSymbol[],
): FoundLine[] {
  const ofKernel = symbols.map((symbol) => ({ kind: 'symbol', ...symbol }) as const);
  const region = ({ name, start }: ModelRegion): FoundLine => ({ kind: 'region', name, address: hex(start) });
  if (/^0x[0-9a-f]+$/i.test(text)) {
    const address = Number(text);
    const around = regions.filter(({ start, end }) => start <= address && address < end);
    return [
      ...ofKernel,
      ...around.toReversed().map(region),
      { kind: 'address', name: hex(address), address: hex(address) },
    ];
  }
  const wanted = text.toLowerCase();
  const named = (name: string): boolean => name.toLowerCase().includes(wanted);
  const found: FoundLine[] = [
    ...PHASE_NAMES.filter(named).map((name) => ({ kind: 'phase', name, address: null }) as const),
    ...regions.filter(({ name }) => named(name)).map(region),
    ...ofKernel,
  ];
  // What is called so and nothing else comes first, then what begins so.
  const rank = ({ name }: FoundLine): number => {
    const lower = name.toLowerCase();
    return lower === wanted ? 0 : lower.startsWith(wanted) ? 1 : 2;
  };
  return found.sort((a, b) => rank(a) - rank(b)).slice(0, SHOWN);
}
