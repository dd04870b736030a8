// `bootscope trace` on a real stub, and the kernel's own kallsyms against the System.map of its build.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hasNativeEngine } from '../src/cpu/native.ts';
import { extractVmlinux } from '../src/image/extract-vmlinux.ts';
import { readKernelImage } from '../src/index.ts';
import { findKallsyms } from '../src/trace/kallsyms.ts';
import { buildCommand, COMMAND } from './command.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const BUILT = join(ROOT, 'images/cache/built');
const DEBIAN = join(ROOT, 'images/cache/debian');
const builtKernels = existsSync(BUILT)
  ? readdirSync(BUILT).filter((name) => existsSync(join(BUILT, name, 'System.map')))
  : [];
const debianKernels = existsSync(DEBIAN) ? readdirSync(DEBIAN) : [];
const traced = builtKernels.find((name) => name === 'x64-gzip');
const missing =
  traced === undefined
    ? 'no kernel built by scripts/build-kernels is there'
    : hasNativeEngine()
      ? null
      : 'no native engine is there';
const folder = mkdtempSync(join(tmpdir(), 'bootscope-'));
beforeAll(buildCommand);
afterAll(() => rmSync(folder, { recursive: true }));

describe('bootscope trace', () => {
  const image = join(BUILT, traced ?? '', 'bzImage');
  const command = `${process.execPath} ${COMMAND} trace ${image} --cmdline nokaslr --engine native`;
  const run = (rest: string) =>
    spawnSync('bash', ['-o', 'pipefail', '-c', `${command} ${rest}`], { cwd: ROOT, encoding: 'utf8' });

  it.skipIf(missing !== null)(
    `writes setup's first instructions first, up to a phase${missing === null ? '' : ` (${missing})`}`,
    () => {
      const file = join(folder, 'trace.txt');
      const { status, stderr } = run(`--to startup_32 -o ${file}`);
      expect([status, stderr]).toEqual([0, '']);
      const lines = readFileSync(file, 'utf8').split('\n');
      expect(lines[0]).toBe('# setup at 0x90200');
      expect(lines[1]).toMatch(/^ {2}0x90200 real16 9020:0000 eb [0-9a-f]{2} +jmp /);
      expect(lines.some((line) => line.includes(' prot32 '))).toBe(true);
      expect(lines.some((line) => line.trim().startsWith('0x100000 '))).toBe(false);
    },
  );

  it.skipIf(missing !== null)(
    `ends quietly when its reader goes${missing === null ? '' : ` (${missing})`}`,
    () => {
      const { status, stdout, stderr } = run('| head -5');
      expect([status, stderr]).toEqual([0, '']);
      expect(stdout.split('\n').length).toBe(6);
    },
  );

  it.skipIf(missing !== null)(
    `names the stub's functions in JSON lines${missing === null ? '' : ` (${missing})`}`,
    () => {
      const stub = join(BUILT, traced!, 'stub');
      const { status, stdout } = run(
        `--from startup_64 --to extract_kernel --only cr --format jsonl --zo-vmlinux ${stub}`,
      );
      expect(status).toBe(0);
      const lines = stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line));
      const loads = lines.filter(({ text }) => /mov.*cr4/.test(text ?? ''));
      expect(loads.length).toBeGreaterThan(0);
      expect(loads[0].symbol).toMatch(/^startup_64\+0x/);
    },
  );

  it.skipIf(missing !== null)(
    `names where calls go to, and the kernel's entry${missing === null ? '' : ` (${missing})`}`,
    () => {
      const [stub, map] = ['stub', 'System.map'].map((file) => join(BUILT, traced!, file));
      const { status, stdout } = run(
        `--from relocated --only calls --zo-vmlinux ${stub} --system-map ${map}`,
      );
      expect(status).toBe(0);
      expect(stdout).toMatch(/^# extract_kernel at 0x[0-9a-f]+ <extract_kernel>$/m);
      expect(stdout).toMatch(/<_text\+0x[0-9a-f]+> call {4}0x[0-9a-f]+ <extract_kernel> /);
      expect(stdout).toMatch(/\n# kernel at 0x1000000 <startup_64>\n$/);
      const withVmlinux = run(`--from decompressed --vmlinux ${join(BUILT, traced!, 'vmlinux')}`);
      expect(withVmlinux.stdout).toMatch(/\n# kernel at 0x1000000 <startup_64>\n$/);
    },
  );

  it.skipIf(missing !== null)(
    `refuses a file without symbols before it boots${missing === null ? '' : ` (${missing})`}`,
    () => {
      const output = join(folder, 'never.txt');
      const { status, stderr } = run(`--system-map ${join(BUILT, traced!, 'config')} -o ${output}`);
      expect(stderr).toMatch(/^bootscope: .*config, line 1: [^\n]* is not `ADDRESS TYPE NAME`\n$/);
      expect(status).toBe(2);
      expect(existsSync(output)).toBe(false);
    },
  );
});

describe('kallsyms', () => {
  const open = async (path: string) => {
    const { elf } = await extractVmlinux(await readKernelImage(path, readFileSync(path)));
    return { elf: elf!, table: findKallsyms(elf!) };
  };

  it.skipIf(debianKernels.length === 0)(
    'names the entry of distribution kernels (skipped where none is there)',
    async () => {
      for (const name of debianKernels) {
        const { elf, table } = await open(join(DEBIAN, name));
        const entry = elf.entry + (elf.programHeaders[0]!.vaddr - elf.programHeaders[0]!.paddr);
        expect(table?.name(entry), name).toBe('startup_64');
      }
    },
  );

  const withKallsyms = builtKernels.filter((name) =>
    /^CONFIG_KALLSYMS=y/m.test(readFileSync(join(BUILT, name, 'config'), 'utf8')),
  );
  it.skipIf(withKallsyms.length === 0 || !hasNativeEngine())(
    "names the kernel's entry in a trace (skipped where no kernel was built with kallsyms)",
    () => {
      for (const name of withKallsyms) {
        const image = join(BUILT, name, 'bzImage');
        const { stdout } = spawnSync(
          process.execPath,
          [COMMAND, 'trace', image, '--cmdline', 'nokaslr', '--from', 'decompressed'],
          { cwd: ROOT, encoding: 'utf8' },
        );
        expect(stdout, name).toMatch(/\n# kernel at 0x1000000 <startup_(32|64)>\n$/);
      }
    },
  );

  it.skipIf(withKallsyms.length === 0)(
    'agrees with System.map in every symbol (skipped where no kernel was built with kallsyms)',
    async () => {
      for (const name of withKallsyms) {
        const { table } = await open(join(BUILT, name, 'bzImage'));
        const config = readFileSync(join(BUILT, name, 'config'), 'utf8');
        const map = new Map<string, string>();
        for (const line of readFileSync(join(BUILT, name, 'System.map'), 'utf8')
          .trimEnd()
          .split('\n')) {
          const [address, type, symbol] = line.split(' ');
          map.set(`${BigInt(`0x${address}`).toString(16)} ${symbol}`, type!);
        }
        const seen = new Set<string>();
        const wrong: string[] = [];
        for (let index = 0; index < table!.size; index++) {
          const { address, type, name: symbol } = table!.symbol(index);
          const key = `${address.toString(16)} ${symbol}`;
          seen.add(key);
          // Per-CPU variables, which are linked at 0, are written as absolute.
          if (map.get(key) !== type && (type !== 'A' || !map.has(key))) wrong.push(`${type} ${key}`);
        }
        expect(wrong, name).toEqual([]);
        if (!/^CONFIG_KALLSYMS_ALL=y/m.test(config)) continue;
        // The build leaves out what only the linker needs, and the table's own parts.
        const left = [...map].filter(
          ([key, type]) => !seen.has(key) && type !== 'A' && !/ kallsyms_/.test(key),
        );
        expect(left, name).toEqual([]);
      }
    },
  );
});
