// `bootscope report` and `layout` as they are called: each format to a file and to standard output, what they refuse, and the
// map on a terminal.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { XMLValidator } from 'fast-xml-parser';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hasNativeEngine } from '../src/cpu/native.ts';
import { findWasmEngine } from '../src/cpu/wasm-file.ts';
import { readElf, readElfSymbols } from '../src/image/elf.ts';
import { bootscope, buildCommand } from './command.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const IMAGE = join(ROOT, 'images/demo/demo-zstd.bzImage');
const noEngine =
  hasNativeEngine() || findWasmEngine() !== null ? null : 'there is no Unicorn, neither native nor WASM';
const describeBoots = noEngine === null ? describe : describe.skip;

const validateTrace = new Ajv2020({ allErrors: true, allowUnionTypes: true }).compile(
  JSON.parse(readFileSync(join(ROOT, 'docs/trace.schema.json'), 'utf8')) as object,
);

/** Whether a text is of a format; the name of the file that the format is the default of. */
const FORMATS = {
  html: {
    name: 'report.html',
    check: (text: string) => /^<!doctype html>[\s\S]*<\/html>\n$/.test(text),
  },
  svg: {
    name: 'report.svg',
    check: (text: string) => XMLValidator.validate(text) === true && text.includes('</svg>'),
  },
  'chrome-trace': {
    name: null,
    check: (text: string) => (JSON.parse(text) as { traceEvents: unknown[] }).traceEvents.length > 20,
  },
  json: {
    name: 'report.json',
    check: (text: string) => validateTrace(JSON.parse(text)),
  },
} as const;

