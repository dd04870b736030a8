// Of `npm run mutate`: the tests beside the sources, and those that run no command of their own, which would run what was built.

import { defineConfig } from 'vitest/config';
import config from '../vitest.config.ts';

export default defineConfig({
  ...config,
  root: new URL('..', import.meta.url).pathname,
  test: { ...config.test, include: ['src/**/*.test.ts', 'test/golden.test.ts', 'test/boot-matrix.test.ts'] },
});
