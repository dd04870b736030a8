// The summary of a test run hides nothing: what failed, what crashed, and what never ran.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'bootscope-summary-test-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

interface FakeRun {
  readonly checks?: string;
  readonly files?: readonly { readonly name: string; readonly statuses: readonly string[] }[];
  readonly vitestStatus?: number;
  /** Lines of the list of skips that CI expects. */
  readonly expectedSkips?: string;
}

/** Runs the summary in a folder of its own; the last line and the exit status. */
function summarize({ checks = '', files = [], vitestStatus = 0, expectedSkips }: FakeRun) {
  if (expectedSkips !== undefined) writeFileSync(join(folder, 'expected'), expectedSkips);
  writeFileSync(join(folder, 'checks'), checks);
  writeFileSync(join(folder, 'vitest-status'), `${vitestStatus}\tvitest\n`);
  const testResults = files.map(({ name, statuses }) => ({
    name: join(folder, name),
    message: '',
    assertionResults: statuses.map((status, index) => ({
      status,
      fullName: `group test ${index}`,
      ancestorTitles: ['group'],
    })),
  }));
  writeFileSync(join(folder, 'vitest.json'), JSON.stringify({ testResults }));
  const { status, stdout } = spawnSync(process.execPath, [resolve('scripts/test-summary.mjs'), '.', '0'], {
    cwd: folder,
    encoding: 'utf8',
    env: {
      ...process.env,
      BOOTSCOPE_EXPECTED_SKIPS: expectedSkips === undefined ? '' : join(folder, 'expected'),
    },
  });
  const failed = readFileSync(join(folder, 'failed'), 'utf8').split('\n').filter(Boolean);
  return { status, stdout, failed, lastLine: stdout.trim().split('\n').at(-1) };
}

test('checks and tests are added up, skipped ones named', () => {
  const run = summarize({
    checks: '0\ttype check\n0\tlint\n',
    files: [{ name: 'a.test.ts', statuses: ['passed', 'pending'] }],
  });
  expect(run).toMatchObject({ status: 0, lastLine: '3 passed, 0 failed, 1 skipped' });
  expect(run.stdout).toContain('a.test.ts: group test 1');
});

test('a describe that was left out as a whole is one line', () => {
  const run = summarize({ files: [{ name: 'a.test.ts', statuses: ['pending', 'pending'] }] });
  expect(run.lastLine).toBe('0 passed, 0 failed, 2 skipped');
  expect(run.stdout).toContain('a.test.ts: group (2 tests)');
});

test('a skip that is not on the list of expected ones is a failure, where there is a list', () => {
  const files = [{ name: 'a.test.ts', statuses: ['passed', 'pending'] }];
  expect(summarize({ files, expectedSkips: '# none\n' })).toMatchObject({
    status: 1,
    lastLine: '1 passed, 1 failed, 1 skipped',
    stdout: expect.stringContaining('not expected to be: a.test.ts: group test 1'),
  });
  expect(summarize({ files, expectedSkips: '# one\n^ *a\\.test\\.ts: group\n' })).toMatchObject({
    status: 0,
  });
});

test('a failing check and a failing test each count', () => {
  const run = summarize({ checks: '1\ttype check\n', files: [{ name: 'a.test.ts', statuses: ['failed'] }] });
  expect(run).toMatchObject({ status: 1, lastLine: '0 passed, 2 failed, 0 skipped' });
  expect(run.failed).toEqual(['type check', 'a.test.ts: group test 0']);
});

test('a test file that was not run is a failure', () => {
  writeFileSync(join(folder, 'forgotten.test.ts'), '');
  const run = summarize({ files: [{ name: 'a.test.ts', statuses: ['passed'] }] });
  expect(run).toMatchObject({ status: 1, lastLine: '1 passed, 1 failed, 0 skipped' });
  expect(run.stdout).toContain('forgotten.test.ts: was not run');
});

test('a file without tests, no tests at all, and a crash of the runner are failures', () => {
  expect(summarize({ files: [{ name: 'a.test.ts', statuses: [] }] }).status).toBe(1);
  expect(summarize({ files: [] }).lastLine).toBe('0 passed, 1 failed, 0 skipped');
  expect(summarize({ files: [{ name: 'a.test.ts', statuses: ['passed'] }], vitestStatus: 1 }).lastLine).toBe(
    '1 passed, 1 failed, 0 skipped',
  );
});
