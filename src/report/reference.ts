// Compares a boot with a recorded one, field by field; what the reference does not know, or the user ignores, is left out.

import type { Json } from './json.ts';

/** A recorded boot: the JSON of `boot --json`, with what to leave out when comparing. */
export interface Reference {
  readonly policy?: { readonly ignore?: readonly string[] };
  readonly [key: string]: unknown;
}

export interface ReferenceDifference {
  /** `phases.startup_64.address`, `kernel.segments.0.sha256`. */
  readonly path: string;
  readonly expected: Json;
  /** Undefined where the boot has no such field. */
  readonly actual: Json | undefined;
}

/** What no two machines need to agree in, and names, which depend on the symbols that were read. */
export const ALWAYS_IGNORED: readonly string[] = [
  'image.path',
  'machine.engine',
  'machine.engineVersion',
  'policy',
  'phases.symbol',
  'kernel.entrySymbol',
  'kernel.segments.symbol',
];

/** One part of a path; elements of an array carry the name they are found by. */
interface PathPart {
  readonly name: string;
  readonly element: boolean;
}

/**
 * Whether a pattern names this path or something above it. A pattern is dotted names, `*` standing for any one; it may begin
 * anywhere in the path, and leave out the names of array elements: `segments.sha256` is `kernel.segments.0.sha256`.
 */
function matches(pattern: string, path: readonly PathPart[]): boolean {
  const wanted = pattern.split('.');
  const contains = (names: readonly string[]): boolean =>
    names.some((_, start) => wanted.every((want, index) => want === '*' || want === names[start + index]));
  const fits = (names: readonly string[]): boolean => names.length >= wanted.length && contains(names);
  return (
    fits(path.map(({ name }) => name)) || fits(path.filter(({ element }) => !element).map(({ name }) => name))
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
  const visit = (expected: Json, value: Json | undefined, path: readonly PathPart[]): void => {
    if (path.length > 0 && patterns.some((pattern) => matches(pattern, path))) return;
    // A witness that could not know a field has null there.
    if (expected === null && path.at(-1)?.name !== 'kernel' && path.at(-1)?.name !== 'stopped') return;
    const fail = (): void => {
      found.push({ path: path.map(({ name }) => name).join('.'), expected, actual: value });
    };
    if (Array.isArray(expected)) {
      if (Array.isArray(value)) compareArrays(expected, value, path);
      else fail();
    } else if (typeof expected === 'object' && expected !== null) {
      if (typeof value !== 'object' || value === null || Array.isArray(value)) {
        fail();
      } else {
        const fields = value as { readonly [key: string]: Json };
        for (const [key, field] of Object.entries(expected)) {
          visit(field, fields[key], [...path, { name: key, element: false }]);
        }
      }
    } else if (expected !== value) {
      fail();
    }
  };
  const compareArrays = (
    expected: readonly Json[],
    value: readonly Json[],
    path: readonly PathPart[],
  ): void => {
    const known = keyed(expected);
    const ours = keyed(value);
    for (const [name, element] of known) visit(element, ours.get(name), [...path, { name, element: true }]);
    // Regions and notices that a witness has none of are unknown to it, not absent.
    if (expected.length === 0) return;
    for (const [name, element] of ours) {
      const place = [...path, { name, element: true }];
      if (known.has(name) || patterns.some((pattern) => matches(pattern, place))) continue;
      found.push({ path: place.map((part) => part.name).join('.'), expected: null, actual: element });
    }
  };
  visit(reference as unknown as Json, actual, []);
  return found;
}

/** Elements by their `name` (numbered where several share one), else by their index. */
function keyed(elements: readonly Json[]): Map<string, Json> {
  const found = new Map<string, Json>();
  for (const [index, element] of elements.entries()) {
    const named =
      typeof element === 'object' && element !== null && !Array.isArray(element) && 'name' in element;
    let key = named ? String((element as { readonly name: Json }).name) : String(index);
    for (let copy = 2; found.has(key); copy++) key = `${key.replace(/ \(\d+\)$/, '')} (${copy})`;
    found.set(key, element);
  }
  return found;
}
