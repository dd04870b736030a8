// The memory layout against the kernels' own symbols: nm of the stub, readelf of the kernel, and the bytes in guest memory.

import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { registerLayout } from '../src/cli/layout.ts';
import { registerLint } from '../src/cli/lint.ts';
import { takePrinted } from '../src/cli/test-output.ts';
import { readElf } from '../src/image/elf.ts';
import {
  type BootOptions,
  type BootTrace,
  boot,
  DEFAULT_BOOT_OPTIONS,
  type KernelImage,
  type MemoryRegion,
  type PhaseName,
  readKernelImage,
} from '../src/index.ts';
import { nameStubSections } from '../src/trace/stub-sections.ts';

/** What a cpio archive begins with. */
const CPIO = new TextEncoder().encode('070701');

vi.mock('../src/cli/standard-output.ts', async () => import('../src/cli/test-output.ts'));

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const BUILT = join(ROOT, 'images/cache/built');
const DEMO = join(ROOT, 'images/demo');
const hasBinutils = ['nm', 'readelf'].every((tool) => spawnSync(tool, ['--version']).status === 0);
const kernels = existsSync(BUILT)
  ? readdirSync(BUILT).filter((name) => existsSync(join(BUILT, name, 'stub')))
  : [];
const missing = !hasBinutils
  ? 'nm and readelf are not installed'
  : kernels.length === 0
    ? 'no kernel built by scripts/build-kernels is there'
    : null;

const open: { close(): void }[] = [];
const folder = mkdtempSync(join(tmpdir(), 'bootscope-'));
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => {
  vi.restoreAllMocks();
  for (const finished of open.splice(0)) finished.close();
  process.exitCode = 0;
});

const LAYOUT_OPTIONS: BootOptions = { ...DEFAULT_BOOT_OPTIONS, hash: false, cmdline: 'nokaslr' };

async function bootFile(path: string, options: Partial<BootOptions> = {}) {
  const image = await readKernelImage(path, readFileSync(path));
  const finished = await boot(image, { ...LAYOUT_OPTIONS, ...options });
  open.push(finished);
  return { image, trace: finished.trace, ram: finished.machine.ram };
}

function regionsOf(trace: BootTrace, phase: PhaseName): Map<string, MemoryRegion> {
  const found = trace.phases.find(({ name }) => name === phase);
  if (found === undefined) throw new Error(`no phase ${phase}: ${trace.stopped}`);
  return new Map(found.regions.map((region) => [region.name, region]));
}

function symbolsOf(path: string): Map<string, bigint> {
  const lines = execFileSync('nm', [path], { encoding: 'utf8' }).trim().split('\n');
  return new Map(
    lines.flatMap((line) => {
      const [address, , name] = line.trim().split(/\s+/);
      return name === undefined ? [] : [[name, BigInt(`0x${address}`)] as const];
    }),
  );
}

interface Extent {
  readonly start: bigint;
  readonly end: bigint;
}

/** Segments and allocated sections by `readelf -lSW`, as physical extents moved by `shift`. */
function readelf(path: string, shift: bigint): { segments: Extent[]; sections: Map<string, Extent> } {
  const text = execFileSync('readelf', ['-lSW', path], { encoding: 'utf8' });
  const number = (digits: string | undefined): bigint => BigInt(`0x${digits}`);
  const loads = [...text.matchAll(/^ {2}LOAD +0x(\w+) 0x(\w+) 0x(\w+) 0x(\w+) 0x(\w+) /gm)].map(
    ([, offset, vaddr, paddr, , memsz]) => ({
      offset: number(offset),
      vaddr: number(vaddr),
      paddr: number(paddr),
      memsz: number(memsz),
    }),
  );
  const sections = new Map<string, Extent>();
  const rows = text.matchAll(
    /^ *\[ *\d+\] (\S+) +(\S+) +([0-9a-f]{8,16}) ([0-9a-f]+) ([0-9a-f]+) +\w+ +(\w+) /gm,
  );
  for (const [, name, , addressText, , sizeText, flags] of rows) {
    const [address, size] = [number(addressText), number(sizeText)];
    if (!flags!.includes('A') || size === 0n) continue;
    const load = loads.find(({ vaddr, memsz }) => address >= vaddr && address + size <= vaddr + memsz);
    if (load === undefined) continue;
    const start = load.paddr + (address - load.vaddr) + shift;
    sections.set(name!, { start, end: start + size });
  }
  return {
    segments: loads.map(({ paddr, memsz }) => ({ start: paddr + shift, end: paddr + memsz + shift })),
    sections,
  };
}

