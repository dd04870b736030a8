import { XMLParser, XMLValidator } from 'fast-xml-parser';
import { describe, expect, it } from 'vitest';
import type { Finding } from './check-text.ts';
import { DIFFERENCE_AREAS } from './difference.ts';
import { type CheckedCase, formatJunit } from './junit.ts';

const ENTRY: Finding = {
  ...{ area: 'kernel', phase: null, name: 'entry', field: null, path: 'kernel.entry' },
  ...{ change: 'changed', expected: '0x1000000', actual: '0x2000000' },
};
const BASE: Finding = { ...ENTRY, name: 'physicalBase', path: 'kernel.physicalBase' };
const LINE: Finding = {
  ...{ ...ENTRY, area: 'console', name: 'console', path: 'console', expected: 'a', actual: 'b' },
};
const PASSED: CheckedCase = { name: 'a/bzImage', seconds: 1.25, differences: [], error: null };
const FAILED: CheckedCase = { ...PASSED, name: 'b/bzImage', seconds: 0.5, differences: [ENTRY, BASE, LINE] };
const BROKEN: CheckedCase = { name: 'c', seconds: 0, differences: [], error: 'c does not exist' };

interface Case {
  readonly name: string;
  readonly classname: string;
  readonly failure?: { readonly type: string; readonly message: string; readonly '#text': string };
  readonly error?: { readonly message: string };
}
interface Suite {
  readonly name: string;
  readonly tests: string;
  readonly time: string;
  readonly testcase: readonly Case[];
}

function parse(xml: string): Record<string, string> & { testsuite: readonly Suite[] } {
  expect(XMLValidator.validate(xml)).toBe(true);
  const parser = new XMLParser({
    ignoreAttributes: false,
    attributeNamePrefix: '',
    parseTagValue: false,
    isArray: (name) => name === 'testcase' || name === 'testsuite',
  });
  return parser.parse(xml).testsuites;
}

describe('JUnit XML', () => {
  it('is a suite an image, with its counts, times, failures and errors', () => {
    const suites = parse(formatJunit('bootscope check', [PASSED, FAILED, BROKEN]));
    const tests = 2 * DIFFERENCE_AREAS.length + 1;
    expect(suites).toMatchObject({
      name: 'bootscope check',
      tests: String(tests),
      failures: '2',
      errors: '1',
    });
    expect(suites).toMatchObject({ time: '1.750' });
    expect(suites.testsuite.map(({ name, time }) => [name, time])).toEqual([
      ['a/bzImage', '1.250'],
      ['b/bzImage', '0.500'],
      ['c', '0.000'],
    ]);
    const [passed, failed, broken] = suites.testsuite;
    expect(passed!.testcase.filter(({ failure }) => failure !== undefined)).toEqual([]);
    expect(failed!.testcase.length).toBe(DIFFERENCE_AREAS.length);
    expect(broken!.testcase.map(({ error }) => error!.message)).toEqual(['c does not exist']);
  });

  it('has a test for each part of the boot, which fails with its lines and its fields', () => {
    const [suite] = parse(formatJunit('check', [FAILED])).testsuite;
    const failures = suite!.testcase.filter(({ failure }) => failure !== undefined);
    expect(failures.map(({ name, classname, failure }) => [classname, name, failure!.type])).toEqual([
      ['b/bzImage', 'kernel at the jump', 'kernel'],
      ['b/bzImage', 'console', 'console'],
    ]);
    const [kernel] = failures;
    expect(kernel!.failure!.message).toBe('entry: 0x1000000 → 0x2000000 (+0x1000000), and 1 more');
    expect(kernel!.failure!['#text']).toContain('kernel.entry: expected "0x1000000", got "0x2000000"');
  });

  it('quotes what is markup', () => {
    const nasty = `<a href="x">&amp; 'b' ]]></a>`;
    const suites = parse(
      formatJunit(nasty, [{ ...FAILED, name: nasty, differences: [{ ...LINE, actual: nasty }] }]),
    );
    expect(suites.name).toBe(nasty);
    expect(suites.testsuite[0]!.name).toBe(nasty);
    const failure = suites.testsuite[0]!.testcase.find((each) => each.failure !== undefined)!.failure!;
    expect(failure['#text']).toContain(nasty);
  });

  it('holds no character that XML cannot hold', () => {
    const text = 'console: \u0000\u001b[1mbold\ufffe \u{1f600}';
    const xml = formatJunit('suite', [{ ...FAILED, name: text }]);
    expect(parse(xml).testsuite[0]!.name).toBe('console: \ufffd\ufffd[1mbold\ufffd \u{1f600}');
  });

  it('is a valid document without any case', () => {
    const xml = formatJunit('nothing', []);
    expect(XMLValidator.validate(xml)).toBe(true);
    expect(xml).toContain('tests="0"');
  });
});
