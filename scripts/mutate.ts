// `npm run mutate -- ROOM…`: changes the sources of a room, one small thing at a time, and looks whether a test notices. The changes
// are Stryker's; a seeded sample of them is tried: --sample N (300), --seed S (1). What was found is kept in node_modules/.mutation,
// and the same call goes on from there; --minutes M ends it in time. `--changed [BASE]` draws from the files that differ from BASE
// (main). Prints how many were noticed, with the 95 % interval for all of the room, and each that was not.

import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createInstrumenter } from '@stryker-mutator/instrumenter';
import { createInjector } from 'typed-inject';
import { JOB_VARIABLE, type Job, Journal, versionOf, type Watch } from './mutation/job.ts';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));

const FOLDER = 'node_modules/.mutation';
/** Sentences may be reworded; what they say is for people. */
const EXCLUDED = ['StringLiteral'];
/** Beside the tests that lie with the sources; those that run a command would run what was built. */
const FURTHER_TESTS = [
  'test/golden.test.ts',
  'test/boot-matrix.test.ts',
  'test/efi-boot.test.ts',
  'test/pvh.test.ts',
  'test/uki-stubs.test.ts',
  'test/vmlinux.test.ts',
];
/** The quantile of the normal distribution for 95 %. */
const Z = 1.96;

interface Mutant {
  readonly file: string;
  readonly start: Position;
  readonly end: Position;
  readonly mutator: string;
  readonly replacement: string;
  /** Says what is changed without the line's number, so that changes elsewhere in the file leave the draw as it is. */
  readonly key: string;
}

/** Both from 0. */
interface Position {
  readonly line: number;
  readonly column: number;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    sample: { type: 'string', default: '300' },
    seed: { type: 'string', default: '1' },
    minutes: { type: 'string', default: '480' },
    budget: { type: 'string', default: '20' },
    workers: { type: 'string', default: '2' },
    changed: { type: 'boolean', default: false },
  },
});
const [sample, minutes, budget, workers] = [values.sample, values.minutes, values.budget, values.workers].map(
  Number,
) as [number, number, number, number];
if (
  ![sample, minutes, budget, workers].every((value) => value > 0) ||
  (positionals.length === 0 && !values.changed)
) {
  process.stderr.write(
    'mutate: npm run mutate -- ROOM… [--sample N] [--seed S] [--minutes M] [--budget SECONDS] [--workers N], or --changed [BASE]\n',
  );
  process.exit(2);
}
const until = Date.now() + minutes * 60_000;

mkdirSync(FOLDER, { recursive: true });
let isDone = true;
if (values.changed) {
  const base = positionals[0] ?? 'main';
  const names = execFileSync('git', ['diff', '--name-only', '--diff-filter=d', base, '--', 'src'], {
    encoding: 'utf8',
  });
  rmSync(join(FOLDER, `changed-${values.seed}.journal`), { force: true });
  isDone = await tryFiles('changed', names.split('\n').filter(isSource));
} else {
  for (const room of positionals) {
    const files = readdirSync(join('src', room), { recursive: true, encoding: 'utf8' });
    isDone = (await tryFiles(room, files.map((name) => join('src', room, name)).filter(isSource))) && isDone;
  }
}
if (!isDone) process.stdout.write('not all were tried; the same call goes on\n');

/** Sources without tests, what only they use, and pages, which have tests in a browser. */
function isSource(path: string): boolean {
  return path.endsWith('.ts') && !/(\.d\.ts|\.test\.ts|\/page\/.*|\/(test|each)-[^/]*)$/.test(path);
}

async function tryFiles(name: string, files: readonly string[]): Promise<boolean> {
  const all = (await instrument(files)).mutants;
  const drawn = draw(all, sample);
  const journal = new Journal(join(FOLDER, `${name}-${values.seed}.journal`));
  const job = await jobOf(drawn, journal.path);
  const versions = new Map(testsFor(files).map((test) => [test, versionOf(test)]));
  let isOver = drawn.length === 0;
  while (!isOver && Date.now() < until) {
    const tests = left(journal, [...versions], drawn);
    if (tests.length === 0) {
      isOver = true;
    } else {
      const { size } = journal;
      // First how long each takes, so that the quick ones come first; in a short run that would take most of the time.
      const unknown = tests.filter((test) => journal.reachedBy(test, versions.get(test) ?? '') === null);
      const isSurvey = unknown.length > 0 && !values.changed;
      await runTests(
        { ...job, tests: inOrder(isSurvey ? unknown : tests, files, journal), isSurvey },
        journal,
      );
      // Tests that do not run at all would be asked for without an end.
      if (journal.size === size) throw new Error(`the tests did not run: see ${beside(job.journal, 'log')}`);
    }
  }
  tell(name, all.length, drawn, journal, isOver);
  return isOver;
}

