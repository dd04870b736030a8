// `npm run mutate -- ROOM…`: changes the sources of a room, one small thing at a time, and looks whether a test notices (Stryker).
// A full run takes days, so a seeded sample is drawn: --sample N (50), --seed S (1). What was found is kept in node_modules/.mutation,
// and the same call goes on from there; --minutes M ends it in time. `--changed [BASE]` draws from the files that differ from BASE
// (main). Prints how many were noticed, with the 95 % interval for all of the room, and each that was not.

import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createInstrumenter } from '@stryker-mutator/instrumenter';
import { createInjector } from 'typed-inject';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));

const FOLDER = 'node_modules/.mutation';
/** Each run of Stryker begins with all tests of what it changes; this many changes are tried behind it. */
const AT_ONCE = 25;
/** Sentences may be reworded; what they say is for people. */
const EXCLUDED = ['StringLiteral'];
/** The quantile of the normal distribution for 95 %. */
const Z = 1.96;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    sample: { type: 'string', default: '50' },
    seed: { type: 'string', default: '1' },
    minutes: { type: 'string', default: '480' },
    changed: { type: 'boolean', default: false },
  },
});
const [sample, minutes] = [Number(values.sample), Number(values.minutes)];
if (!(sample > 0) || !(minutes > 0) || (positionals.length === 0 && !values.changed)) {
  process.stderr.write(
    'mutate: npm run mutate -- ROOM… [--sample N] [--seed S] [--minutes M], or --changed [BASE]\n',
  );
  process.exit(2);
}
const until = Date.now() + minutes * 60_000;

mkdirSync(FOLDER, { recursive: true });
let ended = true;
if (values.changed) {
  const base = positionals[0] ?? 'main';
  const names = execFileSync('git', ['diff', '--name-only', '--diff-filter=d', base, '--', 'src'], {
    encoding: 'utf8',
  });
  ended = await tryRoom('changed', names.split('\n').filter(isSource));
} else {
  for (const room of positionals) {
    const files = readdirSync(join('src', room), { recursive: true, encoding: 'utf8' });
    ended = (await tryRoom(room, files.map((name) => join('src', room, name)).filter(isSource))) && ended;
  }
}
if (!ended) process.stdout.write('not all were tried; the same call goes on\n');

/** Sources without tests, what only they use, and pages, which have tests in a browser. */
function isSource(path) {
  return path.endsWith('.ts') && !/(\.d\.ts|\.test\.ts|\/page\/.*|\/(test|each)-[^/]*)$/.test(path);
}

async function tryRoom(name, files) {
  const drawn = draw(await mutantsOf(files), sample);
  const path = join(FOLDER, `${name}-${values.seed}.json`);
  const known = readKnown(path);
  const left = () => drawn.filter(({ key }) => known[key] === undefined);
  while (left().length > 0 && Date.now() < until) {
    const found = runStryker(left().slice(0, AT_ONCE));
    if (found === null) break;
    Object.assign(known, found);
    writeFileSync(path, `${JSON.stringify(known, null, 1)}\n`);
  }
  tell(name, drawn, known);
  return left().length === 0;
}

/** All that could be changed in the files, as Stryker sees it. */
async function mutantsOf(paths) {
  const quiet = () => {};
  const logger = {
    isDebugEnabled: () => false,
    debug: quiet,
    info: quiet,
    warn: quiet,
    error: quiet,
    trace: quiet,
  };
  const instrumenter = createInstrumenter(createInjector().provideValue('logger', logger));
  const files = paths.map((name) => ({ name, mutate: true, content: readFileSync(name, 'utf8') }));
  const options = { plugins: null, excludedMutations: EXCLUDED, ignorers: [] };
  const { mutants } = await instrumenter.instrument(files, options);
  // Stryker's own API counts lines from 0.
  const place = ({ line, column }) => `${line + 1}:${column}`;
  return mutants
    .filter(({ status }) => status !== 'Ignored')
    .map(({ fileName, location: { start, end }, mutatorName, replacement }) => ({
      range: `${fileName}:${place(start)}-${place(end)}`,
      key: `${fileName}:${place(start)} ${mutatorName}: ${replacement.replace(/\s+/g, ' ')}`,
    }));
}

