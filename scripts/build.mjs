// Bundles src/ into dist/: the `bootscope` command, the library, and the library's types.
//
// Code that only some commands need is imported dynamically in src/, so that it runs only where it is needed.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { chmod, mkdir, readdir, readFile, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { bundleExplorer, bundlePage } from './bundle-page.mjs';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));

const { exports: paths } = JSON.parse(await readFile('package.json', 'utf8'));
/** The library's entry points, as package.json names them: `./dist/x.js` is made of `src/x.ts`. */
const libraryEntries = Object.fromEntries(
  Object.values(paths)
    .filter((path) => path.default !== undefined)
    .map(({ default: file }) => [file.slice('./dist/'.length, -'.js'.length), sourceOf(file)]),
);
const commandEntry = 'src/cli/main.ts';
const launcherEntry = 'src/cli/launcher.ts';
for (const source of [...Object.values(libraryEntries), commandEntry, launcherEntry]) {
  if (!existsSync(source)) throw new Error(`${source} is missing`);
}

/** What few commands need, in files of their own beside the command: reading it would slow every start. */
const PACKAGES_APART = {
  pako: 'packages/pako',
  ws: 'packages/ws',
  'xz-decompress': 'packages/xz-decompress',
  zstddec: 'packages/zstddec',
};
const startedAt = new Date();
const types = emitTypes();

const common = {
  // esbuild has kept the folder that the process was started in.
  absWorkingDir: process.cwd(),
  outdir: 'dist',
  bundle: true,
  platform: 'node',
  target: 'node20',
  // Native code, and packages that are there or not: loaded from node_modules when they are needed.
  external: ['koffi', '@alexaltea/unicorn-js', 'iced-x86', 'seek-bzip', 'vitest'],
  // Less to read at each start.
  minifyWhitespace: true,
  legalComments: 'linked',
  logLevel: 'warning',
  write: false,
};
const pages = { page: await bundlePage(), explorer: await bundleExplorer() };

/** The command is one CommonJS file: Node starts it faster than modules, and V8 can cache its code as a whole. */
const command = {
  ...common,
  format: 'cjs',
  outExtension: { '.js': '.cjs' },
  define: {
    BOOTSCOPE_PAGE_ASSETS: 'pages.page',
    BOOTSCOPE_EXPLORER_ASSETS: 'pages.explorer',
    'import.meta.url': 'thisModule.url',
  },
  banner: {
    js:
      "const thisModule = { get url() { return require('node:url').pathToFileURL(__filename).href; } };" +
      "const pages = { get page() { return require('./page.json'); }, get explorer() { return require('./explorer.json'); } };",
  },
  plugins: [lazyBuiltins(), packagesApart()],
};
const results = await Promise.all([
  build({
    ...common,
    entryPoints: libraryEntries,
    format: 'esm',
    splitting: true,
    chunkNames: 'chunks/[name]-[hash]',
    define: {
      BOOTSCOPE_PAGE_ASSETS: JSON.stringify(pages.page),
      BOOTSCOPE_EXPLORER_ASSETS: JSON.stringify(pages.explorer),
    },
    // CommonJS packages in the bundle ask for Node's own modules through `require`.
    banner: { js: "import { createRequire as r } from 'node:module'; const require = r(import.meta.url);" },
  }),
  build({ ...command, entryPoints: { command: commandEntry } }),
  build({
    ...common,
    entryPoints: Object.fromEntries(Object.entries(PACKAGES_APART).map(([name, file]) => [file, name])),
    format: 'cjs',
    outExtension: { '.js': '.cjs' },
  }),
  build({
    ...common,
    entryPoints: { bootscope: launcherEntry },
    format: 'cjs',
    outExtension: { '.js': '.cjs' },
    banner: { js: '#!/usr/bin/env node' },
  }),
]).catch(() => {
  // esbuild has printed what is wrong.
  process.exit(1);
});

// Each file is renamed into place, so that a command that starts meanwhile never reads half of one.
const written = new Set();
for (const file of results.flatMap(({ outputFiles }) => outputFiles)) {
  const { path } = file;
  const name = relative('dist', path);
  const text = name === 'command.cjs' ? forLauncher(file.text) : file.text;
  await mkdir(dirname(path), { recursive: true });
  await writeFile(`${path}.new`, text);
  if (name === 'bootscope.cjs') await chmod(`${path}.new`, 0o755);
  await rename(`${path}.new`, path);
  written.add(name);
}
for (const [name, assets] of Object.entries(pages))
  await writeFile(`dist/${name}.json`, JSON.stringify(assets));
for (const file of await readdir('dist', { recursive: true })) {
  // Of scripts/build-web.mjs.
  if (/^web\b/.test(file)) continue;
  if (/(\.(c?js|txt|new|cache)|^\.build-stamp)$/.test(file) && !written.has(file))
    await rm(join('dist', file), { force: true });
}

writeFileSync('dist/bootscope.1', execFileSync(process.execPath, ['dist/bootscope.cjs', 'manual']));

// Declarations come out even of code that fails the type check; failing is that check's part.
if (!(await types)) process.stderr.write('build: the type check fails; see "npm run check"\n');

// The stamp carries the time at which the build began: what changes while it runs is newer and builds again.
if (existsSync('node_modules')) {
  await writeFile('node_modules/.build-stamp.new', '');
  await utimes('node_modules/.build-stamp.new', startedAt, startedAt);
  await rename('node_modules/.build-stamp.new', 'node_modules/.build-stamp');
}

function sourceOf(file) {
  return file.replace(/^\.\/dist\/(.*)\.js$/, 'src/$1.ts');
}

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

/** The command as its launcher takes it: a function, all ASCII, with the launcher's `importModule` for `import`. */
function forLauncher(text) {
  if (/[^\0-\x7f]/.test(text)) throw new Error('command.cjs is not all ASCII');
  const parameters = 'exports,require,module,__filename,__dirname,importModule';
  return `(function(${parameters}){${text.replaceAll(/\bimport\(/g, 'importModule(')}\n})\n`;
}

function packagesApart() {
  return {
    name: 'packages-apart',
    setup({ onResolve }) {
      onResolve({ filter: /^[a-z-]+$/ }, ({ path }) =>
        PACKAGES_APART[path] === undefined
          ? undefined
          : { path: `./${PACKAGES_APART[path]}.cjs`, external: true },
      );
    },
  };
}

/**
 * Loads Node's modules when one of their exports is used: those that only some commands need (child_process for commander's
 * commands in files of their own, crypto for hashes) take longer to load than the command itself.
 */
function lazyBuiltins() {
  const namespace = 'lazy-builtin';
  return {
    name: namespace,
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /^node:/ }, ({ path }) => ({ path, namespace }));
      // Behind a prototype, which esbuild does not go through name by name for each file that imports the module.
      onLoad({ filter: /.*/, namespace }, ({ path }) => ({
        contents: `module.exports = Object.create(new Proxy({}, { get: (_, name) => process.getBuiltinModule('${path}')[name] }));`,
      }));
    },
  };
}
