// Which libunicorn to load: the system's, what set-up has unpacked for this user, or the one in Python's package `unicorn`.

import { existsSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

export interface LibraryCandidate {
  /** A name that the system's loader looks for, or a file that is there. */
  readonly path: string;
  /** Unicorn's version, where the place tells it; null where it has to be loaded to know. */
  readonly version: string | null;
}

/** The library's file name on this platform. */
export function libraryName(): string {
  if (process.platform === 'win32') return 'unicorn.dll';
  if (process.platform === 'darwin') return 'libunicorn.2.dylib';
  return 'libunicorn.so.2';
}

/** The library as the system finds it, then what lies elsewhere, the newest first. */
export function libraryCandidates(): readonly LibraryCandidate[] {
  return [{ path: libraryName(), version: null }, ...otherLibraries()];
}

/** Libraries in places that the system's loader does not know, the newest first. */
export function otherLibraries(): readonly LibraryCandidate[] {
  const found = [...cachedLibraries(), ...pythonLibraries(), ...homebrewLibraries()];
  return found.sort((a, b) => compareVersions(b.version ?? '0', a.version ?? '0'));
}

/** Less than 0 where `a` is the older: numbers between dots. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [a, b].map((version) => version.split('.').map(Number));
  for (let index = 0; index < 3; index++) {
    const difference = (left![index] ?? 0) - (right![index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** Where set-up unpacks libraries for this user: `$XDG_CACHE_HOME/bootscope/libunicorn/VERSION` or below `~/.cache`. */
function cachedLibraries(): LibraryCandidate[] {
  const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'bootscope', 'libunicorn');
  return folders(cache).flatMap((version) => {
    const path = findBelow(join(cache, version), libraryName(), 6);
    return path === null ? [] : [{ path, version: /^\d+(\.\d+)*$/.test(version) ? version : null }];
  });
}

/** `unicorn/lib/` of the package, whose version stands in the name of the folder beside it. */
function pythonLibraries(): LibraryCandidate[] {
  return pythonFolders().flatMap((packages) => {
    const path = join(packages, 'unicorn', 'lib', libraryName());
    if (!existsSync(path)) return [];
    const info = folders(packages).find((name) => /^unicorn-[\d.]+(post\d+)?\.dist-info$/.test(name));
    return [{ path, version: info?.slice('unicorn-'.length).match(/^\d+(\.\d+)*/)?.[0] ?? null }];
  });
}

/** Where Python's packages lie, without asking a Python: of a virtual environment, the user and the system. */
function pythonFolders(): string[] {
  const home = homedir();
  const prefixes = [
    process.env.VIRTUAL_ENV,
    process.env.CONDA_PREFIX,
    join(home, '.local'),
    '/usr/local',
    '/usr',
  ];
  if (process.platform === 'darwin')
    prefixes.push('/opt/homebrew', ...below(join(home, 'Library', 'Python')));
  if (process.platform === 'win32') {
    const roots = [
      ...below(join(process.env.APPDATA ?? home, 'Python')),
      ...below(join(process.env.LOCALAPPDATA ?? home, 'Programs', 'Python')).map((root) => join(root, 'Lib')),
      ...(process.env.VIRTUAL_ENV ? [join(process.env.VIRTUAL_ENV, 'Lib')] : []),
    ];
    return roots.map((root) => join(root, 'site-packages'));
  }
  return prefixes
    .filter((prefix) => prefix !== undefined && prefix !== '')
    .flatMap((prefix) =>
      folders(join(prefix!, 'lib'))
        .filter((name) => /^python3/.test(name))
        .flatMap((name) =>
          ['site-packages', 'dist-packages'].map((kind) => join(prefix!, 'lib', name, kind)),
        ),
    );
}

function homebrewLibraries(): LibraryCandidate[] {
  if (process.platform !== 'darwin') return [];
  return ['/opt/homebrew/lib', '/usr/local/lib']
    .map((folder) => ({ path: join(folder, libraryName()), version: null }))
    .filter(({ path }) => existsSync(path));
}

function below(folder: string): string[] {
  return folders(folder).map((name) => join(folder, name));
}

/** Names of the folders in one, sorted; none where it cannot be read. */
function folders(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name)
      .sort();
  } catch {
    return [];
  }
}

function findBelow(folder: string, name: string, depth: number): string | null {
  const direct = join(folder, name);
  if (existsSync(direct)) return direct;
  if (depth === 0) return null;
  for (const entry of below(folder)) {
    const found = findBelow(entry, name, depth - 1);
    if (found !== null) return found;
  }
  return null;
}
