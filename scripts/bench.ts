// `npm run bench`: Bootscope against QEMU to the kernel's entry, codecs against the native tools, and the time of
// small commands. Everything that is compared alternates in one run, after a warm-up.

import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { boot } from '../src/boot/boot.ts';
import { DEFAULT_BOOT_OPTIONS } from '../src/boot/options.ts';
import type { CodecName } from '../src/codecs/codec.ts';
import { codecByName } from '../src/codecs/registry.ts';
import type { EngineName } from '../src/cpu/cpu.ts';
import { openCpu } from '../src/cpu/open.ts';
import { type KernelImage, readKernelImage } from '../src/image/kernel-image.ts';
import {
  type BenchResult,
  type BootRow,
  type CheckRateRow,
  type CodecRow,
  type CommandRow,
  checksPerSecond,
  type ExplorerRow,
  emulatedTarget,
  LEAST_KERNEL_BYTES,
  pairedRatio,
  STEP_TARGETS,
  type StepBackRow,
  type StepRateRow,
  type Times,
  targetRatio,
  timesOf,
  VERIFY_TARGET,
  type VerifyRow,
  type WarmBootRow,
} from './bench-result.ts';
import { measureCheckRate } from './check-rate.ts';
import { type Usage, usageOf } from './command-usage.ts';
import { noChromium, timeExplorer } from './explorer-timing.ts';
import { qemuStepRate, timeQemu } from './qemu-timing.ts';
import { measureStepsBack } from './step-back.ts';
import { measureStepRate } from './step-rate.ts';

const usage = `usage: npm run bench -- [options] [IMAGE ...]
  --runs N      runs of each measurement after the warm-up (default 5)
  --engine E    native or wasm; default: each that is here
  --only PART   boots, emulated, verify, warm, checks, codecs, commands, steps, back or explore
  --json FILE   write the result for scripts/bench-compare
  --markdown    print the boots once more as the table of README.md`;

process.chdir(fileURLToPath(new URL('..', import.meta.url)));
const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    runs: { type: 'string', default: '5' },
    engine: { type: 'string' },
    only: { type: 'string' },
    json: { type: 'string' },
    markdown: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
const runs = Number(flags.runs);
if (flags.help || !Number.isInteger(runs) || runs < 1) {
  console.log(usage);
  process.exit(flags.help ? 0 : 2);
}

const COMMAND = 'dist/bootscope.cjs';
const CMDLINE = 'nokaslr';
const MEMORY_MEGABYTES = 512;
const QEMU_TIMEOUT = 60_000;
/** What the process may need beside the guest RAM that the boot touches. */
const MEMORY_ALLOWANCE = 250 * 2 ** 20;
const INFO_LIMIT = 150;
/** Milliseconds. */
const STEP_BACK_LIMITS = [
  ['hooked', 300],
  ['emulated', 500],
] as const;
/** Milliseconds. */
const EXPLORER_LIMITS = { opening: 500, 'step back': 300 } as const;
/** Milliseconds of processor time, of a tiny lz4 kernel with the native engine. */
const WARM_BOOT_LIMIT = 40;
/** V8's optimizing compiler, whose threads count, is busy with the boots before. */
const WARM_UP_BOOTS = 100;
/** A second and core. */
const CHECKS_PER_CORE = 20;
const COLUMN_WIDTHS = [42, 6, 7, 21, 21, 6, 12, 13, 14];
const TOOLS: Readonly<Record<CodecName, readonly [string, ...string[]]>> = {
  gzip: ['gzip', '-dc'],
  bzip2: ['bzip2', '-dc'],
  lzma: ['xz', '-dc', '--format=lzma'],
  xz: ['xz', '-dc'],
  lzo: ['lzop', '-dc'],
  lz4: ['lz4', '-dc'],
  zstd: ['zstd', '-dc', '--long=31'],
};

