// How many small kernels `check --matrix` checks in a second, and how many processes of one check each do: the rest is their start.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const IMAGES = 'images/demo';
const CHECKS = 100;
/** Of the peer, which takes several times as long. */
const CHECKS_ALONE = 20;

export interface CheckRate {
  readonly checks: number;
  readonly processes: number;
  readonly perSecond: number;
  readonly alonePerSecond: number;
  /** Processor time of one, in milliseconds. */
  readonly cpu: number;
  /** Peak resident memory of a process that has checked them all, in bytes. */
  readonly memory: number;
}

/** @param command - the bundled command */
export async function measureCheckRate(command: string, env: NodeJS.ProcessEnv): Promise<CheckRate> {
  const folder = mkdtempSync(join(tmpdir(), 'bootscope-checks-'));
  const run = (parameters: readonly string[]) => {
    const { status, stderr } = spawnSync(process.execPath, [command, ...parameters], {
      encoding: 'utf8',
      env,
    });
    if (status !== 0) throw new Error(`bootscope ${parameters.join(' ')} ended with ${status}: ${stderr}`);
  };
  try {
    const known = readdirSync(IMAGES).map((name) => {
      const pair = { image: resolve(IMAGES, name), reference: join(folder, `${name}.json`) };
      run(['record', pair.image, '--output', pair.reference]);
      return pair;
    });
    const entries = Array.from({ length: CHECKS }, (_, index) => known[index % known.length]!);
    const matrix = join(folder, 'matrix.json');
    writeFileSync(matrix, JSON.stringify(entries));

    const startedAt = performance.now();
    run(['check', '--matrix', matrix]);
    const together = performance.now() - startedAt;
    const aloneAt = performance.now();
    await checkAlone(command, entries.slice(0, CHECKS_ALONE), env);
    const alone = performance.now() - aloneAt;
    return {
      checks: CHECKS,
      processes: availableParallelism(),
      perSecond: (CHECKS / together) * 1000,
      alonePerSecond: (CHECKS_ALONE / alone) * 1000,
      ...workerUsage(command, entries, env),
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

type Entry = Readonly<Record<'image' | 'reference', string>>;

/** As many processes at a time as there are cores. */
async function checkAlone(command: string, entries: readonly Entry[], env: NodeJS.ProcessEnv): Promise<void> {
  const left = [...entries];
  const work = async () => {
    for (let entry = left.shift(); entry !== undefined; entry = left.shift()) {
      const { image, reference } = entry;
      const child = spawn(process.execPath, [command, 'check', image, reference], { stdio: 'ignore', env });
      const [status] = (await once(child, 'close')) as [number];
      if (status !== 0) throw new Error(`bootscope check ${image} ended with ${status}`);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, work));
}

function workerUsage(
  command: string,
  entries: readonly Entry[],
  env: NodeJS.ProcessEnv,
): Pick<CheckRate, 'cpu' | 'memory'> {
  const report =
    'import{writeSync}from"node:fs";process.on("exit",()=>{const{maxRSS,userCPUTime,systemCPUTime}=' +
    'process.resourceUsage();writeSync(3,JSON.stringify([maxRSS*1024,(userCPUTime+systemCPUTime)/1000]))})';
  const { output } = spawnSync(
    process.execPath,
    ['--import', `data:text/javascript,${report}`, command, 'check', '--worker'],
    {
      input: entries.map((entry) => `${JSON.stringify({ ...entry, name: '', ignore: [] })}\n`).join(''),
      stdio: ['pipe', 'ignore', 'ignore', 'pipe'],
      encoding: 'utf8',
      env,
    },
  );
  const [memory, cpu] = JSON.parse(output[3] || '[0,0]') as [number, number];
  return { memory, cpu: cpu / entries.length };
}
