// `record` and `check` as CI uses them: a boot that goes wrong never passes, and what went wrong is said first.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bootscope, buildCommand } from './command.ts';

const DEMO = fileURLToPath(new URL('../images/demo/demo-gzip.bzImage', import.meta.url));
const OTHER = fileURLToPath(new URL('../images/demo/demo-zstd.bzImage', import.meta.url));
/** In the demo kernel's run area. */
const ON_THE_RUN_AREA = '0x1008000';
/** What docs/continuous-integration.md names as likely to change from build to build. */
const IGNORED = ['image', 'segments.sha256', 'registers', 'phases.setup', 'regions'];

let folder = '';
let initrd = '';
let clean = '';
beforeAll(async () => {
  buildCommand();
  folder = mkdtempSync(join(tmpdir(), 'bootscope-check-'));
  initrd = join(folder, 'initrd');
  clean = join(folder, 'clean.json');
  writeFileSync(initrd, '070701'.padEnd(0x4000, '7'));
  const recorded = await bootscope(['record', DEMO, '--initrd', initrd, '-o', clean]);
  expect(recorded).toMatchObject({ status: 0, stderr: '' });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Result {
  readonly name: string;
  readonly differences: readonly { readonly area: string; readonly path: string; readonly actual: unknown }[];
  readonly error: string | null;
}

describe('check', () => {
  it('passes the boot that was recorded', async () => {
    expect(await bootscope(['check', DEMO, clean])).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('1 of 1 as recorded'),
    });
  });

  it('does not pass a boot that destroys its initrd, whatever of the layout is ignored', async () => {
    const args = ['check', DEMO, clean, '--initrd-address', ON_THE_RUN_AREA, '--ignore', ...IGNORED];
    const { status, stdout } = await bootscope(args);
    expect(status).toBe(1);
    const [first] = stdout.split('\n');
    expect(first).toContain('DIFFERS: new hazard run-area-overlap: ');
    expect(first).toContain(ON_THE_RUN_AREA);
    expect(stdout).toContain('initrd is overwritten');
  });

  it('gives the differences as data, the same in JSON and JUnit', async () => {
    const junit = join(folder, 'junit.xml');
    const args = ['check', DEMO, clean, '--initrd-address', ON_THE_RUN_AREA, '--json', '--junit', junit];
    const { status, stdout } = await bootscope(args);
    expect(status).toBe(1);
    const [result] = JSON.parse(stdout) as [Result];
    expect(result).toMatchObject({ name: DEMO, error: null });
    const hazard = result.differences.find(({ area }) => area === 'hazard');
    expect(hazard).toMatchObject({
      ...{ path: 'hazards.run-area-overlap', name: 'run-area-overlap', phase: null, change: 'added' },
      ...{ expected: null, actual: { start: ON_THE_RUN_AREA } },
    });
    const xml = readFileSync(junit, 'utf8');
    for (const area of new Set(result.differences.map((difference) => difference.area))) {
      expect(xml).toContain(`<failure type="${area}"`);
    }
  });

  it('prints the ten lines that matter, by their weight, and counts the rest', async () => {
    const { status, stdout } = await bootscope(['check', OTHER, clean]);
    expect(status).toBe(1);
    expect(stdout.split('\n').filter((line) => line.startsWith('    ')).length).toBe(10);
    expect(stdout).toMatch(/^ {2}and \d+ more: .*\d+ of /m);
    const { stdout: json } = await bootscope(['check', OTHER, clean, '--json']);
    const [{ differences }] = JSON.parse(json) as [Result];
    expect(stdout).toContain(`${differences.length} differences`);
  });

  it('holds sizes to the growth that is allowed', async () => {
    const ignore = [
      '--ignore',
      'image',
      'segments',
      'registers',
      'regions',
      'phases',
      'console',
      'kernel',
      'bootParams',
    ];
    const grown = ['check', OTHER, clean, ...ignore, '--allow-growth', 'file=1%'];
    const { status, stdout } = await bootscope(grown);
    expect(status).toBe(1);
    expect(stdout).toMatch(/DIFFERS: file grew from 0x[0-9a-f]+ .* and 1 % is allowed/);
    const allowed = ['--allow-growth', 'file=50%', '--allow-growth', 'run-area=1M'];
    expect(await bootscope(['check', OTHER, clean, ...ignore, ...allowed])).toMatchObject({ status: 0 });
  });

  it('refuses to ignore, or to limit, what there is not', async () => {
    const ended = await bootscope(['check', DEMO, clean, '--ignore', 'segments.sha']);
    expect(ended).toMatchObject({ status: 2, stdout: '' });
    expect(ended.stderr).toContain('segments.sha');
    const record = ['record', DEMO, '-o', join(folder, 'never'), '--ignore', 'kernel.sha256'];
    expect(await bootscope(record)).toMatchObject({ status: 2, stdout: '' });
    const growth = await bootscope(['check', DEMO, clean, '--allow-growth', 'nothing=1']);
    expect(growth).toMatchObject({ status: 2, stdout: '' });
    expect(growth.stderr).toContain('nothing');
  });

  it('checks a list of images over processes, and says which could not be checked', async () => {
    const matrix = join(folder, 'images.json');
    const entries = [
      { image: DEMO, reference: clean },
      { image: OTHER, reference: clean },
      { image: join(folder, 'missing'), reference: clean },
    ];
    writeFileSync(matrix, JSON.stringify(entries));
    const { status, stdout } = await bootscope(['check', '--matrix', matrix, '--json']);
    expect(status).toBe(2);
    const [same, other, missing] = JSON.parse(stdout) as readonly Result[];
    expect(same).toEqual({ name: DEMO, differences: [], error: null });
    expect(other!.differences.length).toBeGreaterThan(10);
    expect(missing!.error).toContain('does not exist');
    const options = await bootscope(['check', '--matrix', matrix, '--memory', '1G']);
    expect(options).toMatchObject({ status: 2, stdout: '' });
  });
});
