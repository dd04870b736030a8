// Of `npm run mutate`: the tests that the job names, over sources that hold all of its mutants, each to be switched on.

import { readFileSync } from 'node:fs';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import { common } from '../../vitest.config.ts';
import { JOB_VARIABLE, type Job } from './job.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const job: Job = JSON.parse(readFileSync(process.env[JOB_VARIABLE] ?? '', 'utf8'));
const pathOf = (name: string) => relative(root, name);

class InOrder extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId }: TestSpecification) => job.tests.indexOf(pathOf(moduleId));
    return files.toSorted((a, b) => place(a) - place(b));
  }
}

export default defineConfig({
  root,
  plugins: [
    {
      name: 'mutants',
      enforce: 'pre',
      transform: (_code, id) => job.sources[pathOf(id)] ?? null,
    },
  ],
  test: {
    ...common,
    include: [...job.tests],
    runner: fileURLToPath(new URL('runner.ts', import.meta.url)),
    sequence: { sequencer: InOrder },
    // What mutants print and throw too late is no failure of the run.
    silent: true,
    dangerouslyIgnoreUnhandledErrors: true,
  },
});
