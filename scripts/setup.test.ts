// What set-up promises without a network: its options, a dry run that leaves no trace, and clean shell.

import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'bootscope-setup-test-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function run(command: string, parameters: readonly string[], environment: Record<string, string> = {}) {
  const { status, stdout, stderr } = spawnSync(command, parameters, {
    encoding: 'utf8',
    env: { ...process.env, ...environment },
  });
  return { status, stdout, stderr };
}

describe('scripts/setup', () => {
  test('explains its options', () => {
    const { status, stdout } = run('scripts/setup', ['--help']);
    expect(status).toBe(0);
    expect(stdout).toContain('usage: scripts/setup');
    expect(stdout).toContain('--dry-run');
  });

  test('refuses an option that it does not know', () => {
    const { status, stderr } = run('scripts/setup', ['--no-such-option']);
    expect(status).toBe(2);
    expect(stderr).toContain('unknown option --no-such-option');
  });

  test('says in a dry run what it would do, on stderr, and does nothing', () => {
    const checkout = join(folder, 'checkout');
    const home = join(folder, 'home');
    mkdirSync(join(checkout, 'scripts'), { recursive: true });
    mkdirSync(home);
    for (const file of ['scripts/setup', 'package.json', 'package-lock.json']) {
      cpSync(file, join(checkout, file));
    }
    const before = readdirSync(checkout, { recursive: true }).sort();
    const { status, stdout, stderr } = run(join(checkout, 'scripts/setup'), ['--no-kernel', '--dry-run'], {
      HOME: home,
      XDG_CACHE_HOME: join(home, 'cache'),
    });
    expect({ status, stdout }).toEqual({ status: 0, stdout: '' });
    expect(stderr).toContain('would do: installing the npm packages');
    expect(stderr).toContain('would do: building dist/');
    expect(readdirSync(checkout, { recursive: true }).sort()).toEqual(before);
    expect(readdirSync(home)).toEqual([]);
  });

  test("ends soon where the registry is dead, with a sentence and npm's own reason", () => {
    const checkout = join(folder, 'dead');
    mkdirSync(join(checkout, 'scripts'), { recursive: true });
    for (const file of ['scripts/setup', 'package.json', 'package-lock.json', '.npmrc']) {
      cpSync(file, join(checkout, file));
    }
    const { status, stderr } = run(join(checkout, 'scripts/setup'), ['--no-kernel'], {
      npm_config_registry: 'http://127.0.0.1:1/',
      npm_config_cache: join(folder, 'npm-cache'),
    });
    expect(status).toBe(1);
    expect(stderr).toContain('npm error code ECONNREFUSED');
    expect(stderr).toMatch(
      /setup: the npm registry cannot be reached \(http:\/\/127\.0\.0\.1:1\/\): ECONNREFUSED$/m,
    );
  });

  test('takes a libunicorn by name and says so when it is not there', () => {
    const { status, stderr } = run('scripts/setup', ['--no-kernel', '--dry-run'], {
      BOOTSCOPE_LIBUNICORN: join(folder, 'missing.so'),
      BOOTSCOPE_UNICORN_JS: '',
    });
    expect(status).toBe(1);
    expect(stderr).toContain(`BOOTSCOPE_LIBUNICORN names ${join(folder, 'missing.so')}`);
  });
});

const shellScripts = ['scripts', '.ci']
  .flatMap((place) => readdirSync(place, { withFileTypes: true }))
  .filter((entry) => entry.isFile())
  .map((entry) => join(entry.parentPath, entry.name))
  .filter((file) => /^#!.*\b(ba)?sh\b/.test(readFileSync(file, 'utf8').slice(0, 40)));

describe('the shell scripts', () => {
  test.each(shellScripts)('%s is valid shell', (file) => {
    expect(run('bash', ['-n', file])).toEqual({ status: 0, stdout: '', stderr: '' });
  });

  const shellcheck = run('shellcheck', ['--version']).status === 0;
  test.skipIf(!shellcheck)('shellcheck has nothing to say about them (needs shellcheck)', () => {
    expect(run('shellcheck', ['--severity=warning', '--exclude=SC2115,SC2140', ...shellScripts])).toEqual({
      status: 0,
      stdout: '',
      stderr: '',
    });
  });
});
