// Writes src/error-codes.ts: the codes of all errors that the sources throw, so that users of the library can match on a type.
// `npx tsx scripts/error-codes.ts` does, and test/error-codes.test.ts says when it has to be done again.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const FILE = join(ROOT, 'src/error-codes.ts');

/** Codes are literals where an error is made, or are named `…code` and given as one. */
const CODE = /(?:BootscopeError\(\s*|\bcode = |\bcode: )'([a-z][a-z0-9]*(?:-[a-z0-9]+)+)'/g;
/** Those that are chosen by what a file is. */
const CHOSEN = ['image-corrupt', 'image-disk', 'image-initrd', 'image-not-kernel', 'place'];
/** Calls whose code is one of two. */
const CHOICE = /BootscopeError\(\s*[^'"`(),]*\? '([a-z0-9-]+)' : '([a-z0-9-]+)'/g;

export function errorCodesInSources(): readonly string[] {
  const codes = new Set<string>(CHOSEN);
  for (const name of readdirSync(join(ROOT, 'src'), { recursive: true })) {
    if (!String(name).endsWith('.ts') || String(name).endsWith('.test.ts')) continue;
    const text = readFileSync(join(ROOT, 'src', String(name)), 'utf8');
    if (!text.includes('BootscopeError')) continue;
    for (const [, ...found] of [...text.matchAll(CODE), ...text.matchAll(CHOICE)]) {
      for (const code of found) if (code !== undefined) codes.add(code);
    }
  }
  return [...codes].toSorted();
}

export function errorCodesFile(codes: readonly string[]): string {
  return (
    '// The codes of all errors, by which a program tells them apart; made by scripts/error-codes.ts.\n\n' +
    '/** Every code that a {@link BootscopeError} can have. */\n' +
    `export const ERROR_CODES = [\n${codes.map((code) => `  '${code}',\n`).join('')}] as const;\n\n` +
    '/** By what a program tells one error from another. */\n' +
    'export type ErrorCode = (typeof ERROR_CODES)[number];\n'
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(FILE, errorCodesFile(errorCodesInSources()));
}
