import { defineConfig } from 'vitest/config';

/** They change what their process or its modules are: environment, mocks, exit status, signal handlers. */
const WITH_A_PROCESS_EACH = [
  'src/cli/**/*.test.ts',
  'src/cpu/**/*.test.ts',
  'src/boot/verify.test.ts',
  'src/codecs/system-library.test.ts',
  'test/layout.test.ts',
];

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
          include: ['src/**/*.test.ts', 'firmware/**/*.test.ts', 'test/**/*.test.ts', 'scripts/**/*.test.ts'],
          exclude: WITH_A_PROCESS_EACH,
          // Each file would load the modules anew, which takes a third of a minute in all.
          isolate: false,
        },
      },
      { extends: true, test: { name: 'apart', include: WITH_A_PROCESS_EACH } },
    ],
  },
});
