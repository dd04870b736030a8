// What the command writes and where: to terminals, to files, to disks that are full; and nothing that is half written.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bootscope, buildCommand } from './command.ts';

const DEMO = fileURLToPath(new URL('../images/demo/demo-lz4.bzImage', import.meta.url));
const COMMAND = fileURLToPath(new URL('../dist/bootscope.cjs', import.meta.url));
const hasFullDevice = existsSync('/dev/full');
const hasScript = spawnSync('script', ['--version']).status === 0;

let folder = '';
beforeAll(() => {
  buildCommand();
  folder = mkdtempSync(join(tmpdir(), 'bootscope-output-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What a terminal of so many columns gets. */
function onTerminal(columns: number, args: readonly string[]): string {
  const words = ['node', COMMAND, ...args].map((word) => `'${word}'`).join(' ');
  const { stdout } = spawnSync('script', ['-qc', `stty cols ${columns}; ${words}`, '/dev/null'], {
    encoding: 'utf8',
    env: { ...process.env, TERM: 'xterm' },
  });
  return stdout.replaceAll('\r\n', '\n');
}

/** Without colours and progress. */
function plain(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the terminal's own
  return text.replace(/\u001b\[[0-9;]*[mK]|[^\n]*\r/g, '');
}

describe.skipIf(!hasScript)(`a terminal${hasScript ? '' : ' (skipped: no script command)'}`, () => {
  it.each([
    [80, ['--help']],
    [80, ['boot', DEMO]],
    [140, ['boot', DEMO]],
    [80, ['layout', DEMO]],
    [80, ['lint', DEMO, '--initrd', DEMO, '--initrd-address', '0x1004000']],
    [80, ['verify', DEMO]],
    [100, ['events', DEMO]],
    [80, ['info', DEMO]],
    [80, ['plan', DEMO]],
    [140, ['plan', DEMO]],
    [80, ['who', DEMO, 'boot_params']],
    [80, ['dump', DEMO, '--as', 'boot_params']],
    [80, ['diff', DEMO, DEMO, '--b-options', '--memory 1G']],
  ] as const)('of %i columns gets lines that fit from %j', (columns, args) => {
    const lines = plain(onTerminal(columns, args)).split('\n');
    expect(lines.length).toBeGreaterThan(1);
    expect(lines.filter((line) => line.length > columns && line.trim().includes(' '))).toEqual([]);
  });

  it('gets no command from a name in a file', () => {
    const image = join(folder, 'named');
    const bytes = readFileSync(DEMO);
    const version = bytes.indexOf('0.1.0-demo');
    bytes.set(Buffer.from('\u001b[2J\u0007'), version);
    writeFileSync(image, bytes);
    for (const command of ['boot', 'layout', 'info', 'verify']) {
      const text = plain(onTerminal(100, [command, image]));
      // biome-ignore lint/suspicious/noControlCharactersInRegex: these must not be there
      expect(text).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/);
    }
  });
});

describe('colours', () => {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are made of these
  const colored = /\u001b\[/;

  it('are in tables where --color or FORCE_COLOR asks for them, and nowhere else', async () => {
    for (const args of [
      ['boot', DEMO],
      ['verify', DEMO],
      ['layout', DEMO],
    ]) {
      expect((await bootscope(args)).stdout).not.toMatch(colored);
      expect((await bootscope([...args, '--color', 'always'])).stdout).toMatch(colored);
    }
    expect((await bootscope(['boot', DEMO], { env: { FORCE_COLOR: '1' } })).stdout).toMatch(colored);
    const both = await bootscope(['boot', DEMO, '--color', 'never'], { env: { FORCE_COLOR: '1' } });
    expect(both.stdout).not.toMatch(colored);
    const none = await bootscope(['boot', DEMO], { env: { FORCE_COLOR: '0', NO_COLOR: '' } });
    expect(none.stdout).not.toMatch(colored);
  });

  it('are never in JSON', async () => {
    expect((await bootscope(['boot', DEMO, '--json', '--color', 'always'])).stdout).not.toMatch(colored);
  });
});

describe('a file that is written', () => {
  it('has its name only when it is whole, and leaves nothing beside it', async () => {
    for (const [command, ending] of [
      ['report', 'html'],
      ['record', 'json'],
      ['extract', 'elf'],
      ['trace', 'txt'],
    ] as const) {
      const limit = command === 'trace' ? ['--limit', '100'] : [];
      const path = join(folder, `${command}.${ending}`);
      expect(await bootscope([command, DEMO, '-o', path, ...limit])).toMatchObject({ status: 0 });
      expect(readFileSync(path).length).toBeGreaterThan(1000);
      const again = await bootscope([command, DEMO, '-o', path, ...limit]);
      expect(again).toMatchObject({
        status: 2,
        stderr: `bootscope: ${path} exists already, --force overwrites it\n`,
      });
      expect(await bootscope([command, DEMO, '-o', path, '--force', ...limit])).toMatchObject({ status: 0 });
    }
    expect(readdirSync(folder).filter((name) => name.includes('.part'))).toEqual([]);
  });

  it('is not left behind by a boot that cannot be made', async () => {
    const path = join(folder, 'never.html');
    expect(await bootscope(['report', '/nowhere', '-o', path])).toMatchObject({ status: 2 });
    expect(readdirSync(folder).filter((name) => name.startsWith('never'))).toEqual([]);
  });

  it('is refused in one sentence where it is a directory, or in none', async () => {
    const html = join(folder, 'folder.html');
    spawnSync('mkdir', [html]);
    const ended = await bootscope(['report', DEMO, '-o', html, '--force']);
    expect(ended).toMatchObject({
      status: 2,
      stderr: `bootscope: ${html} is a directory; name a file in it\n`,
    });
    const nowhere = await bootscope(['record', DEMO, '-o', join(folder, 'no', 'such', 'file')]);
    expect(nowhere.stderr).toMatch(/cannot be written: there is no such folder\n$/);
  });

  it.skipIf(!hasFullDevice)('tells a full disk by that word, and standard output by its name', async () => {
    const full = (args: readonly string[]): string =>
      spawnSync('sh', ['-c', `node '${COMMAND}' ${args.join(' ')} > /dev/full`], { encoding: 'utf8' }).stderr;
    for (const command of ['boot', 'layout', 'trace', 'info']) {
      expect(full([command, DEMO])).toBe('bootscope: standard output cannot be written: the disk is full\n');
    }
    const report = await bootscope(['report', DEMO, '--format', 'json', '-o', '/dev/full']);
    expect(report).toMatchObject({
      status: 2,
      stderr: 'bootscope: /dev/full cannot be written: the disk is full\n',
    });
  });

  it('needs a name that says its format, or --format', async () => {
    const { status, stderr } = await bootscope(['report', DEMO, '-o', join(folder, 'boot.pdf')]);
    expect(status).toBe(2);
    expect(stderr).toContain('.html, .htm, .svg, .json');
    expect(
      await bootscope(['report', DEMO, '-o', join(folder, 'boot.txt'), '--format', 'svg']),
    ).toMatchObject({
      status: 0,
    });
  });
});
