// What differs between two boots, of two kernels or of one under two settings, and the table that shows it.
// Long, for it is one comparison: a part a section.

import { hex } from '../hex.ts';
import { formatSize } from '../size.ts';
import { isSection } from './address-scale.ts';
import { formatColumns } from './table.ts';
import type { OverwriteJson, PhaseJson, RegionJson, TraceJson } from './trace-json.ts';

export const DIFFERENCE_AREAS = [
  'image',
  'machine',
  'size',
  'kernel',
  'segment',
  'phase',
  'register',
  'page-tables',
  'region',
  'overwrite',
  'hazard',
  'notice',
  'console',
] as const;

/** One thing in which two traces differ. */
export interface Difference {
  readonly area: (typeof DIFFERENCE_AREAS)[number];
  /** The phase in which it was seen; null for what belongs to none. */
  readonly phase: string | null;
  /** What differs: a field, a register, the name of a region. */
  readonly name: string;
  readonly change: 'added' | 'removed' | 'moved' | 'resized' | 'changed';
  /** How it is in the first and in the second boot; null where it is not. */
  readonly a: string | null;
  readonly b: string | null;
}

export interface CompareOptions {
  /** Compares also what says nothing of the boot itself: the path of the image, the engine and its version. */
  readonly strict: boolean;
}

const INCOMPARABLE: ReadonlySet<string> = new Set(['path', 'engine', 'engineVersion']);

/**
 * All differences, in the order of `DIFFERENCE_AREAS` and there in the order of the boot. What one of the two did not
 * record (hashes, instruction counts, page tables) is not compared.
 *
 * @example
 * ```ts
 * import { boot, checkTrace, compareTraces, readKernelImage, traceToJson } from 'bootscope';
 *
 * const traces = [];
 * for (const memory of [256 << 20, 512 << 20]) {
 *   const { trace, close } = await boot(await readKernelImage('demo-lz4.bzImage'), { memory });
 *   traces.push(checkTrace('demo', traceToJson(trace)));
 *   close();
 * }
 * console.log(compareTraces(traces[0]!, traces[1]!).map(({ area, name, a, b }) => `${area} ${name}: ${a} ${b}`));
 * ```
 */
export function compareTraces(
  a: TraceJson,
  b: TraceJson,
  options: CompareOptions = { strict: false },
): readonly Difference[] {
  const found: Difference[] = [];
  compareFields(found, 'image', a.image, b.image, options);
  compareFields(found, 'machine', a.machine, b.machine, options);
  compareKernels(found, a, b);
  comparePhases(found, a, b);
  const hazards = (of: TraceJson): readonly string[] | null =>
    of.hazards?.map((hazard) => `${hazard.code} ${hazard.start}..${hazard.end}`) ?? null;
  compareSets(found, 'hazard', hazards(a), hazards(b));
  compareSets(found, 'notice', a.notices, b.notices);
  compareLines(found, a.console, b.console);
  const order = (difference: Difference): number => DIFFERENCE_AREAS.indexOf(difference.area);
  return found
    .map((difference, index) => ({ difference, index }))
    .sort((x, y) => order(x.difference) - order(y.difference) || x.index - y.index)
    .map(({ difference }) => difference);
}

type Area = Difference['area'];

