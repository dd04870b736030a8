// The house as docs/architecture.md draws it: each room imports what its row allows, arrows point down, nothing goes in circles.

import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { bootscope, buildCommand } from './command.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const MOST_LINES = 500;
/** What the first comment of a longer file has to say. */
const REASON = /\bLong\b[^.]*: /;

/** Sources without tests and what only they use, and without the pages, which are bundles of their own. */
const files = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts') && !name.includes('/page/'))
  .filter((name) => !/(^|\/)(test-[^/]*|each-[^/]*|[^/]*\.test)\.ts$/.test(name));
const texts = new Map(files.map((name) => [name, readFileSync(join(ROOT, 'src', name), 'utf8')]));

/** `boot` of `boot/session.ts`; null for the files that every room may use, and the public face. */
function roomOf(name: string): string | null {
  return name.includes('/') ? name.slice(0, name.indexOf('/')) : null;
}

/** What package.json's `imports` name, as Node takes them; a browser's are checked by the bundle's own test. */
const INTERNAL = Object.fromEntries(
  Object.entries<{ default: string }>(
    JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).imports,
  ).map(([name, { default: path }]) => [name, path.slice('./src/'.length)]),
);

/** Files that a file imports. @param which - `loaded`: without types, and without what is loaded on demand */
function importsOf(name: string, which: 'all' | 'loaded'): string[] {
  const found: string[] = [];
  for (const [, type, path] of texts
    .get(name)!
    .matchAll(/^(?:import|export)\b( type\b)?[^;]*?\bfrom '([.#][^']+)';/gms)) {
    if (which === 'all' || type === undefined) found.push(path!);
  }
  if (which === 'all') {
    for (const [, path] of texts.get(name)!.matchAll(/\bimport\('(\.[^']+)'\)/g)) found.push(path!);
  }
  return found
    .map((path) => INTERNAL[path] ?? normalize(join(dirname(name), path)))
    .filter((path) => texts.has(path));
}

/** The rows of the table of rooms, from the top, and what each may import. */
const rooms = [
  ...readFileSync(join(ROOT, 'docs/architecture.md'), 'utf8').matchAll(
    /^\| `src\/([a-z0-9]+)\/` \| [^|]* \|([^|]*)\|$/gm,
  ),
].map(([, name, imports]) => ({ name: name!, imports: imports!.trim() }));
const order = rooms.map(({ name }) => name);

describe('the house', () => {
  it('has a row for every room, and a room for every row', () => {
    const real = new Set(files.map(roomOf).filter((name) => name !== null));
    expect([...real].sort()).toEqual([...order].sort());
  });

  it('has arrows that point down alone', () => {
    for (const { name, imports } of rooms) {
      if (imports === '' || imports === 'everything below') continue;
      for (const other of imports.split(', ')) {
        expect(order.indexOf(other), `${name} imports ${other}`).toBeGreaterThan(order.indexOf(name));
      }
    }
  });

  it('has no import that its table does not draw, and draws none that is not there', () => {
    const real = new Map(order.map((name) => [name, new Set<string>()]));
    for (const name of files) {
      const room = roomOf(name);
      if (room === null) continue;
      for (const path of importsOf(name, 'all')) {
        const other = roomOf(path);
        if (other !== null && other !== room) real.get(room)!.add(other);
      }
    }
    for (const { name, imports } of rooms) {
      const found = [...real.get(name)!].sort();
      if (imports === 'everything below') {
        const above = found.filter((other) => order.indexOf(other) < order.indexOf(name));
        expect(above, name).toEqual([]);
      } else {
        expect(found, name).toEqual(imports === '' ? [] : imports.split(', ').sort());
      }
    }
  });

  it('uses Node through the host alone, but for the command, the server and the engines that are files', () => {
    const own =
      /^(cli|host)\/|^explorer\/(server|explorer-files)\.ts$|^report\/page-assets\.ts$|^cpu\/(native|host-pages|crash-guard|find-library|open|wasm-file)\.ts$/;
    const bound = files.filter((name) => {
      const code = texts
        .get(name)!
        .replace(/^\s*(\/\/|\*|\/\*).*$/gm, '')
        .replace(/'[^'\n]*Buffer[^'\n]*'/g, '');
      return !own.test(name) && /from 'node:|\bBuffer\.|\bprocess\./.test(code);
    });
    expect(bound).toEqual([]);
  });

  it('names no flag of the command below the command line, where a program reads the sentence', async () => {
    buildCommand();
    const { stdout } = await bootscope(['completion', 'bash']);
    const flags = new Set(stdout.match(/(?<![\w-])--[a-z][a-z-]*/g));
    expect(flags.size).toBeGreaterThan(50);
    const named = files
      .filter((name) => roomOf(name) !== 'cli')
      .flatMap((name) => {
        // `--format=lzma` is an option of xz, with a value as the command's own texts never write it.
        const words = texts.get(name)!.match(/(?<![\w-])--[a-z][a-z-]*(?![\w=-])/g) ?? [];
        return words.filter((word) => flags.has(word)).map((word) => `${name}: ${word}`);
      });
    expect(named).toEqual([]);
  });

  it('has no files that load each other in a circle', () => {
    const state = new Map<string, 'open' | 'done'>();
    const circles: string[] = [];
    const visit = (name: string, path: readonly string[]): void => {
      if (state.get(name) === 'done') return;
      if (state.get(name) === 'open') {
        circles.push([...path.slice(path.indexOf(name)), name].join(' → '));
        return;
      }
      state.set(name, 'open');
      for (const next of importsOf(name, 'loaded')) visit(next, [...path, name]);
      state.set(name, 'done');
    };
    for (const name of files) visit(name, []);
    expect(circles).toEqual([]);
  });

  it('tells in the first comment of a long file why it is one file', () => {
    const silent = files.filter((name) => {
      const text = texts.get(name)!;
      const comment = /^(?:\/\/.*\n)+/.exec(text)?.[0] ?? '';
      return text.split('\n').length > MOST_LINES && !REASON.test(comment.replaceAll('\n//', ''));
    });
    expect(silent).toEqual([]);
  });

  it('says in the first comment of each file what it is for', () => {
    expect(files.filter((name) => !texts.get(name)!.startsWith('// '))).toEqual([]);
  });
});
