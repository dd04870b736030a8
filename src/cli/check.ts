// `bootscope check`: boots again and compares with a reference; many images over the cores with `--matrix`.

import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { dirname, resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { boot } from '../boot/boot.ts';
import { BootscopeError } from '../error.ts';
import { readImageFile } from '../image/image-file.ts';
import { traceToJson } from '../report/json.ts';
import { type CheckedCase, formatJunit } from '../report/junit.ts';
import { compareWithReference } from '../report/reference.ts';
import { readBootImage } from './boot-options.ts';
import { checkOutput, writeOutput } from './output-file.ts';
import { optionsOf, readReference } from './reference-file.ts';
import { print } from './standard-output.ts';

interface Shard {
  readonly index: number;
  readonly count: number;
}

interface Flags {
  readonly engine: 'auto' | 'wasm' | 'native';
  readonly ignore?: readonly string[];
  readonly matrix?: string;
  readonly shard?: Shard;
  readonly jobs: number;
  readonly junit?: string;
  readonly force?: boolean;
  readonly json?: boolean;
}

/** A line of a matrix file; paths are relative to it. */
interface MatrixEntry {
  readonly image: string;
  readonly reference: string;
  readonly ignore?: readonly string[];
}

function parseShard(text: string): Shard {
  const match = /^(\d+)\/(\d+)$/.exec(text);
  const [index, count] = [Number(match?.[1]), Number(match?.[2])];
  if (match === null || index < 1 || index > count) {
    throw new InvalidArgumentError('it is i/n with i from 1 to n, such as 1/2.');
  }
  return { index, count };
}

function parseJobs(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 256)
    throw new InvalidArgumentError('it is a number from 1 to 256.');
  return value;
}

export function registerCheck(program: Command): void {
  program
    .command('check')
    .description('boot IMAGE as REFERENCE was booted and compare; exit status 1 when they differ')
    .argument('[image]', 'as for boot')
    .argument('[reference]', 'what record or scripts/collect-reference wrote')
    .addOption(
      new Option('--engine <name>', 'as for boot').choices(['auto', 'wasm', 'native']).default('auto'),
    )
    .option('--ignore <field...>', 'leave fields out, such as segments.sha256, registers or phases.setup')
    .option('--matrix <file>', 'check many: a JSON list of {"image", "reference", "ignore"}')
    .addOption(
      new Option('--shard <i/n>', 'with --matrix: every nth image from the ith').argParser(parseShard),
    )
    .addOption(
      new Option('--jobs <n>', 'with --matrix: how many at a time')
        .argParser(parseJobs)
        .default(availableParallelism()),
    )
    .option('--junit <file>', 'write the results as JUnit XML')
    .option('--force', 'let --junit overwrite an existing file')
    .option('--json', 'print the results as JSON')
    .action(async (image: string | undefined, reference: string | undefined, flags: Flags) => {
      if (flags.junit !== undefined) await checkOutput(flags.junit, flags.force === true);
      const cases = await runCases(image, reference, flags);
      if (flags.junit !== undefined)
        await writeOutput(flags.junit, formatJunit('bootscope check', cases), flags.force === true);
      print(flags.json === true ? `${JSON.stringify(cases, null, 2)}\n` : textOf(cases));
      const broken = cases.some(({ error }) => error !== null);
      const failed = cases.some(({ failures }) => failures.length > 0);
      process.exitCode = broken ? 2 : failed ? 1 : 0;
    });
}

async function runCases(
  image: string | undefined,
  reference: string | undefined,
  flags: Flags,
): Promise<CheckedCase[]> {
  if (flags.matrix !== undefined) {
    if (image !== undefined)
      throw new BootscopeError('check-arguments', 'check takes an image or --matrix, not both');
    return checkMatrix(flags.matrix, flags);
  }
  if (image === undefined || reference === undefined) {
    throw new BootscopeError('check-arguments', 'check needs an image and a reference, or --matrix FILE');
  }
  if (flags.shard !== undefined) throw new BootscopeError('check-arguments', '--shard goes with --matrix');
  return [await checkOne(image, reference, flags)];
}

