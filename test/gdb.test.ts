// Drives real gdb through boots that `bootscope gdb` holds; what it sees is compared with the trace of the same boot.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { hasNativeEngine } from '../src/cpu/native.ts';
import { type BootOptions, boot, DEFAULT_BOOT_OPTIONS, readKernelImage } from '../src/index.ts';
import { buildCommand } from './command.ts';
import { CLOUD_KERNEL } from './debian-kernels.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const DEMO = join(ROOT, 'images/demo/demo-lz4.bzImage');
const PHASES = ['startup_32', 'startup_64', 'relocated', 'extract_kernel', 'kernel'] as const;
const MODES = ['real16', 'prot16', 'prot32', 'compat32', 'long64'];

const gdbVersion = /(\d+)\.\d+/.exec(spawnSync('gdb', ['--version'], { encoding: 'utf8' }).stdout ?? '');
const hasGdb = gdbVersion !== null && Number(gdbVersion[1]) >= 13;
const missing = hasGdb
  ? hasNativeEngine()
    ? ''
    : ' (left out: no libunicorn 2.x found)'
  : ' (left out: gdb 13 or later is not installed)';

interface Seen {
  readonly what: string;
  readonly rip: string;
  readonly ip: string;
  readonly mode: string;
  readonly instructions: number;
  readonly registers: Readonly<Record<string, string>>;
  readonly value?: number;
  readonly after?: number;
  readonly monitor?: Readonly<Record<string, string>>;
  readonly text: string;
  readonly [more: string]: unknown;
}

let server: ChildProcess | null = null;
afterEach(() => {
  server?.kill();
  server = null;
});

const BOOTSCOPE = join(ROOT, 'dist/bootscope.cjs');

/** @returns where gdb finds it */
async function serve(args: readonly string[]): Promise<string> {
  const child = spawn(process.execPath, [BOOTSCOPE, 'gdb', ...args, '--port', '0'], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  server = child;
  let said = '';
  return new Promise((resolve, reject) => {
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      said += text;
      const port = /127\.0\.0\.1:(\d+)/.exec(said);
      if (port !== null) resolve(port[0]);
    });
    child.on('exit', () => reject(new Error(`it ended: ${said}`)));
  });
}

