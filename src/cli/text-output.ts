// What commands print for people and for programs: text that holds no control characters but its own, with colours and lines
// that fit a terminal; JSON that can be shown on one.

import { BOLD, GREEN, painter, RED } from '../report/ansi.ts';
import { showable, withoutControls } from './control-characters.ts';
import { isTerminal, print } from './standard-output.ts';
import { terminal } from './terminal.ts';

/** Prints text that has no colours yet: names in it may come from any file. */
export function printText(text: string): void {
  const clean = withoutControls(text);
  const { color, width } = terminal();
  const lines = clean.split('\n');
  const fitting = isTerminal('stdout') ? lines.flatMap((line) => wrapLine(line, width)) : lines;
  print((color ? fitting.map(paint) : fitting).join('\n'));
}

/** Indented, with escapes for the characters that a terminal would take for commands or that change the direction of text. */
export function printJson(value: unknown): void {
  print(`${showable(JSON.stringify(value, null, 2))}\n`);
}

/** The same in all texts of plain data, for what is coloured as it is made. */
export function printable<Data>(data: Data): Data {
  if (typeof data === 'string') return withoutControls(data) as Data;
  if (Array.isArray(data)) return data.map(printable) as Data;
  if (typeof data !== 'object' || data === null || ArrayBuffer.isView(data)) return data;
  return Object.fromEntries(Object.entries(data).map(([name, value]) => [name, printable(value)])) as Data;
}

/** Broken at spaces; what follows stands under the last column, or a little to the right of the line's start. */
export function wrapLine(line: string, width: number): string[] {
  if (line.length <= width) return [line];
  const start = line.length - line.trimStart().length;
  const column = [...line.slice(0, width).matchAll(/\S( {2,})(?=\S)/g)].at(-1);
  const last = column === undefined ? 0 : column.index + 1 + column[1]!.length;
  const indent = last > start && last <= width * 0.7 ? last : Math.min(start + 4, width >> 1);
  const lines: string[] = [];
  let rest = line;
  while (rest.length > width) {
    const at = rest.lastIndexOf(' ', width);
    // Columns before the last one stay in their line, where there is room for them.
    const least = lines.length > 0 || indent === last ? indent : start;
    // A path or a hash is longer than what is left: it stays whole.
    const end = at > least ? at : rest.indexOf(' ', width);
    if (end < 0) break;
    lines.push(rest.slice(0, end).trimEnd());
    rest = ' '.repeat(indent) + rest.slice(end).trimStart();
  }
  return [...lines, rest];
}

const HEADING = /^ *[A-Z][A-Z0-9]*(?:[ -]+[A-Z0-9-]+)*:?(?: \(.*\))?$/;
const VERDICT_GOOD = /^(.+: )(ok|no hazards|hooked and emulated agree)\b/;
const VERDICT_BAD = /^(.*?)(DIFFERS?|ERROR|No kernel was reached|NOT EXPECTED)\b/;

const paintAlways = painter(true);

/** Headings and verdicts: what the eye looks for. */
function paint(line: string): string {
  if (HEADING.test(line)) return paintAlways(line, BOLD);
  for (const [pattern, color] of [
    [VERDICT_BAD, RED],
    [VERDICT_GOOD, GREEN],
  ] as const) {
    const match = pattern.exec(line);
    if (match !== null) {
      const [whole, before, verdict] = match;
      return `${before}${paintAlways(verdict!, color, BOLD)}${line.slice(whole.length)}`;
    }
  }
  return line.startsWith('kernel entry ') ? paintAlways(line, BOLD) : line;
}
