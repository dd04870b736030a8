// Assembles the blobs of this folder with nasm and writes each one's bytes into the .ts file beside it: `npx tsx firmware/assemble.ts`.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { argv } from 'node:process';
import { fileURLToPath } from 'node:url';

const FOLDER = dirname(fileURLToPath(import.meta.url));
const BYTES_PER_LINE = 32;

export const BLOBS = ['enter-real-mode', 'enter-protected-mode', 'enter-long-mode'] as const;
export type BlobName = (typeof BLOBS)[number];

/** The bytes that nasm makes of `<name>.asm`. Throws where nasm is missing or refuses the source. */
export function assemble(name: BlobName): Uint8Array {
  const scratch = mkdtempSync(join(tmpdir(), 'bootscope-firmware-'));
  try {
    const output = join(scratch, `${name}.bin`);
    execFileSync('nasm', ['-f', 'bin', '-I', `${FOLDER}/`, '-o', output, join(FOLDER, `${name}.asm`)]);
    return new Uint8Array(readFileSync(output));
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

function constantName(name: BlobName): string {
  return name.toUpperCase().replaceAll('-', '_');
}

function moduleText(name: BlobName, bytes: Uint8Array): string {
  const hex = Buffer.from(bytes).toString('hex');
  const lines = hex.match(new RegExp(`.{1,${BYTES_PER_LINE * 2}}`, 'g')) ?? [];
  return [
    `// The bytes of ${name}.asm, written by assemble.ts.`,
    '',
    `export const ${constantName(name)} =`,
    `${lines.map((line) => `  '${line}'`).join(' +\n')};`,
    '',
  ].join('\n');
}

if (argv[1] !== undefined && basename(argv[1]) === 'assemble.ts') {
  for (const name of BLOBS) writeFileSync(join(FOLDER, `${name}.ts`), moduleText(name, assemble(name)));
}
