// A trace out of its JSON again, for everything that is drawn of one.

import type { BootTrace, Phase } from '../trace/boot-trace.ts';
import { parseTraceJson } from './trace-json.ts';

/** What is a `bigint` in a trace and a hex string in its JSON, by name; under `details` and `fields` are texts. */
const NUMBERS: ReadonlySet<string> = new Set([
  ...['address', 'start', 'end', 'base', 'root', 'physical'],
  ...['paddr', 'vaddr', 'filesz', 'memsz', 'entry', 'physicalBase', 'virtualBase', 'bootParams'],
]);
const TEXTS: ReadonlySet<string> = new Set(['image', 'machine', 'details', 'fields']);

/**
 * Reads what `traceToJson` wrote. What an earlier version or another witness left out is empty: regions, events, tables.
 *
 * @param path - how to name the file in messages
 * @throws BootscopeError `report-not-a-trace`
 */
export function parseTrace(path: string, text: string): BootTrace {
  const json = parseTraceJson(path, text) as unknown as Partial<BootTrace>;
  const trace = numbersOf(json, '') as Partial<BootTrace>;
  return {
    ...(trace as BootTrace),
    phases: (trace.phases ?? []).map(wholePhase),
    bootParams: trace.bootParams ?? null,
    stopped: trace.stopped ?? null,
    hazards: trace.hazards ?? [],
    events: trace.events ?? [],
    console: trace.console ?? '',
    notices: trace.notices ?? [],
  };
}

function wholePhase(phase: Partial<Phase>): Phase {
  const unknown = { base: 0n, limit: 0 };
  return {
    ...(phase as Phase),
    gdtr: phase.gdtr ?? unknown,
    idtr: phase.idtr ?? unknown,
    instructions: phase.instructions ?? null,
    regions: phase.regions ?? [],
    overwritten: phase.overwritten ?? [],
    pageTables: phase.pageTables ?? null,
    summary: phase.summary ?? '',
    milliseconds: 0,
  };
}

function numbersOf(value: unknown, name: string): unknown {
  if (typeof value === 'string') {
    return NUMBERS.has(name) && /^0x[0-9a-f]{1,16}$/.test(value) ? BigInt(value) : value;
  }
  if (TEXTS.has(name) || typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((each) => numbersOf(each, name));
  return Object.fromEntries(
    Object.entries(value).map(([key, field]) => [
      key,
      name === 'registers' && typeof field === 'string' ? BigInt(field) : numbersOf(field, key),
    ]),
  );
}