/** The test files that may still notice one of the mutants, or of which it is not known what they reach. */
function left(
  journal: Journal,
  versions: readonly (readonly [string, string])[],
  drawn: readonly Mutant[],
): string[] {
  const open = new Set(drawn.map(({ key }) => key));
  for (const key of open) {
    if (journal.noticed.has(key) || (journal.spent.get(key) ?? 0) > budget * 1000) open.delete(key);
  }
  if (open.size === 0) return [];
  return versions.flatMap(([test, version]) => {
    const reached = journal.reachedBy(test, version);
    if (reached === null) return [test];
    return reached.some((key) => open.has(key) && !journal.hasMissed(key, test, version)) ? [test] : [];
  });
}

/** The nearest to the sources first, the quickest of them first. */
function inOrder(tests: readonly string[], files: readonly string[], journal: Journal): string[] {
  const rooms = new Set(files.map((file) => file.split('/')[1]));
  const weigh = (test: string) => {
    const milliseconds = journal.reached.get(test)?.milliseconds ?? 1000;
    return milliseconds + (rooms.has(test.split('/')[1]) ? 0 : 1_000_000);
  };
  return tests.toSorted((a, b) => weigh(a) - weigh(b));
}

/** Several rooms may be tried at a time. */
function beside(journal: string, ending: string): string {
  return journal.replace(/journal$/, ending);
}

/** Runs the tests, ending workers that hang. */
async function runTests(job: Job, journal: Journal): Promise<void> {
  const path = beside(job.journal, 'job.json');
  writeFileSync(path, JSON.stringify(job));
  rmSync(job.watched, { recursive: true, force: true });
  mkdirSync(job.watched, { recursive: true });
  const log = openSync(beside(job.journal, 'log'), 'w');
  const child = spawn(
    'node_modules/.bin/vitest',
    ['run', '--config', 'scripts/mutation/vitest.config.ts', '--reporter=dot', `--maxWorkers=${workers}`],
    { stdio: ['ignore', log, log], env: { ...process.env, [JOB_VARIABLE]: path } },
  );
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const end = () => {
    child.kill('SIGKILL');
    endWorkers(job);
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, end).once(signal, () => process.exit(1));
  const timer = setInterval(() => {
    if (Date.now() > until) end();
    watch(job, journal);
  }, 500);
  await ended;
  clearInterval(timer);
  watch(job, journal);
  process.removeAllListeners('SIGINT').removeAllListeners('SIGTERM');
}

/** They do not hear a signal while a test computes. */
function endWorkers(job: Job): void {
  for (const name of readdirSync(job.watched)) {
    if (existsSync(`/proc/${name}`)) process.kill(Number(name), 'SIGKILL');
    rmSync(join(job.watched, name));
  }
}

/** Takes down what became of workers that hang or died. */
function watch(job: Job, journal: Journal): void {
  for (const name of readdirSync(job.watched)) {
    const path = join(job.watched, name);
    const text = readFileSync(path, 'utf8');
    if (!text.endsWith('}')) continue;
    const { mutant, test, version, until: limit }: Watch = JSON.parse(text);
    const isThere = existsSync(`/proc/${name}`);
    if (isThere && Date.now() < limit) continue;
    if (isThere) process.kill(Number(name), 'SIGKILL');
    rmSync(path);
    journal.refresh();
    if (mutant === null || journal.noticed.has(mutant) || journal.hasMissed(mutant, test, version)) continue;
    if (journal.doubtful.get(mutant) === test) continue;
    journal.add({ kind: 'noticed', mutant, by: test, how: isThere ? 'hung' : 'crashed' });
  }
}

