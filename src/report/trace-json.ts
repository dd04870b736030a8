// Reads back the JSON of a trace, checked as far as comparing needs it.

import { BootscopeError } from '../error.ts';

/** A physical or linear address, or another 64-bit value, as `0x…`. */
export type HexText = string;

export interface RegionJson {
  readonly name: string;
  readonly start: HexText;
  readonly end: HexText;
  readonly kind: string;
  readonly parent?: string;
}

export interface OverwriteJson {
  readonly region: string;
  readonly by: string;
  readonly start: HexText;
  readonly end: HexText;
}

export interface PhaseJson {
  readonly name: string;
  readonly address: HexText;
  readonly mode: string;
  readonly instructions: number | null;
  readonly registers: Readonly<Record<string, HexText>>;
  /** Null from a witness that does not know them; so are `overwritten`, `hazards`, `console` and `notices`. */
  readonly regions: readonly RegionJson[] | null;
  readonly overwritten: readonly OverwriteJson[] | null;
  readonly pageTables: Readonly<Record<string, unknown>> | null;
}

export interface SegmentJson {
  readonly paddr: HexText;
  readonly vaddr: HexText;
  readonly filesz: HexText;
  readonly memsz: HexText;
  readonly flags: string;
  readonly sha256: string | null;
}

/** A trace in JSON, checked as far as comparing needs it; docs/trace.schema.json has all of it. */
export interface TraceJson {
  readonly image: Readonly<Record<string, unknown>>;
  readonly machine: Readonly<Record<string, unknown>>;
  readonly phases: readonly PhaseJson[];
  readonly kernel: (Readonly<Record<string, unknown>> & { readonly segments: readonly SegmentJson[] }) | null;
  readonly stopped: string | null;
  readonly hazards:
    | readonly { readonly code: string; readonly start: HexText; readonly end: HexText }[]
    | null;
  readonly console: string | null;
  readonly notices: readonly string[] | null;
}

/** Whether a file is meant as JSON: its first character that is no space opens an object. */
export function looksLikeJson(bytes: Uint8Array): boolean {
  const first = bytes
    .subarray(0, 64)
    .find((byte) => ![0x20, 0x09, 0x0a, 0x0d, 0xef, 0xbb, 0xbf].includes(byte));
  return first === 0x7b;
}

/**
 * @param path - how to name the file in messages
 * @throws BootscopeError `report-not-a-trace`, with the place of what is missing or of another kind
 */
export function parseTraceJson(path: string, text: string): TraceJson {
  let value: unknown;
  try {
    value = JSON.parse(text.replace(/^\uFEFF/, ''));
  } catch (error) {
    throw notATrace(path, error instanceof Error ? error.message : String(error));
  }
  return checkTrace(path, value);
}

/** The same for JSON that was never a text. */
export function checkTrace(path: string, value: unknown): TraceJson {
  const trace = record(path, '$', value);
  for (const part of ['image', 'machine']) record(path, `$.${part}`, trace[part]);
  for (const [index, entry] of list(path, '$.phases', trace.phases).entries()) {
    checkPhase(path, `$.phases[${index}]`, entry);
  }
  if (trace.kernel !== null) {
    const kernel = record(path, '$.kernel', trace.kernel);
    for (const [index, entry] of list(path, '$.kernel.segments', kernel.segments).entries()) {
      const at = `$.kernel.segments[${index}]`;
      const segment = record(path, at, entry);
      for (const field of ['paddr', 'vaddr', 'filesz', 'memsz'])
        hexText(path, `${at}.${field}`, segment[field]);
    }
  }
  for (const [index, entry] of optionalList(path, '$.hazards', trace.hazards).entries()) {
    const at = `$.hazards[${index}]`;
    const hazard = record(path, at, entry);
    for (const field of ['start', 'end']) hexText(path, `${at}.${field}`, hazard[field]);
  }
  optionalList(path, '$.notices', trace.notices);
  for (const field of ['console', 'stopped']) {
    if (trace[field] !== undefined && trace[field] !== null) text(path, `$.${field}`, trace[field]);
  }
  // Left out by earlier versions.
  return { hazards: null, console: null, notices: null, stopped: null, ...trace } as unknown as TraceJson;
}

function checkPhase(path: string, at: string, value: unknown): void {
  const phase = record(path, at, value);
  text(path, `${at}.name`, phase.name);
  hexText(path, `${at}.address`, phase.address);
  for (const [name, register] of Object.entries(record(path, `${at}.registers`, phase.registers))) {
    hexText(path, `${at}.registers.${name}`, register);
  }
  for (const [index, entry] of optionalList(path, `${at}.overwritten`, phase.overwritten).entries()) {
    const here = `${at}.overwritten[${index}]`;
    const overwrite = record(path, here, entry);
    for (const field of ['start', 'end']) hexText(path, `${here}.${field}`, overwrite[field]);
  }
  checkPageTables(path, `${at}.pageTables`, phase.pageTables);
  if (phase.regions === null) return;
  for (const [index, entry] of list(path, `${at}.regions`, phase.regions).entries()) {
    const here = `${at}.regions[${index}]`;
    const region = record(path, here, entry);
    text(path, `${here}.name`, region.name);
    hexText(path, `${here}.start`, region.start);
    hexText(path, `${here}.end`, region.end);
  }
}

function checkPageTables(path: string, at: string, value: unknown): void {
  if (value === null || value === undefined) return;
  const tables = record(path, at, value);
  for (const part of ['tables', 'ranges']) {
    for (const [index, entry] of optionalList(path, `${at}.${part}`, tables[part]).entries())
      record(path, `${at}.${part}[${index}]`, entry);
  }
}

function record(path: string, at: string, value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw notATrace(path, `${at} is ${value === undefined ? 'missing' : 'no object'}`);
}

function list(path: string, at: string, value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw notATrace(path, `${at} is ${value === undefined ? 'missing' : 'no list'}`);
}

/** Null and missing are for what a witness did not know. */
function optionalList(path: string, at: string, value: unknown): readonly unknown[] {
  return value === undefined || value === null ? [] : list(path, at, value);
}

function text(path: string, at: string, value: unknown): void {
  if (typeof value !== 'string') throw notATrace(path, `${at} is no text`);
}

function hexText(path: string, at: string, value: unknown): void {
  if (typeof value !== 'string' || !/^0x[0-9a-f]+$/.test(value)) {
    const what = value === undefined ? 'missing' : `${JSON.stringify(value)}, no address such as 0x100000`;
    throw notATrace(path, `${at} is ${what}`);
  }
}

function notATrace(path: string, why: string): BootscopeError {
  return new BootscopeError('report-not-a-trace', `${path} is no trace in JSON: ${why}`);
}
