// Compares a boot with a recorded one, field by field; what the reference does not know, or the user ignores, is left out.
//
// A reference says what it does not know: a field that is missing or null there is not compared. An empty list is a list that
// was looked at and had nothing in it.

import { HAZARD_CODES, PHASE_NAMES } from '../trace/boot-trace.ts';
import type { DIFFERENCE_AREAS } from './difference.ts';
import type { Json } from './json.ts';

/** A recorded boot: the JSON of a trace, with what to leave out when comparing. */
export interface Reference {
  /** How the boot was made, as `recordedOptions` gives it; missing in one from elsewhere. */
  readonly options?: object;
  readonly policy?: { readonly ignore?: readonly string[] };
  readonly [key: string]: unknown;
}

/** One field in which a boot is not as recorded. */
export interface ReferenceDifference {
  readonly area: (typeof DIFFERENCE_AREAS)[number];
  /** The phase in which it was seen; null for what belongs to none. */
  readonly phase: string | null;
  /** What differs: a field, a register, the name of a region, the code of a hazard. */
  readonly name: string;
  /** The field of the region, segment, hazard or overwrite; null for all of it, and for what has no fields. */
  readonly field: string | null;
  /** `phases.startup_64.address`, `kernel.segments.0.sha256`: what is named to be ignored. */
  readonly path: string;
  readonly change: 'added' | 'removed' | 'changed';
  /** Null where the reference has no such element. */
  readonly expected: Json;
  /** Null where the boot has no such field or element. */
  readonly actual: Json;
}

/**
 * What no two machines need to agree in, names, which depend on the symbols that were read, and sentences, whose facts are in
 * fields of their own.
 */
const ALWAYS_IGNORED: readonly string[] = [
  'image.path',
  'machine.engine',
  'machine.engineVersion',
  'options',
  'policy',
  'phases.symbol',
  'phases.summary',
  'kernel.entrySymbol',
  'kernel.segments.symbol',
  'regions.source',
  'hazards.text',
  'hazards.advice',
];

/** Null there is a fact about the boot, not about the witness. */
const NULL_IS_KNOWN: ReadonlySet<string> = new Set(['kernel', 'stopped']);

/** Null there is what was not looked at in this boot: no hashes, no count of instructions on this host. */
const MAY_BE_UNSEEN: ReadonlySet<string> = new Set(['sha256', 'instructions', 'pageTables']);

/** One part of a path; elements of an array carry the name they are found by. */
interface PathPart {
  readonly name: string;
  readonly element: boolean;
}

/** How many of `names` the pattern takes from the first on, all of it or null. A name may hold dots, as sections do. */
function taken(pattern: string, names: readonly string[]): boolean {
  const [first, ...rest] = names;
  if (first === undefined) return false;
  return [first, '*'].some(
    (want) =>
      pattern === want || (pattern.startsWith(`${want}.`) && taken(pattern.slice(want.length + 1), rest)),
  );
}

/**
 * Which of `patterns` name this path or something above it. A pattern is dotted names, `*` standing for any one; it may begin
 * anywhere in the path, and leave out the names of array elements: `segments.sha256` is `kernel.segments.0.sha256`.
 */
function matching(patterns: readonly string[], path: readonly PathPart[]): string[] {
  const names = path.map(({ name }) => name);
  // Most patterns begin with a name that is nowhere in the path.
  const possible = patterns.filter((pattern) =>
    names.some((name) => pattern.startsWith('*') || pattern.startsWith(name)),
  );
  if (possible.length === 0) return possible;
  const fields = path.filter(({ element }) => !element).map(({ name }) => name);
  return possible.filter((pattern) =>
    [names, fields].some((list) => list.some((_, start) => taken(pattern, list.slice(start)))),
  );
}

/**
 * @param actual - the trace as `traceToJson` gives it
 * @param ignore - patterns beyond those of the reference's own policy
 */
export function compareWithReference(
  actual: Json,
  reference: Reference,
  ignore: readonly string[],
): ReferenceDifference[] {
  const patterns = [...ALWAYS_IGNORED, ...(reference.policy?.ignore ?? []), ...ignore];
  const found: ReferenceDifference[] = [];
  /** Of what is compared. Most is equal, and what is ignored is only asked for what is not. */
  const path: PathPart[] = [];
  const tell = (change: ReferenceDifference['change'], expected: Json, value: Json | undefined): void => {
    if (matching(patterns, path).length > 0) return;
    found.push({
      ...placeOf(path),
      path: path.map(({ name }) => name).join('.'),
      change,
      expected,
      actual: value ?? null,
    });
  };
  const enter = (name: string, element: boolean, expected: Json, value: Json | undefined): void => {
    path.push({ name, element });
    visit(expected, value);
    path.pop();
  };
  const visit = (expected: Json, value: Json | undefined): void => {
    if (expected === null && !NULL_IS_KNOWN.has(path.at(-1)?.name ?? '')) return;
    if (value === null && MAY_BE_UNSEEN.has(path.at(-1)?.name ?? '')) return;
    if (value === undefined) tell('removed', expected, value);
    else if (Array.isArray(expected)) {
      if (Array.isArray(value)) compareArrays(expected, value);
      else tell('changed', expected, value);
    } else if (typeof expected === 'object' && expected !== null) {
      if (typeof value !== 'object' || value === null || Array.isArray(value)) {
        tell('changed', expected, value);
      } else {
        const fields = value as { readonly [key: string]: Json };
        for (const [key, field] of Object.entries(expected)) {
          enter(key, false, field, fields[key]);
        }
      }
    } else if (expected !== value) {
      tell('changed', expected, value);
    }
  };
  const compareArrays = (expected: readonly Json[], value: readonly Json[]): void => {
    const [known, ours] = keyed(expected, value);
    for (const [name, element] of known) enter(name, true, element, ours.get(name));
    for (const [name, element] of ours) {
      if (known.has(name)) continue;
      path.push({ name, element: true });
      tell('added', null, element);
      path.pop();
    }
  };
  visit(reference as unknown as Json, actual);
  return found;
}

