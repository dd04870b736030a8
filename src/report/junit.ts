// Results of checks as JUnit XML, which CI systems read: a suite for each image, a test for each part of the boot that was
// compared.

import type { Finding } from './check-text.ts';
import { findingLines } from './check-text.ts';
import { AREA_TITLES, DIFFERENCE_AREAS } from './difference.ts';

export interface CheckedCase {
  /** The image, as it was named. */
  readonly name: string;
  readonly seconds: number;
  /** Empty when the check passed. */
  readonly differences: readonly Finding[];
  /** The check could not be made at all. */
  readonly error: string | null;
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&apos;',
};

/** XML 1.0 has no way to write most control characters; they become U+FFFD. */
function escapeXml(text: string): string {
  return (
    text
      .replace(/[&<>"']/g, (character) => ENTITIES[character]!)
      // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what XML cannot hold
      .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '\ufffd')
  );
}

interface Counts {
  readonly tests: number;
  readonly failures: number;
  readonly errors: number;
  readonly seconds: number;
}

function countsOf({ differences, error, seconds }: CheckedCase): Counts {
  if (error !== null) return { tests: 1, failures: 0, errors: 1, seconds };
  const failures = new Set(differences.map(({ area }) => area)).size;
  return { tests: DIFFERENCE_AREAS.length, failures, errors: 0, seconds };
}

function attributes({ tests, failures, errors, seconds }: Counts): string {
  return `tests="${tests}" failures="${failures}" errors="${errors}" time="${seconds.toFixed(3)}"`;
}

/** @param suite - name of the whole */
export function formatJunit(suite: string, cases: readonly CheckedCase[]): string {
  const sum = (of: (counts: Counts) => number): number =>
    cases.reduce((total, each) => total + of(countsOf(each)), 0);
  const all = {
    tests: sum(({ tests }) => tests),
    failures: sum(({ failures }) => failures),
    errors: sum(({ errors }) => errors),
    seconds: sum(({ seconds }) => seconds),
  };
  let text = `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="${escapeXml(suite)}" ${attributes(all)}>\n`;
  for (const each of cases) {
    text += `  <testsuite name="${escapeXml(each.name)}" ${attributes(countsOf(each))}>\n`;
    text += each.error === null ? areasOf(each) : errorOf(each.name, each.error);
    text += '  </testsuite>\n';
  }
  return `${text}</testsuites>\n`;
}

function errorOf(image: string, error: string): string {
  return (
    `    <testcase classname="${escapeXml(image)}" name="check">\n` +
    `      <error message="${escapeXml(error)}"/>\n    </testcase>\n`
  );
}

function areasOf({ name, differences }: CheckedCase): string {
  let text = '';
  for (const area of DIFFERENCE_AREAS) {
    const here = differences.filter((difference) => difference.area === area);
    text += `    <testcase classname="${escapeXml(name)}" name="${AREA_TITLES[area].toLowerCase()}"`;
    if (here.length === 0) {
      text += '/>\n';
      continue;
    }
    const lines = findingLines(here).map((line) => line.text);
    const fields = here.map(({ path, expected, actual }) => {
      return `${path}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`;
    });
    const more = lines.length === 1 ? '' : `, and ${lines.length - 1} more`;
    text += `>\n      <failure type="${area}" message="${escapeXml(`${lines[0]}${more}`)}">`;
    text += `${escapeXml([...lines, '', ...fields].join('\n'))}</failure>\n    </testcase>\n`;
  }
  return text;
}