/** @param remote - what `target remote` is given */
async function runGdb(
  script: string,
  remote: string,
  places: readonly (readonly string[])[],
): Promise<(what: string) => Seen> {
  const given = Object.entries({ remote, root: ROOT, places }).map(
    ([name, value]) => `${name} = ${JSON.stringify(value)}`,
  );
  const args = ['-ex', `python ${given.join('; ')}`, '-x', join(ROOT, 'test', script)];
  const child = spawn('gdb', ['-nx', '-batch', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  await new Promise((resolve) => child.on('close', resolve));
  const seen = output
    .split('\n')
    .filter((line) => line.startsWith('SEEN '))
    .map((line) => JSON.parse(line.slice(5)) as Seen);
  if (!seen.some(({ what }) => what === 'the end'))
    throw new Error(`gdb did not come to the end:\n${output}`);
  const byName = new Map(seen.map((each) => [each.what, each]));
  return (what) => byName.get(what)!;
}

async function traceOf(path: string, options: Partial<BootOptions>) {
  const image = await readKernelImage(path, readFileSync(path));
  const finished = await boot(image, {
    ...DEFAULT_BOOT_OPTIONS,
    cmdline: 'nokaslr',
    engine: 'native',
    ...options,
  });
  finished.close();
  return finished.trace;
}

describe.skipIf(missing !== '')(`bootscope gdb${missing}`, () => {
  beforeAll(() => buildCommand());

  for (const decompress of ['hooked', 'emulated'] as const) {
    it(`holds a boot for gdb, forward and back, decompression ${decompress}`, async () => {
      const trace = await traceOf(DEMO, { decompress });
      const phase = (name: string) => trace.phases.find((each) => each.name === name)!;
      const options = ['--cmdline', 'nokaslr', '--engine', 'native', '--decompress', decompress];
      const places = PHASES.map((name) => [name, `0x${phase(name).address.toString(16)}`]);
      const at = await runGdb('gdb-session.py', await serve([DEMO, ...options]), places);

      // The first instruction, in real mode: RIP is linear, the guest's IP its own.
      expect(at('entry')).toMatchObject({ rip: '0x90200', ip: '0x0', mode: 'real16', instructions: 0 });
      expect(at('three steps').instructions).toBe(3);
      expect(at('back at the entry')).toEqual({ ...at('entry'), what: 'back at the entry' });
      expect(at('ip written')).toMatchObject({ rip: '0x90202', ip: '0x2' });
      expect(at('ip written').refused).toMatch(/out of reach of CS in real16/);
      expect(at('rip written')).toMatchObject({ rip: '0x90200', ip: '0x0' });

      // Each phase with the registers of the trace.
      for (const name of PHASES) {
        const expected = phase(name);
        expect(at(name)).toMatchObject({
          rip: `0x${expected.address.toString(16)}`,
          mode: expected.mode,
          instructions: expected.instructions,
          info: expect.stringContaining(expected.mode),
        });
        for (const [register, value] of Object.entries(at(name).registers)) {
          const bits = expected.mode === 'long64' ? 64 : 32;
          const wanted = BigInt.asUintN(bits, expected.registers[register as 'rax']);
          expect([name, register, BigInt.asUintN(bits, BigInt(value))]).toEqual([name, register, wanted]);
        }
      }

      // The switch into long mode, a step at a time.
      expect(at('into compat32').mode).toBe('compat32');
      expect(at('into long64').mode).toBe('long64');
      expect(at('before long64')).toMatchObject({
        mode: 'compat32',
        instructions: at('into long64').instructions - 1,
      });
      expect(at('before long64').text).toMatch(/^ljmp|^lret/);
      expect(MODES.indexOf(at('startup_64').mode)).toBe(4);

      // It reads where it goes to from the stack.
      expect(at('behind the read').instructions).toBe(at('into long64').instructions);
      expect(at('before the read').instructions).toBe(at('before long64').instructions);

      // Backwards to what wrote the page table, and over it again.
      expect(at('last write').instructions).toBeLessThan(at('kernel').instructions);
      expect(at('last write').value).not.toBe(at('last write').after);
      expect(at('behind the write').value).toBe(at('last write').after);

      expect(at('first access').instructions).toBeLessThan(at('last write').instructions);
      expect(at('first access').instructions).toBeGreaterThan(at('startup_32').instructions);

      const monitor = at('monitor').monitor!;
      const writer = new RegExp(`^ +#${at('last write').instructions} .*${at('last write').rip} `);
      expect(monitor.who).toMatch(writer);
      expect(monitor.readers).toMatch(/^nobody before #\d+$/m);
      expect(at('monitor').written).toBe(0x11223344);
      expect(monitor.phases).toMatch(/^setup +0x90200 real16/);
      expect(monitor.regions).toContain('BIOS ROM');
      expect(monitor['events mode']).toContain('real16 to prot16');
      expect(monitor['show e820']).toContain('0x100000..0x1ffe0000 usable');
      expect(monitor.symbols).toMatch(/add-symbol-file arch\/x86\/boot\/compressed\/vmlinux -o 0x1[0-9a-f]+/);
      expect(monitor.nonsense).toContain('there is no command "nonsense"');

      expect(at('gone to startup_32')).toMatchObject({ rip: at('startup_32').rip, mode: 'prot32' });
      expect(at('beginning')).toMatchObject({ rip: '0x90200', instructions: 0 });
      expect(at('connected again').instructions).toBe(0);
      // The breakpoint of the first connection is gone.
      expect(at('the end').rip).toBe(at('kernel').rip);
      await new Promise((resolve) => (server!.exitCode !== null ? resolve(0) : server!.on('exit', resolve)));
      expect(server!.exitCode).toBe(0);
    });
  }

  it('speaks through standard input and output, and ends with gdb', async () => {
    const command = `| ${process.execPath} ${BOOTSCOPE} gdb ${DEMO} --cmdline nokaslr --engine native --stdio`;
    const trace = await traceOf(DEMO, {});
    const { address, instructions } = trace.phases.find(({ name }) => name === 'startup_64')!;
    const args = ['-ex', `target remote ${command}`, '-ex', `break *${address}`, '-ex', 'continue'];
    const { status, stdout } = spawnSync(
      'gdb',
      ['-nx', '-batch', ...args, '-ex', 'print $instructions', '-ex', 'print $mode', '-ex', 'kill'],
      { encoding: 'utf8' },
    );
    expect(stdout).toContain(`$1 = ${instructions}\n$2 = long64`);
    expect(status).toBe(0);
  });

  const kernel = existsSync(CLOUD_KERNEL) ? '' : ` (left out: no ${CLOUD_KERNEL.slice(ROOT.length)})`;
  it.skipIf(kernel !== '')(`holds an EFI boot for gdb, forward and back${kernel}`, async () => {
    const trace = await traceOf(CLOUD_KERNEL, { entry: 'efi' });
    const calls = trace.events.filter(({ kind }) => kind === 'efi');
    const phases = trace.phases.filter(({ name }) => !['decompressed', 'parse_elf'].includes(name)).slice(1);
    const places = phases.map(({ name, address }) => [name, `0x${address.toString(16)}`]);
    const options = ['--cmdline', 'nokaslr', '--engine', 'native', '--entry', 'efi'];
    const at = await runGdb('gdb-efi-session.py', await serve([CLOUD_KERNEL, ...options]), places);

    expect(at('entry')).toMatchObject({ mode: 'long64', instructions: 0 });
    expect(at('back at the entry')).toEqual({ ...at('entry'), what: 'back at the entry' });
    expect(phases.length).toBeGreaterThan(2);
    for (const { name, address, instructions, registers } of phases) {
      expect(at(name)).toMatchObject({ rip: `0x${address.toString(16)}`, mode: 'long64', instructions });
      expect(BigInt(at(name).registers.rsi!)).toBe(registers.rsi);
    }
    // The number of E820 entries, by the stub's own code.
    expect(at('last write').value).not.toBe(at('last write').after);
    expect(at('behind the write')).toMatchObject({
      value: at('last write').after,
      instructions: at('last write').instructions + 1,
    });
    const monitor = at('monitor').monitor!;
    expect(monitor.who).toMatch(
      new RegExp(`^ +#${at('last write').instructions} .*${at('last write').rip} `),
    );
    expect(monitor['events efi']!.trim().split('\n').length).toBeLessThanOrEqual(calls.length);
    expect(monitor['show efi-memory-map']).toMatch(/LoaderCode|LoaderData/);
    expect(at('before the call').instructions).toBe(calls[2]!.instructions);
    expect(at('before the call again')).toEqual({ ...at('before the call'), what: 'before the call again' });
    expect(at('the end').instructions).toBe(0);
  });
});

const lldb = ['lldb', 'lldb-14'].find((name) => spawnSync(name, ['--version']).status === 0);
const lldbMissing =
  lldb === undefined
    ? ' (left out: lldb is not installed)'
    : hasNativeEngine()
      ? ''
      : ' (left out: no libunicorn 2.x found)';

describe.skipIf(lldbMissing !== '')(`bootscope gdb with lldb${lldbMissing}`, () => {
  beforeAll(() => buildCommand());

  it('shows registers and memory, steps, and stops at a breakpoint in protected mode', async () => {
    const remote = await serve([DEMO, '--cmdline', 'nokaslr', '--engine', 'native']);
    const commands = [
      ...[`gdb-remote ${remote}`, 'register read rip cs', 'thread step-inst', 'register read rip'],
      ...['breakpoint set --address 0x100000', 'continue', 'register read rip rsi'],
      ...['memory read --size 1 --count 2 0x100000', 'thread step-inst', 'register read rip'],
      ...['register write rax 0x1234', 'register read rax', 'process detach'],
    ];
    const child = spawn(lldb!, ['--no-lldbinit', '--batch', ...commands.flatMap((each) => ['-o', each])]);
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    await new Promise((resolve) => child.on('close', resolve));
    const [entry, stepped, there, next] = [...output.matchAll(/rip = 0x0*([0-9a-f]+)/g)].map(
      ([, rip]) => rip,
    );
    expect([entry, there, next]).toEqual(['90200', '100000', '100001']);
    expect(Number.parseInt(stepped!, 16)).toBeGreaterThan(0x90200);
    expect(output).toMatch(/cs = 0x0*9020\b/);
    expect(output).toMatch(/rsi = 0x0*91000\b/);
    expect(output).toMatch(/stop reason = breakpoint 1\.1/);
    expect(output).toMatch(/0x00100000: fc fa/);
    expect(output).toMatch(/rax = 0x0*1234\b/);
    expect(output).toMatch(/Process 1 detached/);
  });
});
