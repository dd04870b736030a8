// What `bootscope` starts with: runs the bundled command (main.ts) from V8's code cache, which saves compiling it at each
// start. `scripts/build.mjs` makes the cache by a run with BOOTSCOPE_WRITE_CODE_CACHE; V8 refuses one of another Node.js
// version, and then compiles as usual.

import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { Script } from 'node:vm';

const filename = join(__dirname, 'command.cjs');
const cacheFile = join(__dirname, 'command.cache');

function readCache(): Buffer | undefined {
  try {
    return readFileSync(cacheFile);
  } catch {
    // None was made: slower by some milliseconds.
    return undefined;
  }
}

const cachedData = process.env.BOOTSCOPE_WRITE_CODE_CACHE ? undefined : readCache();
// The bundle is ASCII, and Latin-1 is what V8 keeps without converting. Around it what Node.js's loader puts around a CommonJS
// module, and `import()`, which code from a cache does not have.
const text = readFileSync(filename, 'latin1');
const source = `(function(exports,require,module,__filename,__dirname,importModule){${text}\n})`;
const script = new Script(source, {
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

if (process.env.BOOTSCOPE_WRITE_CODE_CACHE) {
  // At the end, since the cache holds the functions that were needed until then.
  process.on('exit', () => {
    writeFileSync(`${cacheFile}.new`, script.createCachedData());
    renameSync(`${cacheFile}.new`, cacheFile);
  });
}