const qemuVersion = toolVersion('qemu-system-x86_64');
const images = positionals.length > 0 ? positionals : cachedImages();
if (images.length === 0) {
  console.error(
    'bench: there is no image in images/cache or images/demo; scripts/setup --bench fetches some',
  );
  process.exit(2);
}
// Every start of Node parses these certificates, which has nothing to do with what is measured; most machines have none.
const { NODE_EXTRA_CA_CERTS: certificates, ...environment } = process.env;
if (certificates !== undefined)
  console.log('Commands are started without NODE_EXTRA_CA_CERTS, which is set here.\n');
if (qemuVersion === null) console.log('QEMU (qemu-system-x86_64) is not here: no ratios.\n');

const wants = (part: string) => flags.only === undefined || flags.only === part;
const kernels = new Map<string, KernelImage>();
for (const path of images) kernels.set(path, await readKernelImage(path, readFileSync(path)));

const engines = await installedEngines();
const boots = wants('boots') ? await benchBoots(kernels, 'hooked') : [];
const emulated = wants('emulated') ? await benchBoots(emulatedKernels(), 'emulated') : [];
const verifications = wants('verify') ? benchVerify() : [];
const warmBoots = wants('warm') ? benchWarmBoots() : [];
const checkRates = wants('checks') ? await benchChecks() : [];
const codecs = wants('codecs') ? await benchCodecs() : [];
const commands = wants('commands') ? benchCommands() : [];
const stepRates = wants('steps') ? await benchSteps() : [];
const stepsBack = wants('back') ? await benchStepsBack() : [];
const explorer = wants('explore') ? await benchExplorer() : [];
const result: BenchResult = {
  date: new Date().toISOString(),
  machine: {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    node: process.version,
    qemu: qemuVersion,
  },
  runs,
  boots,
  emulated,
  verifications,
  codecs,
  commands,
  stepRates,
  stepsBack,
  explorer,
  warmBoots,
  checkRates,
};
if (flags.json !== undefined) writeFileSync(flags.json, `${JSON.stringify(result, null, 2)}\n`);
const verdicts = [
  ...[...boots, ...emulated].flatMap(({ ratio, target }) =>
    ratio === null || target === null ? [] : [ratio <= target],
  ),
  ...verifications.map(({ ratio, target }) => ratio <= target),
  ...stepRates.map(({ perSecond, target }) => perSecond >= target),
  ...[...boots, ...emulated].map(({ memory }) => memory.bootscope <= memory.limit),
  ...commands.flatMap(({ time, limit }) => (limit === null ? [] : [time.median <= limit])),
  ...warmBoots.flatMap(({ later, limit }) => (limit === null ? [] : [later.median <= limit])),
  ...checkRates.map((row) => checksPerSecond(row) >= row.target),
  ...[...stepsBack, ...explorer].map(({ time, limit }) => time.median <= limit),
];
console.log(
  `\n${result.machine.cpu}, ${result.machine.cores} cores, Node ${process.version}, ${qemuVersion ?? 'no QEMU'}, ` +
    `${runs} runs; ${verdicts.filter(Boolean).length} of ${verdicts.length} targets met`,
);

const parts = [
  boots,
  emulated,
  verifications,
  warmBoots,
  checkRates,
  codecs,
  commands,
  stepRates,
  stepsBack,
  explorer,
];
if (parts.every(({ length }) => length === 0)) process.exitCode = 1;
if (flags.markdown) console.log(`\n${markdownTable(boots)}`);

// ---------------------------------------------------------------- what there is

function cachedImages(): string[] {
  const found: string[] = [];
  const visit = (folder: string) => {
    if (!existsSync(folder)) return;
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      if (entry.isDirectory() && !entry.name.startsWith('.')) visit(path);
      else if (/^(vmlinuz|bzImage)|\.bzImage$/.test(entry.name)) found.push(path);
    }
  };
  for (const folder of ['images/cache/debian', 'images/cache/built', 'images/demo']) visit(folder);
  return found.sort();
}

