// A finished trace as the JSON that users and their regression tests see: addresses become hex strings, and what
// differs from run to run (host time) is left out.

import { hex } from '../hex.ts';
import type { BootTrace } from '../trace/boot-trace.ts';

/** JSON values; `bigint` in the trace, hex string here. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** Of the format in docs/trace.schema.json. 2: regions and overwrites have roles; traces of version 1 have no `version`. */
export const TRACE_VERSION = 2;

export interface JsonOptions {
  /** Events are many; they are in the full trace only. */
  readonly events: boolean;
}

/** The documented JSON of a boot. */
export function traceToJson(trace: BootTrace, options: JsonOptions = { events: false }): Json {
  const { events, phases, ...rest } = trace;
  return toJson({
    version: TRACE_VERSION,
    ...rest,
    phases: phases.map(({ milliseconds: _, ...phase }) => phase),
    ...(options.events ? { events } : {}),
  });
}

/** Any value of a trace as JSON: `bigint` becomes a hex string. */
export function toJson(value: unknown): Json {
  if (typeof value === 'bigint') return `${hex(value)}`;
  if (Array.isArray(value)) return value.map(toJson);
  if (typeof value === 'object' && value !== null) {
    const fields: [string, Json][] = [];
    for (const [key, field] of Object.entries(value))
      if (field !== undefined) fields.push([key, toJson(field)]);
    return Object.fromEntries(fields);
  }
  return value as Json;
}
