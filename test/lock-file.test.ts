// The lock file serves every system and every registry: it names all optional packages, and no place they come from.

import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

interface LockEntry {
  readonly optional?: boolean;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

const text = readFileSync('package-lock.json', 'utf8');
const { packages } = JSON.parse(text) as { readonly packages: Readonly<Record<string, LockEntry>> };

/** Whether `name` is found from the folder of the package that asks for it, as Node looks for it. */
function isLocked(name: string, from: string): boolean {
  for (let folder = from; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf('/node_modules/')))) {
    if (packages[`${folder === '' ? '' : `${folder}/`}node_modules/${name}`] !== undefined) return true;
    if (folder === '') return false;
    if (!folder.includes('/node_modules/')) return packages[`node_modules/${name}`] !== undefined;
  }
}

test('the lock file has every package that a package asks for, those of other systems, too', () => {
  const missing = Object.entries(packages).flatMap(([folder, { dependencies, optionalDependencies }]) =>
    Object.keys({ ...dependencies, ...optionalDependencies })
      .filter((name) => !isLocked(name, folder))
      .map((name) => `${name}, of ${folder || 'the project'}`),
  );
  expect(missing).toEqual([]);
  expect(Object.keys(packages)).toContain('node_modules/@biomejs/cli-darwin-arm64');
});

test('the engine that not every registry has is locked as optional', () => {
  expect(packages['node_modules/@alexaltea/unicorn-js']).toMatchObject({ optional: true });
});

test('the lock file names no place that packages were downloaded from', () => {
  expect(text).not.toContain('"resolved"');
});
