// `bootscope check`: boots again and compares with a reference; many images over the cores with `--matrix`.

import { availableParallelism } from 'node:os';
import { dirname, resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { boot } from '../boot/boot.ts';
import { imageOfDrives } from '../boot/image-of-drives.ts';
import type { BootOptions } from '../boot/options.ts';
import { optionsOf, type RecordedOptions } from '../boot/recorded-options.ts';
import { BootscopeError } from '../error.ts';
import { monotonicTime } from '../host/host.ts';
import { readImageFile } from '../image/image-file.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import { findingLines, formatFindings } from '../report/check-text.ts';
import { type CheckedCase, formatJunit } from '../report/junit.ts';
import type { Reference } from '../report/reference.ts';
import { checkAgainstReference, readReference } from '../report/reference-file.ts';
import type { GrowthLimit } from '../report/size-limits.ts';
import { addBootOptions, type BootFlags, bootOptions, givenOptions, readBootImage } from './boot-options.ts';
import { answerChecks, checkInProcesses } from './check-workers.ts';
import { thisCommand } from './child-command.ts';
import { addExamples, addJsonOption, parseSize, repeatable, wholeNumber } from './common-options.ts';
import { checkOutput, writeOutput } from './output-file.ts';
import { withProgress } from './progress.ts';
import { printJson, printText } from './text-output.ts';

interface Shard {
  readonly index: number;
  readonly count: number;
}

interface Flags extends BootFlags {
  readonly ignore?: readonly string[];
  readonly allowGrowth?: readonly GrowthLimit[];
  readonly matrix?: string;
  readonly shard?: Shard;
  readonly jobs: number;
  readonly junit?: string;
  readonly force?: boolean;
  readonly json?: boolean;
  readonly worker?: boolean;
}

/** Lines of a check's text; `--json` and JUnit have all. */
const SHOWN_LINES = 10;

/** A line of a matrix file; paths are relative to it. */
interface MatrixEntry {
  /** Missing for a boot from the drives that the reference names. */
  readonly image?: string;
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

/** `run-area=10%`, `init_size=0x100000`, `setup=2K`; may be given more than once. */
function parseGrowth(text: string, before: readonly GrowthLimit[] = []): readonly GrowthLimit[] {
  const [, name, percent, size] = /^([^=]+)=(?:(\d+(?:\.\d+)?)%|(.+))$/.exec(text) ?? [];
  if (name === undefined)
    throw new InvalidArgumentError('it is NAME=LIMIT such as run-area=10% or init_size=1M.');
  const limit =
    percent === undefined ? { name, bytes: parseSize(size!) } : { name, percent: Number(percent) };
  return [...before, limit];
}

export function registerCheck(program: Command): void {
  const command = program
    .command('check')
    .description(
      'boot IMAGE as REFERENCE was booted and compare; exit status 1 when they differ. Boot options that are ' +
        'given go before those of the reference: what would another loader, or more memory, change?',
    )
    .argument('[image]', 'as for boot; none where the reference is of a boot from disks')
    .argument('[reference]', 'what record or scripts/collect-reference wrote')
    .option('--ignore <field...>', 'leave fields out, such as segments.sha256, registers or phases.setup')
    .addOption(
      repeatable(
        new Option(
          '--allow-growth <name=limit>',
          'let a region or a size (file, setup, payload, vmlinux, init_size) grow by so many bytes or %; repeatable',
        ).argParser(parseGrowth),
      ),
    )
    .option('--matrix <file>', 'check many: a JSON list of {"image", "reference", "ignore"}')
    .addOption(
      new Option('--shard <i/n>', 'with --matrix: every nth image from the ith').argParser(parseShard),
    )
    .addOption(
      new Option('--jobs <n>', 'with --matrix: how many at a time')
        .argParser(wholeNumber('processes', 1, 256))
        .default(availableParallelism()),
    )
    .option('--junit <file>', 'write the results as JUnit XML')
    .option('--force', 'let --junit write over a file that is there')
    // What --matrix starts.
    .addOption(new Option('--worker').hideHelp());
  addJsonOption(command, 'the results');
  addExamples(command, [
    [
      'bootscope check vmlinuz ref.json --ignore image segments.sha256',
      'is a new build laid out as the old one?',
    ],
    ['bootscope check vmlinuz ref.json --initrd-address 0x1343000', 'what would this address change?'],
    ['bootscope check --matrix images.json --shard 1/2 --junit report.xml', 'many images, on two machines'],
  ]);
  addBootOptions(command, { without: ['fromState'] }).action(
    async (image: string | undefined, reference: string | undefined, flags: Flags) => {
      if (flags.worker === true) {
        await answerChecks((task) =>
          checkOne(
            task.image,
            task.reference,
            { ...flags, ignore: [...task.ignore, ...(flags.ignore ?? [])] },
            new Set(),
          ),
        );
        return;
      }
      if (flags.junit !== undefined) checkOutput(flags.junit, flags.force === true);
      const given = givenOptions(command);
      const what = `checking ${flags.matrix ?? image}`;
      const cases = await withProgress(what, () => runCases(image, reference, flags, given));
      if (flags.junit !== undefined)
        await writeOutput(flags.junit, formatJunit('bootscope check', cases), flags.force === true);
      // Equal checks print equal JSON: without the time that they took.
      if (flags.json === true)
        printJson(cases.map(({ name, differences, error }) => ({ name, differences, error })));
      else printText(textOf(cases));
      const broken = cases.some(({ error }) => error !== null);
      const failed = cases.some(({ differences }) => differences.length > 0);
      process.exitCode = broken ? 2 : failed ? 1 : 0;
    },
  );
}

async function runCases(
  image: string | undefined,
  reference: string | undefined,
  flags: Flags,
  given: ReadonlySet<string>,
): Promise<CheckedCase[]> {
  if (flags.matrix !== undefined) {
    if (image !== undefined)
      throw new BootscopeError('check-arguments', 'check takes an image or --matrix, not both');
    const other = [...given].find((name) => name !== 'engine');
    if (other !== undefined) {
      throw new BootscopeError(
        'check-arguments',
        'with --matrix each image boots as its reference says; boot options but --engine go with a single image',
      );
    }
    return checkMatrix(flags.matrix, flags);
  }
  if (image === undefined) {
    throw new BootscopeError(
      'check-arguments',
      'check needs an image and a reference, a reference alone for a boot from disks, or --matrix FILE',
    );
  }
  if (flags.shard !== undefined) throw new BootscopeError('check-arguments', '--shard goes with --matrix');
  return [
    reference === undefined
      ? await checkOne(null, image, flags, given)
      : await checkOne(image, reference, flags, given),
  ];
}

/** @param path - of the image; null for a boot from drives */
async function checkOne(
  path: string | null,
  referencePath: string,
  flags: Flags,
  given: ReadonlySet<string>,
): Promise<CheckedCase> {
  const startedAt = monotonicTime();
  const reference = await readReference(referencePath);
  const asked = Object.entries(await bootOptions(flags)).filter(([name]) => given.has(name));
  const options = {
    ...(await optionsOf(referencePath, reference)),
    ...Object.fromEntries(asked),
  };
  const image = await readChecked(path, referencePath, reference, options);
  // References have no events.
  const { trace, close } = await boot(image, { ...options, engine: flags.engine, events: false });
  close();
  return {
    name: path ?? referencePath,
    seconds: (monotonicTime() - startedAt) / 1000,
    differences: checkAgainstReference(trace, image, reference, {
      ignore: flags.ignore ?? [],
      limits: flags.allowGrowth ?? [],
      otherwise: [...given],
    }),
    error: null,
  };
}

/** @throws BootscopeError `check-arguments` for an image where the reference is of a boot from drives, and the other way round */
async function readChecked(
  path: string | null,
  referencePath: string,
  reference: Reference,
  options: BootOptions,
): Promise<KernelImage> {
  const { withoutImage, floppy } = (reference.options ?? {}) as Partial<RecordedOptions>;
  if (withoutImage !== true) {
    if (path !== null) return readBootImage(path, options.entry);
    throw new BootscopeError(
      'check-arguments',
      `${referencePath} is of a boot of an image: check needs that, too`,
    );
  }
  if (path !== null) {
    throw new BootscopeError(
      'check-arguments',
      `${referencePath} is of a boot from disks, which it names: leave out ${path}; others are named by --disk, --cdrom, --esp and --floppy`,
    );
  }
  return (await imageOfDrives(options, floppy ?? undefined))!;
}

/** Over processes that check one image after the other; one that fails badly takes the image it has at hand with it, no other. */
async function checkMatrix(path: string, flags: Flags): Promise<CheckedCase[]> {
  const all = await readMatrix(path);
  const { shard } = flags;
  const entries =
    shard === undefined ? all : all.filter((_, index) => index % shard.count === shard.index - 1);
  const folder = dirname(resolve(path));
  return checkInProcesses(
    entries.map(({ image, reference, ignore = [] }) => ({
      name: image ?? reference,
      image: image === undefined ? null : resolve(folder, image),
      reference: resolve(folder, reference),
      ignore,
    })),
    flags.jobs,
    thisCommand('--worker'),
  );
}

async function readMatrix(path: string): Promise<MatrixEntry[]> {
  const text = new TextDecoder().decode(await readImageFile(path, { what: 'list of images' }));
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new BootscopeError('check-matrix', `${path} is no JSON: ${(error as Error).message}`);
  }
  const usable =
    Array.isArray(value) &&
    value.length > 0 &&
    value.every(
      (entry) =>
        ['string', 'undefined'].includes(typeof entry?.image) && typeof entry?.reference === 'string',
    );
  if (!usable) {
    throw new BootscopeError(
      'check-matrix',
      `${path} is no list of {"image": FILE, "reference": FILE} with at least one`,
    );
  }
  return value as MatrixEntry[];
}

function textOf(cases: readonly CheckedCase[]): string {
  let text = '';
  for (const { name, seconds, differences, error } of cases) {
    const time = `(${seconds.toFixed(2)} s)`;
    const worst = findingLines(differences)[0];
    if (error !== null) text += `${name}: ERROR: ${error} ${time}\n`;
    else if (worst === undefined) text += `${name}: ok ${time}\n`;
    else {
      const count = differences.length === 1 ? 'one difference' : `${differences.length} differences`;
      text += `${name}: DIFFERS: ${worst.text}\n  ${count} ${time}\n${formatFindings(differences, SHOWN_LINES)}`;
    }
  }
  const passed = cases.filter(({ differences, error }) => differences.length === 0 && error === null).length;
  return `${text}${passed} of ${cases.length} as recorded\n`;
}