function text(value: unknown): string | null {
  if (value === null || value === undefined) return null;
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/** Fields by name; what lies in an object is named after both, as in `payload.length`. */
function fields(of: Readonly<Record<string, unknown>>, prefix = ''): Map<string, string | null> {
  return new Map(
    Object.entries(of).flatMap(([name, value]): (readonly [string, string | null])[] =>
      typeof value === 'object' && value !== null && !Array.isArray(value)
        ? [...fields(value as Readonly<Record<string, unknown>>, `${prefix}${name}.`)]
        : [[`${prefix}${name}`, text(value)]],
    ),
  );
}

function compareFields(
  found: Difference[],
  area: Area,
  a: Readonly<Record<string, unknown>>,
  b: Readonly<Record<string, unknown>>,
  options: CompareOptions,
): void {
  const [fieldsA, fieldsB] = [fields(a), fields(b)];
  for (const name of new Set([...fieldsA.keys(), ...fieldsB.keys()])) {
    if (!options.strict && INCOMPARABLE.has(name)) continue;
    const [before, after] = [fieldsA.get(name) ?? null, fieldsB.get(name) ?? null];
    if (before === after || (name === 'sha256' && (before === null || after === null))) continue;
    const change = before === null ? 'added' : after === null ? 'removed' : 'changed';
    found.push({ area, phase: null, name, change, a: before, b: after });
  }
}

function compareKernels(found: Difference[], a: TraceJson, b: TraceJson): void {
  const entryOf = (trace: TraceJson): string =>
    trace.kernel === null ? `not reached: ${trace.stopped ?? 'unknown'}` : `reached at ${trace.kernel.entry}`;
  if (a.kernel === null || b.kernel === null) {
    const [before, after] = [entryOf(a), entryOf(b)];
    if (before !== after) {
      found.push({
        area: 'kernel',
        phase: null,
        name: 'jump into the kernel',
        change: 'changed',
        a: before,
        b: after,
      });
    }
    return;
  }
  for (const name of new Set([...Object.keys(a.kernel), ...Object.keys(b.kernel)])) {
    // What the entry is called depends on the symbols that were read.
    if (name === 'segments' || name === 'entrySymbol') continue;
    const [before, after] = [text(a.kernel[name]), text(b.kernel[name])];
    if (before === after) continue;
    const moved = ['entry', 'physicalBase', 'virtualBase', 'bootParams'].includes(name);
    found.push({
      area: 'kernel',
      phase: null,
      name,
      change: moved ? 'moved' : 'changed',
      a: before,
      b: after,
    });
  }
  const count = Math.max(a.kernel.segments.length, b.kernel.segments.length);
  for (let index = 0; index < count; index++) {
    const [before, after] = [a.kernel.segments[index], b.kernel.segments[index]];
    const difference = (
      name: string,
      change: Difference['change'],
      one: string | null,
      two: string | null,
    ): void => {
      found.push({ area: 'segment', phase: null, name: `segment ${index}${name}`, change, a: one, b: two });
    };
    if (before === undefined || after === undefined) {
      const present = before ?? after!;
      const described = `${present.paddr}, ${present.memsz} bytes ${present.flags}`;
      if (before === undefined) difference('', 'added', null, described);
      else difference('', 'removed', described, null);
      continue;
    }
    for (const field of ['paddr', 'vaddr', 'filesz', 'memsz', 'flags', 'sha256'] as const) {
      const [one, two] = [before[field], after[field]];
      if (one === two || one === null || two === null) continue;
      const change = field.endsWith('addr') ? 'moved' : field.endsWith('sz') ? 'resized' : 'changed';
      difference(` ${field}`, change, one, two);
    }
  }
}

function comparePhases(found: Difference[], a: TraceJson, b: TraceJson): void {
  const others = new Map(b.phases.map((phase) => [phase.name, phase]));
  const names = new Set(a.phases.map((phase) => phase.name));
  for (const phase of a.phases) {
    const other = others.get(phase.name);
    if (other === undefined) {
      found.push({
        area: 'phase',
        phase: phase.name,
        name: 'phase',
        change: 'removed',
        a: where(phase),
        b: null,
      });
    } else {
      comparePhase(found, phase, other);
    }
  }
  for (const phase of b.phases) {
    if (names.has(phase.name)) continue;
    found.push({
      area: 'phase',
      phase: phase.name,
      name: 'phase',
      change: 'added',
      a: null,
      b: where(phase),
    });
  }
}

function where(phase: PhaseJson): string {
  return `${phase.address} ${phase.mode}`;
}

function comparePhase(found: Difference[], a: PhaseJson, b: PhaseJson): void {
  const phase = a.name;
  if (a.address !== b.address) {
    found.push({ area: 'phase', phase, name: 'address', change: 'moved', a: a.address, b: b.address });
  }
  if (a.mode !== b.mode)
    found.push({ area: 'phase', phase, name: 'mode', change: 'changed', a: a.mode, b: b.mode });
  if (a.instructions != null && b.instructions != null && a.instructions !== b.instructions) {
    found.push({
      area: 'phase',
      phase,
      name: 'instructions',
      change: 'changed',
      a: String(a.instructions),
      b: String(b.instructions),
    });
  }
  for (const name of new Set([...Object.keys(a.registers), ...Object.keys(b.registers)])) {
    const [one, two] = [a.registers[name], b.registers[name]];
    if (one === two || one === undefined || two === undefined) continue;
    found.push({ area: 'register', phase, name, change: 'changed', a: one, b: two });
  }
  if (a.pageTables != null && b.pageTables != null) {
    for (const name of ['mode', 'root', 'levels', 'identity', 'ranges']) {
      const [one, two] = [mapped(a.pageTables[name]), mapped(b.pageTables[name])];
      if (one === two) continue;
      found.push({ area: 'page-tables', phase, name, change: 'changed', a: one, b: two });
    }
  }
  if (a.regions !== null && b.regions !== null) compareRegions(found, phase, a.regions, b.regions);
  if (a.overwritten != null && b.overwritten != null)
    compareOverwrites(found, phase, a.overwritten, b.overwritten);
}

/** Ranges of page tables as `0x0..0x100000000 to 0x0 rwx`, anything else as it is. */
function mapped(value: unknown): string | null {
  if (!Array.isArray(value)) return text(value);
  return (value as readonly (Readonly<Record<string, unknown>> | null)[])
    .map((each) => {
      const { start, end, physical, writable, executable, user } = each ?? {};
      const rights = `r${writable === true ? 'w' : '-'}${executable === true ? 'x' : '-'}${user === true ? 'u' : ''}`;
      return `${start}..${end} to ${physical} ${rights}`;
    })
    .join(', ');
}

/** The same region overwritten by the same writer is one loss, wherever it lies. */
function compareOverwrites(
  found: Difference[],
  phase: string,
  a: readonly OverwriteJson[],
  b: readonly OverwriteJson[],
): void {
  const nameOf = (loss: OverwriteJson): string => `${loss.region} by ${loss.by}`;
  const others = new Map(b.map((loss) => [nameOf(loss), loss]));
  const names = new Set(a.map(nameOf));
  for (const loss of a) {
    const name = nameOf(loss);
    const other = others.get(name);
    if (other === undefined) {
      found.push({ area: 'overwrite', phase, name, change: 'removed', a: range(loss), b: null });
    } else if (range(loss) !== range(other)) {
      const change = sizeOf(loss) === sizeOf(other) ? 'moved' : 'resized';
      found.push({ area: 'overwrite', phase, name, change, a: range(loss), b: range(other) });
    }
  }
  for (const loss of b) {
    const name = nameOf(loss);
    if (!names.has(name)) {
      found.push({ area: 'overwrite', phase, name, change: 'added', a: null, b: range(loss) });
    }
  }
}

interface RangeJson {
  readonly start: string;
  readonly end: string;
}

function range(region: RangeJson): string {
  return `${region.start}..${region.end}`;
}

function sizeOf(region: RangeJson): bigint {
  return BigInt(region.end) - BigInt(region.start);
}

function compareRegions(
  found: Difference[],
  phase: string,
  a: readonly RegionJson[],
  b: readonly RegionJson[],
): void {
  const others = new Map(b.map((region) => [region.name, region]));
  const names = new Set(a.map((region) => region.name));
  for (const region of a) {
    const other = others.get(region.name);
    if (other === undefined) {
      found.push({ area: 'region', phase, name: region.name, change: 'removed', a: range(region), b: null });
    } else if (range(region) !== range(other)) {
      const change = sizeOf(region) === sizeOf(other) ? 'moved' : 'resized';
      found.push({ area: 'region', phase, name: region.name, change, a: range(region), b: range(other) });
    }
  }
  for (const region of b) {
    if (names.has(region.name)) continue;
    found.push({ area: 'region', phase, name: region.name, change: 'added', a: null, b: range(region) });
  }
}

function compareSets(
  found: Difference[],
  area: Area,
  a: readonly string[] | null,
  b: readonly string[] | null,
): void {
  if (a === null || b === null) return;
  for (const line of a) {
    if (!b.includes(line)) found.push({ area, phase: null, name: area, change: 'removed', a: line, b: null });
  }
  for (const line of b) {
    if (!a.includes(line)) found.push({ area, phase: null, name: area, change: 'added', a: null, b: line });
  }
}

/** The first line that differs says enough. */
function compareLines(found: Difference[], a: string | null, b: string | null): void {
  if (a === null || b === null || a === b) return;
  const [before, after] = [a.split('\n'), b.split('\n')];
  let line = 0;
  while (before[line] === after[line]) line++;
  found.push({
    area: 'console',
    phase: null,
    name: `line ${line + 1}`,
    change: 'changed',
    a: before[line] ?? null,
    b: after[line] ?? null,
  });
}

/** A line of the table: one difference in all the phases that show it alike. */
interface Row {
  readonly difference: Difference;
  readonly phases: string[];
}

export interface DifferenceTableOptions {
  /** Each register on a line of its own; else one line a phase names those that differ. */
  readonly registers: boolean;
  /** Each section of the kernel on a line of its own; else one line counts them. */
  readonly sections: boolean;
  /** How the reader gets what is only counted here, a clause each. */
  readonly hints?: { readonly registers: string; readonly sections: string };
}

/** The differences as a table for people; a difference that goes through several phases is one line. */
export function formatDifferences(
  a: TraceJson,
  b: TraceJson,
  differences: readonly Difference[],
  options: DifferenceTableOptions = { registers: false, sections: false },
): string {
  let out = `a  ${titleOf(a)}\nb  ${titleOf(b)}\n`;
  if (differences.length === 0) return `${out}\nno difference\n`;
  const order = [...new Set([...a.phases, ...b.phases].map((phase) => phase.name))];
  const sections = new Set(
    [...a.phases, ...b.phases].flatMap(({ regions }) =>
      (regions ?? []).filter(isSection).map(({ name }) => name),
    ),
  );
  for (const area of DIFFERENCE_AREAS) {
    const here = differences.filter((difference) => difference.area === area);
    if (here.length === 0) continue;
    const hint = area === 'register' && !options.registers ? inBrackets(options.hints?.registers) : '';
    out += `\n${AREA_TITLES[area]}${hint}\n`;
    const counted = here.filter(({ name }) => area === 'region' && !options.sections && sections.has(name));
    const rows: readonly (readonly string[])[] =
      area === 'register' && !options.registers
        ? registerSummary(here)
        : gather(here.filter((one) => !counted.includes(one))).map(({ difference, phases }) => [
            ...(here.some((one) => one.phase !== null) ? [span(phases, order)] : []),
            ...(here.some(({ name }) => name !== area)
              ? [difference.name === area ? '' : printable(difference.name)]
              : []),
            difference.change,
            ...values(difference),
          ]);
    const summary = counted.length > 0 ? [sectionSummary(counted, order, options.hints?.sections)] : [];
    out += formatColumns([...rows, ...summary].map((row) => ['', ...row]));
  }
  return `${out}\n${differences.length} ${differences.length === 1 ? 'difference' : 'differences'}\n`;
}

export const AREA_TITLES: Readonly<Record<Area, string>> = {
  image: 'IMAGE',
  machine: 'MACHINE',
  size: 'SIZES',
  kernel: 'KERNEL AT THE JUMP',
  segment: 'SEGMENTS',
  phase: 'PHASES',
  register: 'REGISTERS',
  'page-tables': 'PAGE TABLES',
  region: 'REGIONS',
  overwrite: 'OVERWRITTEN',
  hazard: 'HAZARDS',
  notice: 'NOTICES',
  console: 'CONSOLE',
};

/** Longer values are cut in the table; the JSON has them whole. */
const LONGEST_VALUE = 72;
/** Enough of a hash to know it by. */
const SHOWN_HASH = 16;

/** Text from an image can hold anything; a terminal gets no control characters from here. */
export function printable(value: string): string {
  return value.replace(/[\p{Cc}\p{Cf}]/gu, '?');
}

function cut(value: string | null): string {
  if (value === null) return '–';
  if (value === '') return '(empty)';
  const clean = printable(value);
  return clean.length <= LONGEST_VALUE ? clean : `${clean.slice(0, LONGEST_VALUE - 1)}…`;
}

function values(difference: Difference): readonly string[] {
  const { a, b } = difference;
  const shown = (value: string | null): string => shownValue(difference, value);
  if (a === null || b === null) return [shown(a ?? b)];
  return [`${shown(a)} → ${shown(b)}${growth(difference)}`];
}

function shownValue({ area, name }: Difference, value: string | null): string {
  if (value === null) return cut(value);
  if (name.endsWith('sha256')) return `${printable(value).slice(0, SHOWN_HASH)}…`;
  if (area === 'machine' && name === 'ram' && /^\d+$/.test(value)) return formatSize(Number(value));
  // Why a boot ended is what a reader wants to know.
  return area === 'kernel' ? printable(value) : cut(value);
}

/** By how much something moved or grew, where the two are addresses, sizes or ranges. */
function growth({ change, a, b }: Difference): string {
  if ((change !== 'moved' && change !== 'resized') || a === null || b === null) return '';
  const [fromA, toA] = a.split('..');
  const [fromB, toB] = b.split('..');
  const by = (one: string, two: string): bigint => BigInt(two) - BigInt(one);
  if (toA === undefined || toB === undefined) return ` (${signed(by(fromA!, fromB!))})`;
  const moved = by(fromA!, fromB!);
  const grown = by(toA, toB) - moved;
  return [moved === 0n ? '' : ` (${signed(moved)})`, grown === 0n ? '' : ` (size ${signed(grown)})`].join('');
}

function signed(value: bigint): string {
  return value < 0n ? `-0x${(-value).toString(16)}` : `+${hex(value)}`;
}

function gather(differences: readonly Difference[]): readonly Row[] {
  const rows = new Map<string, Row>();
  for (const difference of differences) {
    const { area, name, change, a, b, phase } = difference;
    const key = JSON.stringify(area === 'phase' && name === 'phase' ? [name, phase] : [name, change, a, b]);
    const row = rows.get(key) ?? { difference, phases: [] };
    if (phase !== null) row.phases.push(phase);
    rows.set(key, row);
  }
  return [...rows.values()];
}

/** `setup … kernel` for phases that follow each other, else their names. */
export function span(phases: readonly string[], order: readonly string[]): string {
  const first = order.indexOf(phases[0] ?? '');
  const last = order.indexOf(phases.at(-1) ?? '');
  if (phases.length > 2 && last - first === phases.length - 1) return `${phases[0]} … ${phases.at(-1)}`;
  return phases.join(', ');
}

function registerSummary(differences: readonly Difference[]): readonly (readonly string[])[] {
  const names = new Map<string, string[]>();
  for (const { phase, name } of differences) {
    names.set(phase ?? '', [...(names.get(phase ?? '') ?? []), name]);
  }
  return [...names].map(([phase, registers]) => [phase, registers.join(' ')]);
}

function inBrackets(hint: string | undefined): string {
  return hint === undefined ? '' : ` (${hint})`;
}

function sectionSummary(
  differences: readonly Difference[],
  order: readonly string[],
  hint: string | undefined,
): readonly string[] {
  const numbers = new Map<string, Set<string>>();
  for (const { change, name } of differences) {
    numbers.set(change, (numbers.get(change) ?? new Set<string>()).add(name));
  }
  const phases = order.filter((phase) => differences.some((difference) => difference.phase === phase));
  const counts = [...numbers].map(([change, names]) => `${names.size} ${change}`);
  return [span(phases, order), 'sections of the kernel', '', counts.join(', ') + inBrackets(hint)];
}

function titleOf(trace: TraceJson): string {
  const version = trace.image.kernelVersion;
  const cmdline = trace.machine.cmdline;
  const parts = [
    String(trace.image.path ?? 'unnamed'),
    typeof version === 'string' ? `Linux ${version.split(' ')[0]}` : null,
    typeof cmdline === 'string' && cmdline !== '' ? `cmdline "${cut(cmdline)}"` : null,
  ];
  return printable(parts.filter((part) => part !== null).join(', '));
}