async function checkOne(path: string, referencePath: string, flags: Flags): Promise<CheckedCase> {
  const startedAt = performance.now();
  const reference = await readReference(referencePath);
  const options = await optionsOf(referencePath, reference);
  const image = await readBootImage(path, options.entry);
  const { trace, close } = await boot(image, { ...options, engine: flags.engine });
  close();
  const actual = { options: reference.options ?? null, ...(traceToJson(trace) as object) };
  const differences = compareWithReference(actual as never, reference, flags.ignore ?? []);
  return {
    name: path,
    seconds: (performance.now() - startedAt) / 1000,
    failures: differences.map(
      ({ path: field, expected, actual: ours }) => `${field}: expected ${show(expected)}, got ${show(ours)}`,
    ),
    error: null,
  };
}

function show(value: unknown): string {
  const text = value === undefined ? 'nothing' : JSON.stringify(value);
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

/** Each image in a process of its own, so that one that fails badly takes no other with it. */
async function checkMatrix(path: string, flags: Flags): Promise<CheckedCase[]> {
  const all = await readMatrix(path);
  const { shard } = flags;
  const entries =
    shard === undefined ? all : all.filter((_, index) => index % shard.count === shard.index - 1);
  const cases: CheckedCase[] = new Array(entries.length);
  let next = 0;
  const work = async (): Promise<void> => {
    for (let index = next++; index < entries.length; index = next++) {
      cases[index] = await checkInProcess(dirname(resolve(path)), entries[index]!, flags);
    }
  };
  await Promise.all(Array.from({ length: Math.min(flags.jobs, entries.length) }, work));
  return cases;
}

async function readMatrix(path: string): Promise<MatrixEntry[]> {
  const text = new TextDecoder().decode(await readImageFile(path));
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new BootscopeError('check-matrix', `${path} is no JSON: ${(error as Error).message}`);
  }
  const usable =
    Array.isArray(value) &&
    value.length > 0 &&
    value.every((entry) => typeof entry?.image === 'string' && typeof entry?.reference === 'string');
  if (!usable) {
    throw new BootscopeError(
      'check-matrix',
      `${path} is no list of {"image": FILE, "reference": FILE} with at least one`,
    );
  }
  return value as MatrixEntry[];
}

async function checkInProcess(folder: string, entry: MatrixEntry, flags: Flags): Promise<CheckedCase> {
  const startedAt = performance.now();
  const ignore = [...(entry.ignore ?? []), ...(flags.ignore ?? [])];
  const child = spawn(
    process.execPath,
    [
      ...process.execArgv,
      process.argv[1]!,
      'check',
      resolve(folder, entry.image),
      resolve(folder, entry.reference),
      '--json',
      '--engine',
      flags.engine,
      ...(ignore.length > 0 ? ['--ignore', ...ignore] : []),
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let output = '';
  let errors = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  const status = await new Promise<string>((done) => {
    child.on('error', (error) => done(error.message));
    child.on('close', (code, signal) => done(signal ?? String(code)));
  });
  const seconds = (performance.now() - startedAt) / 1000;
  if (status === '0' || status === '1') {
    const [result] = JSON.parse(output) as [CheckedCase];
    return { ...result, name: entry.image };
  }
  return {
    name: entry.image,
    seconds,
    failures: [],
    error: errors.trim().replace(/^bootscope: /, '') || `the check ended with ${status}`,
  };
}

function textOf(cases: readonly CheckedCase[]): string {
  let text = '';
  for (const { name, seconds, failures, error } of cases) {
    const verdict =
      error !== null ? 'ERROR' : failures.length === 0 ? 'ok' : `${failures.length} differences`;
    text += `${name}: ${verdict} (${seconds.toFixed(2)} s)\n`;
    if (error !== null) text += `  ${error}\n`;
    for (const failure of failures) text += `  ${failure}\n`;
  }
  const passed = cases.filter(({ failures, error }) => failures.length === 0 && error === null).length;
  return `${text}${passed} of ${cases.length} as recorded\n`;
}
