// Every command of README and docs does what is printed there. `UPDATE_DOCS=1` writes the outputs anew, to be reviewed in the diff.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
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
    const folder = mkdtempSync(join(tmpdir(), 'bootscope-docs-'));
    prepareFolder(folder);
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

describe('the examples of docs/library.md', () => {
  // Inside the checkout, where `bootscope` is the package itself.
  const folder = join(ROOT, 'images/cache/library-examples');
  const blocks = [...readDocument('docs/library.md').matchAll(/^```ts\n(.*?)^```$/gms)].map(
    ([, code]) => code!,
  );
  beforeAll(() => {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    prepareFolder(folder);
    for (const [index, code] of blocks.entries()) {
      writeExample(folder, `example-${index}${code.includes("from 'vitest'") ? '.spec' : ''}.ts`, code);
    }
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
    const ended = spawnSync(process.execPath, [join(ROOT, command), ...args], {
      cwd: folder,
      encoding: 'utf8',
    });
    return { status: ended.status, output: ended.stdout + ended.stderr };
  };

  it('compile under the strictest rules', () => {
    expect(run('node_modules/typescript/bin/tsc', '-p', '.')).toMatchObject({ status: 0, output: '' });
  });

  it.each(blocks.map((code, index) => [index, code.split('\n')[0]!] as const))('%i runs: %s', (index) => {
    const isTest = blocks[index]!.includes("from 'vitest'");
    const ended = isTest
      ? run('node_modules/vitest/vitest.mjs', 'run', '--root', '.', `example-${index}.spec.ts`)
      : run('node_modules/tsx/dist/cli.mjs', `example-${index}.ts`);
    expect(ended.status, ended.output).toBe(0);
  });
});
