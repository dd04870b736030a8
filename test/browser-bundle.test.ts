// The core bundles for a browser as it is: without a stand-in for anything of Node's.

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type BuildResult, build, type Metafile } from 'esbuild';
import { beforeAll, describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const ENTRIES = [
  'src/boot/session.ts',
  'src/boot/verify.ts',
  'src/trace/kernel-names.ts',
  'src/report/report-model.ts',
  'src/report/json.ts',
  'src/report/table.ts',
  'src/report/html.ts',
  'src/explorer/worker.ts',
];
/** zstddec takes Node's class only where there is no `fetch`. */
const GUARDED = [`WebAssembly.instantiate(free_Buffer.from(wasm, "base64"`];

describe('the core in a browser', () => {
  let result: BuildResult & { metafile: Metafile };

  beforeAll(async () => {
    result = await build({
      absWorkingDir: ROOT,
      stdin: {
        contents: ENTRIES.map((path) => `export * from './${path}';`).join('\n'),
        resolveDir: ROOT,
      },
      bundle: true,
      platform: 'browser',
      format: 'esm',
      minifySyntax: true,
      minifyWhitespace: true,
      outfile: 'core.js',
      write: false,
      metafile: true,
      // What a page brings along by itself, and what the checkout uses of itself.
      external: ['iced-x86', 'node:*'],
      logLevel: 'silent',
    });
  });

  const inputs = (): [string, Metafile['inputs'][string]][] => Object.entries(result.metafile.inputs);

  it('imports nothing of Node', () => {
    const found = inputs().flatMap(([name, { imports }]) =>
      imports.filter(({ path }) => path.startsWith('node:')).map(({ path }) => `${name} imports ${path}`),
    );
    expect(found).toEqual([]);
  });

  it('holds every room of the core, and no engine that is native code', () => {
    const names = inputs().map(([name]) => name);
    for (const room of [
      'boot',
      'trace',
      'report',
      'debug',
      'machine',
      'decompressor',
      'image',
      'codecs',
      'x86',
    ])
      expect(
        names.some((name) => name.startsWith(`src/${room}/`)),
        room,
      ).toBe(true);
    expect(names).not.toContain('src/cpu/native.ts');
    expect(names).not.toContain('src/cpu/find-library.ts');
    expect(names).not.toContain('src/host/node.ts');
  });

  it.each(['Buffer', 'process', 'require', '__dirname'])('has no bare %s', async (name) => {
    const marker = `free_${name}`;
    const { outputFiles } = await build({
      stdin: { contents: result.outputFiles![0]!.text, loader: 'js' },
      define: { [name]: marker },
      bundle: false,
      write: false,
      logLevel: 'silent',
    });
    const found = [...outputFiles[0]!.text.matchAll(new RegExp(`.{0,60}\\b${marker}\\b.{0,20}`, 'g'))].map(
      ([text]) => text,
    );
    expect(found.filter((text) => !GUARDED.some((known) => text.includes(known)))).toEqual([]);
  });
});

describe('the static page', () => {
  it('is not built without an engine, and says so in a sentence', () => {
    const { status, stderr } = spawnSync(process.execPath, ['--import', 'tsx', 'scripts/build-web.mjs'], {
      cwd: ROOT,
      encoding: 'utf8',
      env: { ...process.env, BOOTSCOPE_UNICORN_JS: '/nowhere/unicorn.js' },
    });
    expect({ status, stderr }).toEqual({
      status: 2,
      stderr: 'build:web: BOOTSCOPE_UNICORN_JS names /nowhere/unicorn.js, which does not exist\n',
    });
  });
});
