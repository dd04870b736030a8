import { XMLParser, XMLValidator } from 'fast-xml-parser';
import { describe, expect, it } from 'vitest';
import { type CheckedCase, formatJunit } from './junit.ts';

const PASSED: CheckedCase = { name: 'a/bzImage', seconds: 1.25, failures: [], error: null };
const FAILED: CheckedCase = {
  name: 'b/bzImage',
  seconds: 0.5,
  failures: ['kernel.entry: expected "0x1000000", got "0x2000000"', 'console: expected "", got "x"'],
  error: null,
};
const BROKEN: CheckedCase = { name: 'c', seconds: 0, failures: [], error: 'c does not exist' };

interface Case {
  readonly name: string;
  readonly time: string;
  readonly failure?: { readonly message: string; readonly '#text': string };
  readonly error?: { readonly message: string };
}

function parse(xml: string): { suites: Record<string, string>; name: string; cases: Case[] } {
  expect(XMLValidator.validate(xml)).toBe(true);
  const parser = new XMLParser({
    ignoreAttributes: false,
    attributeNamePrefix: '',
    parseTagValue: false,
    isArray: (name) => name === 'testcase',
  });
  const { testsuites } = parser.parse(xml);
  return { suites: testsuites, name: testsuites.testsuite.name, cases: testsuites.testsuite.testcase };
}

describe('JUnit XML', () => {
  it('is read by a parser with its counts, times, failures and errors', () => {
    const { suites, name, cases } = parse(formatJunit('bootscope check', [PASSED, FAILED, BROKEN]));
    expect(suites).toMatchObject({ tests: '3', failures: '1', errors: '1', time: '1.750' });
    expect(name).toBe('bootscope check');
    expect(cases.map((each) => [each.name, each.time])).toEqual([
      ['a/bzImage', '1.250'],
      ['b/bzImage', '0.500'],
      ['c', '0.000'],
    ]);
    expect(cases[0]).not.toHaveProperty('failure');
    expect(cases[1]!.failure!.message).toBe(`2 differences, the first: ${FAILED.failures[0]}`);
    expect(cases[1]!.failure!['#text']).toBe(FAILED.failures.join('\n'));
    expect(cases[2]!.error!.message).toBe('c does not exist');
  });

  it('quotes what is markup', () => {
    const nasty = `<a href="x">&amp; 'b' ]]></a>`;
    const xml = formatJunit(nasty, [{ ...PASSED, name: nasty, failures: [nasty] }]);
    const { name, cases } = parse(xml);
    expect(name).toBe(nasty);
    expect(cases[0]!.name).toBe(nasty);
    expect(cases[0]!.failure!['#text']).toBe(nasty);
  });

  it('holds no character that XML cannot hold', () => {
    const xml = formatJunit('suite', [
      { ...PASSED, failures: ['console: \u0000\u001b[1mbold\ufffe \u{1f600}'] },
    ]);
    const { cases } = parse(xml);
    expect(cases[0]!.failure!['#text']).toBe('console: \ufffd\ufffd[1mbold\ufffd \u{1f600}');
  });

  it('is a valid document without any case', () => {
    const xml = formatJunit('nothing', []);
    expect(XMLValidator.validate(xml)).toBe(true);
    expect(xml).toContain('tests="0"');
  });
});