/** The first `count` in an order that the seed decides, and nothing else about where they stand. */
function draw(mutants, count) {
  const rank = ({ key }) => createHash('sha256').update(`${values.seed} ${key}`).digest('hex');
  return mutants
    .map((mutant) => ({ ...mutant, rank: rank(mutant) }))
    .toSorted((a, b) => (a.rank < b.rank ? -1 : 1))
    .slice(0, count);
}

function readKnown(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return {};
  }
}

/** What became of each mutant, by its key; null where the run did not come to an end. */
function runStryker(mutants) {
  const report = join(FOLDER, 'report.json');
  const config = join(FOLDER, 'config.json');
  rmSync(report, { force: true });
  writeFileSync(
    config,
    JSON.stringify({
      mutate: [...new Set(mutants.map(({ range }) => range))],
      mutator: { excludedMutations: EXCLUDED },
      testRunner: 'vitest',
      vitest: { configFile: 'scripts/vitest.mutate.config.ts' },
      plugins: ['@stryker-mutator/vitest-runner'],
      coverageAnalysis: 'perTest',
      reporters: ['json'],
      jsonReporter: { fileName: report },
      ignorePatterns: ['dist', 'images/cache', 'docs/api', 'coverage'],
      disableTypeChecks: false,
      // Stryker would rewrite its paths by an interface that TypeScript 7 does not have; there are none.
      tsconfigFile: 'none',
      concurrency: 2,
      timeoutMS: 20_000,
      dryRunTimeoutMinutes: 60,
      allowEmpty: true,
      cleanTempDir: 'always',
      tempDirName: '.stryker-tmp',
    }),
  );
  const { status } = spawnSync('node_modules/.bin/stryker', ['run', config], {
    stdio: ['ignore', 'inherit', 'inherit'],
    timeout: Math.max(1, until - Date.now()),
  });
  rmSync('.stryker-tmp', { recursive: true, force: true });
  if (status !== 0 || !existsSync(report)) return null;
  const { files } = JSON.parse(readFileSync(report, 'utf8'));
  const found = {};
  for (const [file, { mutants: tried }] of Object.entries(files)) {
    for (const { location, mutatorName, replacement, status: what } of tried) {
      const { line, column } = location.start;
      found[`${file}:${line}:${column - 1} ${mutatorName}: ${replacement.replace(/\s+/g, ' ')}`] = what;
    }
  }
  // One that Stryker does not tell of cannot be tried: it is told of as that.
  return Object.fromEntries(mutants.map(({ key }) => [key, found[key] ?? 'Unknown']));
}

function tell(name, drawn, known) {
  const by = (...statuses) => drawn.filter(({ key }) => statuses.includes(known[key]));
  const noticed = by('Killed', 'Timeout');
  const missed = by('Survived', 'NoCoverage');
  const tried = noticed.length + missed.length;
  if (tried > 0) {
    const [low, high] = interval(noticed.length, tried);
    const percent = (share) => `${(share * 100).toFixed(0)} %`;
    process.stdout.write(
      `${name}: ${noticed.length} of ${tried} noticed, ${percent(noticed.length / tried)} (${percent(low)} to ${percent(high)})\n`,
    );
  }
  for (const { key } of missed) process.stdout.write(`  ${known[key]}: ${key}\n`);
  const untried = by('Unknown', 'RuntimeError', 'CompileError', 'Ignored');
  if (untried.length > 0) process.stdout.write(`  ${untried.length} could not be tried\n`);
}

/** Wilson's interval for a share. */
function interval(count, of) {
  const share = count / of;
  const middle = (share + (Z * Z) / (2 * of)) / (1 + (Z * Z) / of);
  const half = (Z / (1 + (Z * Z) / of)) * Math.sqrt((share * (1 - share)) / of + (Z * Z) / (4 * of * of));
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}
