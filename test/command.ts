// Runs the built command as a user does; builds it first where a source is newer.

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
/** The bundle, which Node.js runs. */
export const COMMAND = join(ROOT, 'dist/bootscope.cjs');
const STAMP = join(ROOT, 'node_modules/.build-stamp');

export interface Ended {
  /** Null when a signal ended it. */
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** For `beforeAll`; what decides is the same as in scripts/setup. */
export function buildCommand(): void {
  if (existsSync(STAMP) && existsSync(COMMAND)) {
    const built = statSync(STAMP).mtimeMs;
    const sources = ['src', 'firmware'].flatMap((folder) =>
      readdirSync(join(ROOT, folder), { recursive: true }).map((name) => join(ROOT, folder, String(name))),
    );
    const tested = sources.filter((path) => !path.endsWith('.test.ts'));
    if (tested.every((path) => statSync(path).mtimeMs <= built)) return;
  }
  const { status, stderr } = spawnSync(process.execPath, [join(ROOT, 'scripts/build.mjs')], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`the build failed: ${stderr}`);
}

/** `readOnly`: the reader closes the pipe after so many characters; absent: it reads all. */
export async function bootscope(
  args: readonly string[],
  options: { readonly env?: Readonly<Record<string, string>>; readonly readOnly?: number } = {},
): Promise<Ended> {
  const child = spawn(process.execPath, [COMMAND, ...args], {
    cwd: ROOT,
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    if (options.readOnly !== undefined && stdout.length >= options.readOnly) child.stdout.destroy();
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const status = await new Promise<number | null>((done, fail) => {
    child.on('error', fail);
    child.on('close', done);
  });
  return { status, stdout, stderr };
}