/** The parts of ZO and the symbols that bound them. */
const ZO_SYMBOLS: Readonly<Record<string, readonly [string, string]>> = {
  head: ['_head', '_ehead'],
  payload: ['input_data', 'input_data_end'],
  'text and rodata': ['_text', '_data'],
  data: ['_data', '_edata'],
};
const RUNNING_SYMBOLS: Readonly<Record<string, readonly [string, string | null]>> = {
  'ZO bss': ['_bss', '_ebss'],
  'boot heap': ['boot_heap', null],
  'boot stack': ['boot_stack', 'boot_stack_end'],
  'boot page tables': ['_pgtable', '_epgtable'],
};

function expectZoRegions(trace: BootTrace, symbols: ReadonlyMap<string, bigint>, loadAddress: bigint): void {
  const relocated = regionsOf(trace, 'relocated');
  const copy = relocated.get('ZO copy')!.start;
  for (const [label, base] of [
    ['ZO as loaded', loadAddress],
    ['ZO copy', copy],
  ] as const) {
    for (const [part, [from, to]] of Object.entries(ZO_SYMBOLS)) {
      const region = relocated.get(`${label} ${part}`);
      expect([label, part, region?.start, region?.end]).toEqual([
        label,
        part,
        base + symbols.get(from)!,
        base + symbols.get(to)!,
      ]);
    }
  }
  for (const [name, [from, to]] of Object.entries(RUNNING_SYMBOLS)) {
    if (!symbols.has(from)) continue;
    const region = relocated.get(name);
    expect([name, region?.start]).toEqual([name, copy + symbols.get(from)!]);
    if (to !== null) expect([name, region?.end]).toEqual([name, copy + symbols.get(to)!]);
  }
}

function expectKernelRegions(trace: BootTrace, image: KernelImage, vmlinux: string): void {
  const shift = trace.kernel!.physicalBase - BigInt(image.header.get('pref_address'));
  const { segments, sections } = readelf(vmlinux, shift);
  const regions = [...regionsOf(trace, 'kernel').values()];
  const extents = (prefix: string): Extent[] =>
    regions.filter(({ source }) => source.startsWith(prefix)).map(({ start, end }) => ({ start, end }));
  expect(extents('program header')).toEqual(segments);
  const named = regions
    .filter(({ source }) => source.startsWith('ELF section '))
    .map(({ source, start, end }) => [source.slice('ELF section '.length), { start, end }] as const);
  expect(new Map(named)).toEqual(sections);
  expect(named.length).toBeGreaterThan(8);
}

