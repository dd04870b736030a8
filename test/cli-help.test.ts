// The help of each command, and what is said to a command line that is not right.

import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { COMMAND_GROUPS, COMMANDS } from '../src/cli/commands.ts';
import { bootscope, buildCommand } from './command.ts';

const DEMO = fileURLToPath(new URL('../images/demo/demo-lz4.bzImage', import.meta.url));

let folder = '';
beforeAll(() => {
  buildCommand();
  folder = mkdtempSync(join(tmpdir(), 'bootscope-help-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the help', () => {
  it('lists every command in its group', async () => {
    const { status, stdout } = await bootscope(['--help']);
    expect(status).toBe(0);
    for (const { name, summary, group } of COMMANDS) {
      const inGroup = stdout.slice(stdout.indexOf(`\n${COMMAND_GROUPS[group]}\n`));
      expect(inGroup).toMatch(
        new RegExp(`^  ${name} .*${summary.slice(0, 12).replace(/[^a-z ]/g, '.')}`, 'm'),
      );
    }
  });

  it.each(COMMANDS.map(({ name }) => name))(
    'of %s has its own options first and two examples',
    async (name) => {
      const { status, stdout } = await bootscope(['help', name]);
      expect(status).toBe(0);
      const examples =
        stdout.slice(stdout.indexOf('\nExamples:\n')).match(/^ {2}(\S+ .*)?bootscope /gm) ?? [];
      expect(examples.length).toBeGreaterThanOrEqual(2);
      const [own, boots] = [stdout.indexOf('\nOptions:\n'), stdout.indexOf('\nBoot options:\n')];
      expect(own).toBeGreaterThan(0);
      if (boots < 0) return;
      expect(boots).toBeGreaterThan(own);
      expect(stdout).not.toContain('--boot-params-address');
      const all = (await bootscope([name, '--help-all'])).stdout;
      expect(all).toContain('--boot-params-address');
    },
  );

  it('is not what an unknown command gets', async () => {
    expect(await bootscope(['help', 'nosuch'])).toMatchObject({
      ...{ status: 2, stdout: '' },
      stderr: "bootscope: unknown command 'nosuch' (--help lists what there is)\n",
    });
    expect((await bootscope(['help', 'laiout'])).stderr).toContain('layout');
  });
});

describe('a sentence', () => {
  const sentence = async (...args: readonly string[]): Promise<string> => {
    const { status, stdout, stderr } = await bootscope(args);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toMatch(/^bootscope: [^\n]+\n$/);
    return stderr;
  };

  it('calls a file by what it was given as', async () => {
    const large = join(folder, 'large');
    writeFileSync(large, '');
    truncateSync(large, 5 * 2 ** 30);
    expect(await sentence('boot', DEMO, '--initrd', folder)).toContain('not a file that holds an initrd');
    expect(await sentence('boot', DEMO, '--initrd', large)).toContain('are read as an initrd');
    expect(await sentence('check', DEMO, folder)).toContain('a reference');
  });

  it('says what a file is that is no kernel, once', async () => {
    const path = join(folder, 'noise');
    writeFileSync(
      path,
      Uint8Array.from({ length: 4096 }, (_, index) => (index * 167 + 13) % 251),
    );
    expect(await sentence('info', path)).toBe(`bootscope: ${path} is no kernel image that Bootscope knows\n`);
  });

  it('names an option, what it was given and what it takes', async () => {
    expect(await sentence('boot', DEMO, '--memory', 'lots')).toBe(
      "bootscope: --memory 'lots': it is a size such as 512M, 1G or 0x20000000 (--help lists what there is)\n",
    );
    expect(await sentence('boot', DEMO, '--color', 'red')).toContain(
      "--color 'red': it is one of auto, always, never",
    );
    expect(await sentence('completion', 'cmd')).toContain("shell 'cmd': it is one of bash, zsh, fish");
  });

  it('tells a folder that cannot be made in words, not in those of the system', async () => {
    const path = join(folder, 'taken');
    writeFileSync(path, '');
    expect(await sentence('unpack', DEMO, '-o', path)).toBe(
      `bootscope: ${path} cannot be written: there is a file of that name\n`,
    );
    expect(await sentence('boot', '')).toContain('a file without a name does not exist');
  });

  it('names the option in which a wrong one stands', async () => {
    expect(await sentence('diff', DEMO, DEMO, '--a-options', '--nosuch')).toContain(
      "--a-options: unknown option '--nosuch'",
    );
  });

  it("does not take a distribution's stand-in for a System.map", async () => {
    const path = join(folder, 'System.map');
    writeFileSync(path, 'ffffffffffffffff B The real System.map is in the debug package\n');
    expect(await sentence('boot', DEMO, '--system-map', path)).toContain(
      'is no System.map but stands for one',
    );
  });

  it('refuses options that change nothing in a command', async () => {
    expect(await sentence('verify', DEMO, '--decompress', 'emulated')).toContain('--decompress');
    expect(await sentence('kaslr', DEMO, '--kaslr', 'seed:1')).toContain('--kaslr');
    expect(await sentence('layout', DEMO, '--hash')).toContain('--hash');
    expect(await sentence('trace', DEMO, '--from', 'kernel')).toContain('leaves nothing to trace');
  });
});

describe('--json', () => {
  it.each(['boot', 'layout', 'events', 'lint', 'verify', 'info'])('of %s is JSON', async (command) => {
    const { status, stdout } = await bootscope([command, DEMO, '--json']);
    expect(status).toBe(0);
    expect(() => JSON.parse(stdout)).not.toThrow();
  });

  it('of layout has the regions of each phase, or of one', async () => {
    const layout = async (...args: readonly string[]) =>
      JSON.parse((await bootscope(['layout', DEMO, '--json', ...args])).stdout) as {
        readonly phases: readonly {
          readonly name: string;
          readonly regions: readonly { readonly start: string }[];
        }[];
      };
    expect((await layout()).phases.length).toBeGreaterThan(5);
    const { phases } = await layout('--phase', 'kernel');
    expect(phases.map(({ name }) => name)).toEqual(['kernel']);
    expect(phases[0]!.regions.length).toBeGreaterThan(5);
  });
});
