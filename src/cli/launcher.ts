// What `bootscope` starts with: runs the bundled command (main.ts) from V8's code cache, which saves compiling it at each
// start. Each subcommand has a cache of its own, with the functions that it needs: its first run leaves it in the user's cache
// folder. V8 refuses one of another Node.js.

import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { Script } from 'node:vm';

const EXIT_UNUSABLE = 2;

const filename = join(__dirname, 'command.cjs');
const { cacheFolder, cacheName, checkout, build } = cachePlace();

/** Where the cache of this very build is: V8 tells code from other code by its length alone. */
function cachePlace(): { cacheFolder: string; cacheName: string; checkout: string; build: string } {
  const { env, platform, version, arch, argv } = process;
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
  const checkout = `${hash.toString(36)}-`;
  const build = `-${size}-${ino}-${mtimeMs}-${version}-${arch}`;
  const [subcommand = ''] = /^[a-z]*$/.exec(argv[2] ?? '') ?? [];
  return {
    cacheFolder: join(caches, 'bootscope', 'code'),
    cacheName: `${checkout}${subcommand}${build}`,
    checkout,
    build,
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
if (cachedData === undefined || script.cachedDataRejected === true) leaveCache();

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

/** At the end, since the cache holds the functions that were needed until then. */
function leaveCache(): void {
  const { setFlagsFromString } = process.getBuiltinModule('node:v8');
  // In a long run V8 drops code that has not been used for a while, all that starts the command with it.
  setFlagsFromString('--no-flush-bytecode');
  process.on('exit', (status) => {
    // V8 takes a cache for code of other settings otherwise.
    setFlagsFromString('--flush-bytecode');
    // Of a command that could not be used it would hold next to nothing.
    if (status < EXIT_UNUSABLE) writeCache();
  });
}

function writeCache(): void {
  try {
    mkdirSync(cacheFolder, { recursive: true });
    for (const name of readdirSync(cacheFolder)) {
      if (name.startsWith(checkout) && !name.endsWith(build))
        rmSync(join(cacheFolder, name), { force: true });
    }
    const part = join(cacheFolder, `${cacheName}.${process.pid}`);
    writeFileSync(part, script.createCachedData());
    renameSync(part, join(cacheFolder, cacheName));
  } catch {
    // No home, no room, no rights: the command does without.
  }
}