describe.skipIf(missing !== null)(
  missing === null ? 'the layout of kernels built with symbols' : `the layout (left out: ${missing})`,
  () => {
    it.each(kernels)(
      '%s: ZO lies where nm says, the kernel where readelf says, and nothing is amiss',
      async (name) => {
        const { trace, image } = await bootFile(join(BUILT, name, 'bzImage'));
        expect(trace.stopped).toBeNull();
        expectZoRegions(trace, symbolsOf(join(BUILT, name, 'stub')), 0x10_0000n);
        expectKernelRegions(trace, image, join(BUILT, name, 'vmlinux'));
        expect(trace.hazards).toEqual([]);
      },
    );

    it.each(
      kernels.filter((name) =>
        /^(x64-(lz4|norelocatable|physical-start)|i386-(lz4|norelocatable|pae))$/.test(name),
      ),
    )('%s: the same when loaded elsewhere', async (name) => {
      const loadAddress = 0x330_0000;
      const { trace, image } = await bootFile(join(BUILT, name, 'bzImage'), { entry: 'prot32', loadAddress });
      expect(trace.stopped).toBeNull();
      expectZoRegions(trace, symbolsOf(join(BUILT, name, 'stub')), BigInt(loadAddress));
      expectKernelRegions(trace, image, join(BUILT, name, 'vmlinux'));
      expect(trace.hazards).toEqual([]);
    });

    it.each(kernels.filter((name) => /-(zstd|pae|efi-stub)$/.test(name)))(
      '%s: text, rodata, heap and stack are exact with the ELF file of the stub',
      async (name) => {
        const { trace } = await bootFile(join(BUILT, name, 'bzImage'));
        const stub = join(BUILT, name, 'stub');
        const symbols = symbolsOf(stub);
        const exact = nameStubSections(trace, readElf(readFileSync(stub)));
        const regions = regionsOf(exact, 'relocated');
        const copy = regions.get('ZO copy')!.start;
        for (const [region, from, to] of [
          ['ZO copy text', '_text', '_etext'],
          ['ZO copy rodata', '_rodata', '_erodata'],
          ['ZO copy data', '_data', '_edata'],
          ['boot stack', 'boot_stack', 'boot_stack_end'],
        ] as const) {
          expect([region, regions.get(region)?.start, regions.get(region)?.end]).toEqual([
            region,
            copy + symbols.get(from)!,
            copy + symbols.get(to)!,
          ]);
          expect(regions.get(region)?.inferred).toBeUndefined();
        }
        expect(regions.get('boot heap')!.start).toBe(copy + symbols.get('boot_heap')!);
        expect(regions.has('ZO copy text and rodata')).toBe(false);
        const other = kernels.find((each) => !each.startsWith(name.slice(0, 4)))!;
        expect(() => nameStubSections(trace, readElf(readFileSync(join(BUILT, other, 'stub'))))).toThrow(
          'is of another image',
        );
      },
    );

    it.runIf(kernels.includes('x64-lz4'))(
      'is the same whether the guest decompresses or the trap does, with KASLR off',
      async () => {
        const path = join(BUILT, 'x64-lz4', 'bzImage');
        const hooked = await bootFile(path);
        const emulated = await bootFile(path, { decompress: 'emulated' });
        // Who put it there, and when, is what differs.
        const kernelRegions = (trace: BootTrace) =>
          [...regionsOf(trace, 'kernel').values()]
            .filter(({ source }) => /^(program|ELF)/.test(source))
            .map(({ by: _by, since: _since, ...region }) => region);
        const regions = kernelRegions(hooked.trace);
        expect(regions.length).toBeGreaterThan(5);
        expect(kernelRegions(emulated.trace)).toEqual(regions);
      },
    );

    it.runIf(kernels.includes('x64-lz4'))(
      'names an initrd in the run area, and the bytes are gone at the jump',
      async () => {
        const bytes = new Uint8Array(0x4_0000).map((_, index) => index * 7 + (index >> 8));
        bytes.set(CPIO);
        const initrd = { path: 'initrd', bytes };
        const initrdAddress = 0x134_3000;
        const path = join(BUILT, 'x64-lz4', 'bzImage');
        const { trace, ram } = await bootFile(path, { initrd, initrdAddress });
        expect(trace.hazards).toMatchObject([
          { code: 'run-area-overlap', start: 0x134_3000n, end: 0x138_3000n },
        ]);
        const regions = regionsOf(trace, 'relocated');
        expect(regions.get('initrd')).toMatchObject({ start: 0x134_3000n, end: 0x138_3000n });
        expect(regions.get('run area')!.start).toBe(0x100_0000n);
        const decompressed = trace.phases.find(({ name }) => name === 'decompressed')!;
        expect(decompressed.overwritten).toContainEqual({
          region: 'initrd',
          role: 'initrd',
          by: 'the decompressed kernel',
          writer: 'decompressed',
          start: 0x134_3000n,
          end: 0x138_3000n,
        });
        const atJump = ram.subarray(initrdAddress, initrdAddress + bytes.length);
        expect(Buffer.compare(atJump, bytes)).not.toBe(0);
        expect(atJump.filter((byte, index) => byte === bytes[index]).length).toBeLessThan(bytes.length / 16);
      },
    );

    it.runIf(kernels.includes('x64-lz4'))(
      'says which bytes of its own payload the decompression overwrote, and they differ in memory',
      async () => {
        const { trace, image, ram } = await bootFile(join(BUILT, 'x64-lz4', 'bzImage'));
        const payload = regionsOf(trace, 'relocated').get('ZO copy payload')!;
        const lost = trace.phases
          .find(({ name }) => name === 'decompressed')!
          .overwritten.find(({ region }) => region === 'ZO copy payload')!;
        expect(lost.start).toBe(payload.start);
        const { offset, length } = image.payload!;
        const original = image.protectedModeCode.subarray(offset, offset + length);
        const now = ram.subarray(Number(payload.start), Number(payload.end));
        const cut = Number(lost.end - payload.start);
        expect(Buffer.compare(now.subarray(cut), original.subarray(cut))).toBe(0);
        expect(Buffer.compare(now.subarray(0, cut), original.subarray(0, cut))).not.toBe(0);
      },
    );

    it.runIf(kernels.includes('x64-5level'))(
      'walks five levels where the CPU has them and the kernel switches to them',
      async () => {
        const { trace } = await bootFile(join(BUILT, 'x64-5level', 'bzImage'), { cpu: 'la57' });
        expect(trace.stopped).toBeNull();
        expect(trace.phases.at(-1)!.pageTables).toMatchObject({
          mode: '5-level',
          levels: 5,
          identity: true,
        });
      },
    );
  },
);

