// Every package that the lock file names may be combined with GPL-2.0-or-later code.

import { existsSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

/** Compatible with GPL-2.0-or-later in what is passed on (the FSF's license list; SPDX names). */
const COMPATIBLE = new Set([
  ...['0BSD', 'BSD-2-Clause', 'BSD-3-Clause', 'CC0-1.0', 'ISC', 'MIT', 'MIT-0', 'Unlicense', 'Zlib'],
  ...['GPL-2.0-only', 'GPL-2.0-or-later', 'GPL-2.0', 'LGPL-2.1-or-later', 'LGPL-2.1-only', 'MPL-2.0'],
]);
/** Also fine for tools that are run and not passed on. */
const TOOL_ONLY = new Set(['Apache-2.0', 'BlueOak-1.0.0', 'CC-BY-4.0', 'Python-2.0']);

interface LockEntry {
  readonly license?: string;
  readonly dev?: boolean;
  readonly devOptional?: boolean;
}

/** An SPDX expression without nesting: every part of AND, one part of OR. */
function allowed(expression: string, isTool: boolean): boolean {
  const accepts = (name: string) => COMPATIBLE.has(name) || (isTool && TOOL_ONLY.has(name));
  const alternatives = expression.replace(/[()]/g, '').split(' OR ');
  return alternatives.some((alternative) => alternative.split(' AND ').every((name) => accepts(name.trim())));
}

/** The package's own word where it is installed, the lock file's for other platforms' packages. */
function licenseOf(path: string, entry: LockEntry): string {
  const manifest = `${path}/package.json`;
  if (!existsSync(manifest)) return entry.license ?? 'none named';
  const { license } = JSON.parse(readFileSync(manifest, 'utf8')) as { license?: string };
  return license ?? entry.license ?? 'none named';
}

const lock = JSON.parse(readFileSync('package-lock.json', 'utf8')) as { packages: Record<string, LockEntry> };
const packages = Object.entries(lock.packages).filter(([path]) => path !== '');

test('every dependency has a license that goes with GPL-2.0-or-later', () => {
  const unfit = packages.flatMap(([path, entry]) => {
    const license = licenseOf(path, entry);
    const isTool = entry.dev === true || entry.devOptional === true;
    return allowed(license, isTool) ? [] : [`${path.replace('node_modules/', '')}: ${license}`];
  });
  expect(packages.length).toBeGreaterThan(10);
  expect(unfit).toEqual([]);
});
