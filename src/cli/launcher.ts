// What `bootscope` starts with: runs the bundled command (main.ts) from V8's code cache, which saves compiling it at each
// start. The first run that does something leaves the cache in the user's cache folder; V8 refuses one of another Node.js.

import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { Script } from 'node:vm';

const filename = join(__dirname, 'command.cjs');
const { cacheFolder, cacheName, sameCommand } = cachePlace();

/** Where the cache of this very build is: V8 tells code from other code by its length alone. */
function cachePlace(): { cacheFolder: string; cacheName: string; sameCommand: string } {
  const { env, platform, version, arch } = process;
  const caches =
    env.XDG_CACHE_HOME ||
    (platform === 'win32' && env.LOCALAPPDATA) ||
    join(homedir(), platform === 'darwin' ? 'Library/Caches' : '.cache');
  const { size, mtimeMs, ino } = statSync(filename);
  // FNV-1a: enough to tell checkouts apart, and nothing to load.
  let hash = 0x811c9dc5;
  for (let index = 0; index < filename.length; index++) {
    hash = Math.imul(hash ^ filename.charCodeAt(index), 0x01000193) >>> 0;
  }
  const sameCommand = `${hash.toString(36)}-`;
  return {
    cacheFolder: join(caches, 'bootscope', 'code'),
    cacheName: `${sameCommand}${size}-${ino}-${mtimeMs}-${version}-${arch}`,
    sameCommand,
  };
}

function readCache(): Buffer | undefined {
  try {
    return readFileSync(join(cacheFolder, cacheName));
  } catch {
    // None was made: slower by some milliseconds.
    return undefined;
  }
}

const cachedData = readCache();
// The build has put around it what Node.js's loader puts around a CommonJS module, and `import()`, which code from a cache does
// not have. The bundle is ASCII, and Latin-1 is what V8 keeps without converting.
const script = new Script(readFileSync(filename, 'latin1'), {
  filename,
  ...(cachedData === undefined ? {} : { cachedData }),
});
const commandModule = { exports: {} };
const run = script.runInThisContext() as (...parameters: readonly unknown[]) => void;
run(
  commandModule.exports,
  createRequire(filename),
  commandModule,
  filename,
  __dirname,
  (specifier: string) => import(specifier),
);

if (cachedData === undefined || script.cachedDataRejected === true) {
  // At the end, since the cache holds the functions that were needed until then; those of a boot, where it was one.
  process.on('exit', (status) => {
    if (status === 0 && process.argv.length > 3) writeCache();
  });
}

function writeCache(): void {
  try {
    mkdirSync(cacheFolder, { recursive: true });
    for (const name of readdirSync(cacheFolder)) {
      if (name.startsWith(sameCommand)) rmSync(join(cacheFolder, name), { force: true });
    }
    const part = join(cacheFolder, `${cacheName}.${process.pid}`);
    writeFileSync(part, script.createCachedData());
    renameSync(part, join(cacheFolder, cacheName));
  } catch {
    // No home, no room, no rights: the command does without.
  }
}