describe('the layout of the demo images', () => {
  const demos = readdirSync(DEMO).filter((name) => name.endsWith('Image'));

  it.each(demos)('%s has no hazards with default options', async (name) => {
    const { trace } = await bootFile(join(DEMO, name));
    expect(trace.stopped).toBeNull();
    expect(trace.hazards).toEqual([]);
  });

  it('keeps an initrd that no hazard is told of', async () => {
    const bytes = new Uint8Array(5000).fill(0x5a);
    const { trace, ram } = await bootFile(join(DEMO, 'demo-gzip.bzImage'), { initrd: { path: 'i', bytes } });
    const { start } = regionsOf(trace, 'kernel').get('initrd')!;
    expect(Buffer.compare(ram.subarray(Number(start), Number(start) + bytes.length), bytes)).toBe(0);
  });

  it('has the page tables that the stub built, in long mode only', async () => {
    const { trace } = await bootFile(join(DEMO, 'demo-gzip.bzImage'));
    const modes = trace.phases.map(({ name, pageTables }) => [name, pageTables?.mode]);
    expect(modes).toEqual(
      trace.phases.map(({ name, mode }) => [name, mode === 'long64' ? '4-level' : 'off']),
    );
    const atJump = trace.phases.at(-1)!.pageTables!;
    expect(atJump).toMatchObject({ identity: true, levels: 4, truncated: false });
    const { tables } = atJump;
    const regions = regionsOf(trace, 'kernel');
    expect(tables.some(({ address }) => address === regions.get('page tables in force')!.start)).toBe(true);
  });

  it('says what a low-loaded kernel has where: as loaded, moved down, and decompressed', async () => {
    const { trace } = await bootFile(join(DEMO, 'demo.zImage'));
    expect(regionsOf(trace, 'setup').get('ZO as loaded')!.start).toBe(0x10000n);
    expect(regionsOf(trace, 'startup_32').get('ZO moved down')!.start).toBe(0x1000n);
    expect(regionsOf(trace, 'kernel').get('flat kernel')!.start).toBe(0x10_0000n);
  });
});

