import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { traceToJson } from '../report/json.ts';
import { someTrace } from '../report/test-traces.ts';
import { registerDiff } from './diff.ts';
import { checkOutput, writeOutput } from './output-file.ts';
import { runCommand } from './test-output.ts';

vi.mock('./standard-output.ts', async () => import('./test-output.ts'));

const folder = mkdtempSync(join(tmpdir(), 'bootscope-diff-'));
const one = join(folder, 'one.json');
const other = join(folder, 'other.json');
writeFileSync(one, JSON.stringify(traceToJson(someTrace())));
writeFileSync(other, JSON.stringify(traceToJson(someTrace({ notices: [] }))));
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => {
  process.exitCode = 0;
});

async function diff(...words: string[]): Promise<{ text: string; status: number }> {
  const { text } = await runCommand(registerDiff, ...words);
  return { text, status: Number(process.exitCode) };
}

describe('bootscope diff', () => {
  it('ends with 0 for equal traces and with 1 for traces that differ', async () => {
    expect(await diff(one, one)).toMatchObject({ status: 0, text: expect.stringContaining('no difference') });
    expect(await diff(one, other)).toMatchObject({
      status: 1,
      text: expect.stringContaining('a notice with'),
    });
  });

  it('prints each difference as JSON', async () => {
    const { text } = await diff(one, other, '--json');
    const { image, notices } = someTrace();
    const identity = { path: image.path, kernelVersion: image.kernelVersion };
    expect(JSON.parse(text)).toEqual({
      a: identity,
      b: identity,
      equal: false,
      differences: [
        { area: 'notice', phase: null, name: 'notice', change: 'removed', a: notices[0], b: null },
      ],
    });
    expect(JSON.parse((await diff(one, one, '--json')).text)).toEqual({
      a: identity,
      b: identity,
      equal: true,
      differences: [],
    });
  });

  it('refuses boot options where nothing is booted', async () => {
    await expect(diff(one, other, '--memory', '1G')).rejects.toThrow('nothing is booted');
    await expect(diff(one, other, '--b-options', '--memory 1G')).rejects.toThrow('is a recorded trace');
  });
});

describe('writeOutput', () => {
  it('writes over no file unless it is forced to', async () => {
    const path = join(folder, 'report.html');
    await writeOutput(path, 'first', false);
    expect(() => checkOutput(path, false)).toThrow('exists already, --force overwrites it');
    await expect(writeOutput(path, 'second', false)).rejects.toThrow('exists already, --force overwrites it');
    checkOutput(path, true);
    await writeOutput(path, 'second', true);
  });
});
