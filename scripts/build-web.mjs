// Makes dist/web/: the explorer as plain files for any web server, and as one file that a browser opens from the disk. The machine
// runs in a worker on the WASM engine, which is taken from where the command takes it.

import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { findWasmEngine } from '../src/cpu/wasm-file.ts';
import { kindStyles } from '../src/report/region-kinds.ts';
import { bundleStaticExplorer } from './bundle-page.mjs';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));
const OUT = 'dist/web';
const DEMO = 'images/demo/demo-gzip.bzImage';
const require = createRequire(import.meta.url);

const engine = findWasmEngine();
if (engine === null || !existsSync(engine)) {
  process.stderr.write(
    engine === null
      ? 'build:web: there is no WASM engine to put into the page: npm install @alexaltea/unicorn-js, or name a build of Unicorn.js in BOOTSCOPE_UNICORN_JS\n'
      : `build:web: BOOTSCOPE_UNICORN_JS names ${engine}, which does not exist\n`,
  );
  process.exit(2);
}

const worker = await bundleWorker(engine);
const page = await bundleStaticExplorer();
const style = page.style + kindStyles();
const demo = (await readFile(DEMO)).toString('base64');

await rm(OUT, { recursive: true, force: true });
await mkdir(OUT, { recursive: true });
// The worker takes over the page's policy, and its libraries load their code from data: addresses.
const files = {
  'index.html': html({
    policy: ["script-src 'self' 'wasm-unsafe-eval'", "style-src 'self'", "connect-src 'self' data:"],
    head: '<link rel="stylesheet" href="explorer.css">',
    body:
      '<template id="worker" data-source="worker.js"></template>\n<template id="demo" data-source="demo.txt"></template>\n' +
      '<script type="module" src="explorer.js"></script>',
  }),
  'explorer.js': page.script,
  'explorer.css': style,
  'worker.js': worker,
  'demo.txt': demo,
  'bootscope-explorer.html': html({
    policy: [
      `script-src '${hashSource(inert(page.script))}' 'wasm-unsafe-eval'`,
      `style-src '${hashSource(style)}'`,
      'connect-src data:',
    ],
    head: `<style>${style}</style>`,
    body:
      `<script type="text/plain" id="worker">${inert(worker)}</script>\n<script type="text/plain" id="demo">${demo}</script>\n` +
      `<script type="module">${inert(page.script)}</script>`,
  }),
};
for (const [name, text] of Object.entries(files)) await writeFile(join(OUT, name), text);
process.stdout.write(
  Object.entries(files)
    .map(([name, text]) => `${join(OUT, name)}  ${Math.ceil(Buffer.byteLength(text) / 1024)} KiB\n`)
    .join(''),
);

/** Core, disassembler and engine as one script. */
async function bundleWorker(unicorn) {
  const { outputFiles } = await build({
    stdin: {
      contents:
        "import * as iced from 'iced-x86'; import unicorn from '#unicorn'; import { startWorker } from './src/explorer/worker.ts'; startWorker({ iced, unicorn });",
      resolveDir: '.',
    },
    bundle: true,
    platform: 'browser',
    format: 'iife',
    target: ['chrome123', 'firefox120', 'safari17.5'],
    charset: 'ascii',
    minify: true,
    legalComments: 'none',
    logLevel: 'warning',
    write: false,
    plugins: [disassembler(), unicornModule(resolve(unicorn))],
  });
  return outputFiles[0].text;
}

/** iced-x86 is made for Node: it reads its code from a file beside it, and has its text coders from `util`. */
function disassembler() {
  return {
    name: 'iced-x86',
    setup({ onResolve, onLoad }) {
      const entry = require.resolve('iced-x86');
      onResolve({ filter: /^iced-x86$/ }, () => ({ path: entry }));
      onLoad({ filter: /iced_x86\.js$/ }, async ({ path }) => {
        const code = (await readFile(join(path, '../iced_x86_bg.wasm'))).toString('base64');
        const script = (await readFile(path, 'utf8'))
          .replace(/^const \{ TextDecoder, TextEncoder \} = require\(`util`\);$/m, '')
          .replace(/^const path = require\('path'\).*$/m, '')
          .replace(
            /^const bytes = require\('fs'\).*$/m,
            `const bytes = Uint8Array.from(atob('${code}'), (character) => character.charCodeAt(0));`,
          );
        if (/\brequire\(['`]/.test(script.replace(/^\s*\*.*$/gm, '')))
          throw new Error('iced-x86 loads itself in an unknown way');
        return { contents: script, loader: 'js' };
      });
    },
  };
}

/** The script of Unicorn.js with what it asks of Node left out: Emscripten's code asks for it only where it runs on Node. */
function unicornModule(file) {
  return {
    name: 'unicorn-js',
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /^#unicorn$/ }, () => ({ path: file, namespace: 'unicorn' }));
      onLoad({ filter: /.*/, namespace: 'unicorn' }, async ({ path }) => ({
        contents: await readFile(path, 'latin1'),
        loader: 'js',
      }));
      onResolve({ filter: /.*/, namespace: 'unicorn' }, ({ path }) => ({ path, namespace: 'nothing' }));
      onLoad({ filter: /.*/, namespace: 'nothing' }, () => ({ contents: '', loader: 'js' }));
    },
  };
}

/** A script as the text of an element: nothing in it may end that. */
function inert(script) {
  return script.replace(/<\/(script)/gi, '<\\/$1').replace(/<!--/g, '<\\!--');
}

function hashSource(text) {
  return `sha256-${createHash('sha256').update(text).digest('base64')}`;
}

function html({ policy, head, body }) {
  const all = [
    "default-src 'none'",
    ...policy,
    'worker-src blob:',
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
  ];
  return (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n' +
    `<meta http-equiv="Content-Security-Policy" content="${all.join('; ')}">\n` +
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="referrer" content="no-referrer">\n' +
    `<title>Bootscope explorer</title>\n<link rel="icon" href="data:,">\n${head}\n</head>\n<body>\n` +
    `<noscript>The explorer needs JavaScript.</noscript>\n${body}\n</body>\n</html>\n`
  );
}
