// The table of image x entry x decompress mode: each cell is the address at which the kernel was entered. Images
// whose cells are equal share a row; a boot whose kernel differs from the first one's of its image is marked.

import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { readKernelImage } from '../src/index.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const COMMAND = join(ROOT, 'dist/bootscope.cjs');
const README = join(ROOT, 'README.md');
const [BEGIN, END] = ['<!-- boot-table -->', '<!-- /boot-table -->'];

const ENTRIES = ['real16', 'prot32', 'long64', 'boot-sector'] as const;
const MODES = ['hooked', 'emulated'] as const;
/** Compressed bytes that the guest decompresses by itself in seconds. */
const SMALL = 1 << 20;

interface Cell {
  readonly entry: string;
  /** Addresses and hashes of the segments. */
  readonly segments: string;
}

/** Kernel entry and segments; a sentence where no kernel was reached. */
function bootOnce(path: string, entry: string, mode: string): Promise<Cell | string> {
  const options = ['--entry', entry, '--decompress', mode, '--cmdline', 'nokaslr', '--json'];
  return new Promise((done) => {
    execFile(
      process.execPath,
      [COMMAND, 'boot', path, ...options],
      { maxBuffer: 1 << 28 },
      (error, stdout, stderr) => {
        if (error !== null) return done(stderr.trim());
        const { kernel, machine } = JSON.parse(stdout);
        if (machine.decompress !== mode) return done('the stub was not recognised');
        done({ entry: kernel.entry, segments: JSON.stringify(kernel.segments) });
      },
    );
  });
}

function findImages(folders: readonly string[]): string[] {
  return folders
    .filter((folder) => existsSync(folder))
    .flatMap((folder) => readdirSync(folder, { recursive: true }).map((name) => join(folder, String(name))))
    .filter((path) => /\/(vmlinuz[^/]*|[^/]*(bz|z)Image)$/.test(path))
    .toSorted();
}

function nameOf(path: string): string {
  return basename(path) === 'bzImage' ? basename(dirname(path)) : basename(path);
}

async function entriesOf(path: string): Promise<{ entries: readonly string[]; payload: number }> {
  const image = await readKernelImage(path, readFileSync(path));
  const payload = image.payload?.length ?? 0;
  if (image.kind === 'zImage') return { entries: ['real16', 'boot-sector'], payload };
  const long = (image.header.get('xloadflags') & 1) !== 0;
  return { entries: long ? ['real16', 'prot32', 'long64'] : ['real16', 'prot32'], payload };
}

async function main(): Promise<void> {
  const program = new Command('scripts/boot-table')
    .description(
      'Prints a Markdown table of image x entry x decompress mode; exit status 1 where a boot differs.',
    )
    .argument('[image...]', 'default: the demo images, and all that is in images/cache')
    .option('--write', `also replace what stands between ${BEGIN} and ${END} in README.md`)
    .option('--all', 'let large kernels decompress themselves, too (minutes)')
    .option('--jobs <n>', 'how many boots at a time', String(availableParallelism()))
    .parse();
  const flags = program.opts<{ write?: boolean; all?: boolean; jobs: string }>();
  const folders = ['images/demo', 'images/cache/debian', 'images/cache/built'].map((name) =>
    join(ROOT, name),
  );
  const paths = program.args.length > 0 ? program.args : findImages(folders);

  const work: { path: string; column: string; entry: string; mode: string }[] = [];
  for (const path of paths) {
    const { entries, payload } = await entriesOf(path);
    for (const entry of entries) {
      for (const mode of MODES) {
        if (mode === 'emulated' && payload > SMALL && flags.all !== true) continue;
        work.push({ path, entry, mode, column: `${entry} ${mode}` });
      }
    }
  }
  const results = new Map<string, Map<string, Cell | string>>(paths.map((path) => [path, new Map()]));
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let job = work[next++]; job !== undefined; job = work[next++]) {
      results.get(job.path)!.set(job.column, await bootOnce(job.path, job.entry, job.mode));
    }
  };
  await Promise.all(Array.from({ length: Number(flags.jobs) }, worker));

  const columns = ENTRIES.flatMap((entry) => MODES.map((mode) => `${entry} ${mode}`)).filter((column) =>
    work.some((job) => job.column === column),
  );
  const rows = new Map<string, string[]>();
  let problems = 0;
  for (const path of paths) {
    const cells = results.get(path)!;
    const first = [...cells.values()].find((cell) => typeof cell !== 'string');
    const shown = columns.map((column) => {
      const cell = cells.get(column);
      if (cell === undefined) return '';
      if (typeof cell !== 'string' && cell.segments === first?.segments && cell.entry === first.entry) {
        return `\`${cell.entry}\``;
      }
      problems++;
      process.stderr.write(
        `${nameOf(path)}, ${column}: ${typeof cell === 'string' ? cell : 'another kernel'}\n`,
      );
      return typeof cell === 'string' ? '**none**' : `**\`${cell.entry}\`**`;
    });
    const row = shown.join(' | ');
    rows.set(row, [...(rows.get(row) ?? []), nameOf(path)]);
  }
  let table = `| image | ${columns.join(' | ')} |\n| ${['---', ...columns.map(() => '---')].join(' | ')} |\n`;
  for (const [row, names] of rows) table += `| ${names.join(', ')} | ${row} |\n`;
  process.stdout.write(table);
  if (flags.write === true) writeReadme(table);
  process.exitCode = problems > 0 ? 1 : 0;
}

function writeReadme(table: string): void {
  const text = readFileSync(README, 'utf8');
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)];
  if (begin < 0 || end < begin) {
    process.stderr.write(`boot-table: README.md has no ${BEGIN} … ${END}; nothing was written\n`);
    return;
  }
  writeFileSync(README, `${text.slice(0, begin + BEGIN.length)}\n${table}${text.slice(end)}`);
}

await main();
