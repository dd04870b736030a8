// Bundles src/ into dist/: the `bootscope` command, the library, and the library's types.
//
// Code that only some commands need is imported dynamically in src/ and stays a chunk of its own here, so
// that starting the command loads little.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdir, readdir, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { bundlePage } from './bundle-page.mjs';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));

const entryPoints = { bootscope: 'src/cli/main.ts', index: 'src/index.ts' };
for (const source of Object.values(entryPoints)) {
  if (!existsSync(source)) throw new Error(`${source} is missing`);
}

const startedAt = new Date();
const types = emitTypes();

const result = await build({
  entryPoints,
  outdir: 'dist',
  chunkNames: 'chunks/[name]-[hash]',
  bundle: true,
  splitting: true,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  // Native code, and a package that is there or not: loaded from node_modules when an engine starts.
  external: ['koffi', '@alexaltea/unicorn-js', 'iced-x86', 'seek-bzip'],
  define: { BOOTSCOPE_PAGE_ASSETS: JSON.stringify(await bundlePage()) },
  // CommonJS packages in the bundle ask for Node's own modules through `require`.
  banner: { js: "import { createRequire as r } from 'node:module'; const require = r(import.meta.url);" },
  // Less to read and to parse at each start.
  minifyWhitespace: true,
  legalComments: 'linked',
  logLevel: 'warning',
  write: false,
}).catch(() => {
  // esbuild has printed what is wrong.
  process.exit(1);
});

// Each file is renamed into place, so that a command that starts meanwhile never reads half of one.
const written = new Set();
for (const { path, text } of result.outputFiles) {
  const isCommand = relative('dist', path) === 'bootscope.js';
  await mkdir(dirname(path), { recursive: true });
  await writeFile(`${path}.new`, isCommand && !text.startsWith('#!') ? `#!/usr/bin/env node\n${text}` : text);
  if (isCommand) await chmod(`${path}.new`, 0o755);
  await rename(`${path}.new`, path);
  written.add(relative('dist', path));
}
for (const file of await readdir('dist', { recursive: true })) {
  if (/\.(js|txt|new)$/.test(file) && !written.has(file)) await rm(join('dist', file), { force: true });
}

// Declarations come out even of code that fails the type check; failing is that check's part.
if (!(await types)) process.stderr.write('build: the type check fails; see "npm run check"\n');

// The stamp carries the time at which the build began: what changes while it runs is newer and builds again.
await writeFile('dist/.build-stamp', '');
await utimes('dist/.build-stamp', startedAt, startedAt);

async function emitTypes() {
  const compiler = spawn(
    process.execPath,
    ['node_modules/typescript/bin/tsc', '-p', 'scripts/tsconfig.types.json'],
    {
      stdio: 'ignore',
    },
  );
  const [status] = await once(compiler, 'close');
  return status === 0;
}
