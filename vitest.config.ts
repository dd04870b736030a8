import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

/** They change what their process or its modules are: environment, mocks, exit status, signal handlers. */
const CHANGES_ITS_PROCESS =
  /\bvi\.(mock|spyOn|stubEnv)\b|\bprocess\.(env\.\w+ = |exitCode)|\bdelete process\.env\b/;
/** A second libunicorn cannot be loaded where another one has been. */
const LOADS_SEVERAL_ENGINES = /\/each-engine\.ts'/;
const APART = /^src\/(cli|cpu)\//;

const tests = ['src', 'firmware', 'test', 'scripts']
  .flatMap((folder) =>
    readdirSync(new URL(folder, import.meta.url), { recursive: true, encoding: 'utf8' }).map((name) =>
      join(folder, name),
    ),
  )
  .filter((name) => name.endsWith('.test.ts'));
const apart = tests.filter((name) => {
  const text = readFileSync(new URL(name, import.meta.url), 'utf8');
  return APART.test(name) || CHANGES_ITS_PROCESS.test(text) || LOADS_SEVERAL_ENGINES.test(text);
});

/** What the tests of both projects have in common, and other runs of them (scripts/mutation). */
export const common = {
  globalSetup: ['test/global-setup.ts'],
  pool: 'forks' as const,
  maxWorkers: 2,
  testTimeout: 600_000,
  hookTimeout: 600_000,
};

export default defineConfig({
  test: {
    ...common,
    projects: [
      {
        extends: true,
        test: {
          name: 'together',
          include: tests.filter((name) => !apart.includes(name)),
          // Each file would load the modules anew, which takes 0.4 s of processor time.
          isolate: false,
        },
      },
      { extends: true, test: { name: 'apart', include: apart } },
    ],
  },
});
