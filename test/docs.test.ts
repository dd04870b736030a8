// Every command of README and docs does what is printed there. `UPDATE_DOCS=1` writes the outputs anew, to be reviewed in the diff.

import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { transformSync } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildCommand } from './command.ts';
import {
  commandsOf,
  comparable,
  documents,
  missingFile,
  prepareFolder,
  readDocument,
  runCommand,
  writeExample,
} from './docs-commands.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const update = process.env['UPDATE_DOCS'] === '1';

beforeAll(buildCommand);

for (const document of documents()) {
  const commands = commandsOf(readDocument(document));
  if (commands.length === 0) continue;
  describe(document, () => {
    let folder = '';
    beforeAll(() => {
      folder = mkdtempSync(join(tmpdir(), 'bootscope-docs-'));
      prepareFolder(folder);
    });
    let text = readDocument(document);
    let grown = 0;
    afterAll(() => {
      rmSync(folder, { recursive: true, force: true });
      if (update) writeFileSync(join(ROOT, document), text);
    });
    for (const [index, command] of commands.entries()) {
      const missing = missingFile(command);
      const why = missing === null ? '' : ` (skipped: ${missing} is not in images/cache)`;
      it.skipIf(missing !== null)(
        `${index + 1}: ${command.command.replace(/\s*\\\n\s*/g, ' ')}${why}`,
        () => {
          const { status, output } = runCommand(folder, command);
          expect([0, 1], output).toContain(status);
          if (command.output === null) return;
          if (update && comparable(output) !== comparable(command.output)) {
            text = text.slice(0, command.start + grown) + output + text.slice(command.end + grown);
            grown += output.length - command.output.length;
            return;
          }
          expect(comparable(output)).toBe(comparable(command.output));
        },
      );
    }
  });
}

/** Of docs/library.md, and behind `@example` in the docstrings of what is public. */
function examples(): readonly { readonly title: string; readonly code: string }[] {
  const inDocument = [...readDocument('docs/library.md').matchAll(/^```ts\n(.*?)^```$/gms)].map(
    ([, code], index) => ({ title: `docs/library.md, ${index + 1}`, code: code! }),
  );
  const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts'),
  );
  const inDocstrings = sources.flatMap((name) =>
    [...readFileSync(join(ROOT, 'src', name), 'utf8').matchAll(/@example\n \* ```ts\n(.*?)^ \* ```$/gms)].map(
      ([, code]) => ({ title: `src/${name}`, code: code!.replace(/^ \* ?/gm, '') }),
    ),
  );
  return [...inDocument, ...inDocstrings];
}

/** Runs each `TITLE=FILE` of its arguments, in one process, since starting one takes longer than an example. */
const RUNNER = `
let ran = 0;
for (const [title, file] of process.argv.slice(2).map((word) => word.split('='))) {
  try {
    await import(file);
    ran++;
  } catch (error) {
    console.log('failed: ' + title + ': ' + error);
  }
}
console.log(ran + ' ran');
`;

describe('the examples of docs/library.md and of the API reference', () => {
  // Inside the checkout, where `bootscope` is the package itself.
  const folder = join(ROOT, 'images/cache/library-examples');
  const blocks = examples();
  const isTest = (code: string): boolean => code.includes("from 'vitest'");
  beforeAll(() => {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    prepareFolder(folder);
    for (const [index, { code }] of blocks.entries()) {
      writeExample(folder, `example-${index}${isTest(code) ? '.spec' : ''}.ts`, code);
      const { code: script } = transformSync(code, { loader: 'ts', format: 'esm', target: 'node20' });
      writeExample(folder, `example-${index}.mjs`, script);
    }
    writeFileSync(join(folder, 'all.mjs'), RUNNER);
    const compilerOptions = {
      ...{ target: 'ES2023', module: 'nodenext', strict: true, noEmit: true, types: ['node'] },
      ...{ exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, skipLibCheck: true },
      lib: ['ES2023', 'ESNext.Disposable'],
    };
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*.ts'] }));
    writeFileSync(join(folder, 'vitest.config.ts'), 'export default { test: { include: ["*.spec.ts"] } };\n');
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const run = (command: string, ...args: readonly string[]) => {
    const ended = spawnSync(process.execPath, [command, ...args], {
      cwd: folder,
      encoding: 'utf8',
    });
    return { status: ended.status, output: ended.stdout + ended.stderr };
  };

  it('compile under the strictest rules', () => {
    expect(run(join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', '.')).toMatchObject({
      status: 0,
      output: '',
    });
  });

  it('are there for every way in and every kind of question', () => {
    const ways = new Set(blocks.flatMap(({ code }) => code.match(/(?<=from ')bootscope[^']*/g) ?? []));
    expect(ways.size).toBeGreaterThanOrEqual(5);
    expect(blocks.length).toBeGreaterThan(12);
  });

  it('run', () => {
    const hasEsp = existsSync(join(folder, 'esp'));
    const scripts = [...blocks.entries()].filter(
      ([, { code }]) => !isTest(code) && (hasEsp || !code.includes('openEsp(')),
    );
    const ended = run(
      join(folder, 'all.mjs'),
      ...scripts.map(([index, { title }]) => `${title}=./example-${index}.mjs`),
    );
    expect(ended.output.match(/^(failed: .*|Assertion failed.*)$/gm) ?? []).toEqual([]);
    expect(ended).toMatchObject({ status: 0, output: expect.stringContaining(`${scripts.length} ran`) });
  });

  it('are tests that pass where they are tests', () => {
    const ended = run(join(ROOT, 'node_modules/vitest/vitest.mjs'), 'run', '--root', '.');
    expect(ended.status, ended.output).toBe(0);
  });
});
