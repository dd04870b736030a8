// The code that V8 keeps of the command between two starts, as the launcher leaves it in the user's cache folder.

import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bootscope, buildCommand } from './command.ts';

const DEMO = fileURLToPath(new URL('../images/demo/demo-gzip.bzImage', import.meta.url));
const home = mkdtempSync(join(tmpdir(), 'bootscope-cache-'));
const folder = join(home, 'bootscope/code');

const run = (...args: readonly string[]) => bootscope(args, { env: { XDG_CACHE_HOME: home } });
const subcommands = (): (string | undefined)[] => readdirSync(folder).map((name) => name.split('-')[1]);
const cacheOf = (subcommand: string): string =>
  join(folder, readdirSync(folder).find((name) => name.split('-')[1] === subcommand)!);

beforeAll(buildCommand);
afterAll(() => rmSync(home, { recursive: true }));

describe("the launcher's code cache", () => {
  it('has a file for each subcommand that was run, and none for what is none', async () => {
    expect(await run('info', DEMO)).toMatchObject({ status: 0 });
    expect(await run('extract', DEMO, '-o', '-')).toMatchObject({ status: 0 });
    expect(await run('--version')).toMatchObject({ status: 0 });
    expect(await run('inf', DEMO)).toMatchObject({ status: 2 });
    expect(subcommands().sort()).toEqual(['', 'extract', 'info']);
  });

  it('is taken by the next run, which leaves it as it is and prints the same', async () => {
    const { ino, mtimeMs } = statSync(cacheOf('info'));
    const first = await run('info', DEMO);
    const second = await run('info', DEMO);
    expect(second).toEqual(first);
    expect(statSync(cacheOf('info'))).toMatchObject({ ino, mtimeMs });
  });

  it('goes with the build that it is of', async () => {
    const own = cacheOf('info');
    const old = own.replace(/-info-\d+-/, '-info-1-');
    expect(old).not.toBe(own);
    writeFileSync(old, '');
    writeFileSync(own, 'no code');
    expect(await run('info', DEMO)).toMatchObject({ status: 0 });
    expect(readdirSync(folder).map((name) => join(folder, name))).not.toContain(old);
    expect(statSync(own).size).toBeGreaterThan(100_000);
    expect(subcommands().sort()).toEqual(['', 'extract', 'info']);
  });
});
