// Before any test: a CPU, without which every test of a boot would be left out and the rest would pass, and a folder for all
// temporary files of the run, which goes when the run ends, whatever its tests left in it.

import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { openCpu } from '../src/cpu/open.ts';

const PREFIX = 'bootscope-tests-';
const NAME = `${PREFIX}${process.pid}`;

export async function setup(): Promise<() => void> {
  // Each project of the run calls it.
  if (basename(tmpdir()) === NAME) return () => {};
  try {
    (await openCpu()).close();
  } catch (error) {
    throw new Error(`nothing can be tested: ${error instanceof Error ? error.message : String(error)}`);
  }
  return temporaryFolder();
}

/** Where the workers' temporary files go. Runs that were killed could not remove theirs: this one does. */
function temporaryFolder(): () => void {
  const shared = tmpdir();
  for (const name of readdirSync(shared)) {
    const pid = Number(name.startsWith(PREFIX) ? name.slice(PREFIX.length) : Number.NaN);
    if (pid > 0 && !isRunning(pid)) rmSync(join(shared, name), { recursive: true, force: true });
  }
  const folder = join(shared, NAME);
  mkdirSync(folder, { recursive: true });
  process.env.TMPDIR = folder;
  return () => rmSync(folder, { recursive: true, force: true });
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Somebody else's process is one, too.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
