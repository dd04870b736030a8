// `npm run docs:api`: the API reference of the library, Markdown in docs/api/, made of the declarations in dist/types by API
// Extractor, a folder for each way in. What is public and has no docstring, or one that cannot be read, ends it with status 1.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Extractor, ExtractorConfig } from '@microsoft/api-extractor';

const root = fileURLToPath(new URL('..', import.meta.url));
const output = join(root, 'docs/api');
const documenter = join(root, 'node_modules/.bin/api-documenter');

/** Said of much that is no fault here: types that are only reached through others, releases that are not told apart. */
const UNIMPORTANT = ['ae-forgotten-export', 'ae-missing-release-tag', 'ae-unresolved-link'];

const { exports: entries } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const scratch = mkdtempSync(join(tmpdir(), 'bootscope-api-'));
const complaints = new Set();
try {
  rmSync(output, { recursive: true, force: true });
  mkdirSync(output, { recursive: true });
  const ways = Object.entries(entries).filter(([, { types }]) => types !== undefined);
  for (const [way, { types }] of ways) extract(way, join(root, types));
  const list = ways.map(([way]) => `- [\`${importName(way)}\`](./${folderName(way)}/index.md)\n`);
  writeFileSync(join(output, 'README.md'), `# API reference\n\n${list.join('')}`);
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
for (const complaint of complaints) process.stderr.write(`docs:api: ${complaint}\n`);
process.exitCode = complaints.size === 0 ? 0 : 1;

/** `./engine/native` is imported as `bootscope/engine/native`. */
function importName(way) {
  return `bootscope${way.slice(1)}`;
}

function folderName(way) {
  return way === '.' ? 'bootscope' : way.slice(2).replaceAll('/', '-');
}

function extract(way, mainEntryPointFilePath) {
  const name = folderName(way);
  const model = join(scratch, name);
  mkdirSync(model);
  const config = ExtractorConfig.prepare({
    configObjectFullPath: join(root, 'api-extractor.json'),
    packageJsonFullPath: join(root, 'package.json'),
    configObject: {
      projectFolder: root,
      mainEntryPointFilePath,
      compiler: {
        overrideTsconfig: {
          compilerOptions: {
            ...{ target: 'ES2023', module: 'nodenext', moduleResolution: 'nodenext', strict: true },
            ...{ lib: ['ES2023', 'ESNext.Disposable'], types: ['node'], skipLibCheck: true },
          },
          files: [mainEntryPointFilePath],
        },
      },
      apiReport: { enabled: false },
      dtsRollup: { enabled: false },
      tsdocMetadata: { enabled: false },
      docModel: { enabled: true, apiJsonFilePath: join(model, `${name}.api.json`) },
    },
  });
  Extractor.invoke(config, {
    localBuild: true,
    messageCallback(message) {
      message.handled = true;
      if (message.logLevel !== 'warning' && message.logLevel !== 'error') return;
      if (UNIMPORTANT.includes(message.messageId)) return;
      complaints.add(`${importName(way)}: ${message.text.replace(/\s+/g, ' ')} (${message.messageId})`);
    },
  });
  const { members } = JSON.parse(readFileSync(join(model, `${name}.api.json`), 'utf8'));
  for (const silent of withoutDocstring(members[0].members)) {
    complaints.add(`${importName(way)}: ${silent} has no docstring`);
  }
  const made = spawnSync(documenter, ['markdown', '-i', model, '-o', join(output, name)], {
    encoding: 'utf8',
  });
  if (made.status !== 0)
    complaints.add(`${importName(way)}: api-documenter failed: ${made.stdout}${made.stderr}`);
}

/** What is exported and says nothing of itself; fields and methods may leave it to their names. */
function withoutDocstring(members) {
  return members.filter(({ docComment }) => docComment === '').map(({ name }) => name);
}
