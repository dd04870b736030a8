// What a benchmark run leaves behind as JSON, the targets it is held to, and how two runs are compared.

/** Milliseconds of several runs. */
export interface Times {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export interface BootRow {
  /** Path in the checkout. */
  readonly image: string;
  readonly codec: string;
  /** Length of the decompressed kernel in bytes. */
  readonly kernelBytes: number;
  readonly engine: string;
  /** The whole process, start to exit. */
  readonly bootscope: Times;
  /** From starting QEMU to the kernel's first instruction; null where QEMU did not get there. */
  readonly qemu: Times | null;
  /** Bootscope's time over QEMU's in the run right after it; the median of these pairs. */
  readonly ratio: number | null;
  /** Processor time of all threads in milliseconds, medians: what a busy machine changes least. */
  readonly cpu: { readonly bootscope: number; readonly qemu: number | null };
  readonly target: number | null;
  /** Peak resident memory in bytes. */
  readonly memory: { readonly bootscope: number; readonly qemu: number; readonly limit: number };
  /** Share of the boot's own time, by the phase in which it was spent; process start and exit are not in it. */
  readonly phases: readonly { readonly name: string; readonly share: number }[];
}

export interface CodecRow {
  readonly codec: string;
  readonly image: string;
  readonly outputBytes: number;
  /** The first decompression of a process, with the loading of the codec, then the later ones; milliseconds. */
  readonly first: number;
  readonly later: Times;
  /** The native command line tool on the same bytes; null where it is missing. */
  readonly tool: Times | null;
}

/** A command's time against a limit in milliseconds. */
export interface CommandRow {
  readonly command: string;
  readonly time: Times;
  readonly memory: number;
  readonly limit: number | null;
}

/** `verify` beside the emulated boot that it contains, processor times in milliseconds. */
export interface VerifyRow {
  readonly image: string;
  readonly engine: string;
  readonly verify: Times;
  readonly boot: Times;
  /** Median of the pairs. */
  readonly ratio: number;
  readonly target: number;
  /** Peak resident memory in bytes. */
  readonly memory: { readonly verify: number; readonly boot: number };
}

/** Single steps to a file, in a second of processor time. */
export interface StepRateRow {
  readonly engine: string;
  readonly perSecond: number;
  readonly target: number;
  /** What QEMU notes of instructions and registers in the same run; null where it is not here. */
  readonly qemuPerSecond: number | null;
  /** Peak resident memory of `trace` in bytes. */
  readonly memory: number;
}

/** A step back in a held boot; the time and its limit in milliseconds. */
export interface StepBackRow {
  readonly engine: string;
  readonly decompress: 'hooked' | 'emulated';
  readonly time: Times;
  readonly limit: number;
}

/** Boots of one image in one process, `openBoot` to the jump; processor time in milliseconds. */
export interface WarmBootRow {
  readonly image: string;
  readonly engine: string;
  readonly first: number;
  readonly later: Times;
  readonly memory: number;
  /** Null where the project has set none. */
  readonly limit: number | null;
}

/** Checks of small kernels with `check --matrix`, on all cores. */
export interface CheckRateRow {
  readonly checks: number;
  readonly processes: number;
  readonly perSecond: number;
  /** With a process for each, in the same run. */
  readonly alonePerSecond: number;
  /** Processor time of one in milliseconds. */
  readonly cpu: number;
  /** Of a process that has checked them all. */
  readonly memory: number;
  readonly target: number;
}

/** What a person waits for in the explorer; the time and its limit in milliseconds. */
export interface ExplorerRow {
  readonly image: string;
  readonly what: 'opening' | 'step back';
  readonly time: Times;
  readonly limit: number;
}

export interface BenchResult {
  readonly date: string;
  readonly machine: {
    readonly cpu: string;
    readonly cores: number;
    readonly node: string;
    readonly qemu: string | null;
  };
  readonly runs: number;
  readonly boots: readonly BootRow[];
  readonly codecs: readonly CodecRow[];
  readonly commands: readonly CommandRow[];
  /** Boots whose guest decompresses by itself. Absent from older results. */
  readonly emulated?: readonly BootRow[];
  readonly verifications?: readonly VerifyRow[];
  readonly stepRates: readonly Pick<StepRateRow, 'engine' | 'perSecond'>[];
  readonly stepsBack: readonly StepBackRow[];
  readonly explorer: readonly ExplorerRow[];
  /** Missing in results from before they were measured. */
  readonly warmBoots?: readonly WarmBootRow[];
  readonly checkRates?: readonly CheckRateRow[];
}

/** What the cores would check if nothing else ran on them: by processor time, which other load changes least. */
export function checksPerSecond({ processes, cpu }: Pick<CheckRateRow, 'processes' | 'cpu'>): number {
  return (processes * 1000) / cpu;
}

/** Median, least and greatest; of an even number of runs the mean of the middle two. */
export function timesOf(milliseconds: readonly number[]): Times {
  const sorted = [...milliseconds].sort((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  const median = (sorted[Math.floor(middle)]! + sorted[Math.ceil(middle)]!) / 2;
  return { median, min: sorted[0]!, max: sorted.at(-1)! };
}

/** The median ratio of runs that alternated; of more use than a ratio of medians when the machine's load changes. */
export function pairedRatio(ours: readonly number[], theirs: readonly number[]): number {
  return timesOf(ours.map((time, index) => time / theirs[index]!)).median;
}

/** Below this many bytes a decompressed kernel counts as tiny: process start weighs more than its codec. */
const TINY_KERNEL_BYTES = 16 * 2 ** 20;

/** A demo that only prints a line is no kernel. */
export const LEAST_KERNEL_BYTES = 2 ** 20;

/** The greatest ratio to QEMU that the project allows itself; null where it has set none. */
export function targetRatio(engine: string, codec: string, kernelBytes: number): number | null {
  // A demo that only prints a line is no kernel: there is nothing for a codec to gain.
  if (kernelBytes < LEAST_KERNEL_BYTES) return null;
  const tiny = kernelBytes < TINY_KERNEL_BYTES;
  if (engine === 'wasm') {
    if (tiny) return null;
    return codec === 'xz' ? 0.25 : codec === 'zstd' ? 0.3 : codec === 'lz4' ? 0.6 : null;
  }
  if (codec === 'xz') return 0.4;
  if (codec === 'lzma' || codec === 'bzip2') return tiny ? 0.6 : null;
  if (tiny) return 0.5;
  return codec === 'zstd' ? 0.5 : codec === 'lz4' ? 0.9 : null;
}

/** The same where the guest decompresses by itself. */
export function emulatedTarget(engine: string, codec: string, kernelBytes: number): number | null {
  if (engine !== 'native' || kernelBytes < TINY_KERNEL_BYTES) return null;
  return codec === 'zstd' ? 3 : codec === 'lz4' ? 4 : null;
}

/** `verify` over the emulated boot that it contains. */
export const VERIFY_TARGET = 1.2;

/** Single steps in a second, by engine. */
export const STEP_TARGETS: Readonly<Record<string, number>> = { native: 3e6, wasm: 1e6 };

export interface Comparison {
  readonly name: string;
  readonly old: number;
  readonly new: number;
  /** New over old: above 1 is slower. */
  readonly ratio: number;
}

/**
 * Pairs what both runs measured. Boots are compared by their ratio to QEMU in the same run, which a busier or
 * slower machine changes little; everything else by its time.
 */
export function compareResults(before: BenchResult, after: BenchResult): Comparison[] {
  const old = figures(before);
  return [...figures(after)].flatMap(([name, value]) => {
    const reference = old.get(name);
    return reference === undefined ? [] : [{ name, old: reference, new: value, ratio: value / reference }];
  });
}

function figures(result: BenchResult): Map<string, number> {
  const map = new Map<string, number>();
  const boots = [
    ...result.boots.map((row) => ['boot', row] as const),
    ...(result.emulated ?? []).map((row) => ['emulated boot', row] as const),
  ];
  for (const [what, row] of boots) {
    const name = `${what} ${row.image} (${row.engine})`;
    if (row.ratio !== null) map.set(`${name}, ratio to QEMU`, row.ratio);
    else map.set(`${name}, ms`, row.bootscope.median);
    map.set(`${name}, peak MB`, row.memory.bootscope / 1e6);
  }
  for (const row of result.codecs) {
    const name = `codec ${row.codec}`;
    if (row.tool !== null) map.set(`${name}, ratio to its tool`, row.later.median / row.tool.median);
    else map.set(`${name}, ms`, row.later.median);
  }
  for (const row of result.commands) map.set(`${row.command}, ms`, row.time.median);
  for (const { image, engine, ratio } of result.verifications ?? []) {
    map.set(`verify ${image} (${engine}), ratio to its emulated boot`, ratio);
  }
  for (const { engine, perSecond } of result.stepRates) {
    map.set(`single steps (${engine}), µs a step`, 1e6 / perSecond);
  }
  for (const { image, engine, later, memory } of result.warmBoots ?? []) {
    const name = `openBoot ${image} (${engine}), warm`;
    map.set(`${name}, CPU ms`, later.median);
    map.set(`${name}, peak MB`, memory / 1e6);
  }
  for (const { checks, cpu, perSecond, memory } of result.checkRates ?? []) {
    const name = `check --matrix of ${checks}`;
    map.set(`${name}, ms a check`, 1000 / perSecond);
    map.set(`${name}, CPU ms a check`, cpu);
    map.set(`${name}, peak MB of a process`, memory / 1e6);
  }
  for (const { image, what, time } of result.explorer)
    map.set(`explorer, ${what} of ${image}, ms`, time.median);
  return map;
}