describe('bootscope lint and layout', () => {
  async function run(...args: string[]): Promise<{ output: string; error: string | null }> {
    takePrinted();
    const program = new Command('bootscope').exitOverride();
    registerLint(program);
    registerLayout(program);
    try {
      await program.parseAsync(args, { from: 'user' });
      return { output: takePrinted().text, error: null };
    } catch (error) {
      return { output: takePrinted().text, error: error instanceof Error ? error.message : String(error) };
    }
  }
  const image = join(DEMO, 'demo-gzip.bzImage');
  const initrd = join(folder, 'initrd');
  const content = new Uint8Array(0x2000).fill(0xa5);
  content.set(CPIO);
  writeFileSync(initrd, content);

  it('is content with a sound placement: status 0', async () => {
    const { output } = await run('lint', image);
    expect(output).toBe(`${image}: no hazards\n`);
    expect(process.exitCode).toBe(0);
  });

  it.each(['real16', 'prot32', 'long64'])(
    'names the overlap of an initrd in the run area by %s: status 1',
    async (entry) => {
      const { output } = await run(
        'lint',
        image,
        '--entry',
        entry,
        '--initrd',
        initrd,
        '--initrd-address',
        '0x1004000',
      );
      expect(process.exitCode).toBe(1);
      expect(output).toContain('run-area-overlap 0x1004000..0x1006000');
      expect(output).toContain('is safe from');
    },
  );

  it('prints JSON with addresses in hex', async () => {
    const { output } = await run(
      'lint',
      image,
      '--initrd',
      initrd,
      '--initrd-address',
      '0x1004000',
      '--json',
    );
    expect(JSON.parse(output)).toMatchObject({
      image,
      stopped: null,
      hazards: [{ code: 'run-area-overlap', start: '0x1004000', end: '0x1006000' }],
    });
  });

  it('tells of boot_params and a command line in the run area, even where the boot fails of it', async () => {
    const { output } = await run(
      ...['lint', image, '--entry', 'prot32', '--boot-params-address', '0x1000000'],
      ...['--cmdline', 'quiet', '--cmdline-address', '0x1002000'],
    );
    expect(process.exitCode).toBe(1);
    expect(output).toContain('boot_params lies at 0x1000000..0x1001000');
    expect(output).toContain('the command line lies at 0x1002000..0x1002006');
  });

  it('tells of an initrd where there is no RAM', async () => {
    const { output } = await run('lint', image, '--initrd', initrd, '--initrd-address', '0x1ffff000');
    expect(process.exitCode).toBe(1);
    expect(output).toContain('beyond-ram 0x20000000..0x20001000');
  });

  it('tells of a run area in memory that an E820 file reserves', async () => {
    const map = join(folder, 'e820');
    writeFileSync(
      map,
      '0x0 0x9fc00 1\n0x100000 0x1020000 1\n0x1020000 0x1030000 2\n0x1030000 0x10000000 1\n',
    );
    const { output } = await run('lint', image, '--memory-map', map);
    expect(process.exitCode).toBe(1);
    expect(output).toContain('run-area-reserved 0x1020000..0x1030000');
  });

  it('draws every phase within 100 columns and without colours in a pipe', async () => {
    const { output } = await run('layout', image, '--initrd', initrd, '--initrd-address', '0x1004000');
    // The path of the image may be long, and no line breaks within it.
    for (const line of output.split('\n').slice(1)) expect(line.length).toBeLessThanOrEqual(100);
    expect(output).not.toContain('\x1b');
    expect(output).toContain('run area');
    expect(output).toMatch(
      /! initrd: 0x1004000\.\.0x1006000 \(all 8 KiB\) overwritten by the decompressed kernel/,
    );
    for (const phase of ['setup', 'startup_32', 'relocated', 'decompressed', 'kernel']) {
      expect(output).toMatch(new RegExp(`^${phase}  0x`, 'm'));
    }
  });

  it('draws one phase, and says which there are when asked for another', async () => {
    const { output } = await run('layout', image, '--phase', 'relocated');
    expect(output).toContain('ZO copy');
    expect(output).not.toContain('startup_32');
    const { error } = await run('layout', image, '--phase', 'boot-sector');
    expect(error).toContain('it has setup, startup_32');
  });
});
