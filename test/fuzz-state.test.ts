// `npm run fuzz` ended by a signal leaves a state that the next run goes on from, with each case counted once.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { leftOut } from './witnesses.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const CASES = 40;

it.skipIf(leftOut !== null)(
  `a fuzz run that a signal ends goes on where it was${leftOut === null ? '' : ` (left out: ${leftOut})`}`,
  { timeout: 300_000 },
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'bootscope-fuzz-'));
    const state = join(folder, 'state.json');
    const options = ['--import', 'tsx', 'scripts/fuzz.ts', '--target', 'uimage', '--target', 'kaslr-option'];
    const start = [...options, '--seed', '5', '--jobs', '1', '--state', state];
    try {
      const first = spawn(process.execPath, [...start, '--cases', '1000000'], {
        cwd: ROOT,
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      await once(first.stdout, 'data');
      first.kill('SIGTERM');
      const [status] = await once(first, 'exit');
      expect(status).toBe(0);
      expect(existsSync(state)).toBe(true);
      const { next, unfinished } = JSON.parse(readFileSync(state, 'utf8'));
      expect(unfinished.length).toBeLessThan(2);
      const most = Math.max(0, ...(Object.values(next) as number[])) + CASES;
      const second = spawnSync(process.execPath, [...start, '--cases', String(most), '--json'], {
        cwd: ROOT,
        encoding: 'utf8',
      });
      expect(second.status, second.stderr).toBe(0);
      const { counts, total } = JSON.parse(second.stdout);
      expect(total).toBe(2 * most);
      expect(counts.uimage.cases).toBe(most);
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
);