async function installedEngines(): Promise<EngineName[]> {
  const found: EngineName[] = [];
  for (const engine of ['native', 'wasm'] as const) {
    if (flags.engine !== undefined && flags.engine !== engine) continue;
    try {
      (await openCpu({ engine })).close();
      found.push(engine);
    } catch (error) {
      console.log(`Not measured, the engine ${engine}: ${error instanceof Error ? error.message : error}\n`);
    }
  }
  return found;
}

function toolVersion(tool: string): string | null {
  const { status, stdout } = spawnSync(tool, ['--version'], { encoding: 'utf8' });
  return status === 0
    ? (stdout.split('\n')[0]?.replace(/ \(.*/, '').replace(' emulator version', '') ?? tool)
    : null;
}

// ---------------------------------------------------------------- one process

/** Runs the command and returns its wall-clock milliseconds from start to exit. */
function timeCommand(parameters: readonly string[], statuses: readonly number[] = [0]): number {
  const startedAt = performance.now();
  const { status, stderr } = spawnSync(process.execPath, [COMMAND, ...parameters], {
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
    env: environment,
  });
  const milliseconds = performance.now() - startedAt;
  if (status === null || !statuses.includes(status)) {
    throw new Error(`bootscope ${parameters.join(' ')} ended with status ${status}: ${stderr.trim()}`);
  }
  return milliseconds;
}

/** Runs the command once more, apart from the timed runs. */
function commandUsage(parameters: readonly string[]): Usage {
  return usageOf(COMMAND, parameters, environment);
}

// ---------------------------------------------------------------- boots

/** The largest zstd and lz4 kernels: what others there are differ from these by their size. */
function emulatedKernels(): ReadonlyMap<string, KernelImage> {
  const largest = (codec: CodecName) =>
    [...kernels]
      .filter(([, { payload }]) => payload?.codec === codec)
      .sort(([, a], [, b]) => (b.payload?.outputLength ?? 0) - (a.payload?.outputLength ?? 0))
      .slice(0, 1);
  return new Map([...largest('zstd'), ...largest('lz4')]);
}

async function benchBoots(
  which: ReadonlyMap<string, KernelImage>,
  decompress: 'hooked' | 'emulated',
): Promise<BootRow[]> {
  console.log(
    `\nBoot to the kernel entry${decompress === 'emulated' ? ', the guest decompressing by itself' : ''}, milliseconds: median (least to greatest)\n`,
  );
  console.log(
    tableLine([
      'image',
      'codec',
      'engine',
      'Bootscope',
      'QEMU',
      'ratio',
      'target',
      'CPU ms (QEMU)',
      'peak MB (QEMU)',
    ]),
  );
  const rows: BootRow[] = [];
  for (const [path, image] of which) {
    for (const engine of engines) {
      const row = await benchBoot(path, image, engine, decompress).catch((error: Error) => error.message);
      if (typeof row === 'string') {
        console.log(tableLine([shortName(path), image.payload?.codec ?? '', engine, row]));
        continue;
      }
      rows.push(row);
      console.log(bootLine(row));
      console.log(
        `    ${row.phases.map(({ name, share }) => `${name} ${Math.round(share * 100)} %`).join(', ')}`,
      );
    }
  }
  return rows;
}

/** A row, or why there is none. */
async function benchBoot(
  path: string,
  image: KernelImage,
  engine: EngineName,
  decompress: 'hooked' | 'emulated',
): Promise<BootRow | string> {
  const parameters = [
    'boot',
    path,
    ...(decompress === 'emulated' ? ['--decompress', decompress] : []),
    '--engine',
    engine,
    '--cmdline',
    CMDLINE,
    '--memory',
    `${MEMORY_MEGABYTES}M`,
  ];
  const observed = await observe(image, engine, decompress);
  if (typeof observed === 'string') return observed;

  const ours: number[] = [];
  const theirs: number[] = [];
  const theirCpu: number[] = [];
  let qemuMemory = 0;
  let qemuFails = qemuVersion === null;
  timeCommand(parameters);
  for (let run = -1; run < runs; run++) {
    if (run >= 0) ours.push(timeCommand(parameters));
    if (qemuFails) continue;
    try {
      const timing = await timeQemu({
        image: path,
        entry: observed.entry,
        arrival: observed.arrival,
        cmdline: CMDLINE,
        memoryMegabytes: MEMORY_MEGABYTES,
        timeoutMilliseconds: QEMU_TIMEOUT,
      });
      if (run >= 0) {
        theirs.push(timing.milliseconds);
        theirCpu.push(timing.cpuMilliseconds);
      }
      qemuMemory = Math.max(qemuMemory, timing.peakMemory);
    } catch {
      qemuFails = true;
    }
  }

  const usages = Array.from({ length: Math.min(runs, 3) }, () => commandUsage(parameters));
  const bootscope = timesOf(ours);
  const qemu = theirs.length === runs ? timesOf(theirs) : null;
  const codec = image.payload?.codec ?? 'none';
  const kernelBytes = image.payload?.outputLength ?? 0;
  return {
    image: path,
    codec,
    kernelBytes,
    engine,
    bootscope,
    qemu,
    ratio: qemu === null ? null : pairedRatio(ours, theirs),
    cpu: {
      bootscope: timesOf(usages.map(({ cpu }) => cpu)).median,
      qemu: qemu === null ? null : timesOf(theirCpu).median,
    },
    target: (decompress === 'hooked' ? targetRatio : emulatedTarget)(engine, codec, kernelBytes),
    memory: {
      bootscope: Math.max(...usages.map((usage) => usage.memory)),
      qemu: qemuMemory,
      limit: observed.touched + MEMORY_ALLOWANCE,
    },
    phases: observed.phases,
  };
}

interface Observed {
  readonly entry: bigint;
  readonly arrival: number;
  readonly phases: BootRow['phases'];
  /** Bytes of guest RAM that the boot writes: the loaded image and what the kernel needs to start. */
  readonly touched: number;
}

/** One boot inside this process: where the entry is, and in which phase the time goes. */
async function observe(
  image: KernelImage,
  engine: EngineName,
  decompress: 'hooked' | 'emulated',
): Promise<Observed | string> {
  let finished: Awaited<ReturnType<typeof boot>>;
  try {
    finished = await boot(image, {
      ...DEFAULT_BOOT_OPTIONS,
      ...{ engine, decompress, cmdline: CMDLINE, hash: false },
    });
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  const { trace } = finished;
  finished.close();
  const { kernel, phases } = trace;
  if (kernel === null) return `stopped before the entry: ${trace.stopped}`;
  const last = phases.at(-1)!.milliseconds;
  return {
    entry: kernel.entry,
    arrival: phases.filter(({ name, address }) => name !== 'setup' && address === kernel.entry).length,
    phases: phases.map((phase, index) => ({
      // What passes before a phase begins was spent in the one before it; before the first, in loading.
      name: phases[index - 1]?.name ?? 'load',
      share: (phase.milliseconds - (phases[index - 1]?.milliseconds ?? 0)) / last,
    })),
    touched:
      image.bytes.length +
      Math.max(
        image.header.get('init_size'),
        kernel.segments.reduce((sum, { memsz }) => sum + Number(memsz), 0),
      ),
  };
}

function bootLine(row: BootRow): string {
  const verdict =
    row.ratio === null || row.target === null ? '' : row.ratio <= row.target ? ' met' : ' MISSED';
  const { memory } = row;
  return tableLine([
    shortName(row.image),
    row.codec,
    row.engine,
    times(row.bootscope),
    row.qemu === null ? 'not reached' : times(row.qemu),
    row.ratio?.toFixed(2) ?? '',
    row.target === null ? 'none' : `${row.target.toFixed(2)}${verdict}`,
    `${row.cpu.bootscope.toFixed(0)} (${row.cpu.qemu?.toFixed(0) ?? '-'})`,
    `${megabytes(memory.bootscope)} (${megabytes(memory.qemu)})` +
      (memory.bootscope <= memory.limit ? '' : ` MISSED ${megabytes(memory.limit)}`),
  ]);
}

// ---------------------------------------------------------------- verify

/** Of the same kernels; both by processor time, which other load changes least. */
function benchVerify(): VerifyRow[] {
  console.log('\n`verify` beside the emulated boot that it contains, milliseconds of processor time\n');
  console.log(
    tableLine(['image', '', 'engine', 'verify', 'emulated boot', 'ratio', 'target', '', 'peak MB']),
  );
  const rows: VerifyRow[] = [];
  for (const path of emulatedKernels().keys()) {
    for (const engine of engines) {
      const common = [path, '--engine', engine, '--cmdline', CMDLINE, '--memory', `${MEMORY_MEGABYTES}M`];
      const verify = [];
      const boot = [];
      for (let run = 0; run < runs; run++) {
        verify.push(commandUsage(['verify', ...common]));
        boot.push(commandUsage(['boot', ...common, '--decompress', 'emulated']));
      }
      const cpu = (usages: readonly { cpu: number }[]) => usages.map((usage) => usage.cpu);
      const most = (usages: readonly { memory: number }[]) =>
        Math.max(...usages.map((usage) => usage.memory));
      const row: VerifyRow = {
        ...{ image: path, engine, verify: timesOf(cpu(verify)), boot: timesOf(cpu(boot)) },
        ratio: pairedRatio(cpu(verify), cpu(boot)),
        target: VERIFY_TARGET,
        memory: { verify: most(verify), boot: most(boot) },
      };
      rows.push(row);
      const verdict = `${VERIFY_TARGET.toFixed(2)} ${row.ratio <= VERIFY_TARGET ? 'met' : 'MISSED'}`;
      const memory = `${megabytes(row.memory.verify)} (${megabytes(row.memory.boot)})`;
      const cells = [shortName(path), '', engine, times(row.verify), times(row.boot)];
      console.log(tableLine([...cells, row.ratio.toFixed(2), verdict, '', memory]));
    }
  }
  return rows;
}

// ---------------------------------------------------------------- many boots

/** Of the smallest kernel, of lz4 where there is one: what is left beside decompressing. */
function benchWarmBoots(): WarmBootRow[] {
  const bySize = [...kernels].sort(([a], [b]) => statSync(a).size - statSync(b).size);
  const real = bySize.filter(([, { payload }]) => (payload?.outputLength ?? 0) >= LEAST_KERNEL_BYTES);
  const [path, image] = real.find(([, { payload }]) => payload?.codec === 'lz4') ?? real[0] ?? bySize[0]!;
  const isTiny =
    image.payload?.codec === 'lz4' && targetRatio('native', 'lz4', image.payload.outputLength ?? 0) === 0.5;
  console.log(
    `\nopenBoot to the jump in a warm process, milliseconds of processor time: ${shortName(path)}\n`,
  );
  console.log(tableLine(['', '', 'engine', 'later', 'first', '', 'limit', '', 'peak MB']));
  return engines.map((engine) => {
    const parameters = [
      'scripts/warm-boots.mjs',
      path,
      engine,
      CMDLINE,
      String(WARM_UP_BOOTS),
      String(runs * 4),
    ];
    const { status, stdout, stderr } = spawnSync(process.execPath, parameters, {
      encoding: 'utf8',
      env: environment,
    });
    if (status !== 0) throw new Error(`${parameters.join(' ')} ended with status ${status}: ${stderr}`);
    const { first, later, memory } = JSON.parse(stdout) as { first: number; later: number[]; memory: number };
    const limit = engine === 'native' && isTiny ? WARM_BOOT_LIMIT : null;
    const row = { image: path, engine, first, later: timesOf(later), memory, limit };
    const verdict = limit === null ? '' : `${limit} ${row.later.median <= limit ? 'met' : 'MISSED'}`;
    console.log(
      tableLine(['', '', engine, times(row.later), first.toFixed(0), '', verdict, '', megabytes(memory)]),
    );
    return row;
  });
}

async function benchChecks(): Promise<CheckRateRow[]> {
  const rates = [];
  for (let run = 0; run < Math.min(runs, 3); run++) rates.push(await measureCheckRate(COMMAND, environment));
  const rate = rates.sort((a, b) => a.perSecond - b.perSecond)[Math.floor(rates.length / 2)]!;
  const row = { ...rate, target: CHECKS_PER_CORE * rate.processes };
  const byProcessor = checksPerSecond(row);
  console.log(
    `\ncheck --matrix of ${row.checks} small kernels with ${row.processes} processes: ${row.perSecond.toFixed(1)} a second, ` +
      `with a process each ${row.alonePerSecond.toFixed(1)}; ${row.cpu.toFixed(1)} ms of processor time each, which is ` +
      `${byProcessor.toFixed(1)} a second where nothing else runs, target ${row.target} ` +
      `${byProcessor >= row.target ? 'met' : 'MISSED'}; peak ${megabytes(row.memory)} MB a process`,
  );
  return [row];
}

// ---------------------------------------------------------------- codecs

/** Each codec on the largest kernel that uses it. */
async function benchCodecs(): Promise<CodecRow[]> {
  const largest = new Map<CodecName, { path: string; image: KernelImage }>();
  for (const [path, image] of kernels) {
    const { payload } = image;
    if (payload?.outputLength == null) continue;
    const known = largest.get(payload.codec)?.image.payload?.outputLength ?? 0;
    if (payload.outputLength > known) largest.set(payload.codec, { path, image });
  }
  console.log('\nCodecs on a real payload, milliseconds\n');
  console.log(tableLine(['image', 'codec', 'MB out', 'later runs', 'native tool', 'ratio', 'first run']));
  const rows: CodecRow[] = [];
  for (const [name, { path, image }] of largest) {
    const row = await benchCodec(name, path, image);
    rows.push(row);
    console.log(
      tableLine([
        shortName(path),
        name,
        megabytes(row.outputBytes),
        times(row.later),
        row.tool === null ? 'not here' : times(row.tool),
        row.tool === null ? '' : (row.later.median / row.tool.median).toFixed(2),
        row.first.toFixed(0),
      ]),
    );
  }
  return rows;
}

async function benchCodec(name: CodecName, path: string, image: KernelImage): Promise<CodecRow> {
  const { offset, length, outputLength } = image.payload!;
  const input = image.protectedModeCode.slice(offset, offset + length);
  const output = new Uint8Array(outputLength!);
  const decompress = async () => {
    const startedAt = performance.now();
    await (await codecByName(name)).decompress(input, output);
    return performance.now() - startedAt;
  };

  const folder = mkdtempSync(join(tmpdir(), 'bootscope-bench-'));
  try {
    const file = join(folder, 'payload');
    // Tools take the length that the kernel's build appends for a damaged stream.
    writeFileSync(file, name === 'gzip' ? input : input.subarray(0, -4));
    const [tool, ...parameters] = TOOLS[name];
    const timeTool = () => {
      const stdin = openSync(file, 'r');
      const startedAt = performance.now();
      const { status } = spawnSync(tool, parameters, { stdio: [stdin, 'ignore', 'ignore'] });
      return status === 0 ? performance.now() - startedAt : null;
    };
    const first = await decompress();
    const toolIsHere = timeTool() !== null;
    const ours: number[] = [];
    const theirs: number[] = [];
    for (let run = 0; run < runs; run++) {
      ours.push(await decompress());
      const time = toolIsHere ? timeTool() : null;
      if (time !== null) theirs.push(time);
    }
    return {
      codec: name,
      image: path,
      outputBytes: outputLength!,
      first,
      later: timesOf(ours),
      tool: theirs.length === runs ? timesOf(theirs) : null,
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

// ---------------------------------------------------------------- commands

function benchCommands(): CommandRow[] {
  // The largest file costs `info` most; what grows with RAM shows best on the quickest boot.
  const bySize = [...kernels.keys()].sort((a, b) => statSync(a).size - statSync(b).size);
  const list: (readonly [string[], number | null])[] = [
    [['--version'], null],
    [['info', bySize.at(-1)!], INFO_LIMIT],
    [['kaslr', bySize.at(-1)!, '--draws', '10000'], null],
    [['boot', bySize[0]!, '--cmdline', CMDLINE, '--memory', '512M'], null],
    [['boot', bySize[0]!, '--cmdline', CMDLINE, '--memory', '64G'], null],
  ];
  console.log('\nCommands, milliseconds\n');
  console.log(tableLine(['command', '', '', 'time', 'limit', '', '', 'peak MB']));
  const rows: CommandRow[] = [];
  const empty: number[] = [];
  for (let run = 0; run < runs; run++) {
    const startedAt = performance.now();
    spawnSync(process.execPath, ['-e', '0'], { stdio: 'ignore', env: environment });
    empty.push(performance.now() - startedAt);
  }
  console.log(tableLine(['node -e 0', '', '', times(timesOf(empty))]));
  for (const [parameters, limit] of list) {
    timeCommand(parameters);
    const time = timesOf(Array.from({ length: runs }, () => timeCommand(parameters)));
    const { memory } = commandUsage(parameters);
    const command = `bootscope ${parameters.map((text) => (kernels.has(text) ? shortName(text) : text)).join(' ')}`;
    rows.push({ command, time, memory, limit });
    const verdict = limit === null ? '' : `${limit} ${time.median <= limit ? 'met' : 'MISSED'}`;
    console.log(`${command}\n${tableLine(['', '', '', times(time), verdict, '', '', megabytes(memory)])}`);
  }
  return rows;
}

// ---------------------------------------------------------------- single steps

async function benchSteps(): Promise<StepRateRow[]> {
  const [path, image] = [...kernels].at(-1)!;
  const rates: StepRateRow[] = [];
  console.log(
    `\nSingle steps of ${shortName(path)} to a file, disassembled and with register changes, by processor time\n`,
  );
  const million = (perSecond: number) => `${(perSecond / 1e6).toFixed(2)} million`;
  for (const engine of engines) {
    const measured: number[] = [];
    const peers: number[] = [];
    for (let run = 0; run < runs; run++) {
      measured.push(await measureStepRate(image, engine));
      if (qemuVersion !== null) peers.push(await qemuStepRate(path, CMDLINE, MEMORY_MEGABYTES));
    }
    const folder = mkdtempSync(join(tmpdir(), 'bootscope-bench-'));
    const output = join(folder, 'trace');
    const { memory } = commandUsage([
      'trace',
      path,
      '--engine',
      engine,
      '--limit',
      '500000',
      '--output',
      output,
    ]);
    rmSync(folder, { recursive: true });
    const [perSecond, target] = [timesOf(measured).median, STEP_TARGETS[engine]!];
    const qemuPerSecond = peers.length === 0 ? null : timesOf(peers).median;
    rates.push({ engine, perSecond, target, qemuPerSecond, memory });
    const peer = qemuPerSecond === null ? 'no QEMU' : `QEMU ${million(qemuPerSecond)}`;
    const verdict = `${million(target)} ${perSecond >= target ? 'met' : 'MISSED'}`;
    console.log(
      `  ${engine}: ${million(perSecond)} a second (${peer}), target ${verdict}, peak ${megabytes(memory)} MB`,
    );
  }
  return rates;
}

// ---------------------------------------------------------------- steps back

/** Of an lz4 kernel where there is one, whose emulated decompression is the shortest. */
async function benchStepsBack(): Promise<StepBackRow[]> {
  const [path, image] =
    [...kernels].findLast(([, { payload }]) => payload?.codec === 'lz4') ?? [...kernels].at(-1)!;
  console.log(`\nA step back from the kernel's entry of ${shortName(path)}\n`);
  const rows: StepBackRow[] = [];
  for (const engine of engines) {
    for (const [decompress, limit] of STEP_BACK_LIMITS) {
      const time = timesOf(await measureStepsBack(image, engine, decompress, runs));
      rows.push({ engine, decompress, time, limit });
      const verdict = time.median <= limit ? 'ok' : 'over';
      console.log(
        tableLine(['', '', engine, decompress, `${time.median.toFixed(0)} ms of ${limit}: ${verdict}`]),
      );
    }
  }
  return rows;
}

// ---------------------------------------------------------------- the explorer

/** Of the smallest and the largest kernel: what a person waits for. */
async function benchExplorer(): Promise<ExplorerRow[]> {
  if (noChromium !== null) {
    console.log(`\nNot measured, the explorer: ${noChromium}`);
    return [];
  }
  if (!engines.includes('native')) {
    console.log('\nNot measured, the explorer: its server has the native engine, which is not here');
    return [];
  }
  console.log(
    "\nThe explorer, to the frame that shows it, milliseconds; a step back from the kernel's entry\n",
  );
  const bySize = [...kernels.keys()].sort((a, b) => statSync(a).size - statSync(b).size);
  const rows: ExplorerRow[] = [];
  for (const path of new Set([bySize[0]!, bySize.at(-1)!])) {
    const timings = [];
    for (let run = -1; run < runs; run++) {
      const timing = await timeExplorer(COMMAND, path, CMDLINE, environment, 3);
      if (run >= 0) timings.push(timing);
    }
    console.log(
      tableLine([
        shortName(path),
        '',
        '',
        `${times(timesOf(timings.map((each) => each.emptyPage)))} an empty page`,
      ]),
    );
    const measured = {
      opening: timesOf(timings.map((each) => each.opening)),
      'step back': timesOf(timings.flatMap((each) => each.stepsBack)),
    };
    for (const what of ['opening', 'step back'] as const) {
      const [time, limit] = [measured[what], EXPLORER_LIMITS[what]];
      rows.push({ image: path, what, time, limit });
      const verdict = `${limit} ${time.median <= limit ? 'met' : 'MISSED'}`;
      console.log(tableLine([shortName(path), '', '', `${times(time)} ${what}`, verdict]));
    }
  }
  return rows;
}

// ---------------------------------------------------------------- text

/** Images with their codec and size, times in seconds, the ratio. */
function markdownTable(rows: readonly BootRow[]): string {
  const seconds = ({ median, min, max }: Times) =>
    `${(median / 1000).toFixed(2)} s (${(min / 1000).toFixed(2)} to ${(max / 1000).toFixed(2)})`;
  return [
    '| image | payload | engine | Bootscope | QEMU | ratio |',
    '| --- | --- | --- | --- | --- | --- |',
    ...rows.map((row) => {
      const payload = `${row.codec}, ${megabytes(row.kernelBytes)} MB`;
      const name = shortName(row.image).replace(/^.*\//, '');
      const qemu = row.qemu === null ? 'not reached' : seconds(row.qemu);
      const cells = [name, payload, row.engine, seconds(row.bootscope), qemu, row.ratio?.toFixed(2) ?? ''];
      return `| ${cells.join(' | ')} |`;
    }),
  ].join('\n');
}

function shortName(path: string): string {
  return path.replace(/^images\/(cache\/)?/, '').replace(/\/bzImage$/, '');
}

function times({ median, min, max }: Times): string {
  return `${median.toFixed(0)} (${min.toFixed(0)} to ${max.toFixed(0)})`;
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(0);
}

function tableLine(cells: readonly string[]): string {
  return cells
    .map((cell, index) => cell.padEnd(COLUMN_WIDTHS[index] ?? 0))
    .join(' ')
    .trimEnd();
}
