// What a check against a reference found, as lines for people: the differences that matter most first, the rest as a count.

import { formatSize } from '../size.ts';
import { AREA_TITLES, printable, span } from './difference.ts';
import type { Json } from './json.ts';
import type { ReferenceDifference } from './reference.ts';

type Area = ReferenceDifference['area'];

/** What a boot fails of, then what it loses, then where things lie, then what follows from all of that. */
const AREAS_BY_WEIGHT: readonly Area[] = [
  ...(['kernel', 'hazard', 'size', 'overwrite', 'segment', 'phase', 'region', 'page-tables'] as const),
  ...(['image', 'machine', 'notice', 'register', 'console'] as const),
];

/** A finding: a difference, with a sentence of its own where it is more than one. */
export type Finding = ReferenceDifference & { readonly text?: string };

/** One line: a difference in all the phases that show it alike, all fields of one thing together. */
export interface FindingLine {
  readonly area: Area;
  readonly text: string;
}

const LONGEST_VALUE = 100;

/** All of them, what matters most first. */
export function findingLines(findings: readonly Finding[]): readonly FindingLine[] {
  const things = new Map<string, Finding[]>();
  for (const finding of findings) {
    const key = JSON.stringify([
      finding.area,
      finding.phase,
      finding.field === null ? finding.path : finding.name,
    ]);
    things.set(key, [...(things.get(key) ?? []), finding]);
  }
  const lines = new Map<string, { area: Area; text: string; phases: string[] }>();
  for (const thing of things.values()) {
    const [{ area, phase }] = thing as [Finding];
    const text = sentence(thing);
    const key = `${area}\n${text}`;
    const line = lines.get(key) ?? { area, text, phases: [] };
    if (phase !== null) line.phases.push(phase);
    lines.set(key, line);
  }
  const order = [...new Set(findings.flatMap(({ phase }) => (phase === null ? [] : [phase])))];
  return AREAS_BY_WEIGHT.flatMap((area) =>
    [...lines.values()]
      .filter((line) => line.area === area)
      .map(({ text, phases }) => ({
        area,
        text: phases.length === 0 ? text : `${span(phases, order)}: ${text}`,
      })),
  );
}

/** @param most - how many lines; what is left is counted by area */
export function formatFindings(findings: readonly Finding[], most: number): string {
  const lines = findingLines(findings);
  const shown = lines.slice(0, most);
  let text = '';
  for (const area of AREAS_BY_WEIGHT) {
    const here = shown.filter((line) => line.area === area);
    if (here.length === 0) continue;
    text += `  ${AREA_TITLES[area]}\n`;
    for (const line of here) text += `    ${line.text}\n`;
  }
  const rest = lines.slice(most);
  if (rest.length === 0) return text;
  const counts = AREAS_BY_WEIGHT.flatMap((area) => {
    const count = rest.filter((line) => line.area === area).length;
    return count === 0 ? [] : [`${count} of ${AREA_TITLES[area].toLowerCase()}`];
  });
  return `${text}  and ${rest.length} more: ${counts.join(', ')}\n`;
}

/** What differs in one thing, whose fields are all of them. */
function sentence(thing: readonly Finding[]): string {
  const [first] = thing as [Finding];
  const { area, name, change } = first;
  if (first.text !== undefined) return first.text;
  const what = printable(`${NOUNS[area] ?? ''}${name}`);
  if (area === 'kernel' && name === 'kernel' && first.actual === null)
    return 'the jump into the kernel was not reached';
  if (area === 'kernel' && name === 'stopped' && first.actual !== null)
    return `the boot ended: ${show(first.actual)}`;
  if (area === 'overwrite' && first.field === null && change === 'added')
    return printable(`${name} is overwritten: ${show(first.actual)}`);
  if (first.field === null && change === 'added') return `new ${what}: ${show(first.actual)}`;
  if (first.field === null && change === 'removed') return `no ${what} any more: ${show(first.expected)}`;
  const changes = thing.map(({ field, expected, actual }) => {
    const [was, is] = [show(expected), actual === null ? 'nothing' : show(actual)];
    return `${field === null ? '' : `${field} `}${was} → ${is}${shift(expected, actual)}`;
  });
  return `${what}: ${changes.join(', ')}`;
}

const NOUNS: Readonly<Partial<Record<Area, string>>> = {
  hazard: 'hazard ',
  segment: 'segment ',
  region: 'region ',
  overwrite: 'overwritten ',
};

/** A range as a range, a hazard by its sentence, anything else as JSON, cut. */
function show(value: Json): string {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    const { text, start, end, by, address, mode } = value as { readonly [key: string]: Json };
    if (typeof text === 'string') return printable(text);
    if (typeof address === 'string' && typeof mode === 'string') return `${address} ${mode}`;
    if (typeof start === 'string' && typeof end === 'string') {
      const size = formatSize(Number(BigInt(end) - BigInt(start)));
      return printable(`${start}..${end} (${size})${typeof by === 'string' ? ` by ${by}` : ''}`);
    }
  }
  const plain = printable(typeof value === 'string' && value !== '' ? value : JSON.stringify(value));
  return plain.length <= LONGEST_VALUE ? plain : `${plain.slice(0, LONGEST_VALUE - 1)}…`;
}

/** By how much an address moved. */
function shift(expected: Json, actual: Json): string {
  const isAddress = (value: Json): value is string =>
    typeof value === 'string' && /^0x[0-9a-f]{1,16}$/.test(value);
  if (!isAddress(expected) || !isAddress(actual)) return '';
  const by = BigInt(actual) - BigInt(expected);
  return ` (${by < 0n ? `-0x${(-by).toString(16)}` : `+0x${by.toString(16)}`})`;
}