/** Those of `patterns` that name nothing in the boot or its reference, nor in any other boot. */
export function unknownPatterns(
  patterns: readonly string[],
  actual: Json,
  reference: Reference | null = null,
): string[] {
  if (patterns.length === 0) return [];
  const paths: (readonly PathPart[])[] = HAZARD_CODES.map((code) => [
    { name: 'hazards', element: false },
    { name: code, element: true },
  ]);
  const visit = (value: Json, path: readonly PathPart[]): void => {
    paths.push(path);
    if (Array.isArray(value)) {
      for (const [name, element] of keyed(value, [])[0]) visit(element, [...path, { name, element: true }]);
    } else if (typeof value === 'object' && value !== null) {
      for (const [name, field] of Object.entries(value)) visit(field, [...path, { name, element: false }]);
    }
  };
  for (const whole of [actual, reference as unknown as Json]) if (whole !== null) visit(whole, []);
  // Another boot may have phases that this one lacks.
  const elsewhere = paths
    .filter(([field, phase]) => field?.name === 'phases' && phase !== undefined)
    .flatMap(([field, _, ...rest]) =>
      PHASE_NAMES.map((name) => [field!, { name, element: true }, ...rest] as readonly PathPart[]),
    );
  const known = new Set([...paths, ...elsewhere].flatMap((path) => matching(patterns, path)));
  return patterns.filter((pattern) => !known.has(pattern));
}

const AREA_OF_FIELD: Readonly<Record<string, ReferenceDifference['area']>> = {
  image: 'image',
  machine: 'machine',
  kernel: 'kernel',
  stopped: 'kernel',
  hazards: 'hazard',
  notices: 'notice',
  console: 'console',
};
const AREA_IN_PHASE: Readonly<Record<string, ReferenceDifference['area']>> = {
  registers: 'register',
  gdtr: 'register',
  idtr: 'register',
  pageTables: 'page-tables',
  regions: 'region',
  overwritten: 'overwrite',
};

function placeOf(path: readonly PathPart[]): Pick<ReferenceDifference, 'area' | 'phase' | 'name' | 'field'> {
  const [field = '', element = '', inner = ''] = path.map(({ name }) => name);
  const rest = (from: number): string =>
    path
      .slice(from)
      .map(({ name }) => name)
      .join('.');
  const part = (from: number): Pick<ReferenceDifference, 'name' | 'field'> => ({
    name: path[from]?.name ?? rest(from - 1),
    field: rest(from + 1) || null,
  });
  if (field === 'phases') {
    const area = AREA_IN_PHASE[inner] ?? 'phase';
    const phase = element === '' ? null : element;
    if (area === 'phase') return { area, phase, name: inner === '' ? element : rest(2), field: null };
    if (area === 'region' || area === 'overwrite') return { area, phase, ...part(3) };
    return { area, phase, name: inner === 'registers' ? rest(3) : rest(2), field: null };
  }
  if (field === 'kernel' && element === 'segments') return { area: 'segment', phase: null, ...part(2) };
  if (field === 'image' && element === 'sizes')
    return { area: 'size', phase: null, name: rest(2), field: null };
  if (field === 'hazards') return { area: 'hazard', phase: null, ...part(1) };
  return { area: AREA_OF_FIELD[field] ?? 'machine', phase: null, name: rest(1) || field, field: null };
}

/** What an element of a list is found by: a region by its name, a hazard by its code, an overwrite by what was overwritten. */
function nameOf(element: Json): string | null {
  if (typeof element !== 'object' || element === null || Array.isArray(element)) return null;
  const fields = element as { readonly [key: string]: Json };
  const name = fields.name ?? fields.code ?? fields.region;
  return typeof name === 'string' ? name : null;
}

/**
 * The elements of two lists, so that those that belong together have one key: their name (numbered where several share one),
 * else their index. Texts belong together where they are equal; those that are left, in their order.
 */
function keyed(a: readonly Json[], b: readonly Json[]): [Map<string, Json>, Map<string, Json>] {
  if ([...a, ...b].every((element) => typeof element === 'string')) return pairTexts(a, b);
  return [byName(a), byName(b)];
}

function byName(elements: readonly Json[]): Map<string, Json> {
  const found = new Map<string, Json>();
  for (const [index, element] of elements.entries()) {
    const name = nameOf(element) ?? String(index);
    let key = name;
    for (let copy = 2; found.has(key); copy++) key = `${name} (${copy})`;
    found.set(key, element);
  }
  return found;
}

function pairTexts(a: readonly Json[], b: readonly Json[]): [Map<string, Json>, Map<string, Json>] {
  const known = new Map<string, Json>();
  const ours = new Map<string, Json>();
  const left = [...b];
  const alone: Json[] = [];
  let index = 0;
  for (const text of a) {
    const at = left.indexOf(text);
    if (at < 0) {
      alone.push(text);
      continue;
    }
    left.splice(at, 1);
    known.set(String(index), text);
    ours.set(String(index++), text);
  }
  for (let other = 0; other < Math.max(alone.length, left.length); other++, index++) {
    if (alone[other] !== undefined) known.set(String(index), alone[other]!);
    if (left[other] !== undefined) ours.set(String(index), left[other]!);
  }
  return [known, ours];
}