let folder = '';
beforeAll(() => {
  if (noEngine === null) buildCommand();
  folder = mkdtempSync(join(tmpdir(), 'bootscope-report-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describeBoots(noEngine === null ? 'bootscope report' : `bootscope report (${noEngine})`, () => {
  it.each(Object.entries(FORMATS))(
    'writes %s to standard output and to a file, the same bytes',
    async (format, { name, check }) => {
      const printed = await bootscope(['report', IMAGE, '--format', format, '-o', '-']);
      expect(printed).toMatchObject({ status: 0, stderr: '' });
      expect(check(printed.stdout)).toBe(true);
      const path = join(folder, name ?? 'report.trace');
      const written = await bootscope([
        'report',
        IMAGE,
        '-o',
        path,
        ...(name === null ? ['--format', format] : []),
      ]);
      expect(written).toEqual({ status: 0, stdout: '', stderr: '' });
      expect(readFileSync(path, 'utf8')).toBe(printed.stdout);
    },
  );

  it('draws a saved trace as the boot itself, and takes nothing that only a boot could follow', async () => {
    const saved = join(folder, 'saved.json');
    expect((await bootscope(['report', IMAGE, '-o', saved])).status).toBe(0);
    const [again, boot] = await Promise.all(
      [saved, IMAGE].map((path) => bootscope(['report', path, '-o', '-', '--format', 'svg'])),
    );
    expect(again).toEqual(boot);
    const path = join(folder, 'refused.html');
    for (const option of [
      ['--memory', '1G'],
      ['--vmlinux', 'vmlinux'],
    ]) {
      const { status, stderr } = await bootscope(['report', saved, '-o', path, ...option]);
      expect({ status, stderr }).toEqual({
        status: 2,
        stderr: `bootscope: ${saved} is a recorded trace; nothing is booted, so options of a boot and files with symbols change nothing\n`,
      });
    }
    expect(existsSync(path)).toBe(false);
  });

  it('writes over no file unless it is forced to', async () => {
    const path = join(folder, 'kept.svg');
    writeFileSync(path, 'kept');
    expect(await bootscope(['report', IMAGE, '-o', path])).toEqual({
      status: 2,
      stdout: '',
      stderr: `bootscope: ${path} exists already, --force overwrites it\n`,
    });
    expect(readFileSync(path, 'utf8')).toBe('kept');
    expect(await bootscope(['report', IMAGE, '-o', path, '--force'])).toMatchObject({
      status: 0,
      stderr: '',
    });
    expect(readFileSync(path, 'utf8')).toContain('</svg>');
  });

  it('refuses, before anything is booted, what it cannot write', async () => {
    const refused = async (...args: string[]): Promise<string> => {
      const { status, stdout, stderr } = await bootscope(['report', join(folder, 'no-image'), ...args]);
      expect([status, stdout, stderr.split('\n').length]).toEqual([2, '', 2]);
      return stderr;
    };
    const missing = join(folder, 'missing', 'report.html');
    expect(await refused('-o', missing)).toContain(`${missing} cannot be written`);
    expect(await refused('-o', join(folder, 'x.pdf'), '--format', 'pdf')).toContain(
      'it is one of html, svg, chrome-trace, json',
    );
    expect(await refused('-o', join(folder, 'x.svg'), '--scale', 'cubic')).toContain('it is one of');
    expect(await refused()).toContain("'-o, --output <file>' not specified");
    expect(existsSync(missing)).toBe(false);
  });

  it('reports a boot that ends early, and says so by its status', async () => {
    const bytes = readFileSync(IMAGE);
    const payload = (bytes[0x1f1]! + 1) * 512 + bytes.readUInt32LE(0x248);
    const middle = payload + (bytes.readUInt32LE(0x24c) >> 1);
    for (let index = middle; index < middle + 40; index++) bytes[index]! ^= 0x5a;
    const damaged = join(folder, 'damaged.bzImage');
    writeFileSync(damaged, bytes);
    for (const [format, { check }] of Object.entries(FORMATS)) {
      const ended = await bootscope(['report', damaged, '--format', format, '-o', '-']);
      expect(ended.status).toBe(1);
      expect(check(ended.stdout)).toBe(true);
      if (format !== 'svg') expect(ended.stdout).toContain('is damaged at offset');
    }
  });

  it('ends quietly when the reader of its output has enough', async () => {
    const { status, stderr } = await bootscope(['report', IMAGE, '-o', '-'], { readOnly: 100 });
    expect([status, stderr]).toEqual([0, '']);
  });

  const fetched = join(ROOT, 'images/cache/debian');
  const largest = (existsSync(fetched) ? readdirSync(fetched) : [])
    .filter((name) => name.startsWith('vmlinuz-'))
    .map((name) => join(fetched, name))
    .sort((a, b) => statSync(a).size - statSync(b).size)
    .at(-1);
  const what = 'stays below 2 MB for the largest image that was fetched, with all its events';
  it.skipIf(largest === undefined)(
    largest === undefined ? `${what} (left out: none was fetched)` : what,
    async () => {
      const { status, stdout } = await bootscope(['report', largest!, '--cmdline', 'nokaslr', '-o', '-']);
      expect(status).toBe(0);
      expect(Buffer.byteLength(stdout)).toBeLessThan(2_000_000);
      expect(stdout).toContain('"eventsLeftOut":0');
    },
  );
});

const BUILT = join(ROOT, 'images/cache/built');
const builtKernels = existsSync(BUILT)
  ? readdirSync(BUILT).filter((name) => existsSync(join(BUILT, name, 'System.map')))
  : [];
/** One without kallsyms, and one with. */
const [plain, withKallsyms] = ['x64-gzip', 'x64-kallsyms'].map((wanted) =>
  builtKernels.find((name) => name === wanted),
);
const unbuilt =
  noEngine ??
  (plain === undefined || withKallsyms === undefined
    ? 'no kernels x64-gzip and x64-kallsyms were built: scripts/build-test-kernels'
    : null);

describe.skipIf(unbuilt !== null)(
  unbuilt === null ? 'names in reports and layouts' : `names in reports and layouts (left out: ${unbuilt})`,
  () => {
    const file = (name: string, kernel = plain): string => join(BUILT, kernel ?? '', name);
    const stubOptions = ['--zo-vmlinux', file('stub')];

    interface Named {
      readonly symbol?: string;
    }
    interface NamedJson {
      readonly phases: readonly (Named & {
        readonly name: string;
        readonly address: string;
        readonly regions: readonly { readonly name: string; readonly start: string }[];
      })[];
      readonly events: readonly (Named & { readonly phase: string; readonly address: string })[];
      readonly kernel: {
        readonly entry: string;
        readonly entrySymbol?: string;
        readonly segments: readonly (Named & { readonly vaddr: string })[];
      };
    }

    async function json(...options: readonly string[]): Promise<NamedJson> {
      const { status, stdout, stderr } = await bootscope([
        ...['report', file('bzImage'), '--format', 'json', '-o', '-'],
        ...options,
      ]);
      expect([status, stderr]).toEqual([0, '']);
      const trace: unknown = JSON.parse(stdout);
      expect(validateTrace(trace)).toBe(true);
      return trace as NamedJson;
    }

    it("names the entry and the segments' starts as System.map has them, from it or from vmlinux", async () => {
      const lines = new Set(
        readFileSync(file('System.map'), 'utf8')
          .split('\n')
          .map((line) => line.replace(/ \S /, ' ')),
      );
      for (const options of [
        ['--system-map', file('System.map')],
        ['--vmlinux', file('vmlinux')],
      ]) {
        const { kernel, phases, events } = await json(...options);
        expect(kernel.entrySymbol).toBe('startup_64');
        expect(kernel.segments.length).toBeGreaterThan(2);
        for (const { vaddr, symbol } of kernel.segments)
          expect([...lines]).toContain(`${vaddr.slice(2)} ${symbol}`);
        expect(phases.filter(({ symbol }) => symbol !== undefined)).toMatchObject([
          { name: 'kernel', symbol: 'startup_64' },
        ]);
        expect(events.filter(({ symbol }) => symbol !== undefined)).toEqual([]);
      }
    });

    it('names the phases and events in the stub by its symbols, loaded and copied', async () => {
      const symbols = new Map(
        readElfSymbols(readElf(readFileSync(file('stub')))).map(({ name, value }) => [name, value]),
      );
      const { phases, events } = await json(...stubOptions);
      const inStub = phases.filter(({ name }) => !['setup', 'kernel'].includes(name));
      expect(inStub.length).toBeGreaterThan(4);
      const named = [...inStub, ...events.filter(({ symbol }) => symbol !== undefined)];
      expect(named.length).toBeGreaterThan(inStub.length + 10);
      for (const place of named) {
        const phase = 'phase' in place ? phases.find(({ name }) => name === place.phase)! : place;
        const copied = !['startup_32', 'startup_64', 'setup'].includes(phase.name);
        const zo = phase.regions.find(({ name }) => name === (copied ? 'ZO copy' : 'ZO as loaded'))!;
        const [symbol, offset = '0'] = (place.symbol ?? '').split('+');
        expect(symbols.get(symbol!)! + BigInt(offset)).toBe(BigInt(place.address) - BigInt(zo.start));
      }
      const setup = phases.find(({ name }) => name === 'setup');
      expect(setup?.symbol).toBeUndefined();
    });

    it('reads kallsyms for a report by itself, for a layout when it is asked to', async () => {
      const image = file('bzImage', withKallsyms);
      const report = await bootscope(['report', image, '-o', '-']);
      expect(report.stdout).toMatch(/"entrySymbol":"startup_64"/);
      const without = await bootscope(['layout', image, '--phase', 'kernel']);
      expect(without.stdout).toMatch(/^kernel {2}0x1000000 {2}long64/m);
      expect(without.stdout).not.toContain('segments start with');
      const asked = await bootscope(['layout', image, '--phase', 'kernel', '--symbols']);
      expect(asked.stdout).toMatch(/^kernel {2}0x1000000 <startup_64> {2}long64/m);
      expect(asked.stdout).toMatch(
        /segments start with: 0x1000000 <startup_64>, 0x1[0-9a-f]{6}\s+<early_idt_handler_array>/,
      );
      const none = await bootscope(['report', file('bzImage'), '-o', '-']);
      expect([none.status, none.stderr]).toEqual([0, '']);
      expect(none.stdout).toMatch(/"entrySymbol":null/);
    });

    it('names in a layout what is asked for, and in the table and JSON of a boot', async () => {
      const map = ['--system-map', file('System.map')];
      const layout = await bootscope(['layout', file('bzImage'), ...stubOptions, ...map]);
      expect(layout.stdout).toMatch(/^startup_32 {2}0x100000 <startup_32> {2}prot32/m);
      expect(layout.stdout).toMatch(/^extract_kernel {2}0x[0-9a-f]+ <extract_kernel> {2}long64/m);
      expect(layout.stdout).toMatch(/^kernel {2}0x1000000 <startup_64> {2}long64/m);
      expect(
        Math.max(
          ...layout.stdout
            .split('\n')
            .slice(1)
            .map((line) => line.length),
        ),
      ).toBeLessThanOrEqual(100);
      const table = await bootscope(['boot', file('bzImage'), ...map]);
      expect(table.stdout).toMatch(/^kernel entry 0x1000000 <startup_64> \(long64\)/m);
      expect(table.stdout).toMatch(/ FLAGS {2}STARTS WITH\n +0 .* r-x {4}startup_64\n/);
      const boot = await bootscope(['boot', file('bzImage'), ...map, '--json']);
      expect(JSON.parse(boot.stdout)).toMatchObject({ kernel: { entrySymbol: 'startup_64' } });
    });

    it('refuses files that are of another kernel or have no symbols, and writes nothing', async () => {
      const stripped = join(folder, 'stripped');
      expect(await bootscope(['extract', file('bzImage'), '-o', stripped])).toMatchObject({ status: 0 });
      const other = file('vmlinux', withKallsyms);
      const otherStub = file('stub', withKallsyms);
      const config = file('config');
      for (const [option, path, reason] of [
        ['--vmlinux', other, `${other} is of another kernel: its segment 0 is 0x`],
        ['--vmlinux', stripped, `${stripped} has no symbols: it is stripped`],
        ['--vmlinux', config, `${config}: there is no ELF file`],
        ['--zo-vmlinux', otherStub, "the stub's ELF file is of another image: its payload is 0x"],
        ['--zo-vmlinux', config, `${config}: there is no ELF file`],
        ['--zo-vmlinux', folder, `${folder} is a directory`],
        ['--system-map', config, `${config}, line 1: `],
        ['--system-map', join(folder, 'none.map'), `${join(folder, 'none.map')} does not exist`],
      ] as const) {
        const output = join(folder, 'never.html');
        for (const command of [['report', '-o', output], ['layout']]) {
          const { status, stdout, stderr } = await bootscope([...command, file('bzImage'), option, path]);
          expect([status, stdout, stderr.split('\n').length]).toEqual([2, '', 2]);
          expect(stderr).toContain(`bootscope: ${reason}`);
        }
        expect(existsSync(output)).toBe(false);
      }
    });
  },
);

describeBoots(noEngine === null ? 'bootscope layout on a terminal' : `bootscope layout (${noEngine})`, () => {
  const args = ['layout', IMAGE];
  const script = spawnSync('script', ['--version']).status === 0;
  const SGR = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`, 'g');

  /** What a terminal of so many columns is sent. */
  function onTerminal(columns: number, env: Readonly<Record<string, string>> = {}): string {
    const command = [process.execPath, join(ROOT, 'dist/bootscope.cjs'), ...args]
      .map((word) => `'${word}'`)
      .join(' ');
    const { stdout, status } = spawnSync(
      'script',
      ['-qec', `stty cols ${columns}; ${command}`, '/dev/null'],
      { encoding: 'utf8', env: { ...process.env, TERM: 'xterm-256color', NO_COLOR: '', ...env } },
    );
    expect(status).toBe(0);
    return stdout.replaceAll('\r\n', '\n');
  }

  it.skipIf(!script)('has the same words in colour, and stays within its columns', async () => {
    const { stdout } = await bootscope(args);
    expect(stdout).not.toMatch(SGR);
    expect(widest(stdout)).toBeLessThanOrEqual(100);
    const coloured = onTerminal(100);
    expect(coloured).toMatch(SGR);
    expect(coloured.replace(SGR, '')).toBe(stdout);
    expect(onTerminal(100, { NO_COLOR: '1' })).toBe(stdout);
    for (const columns of [80, 132]) {
      const width = widest(onTerminal(columns).replace(SGR, ''));
      expect(width).toBeLessThanOrEqual(columns);
      expect(width).toBeGreaterThan(columns - 20);
    }
  });

  /** Columns of the longest line; the first begins with the path of the image, which may be long. */
  function widest(text: string): number {
    return Math.max(
      ...text
        .split('\n')
        .slice(1)
        .map((line) => [...line].length),
    );
  }
});