/** The test files that come to one of the sources by their imports. */
function testsFor(files: readonly string[]): string[] {
  const sources = readdirSync('src', { recursive: true, encoding: 'utf8' }).map((name) => join('src', name));
  const tests = [...sources.filter((name) => name.endsWith('.test.ts')), ...FURTHER_TESTS];
  const imports = new Map<string, string[]>();
  const importsOf = (path: string): string[] => {
    const known = imports.get(path);
    if (known !== undefined) return known;
    const text = existsSync(path) ? readFileSync(path, 'utf8') : '';
    const names = [...text.matchAll(/(?:from |import\()'(\.[^']*\.ts)'/g)].map((match) => match[1] ?? '');
    const found = names.map((name) => normalize(join(dirname(path), name)));
    imports.set(path, found);
    return found;
  };
  return tests.filter((test) => {
    const seen = new Set([test]);
    for (const path of seen) for (const next of importsOf(path)) seen.add(next);
    return files.some((file) => seen.has(file));
  });
}

/** All that could be changed in the files, or in the ranges of them, as Stryker sees it, and the sources with it. */
async function instrument(files: readonly string[], ranges?: ReadonlyMap<string, readonly Mutant[]>) {
  const quiet = () => {};
  const logger = {
    isDebugEnabled: () => false,
    debug: quiet,
    info: quiet,
    warn: quiet,
    error: quiet,
    trace: quiet,
  };
  const instrumenter = createInstrumenter(createInjector().provideValue('logger', logger) as never);
  const inputs = files.map((name) => {
    const mutate =
      ranges === undefined ? true : (ranges.get(name) ?? []).map(({ start, end }) => ({ start, end }));
    return { name, mutate, content: readFileSync(name, 'utf8') };
  });
  const options = { plugins: null, excludedMutations: EXCLUDED, ignorers: [] };
  const result = await instrumenter.instrument(inputs, options as never);
  const linesOf = new Map(inputs.map(({ name, content }) => [name, content.split('\n')]));
  const count = new Map<string, number>();
  const ids = new Map<string, string>();
  const mutants: Mutant[] = [];
  for (const { id, status, fileName, location, mutatorName, replacement } of result.mutants) {
    if (status === 'Ignored') continue;
    const line = linesOf.get(fileName)?.[location.start.line]?.trim() ?? '';
    const text = `${fileName} ${mutatorName} \`${line}\` -> ${replacement.replace(/\s+/g, ' ')}`;
    // Ranges leave out some: where one starts tells equal ones apart.
    const mutant = { file: fileName, ...location, mutator: mutatorName, replacement };
    const place = placeOf(mutant);
    ids.set(id, place);
    const nth = (count.get(text) ?? 0) + 1;
    count.set(text, nth);
    mutants.push({ ...mutant, key: nth === 1 ? text : `${text} #${nth}` });
  }
  return {
    mutants,
    ids,
    sources: Object.fromEntries(result.files.map(({ name, content }) => [name, content])),
  };
}

function placeOf({ file, start, end, mutator, replacement }: Omit<Mutant, 'key'>): string {
  return [file, start.line, start.column, end.line, end.column, mutator, replacement].join('\t');
}

/** Sources with the drawn mutants. */
async function jobOf(drawn: readonly Mutant[], journal: string): Promise<Job> {
  const ranges = new Map<string, Mutant[]>();
  for (const mutant of drawn) ranges.set(mutant.file, [...(ranges.get(mutant.file) ?? []), mutant]);
  const { ids, sources } = await instrument([...ranges.keys()], ranges);
  const keys = new Map(drawn.map((mutant) => [placeOf(mutant), mutant.key]));
  const mutants = [...ids].flatMap(([id, place]) => {
    const key = keys.get(place);
    return key === undefined ? [] : [[id, key]];
  });
  return {
    tests: [],
    isSurvey: false,
    sources,
    mutants: Object.fromEntries(mutants),
    journal,
    watched: beside(journal, 'workers'),
    budget: budget * 1000,
    longestTest: 10_000,
  };
}

/** The first `count` in an order that the seed decides, and nothing else about where they stand. */
function draw(mutants: readonly Mutant[], count: number): Mutant[] {
  const rank = (key: string) => createHash('sha256').update(`${values.seed} ${key}`).digest('hex');
  return mutants
    .map((mutant) => ({ mutant, rank: rank(mutant.key) }))
    .toSorted((a, b) => (a.rank < b.rank ? -1 : 1))
    .slice(0, count)
    .map(({ mutant }) => mutant);
}

function tell(name: string, all: number, drawn: readonly Mutant[], journal: Journal, isOver: boolean): void {
  const reached = new Set([...journal.reached.values()].flatMap(({ mutants }) => mutants));
  const isOnImport = ({ key }: Mutant) => journal.onImport.has(key) && !reached.has(key);
  const tried = drawn.filter((mutant) => !isOnImport(mutant));
  const noticed = tried.filter(({ key }) => journal.noticed.has(key));
  const missed = tried.filter(({ key }) => !journal.noticed.has(key));
  const percent = (share: number) => `${(share * 100).toFixed(0)} %`;
  if (tried.length > 0) {
    const [low, high] = interval(noticed.length, tried.length);
    process.stdout.write(
      `${name}: ${noticed.length} of ${tried.length} noticed${isOver ? '' : ' so far'}, ${percent(noticed.length / tried.length)} (${percent(low)} to ${percent(high)}), of ${all} in all\n`,
    );
  }
  for (const { file, start, mutator, replacement, key } of missed.toSorted((a, b) =>
    a.file === b.file ? a.start.line - b.start.line : a.file < b.file ? -1 : 1,
  )) {
    const untried = !isOver && !journal.spent.has(key);
    const what = untried ? 'not tried yet' : reached.has(key) ? 'missed' : 'not reached';
    const line = /`(.*)` -> /.exec(key)?.[1] ?? '';
    process.stdout.write(
      `  ${what}: ${file}:${start.line + 1}:${start.column + 1} ${mutator}: ${line} -> ${replacement.replace(/\s+/g, ' ').slice(0, 120)}\n`,
    );
  }
  const onImport = drawn.length - tried.length;
  if (onImport > 0) process.stdout.write(`  ${onImport} more run only while a file is loaded: not tried\n`);
  const slow = [...journal.reached.values()].reduce((sum, { leftOut }) => sum + leftOut, 0);
  if (slow > 0) process.stdout.write(`  ${slow} tests of more than 10 s were left out\n`);
}

/** Wilson's interval for a share. */
function interval(count: number, of: number): [number, number] {
  const share = count / of;
  const middle = (share + (Z * Z) / (2 * of)) / (1 + (Z * Z) / of);
  const half = (Z / (1 + (Z * Z) / of)) * Math.sqrt((share * (1 - share)) / of + (Z * Z) / (4 * of * of));
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}
