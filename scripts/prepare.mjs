// What npm runs after it has installed the packages of a checkout, also of one that it installs from git: the build, where the
// tools for it are there.

import { createRequire } from 'node:module';

try {
  createRequire(import.meta.url).resolve('esbuild');
} catch {
  console.error('bootscope: the development packages are left out, so dist/ is not built');
  process.exit(0);
}
await import('./build.mjs');
