// How many small kernels `check --matrix` checks in a second, and how many processes of one check each do: the rest is their start.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { CheckRateRow } from './bench-result.ts';
import { type Usage, usageOf } from './command-usage.ts';

const IMAGES = 'images/demo';
const CHECKS = 100;
/** Of the peer, which takes several times as long. */
const CHECKS_ALONE = 20;

/** @param command - the bundled command */
export async function measureCheckRate(
  command: string,
  env: NodeJS.ProcessEnv,
): Promise<Omit<CheckRateRow, 'target'>> {
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

/** Of one process for all of them; processor time of one. */
function workerUsage(command: string, entries: readonly Entry[], env: NodeJS.ProcessEnv): Usage {
  const input = entries.map((entry) => `${JSON.stringify({ ...entry, name: '', ignore: [] })}\n`).join('');
  const { memory, cpu } = usageOf(command, ['check', '--worker'], env, input);
  return { memory, cpu: cpu / entries.length };
}
