// Completions and the manual page, which are made of the commands' own tables, as the programs that take them see them.

import { spawnSync } from 'node:child_process';
import { beforeAll, describe, expect, it } from 'vitest';
import { COMMANDS } from '../src/cli/commands.ts';
import { bootscope, buildCommand } from './command.ts';

const has = (command: string): boolean => spawnSync('sh', ['-c', `command -v ${command}`]).status === 0;
const reason = (command: string): string => (has(command) ? '' : ` (skipped: no ${command})`);

beforeAll(buildCommand);

describe('completion', () => {
  it.skipIf(!has('bash'))(`completes commands, options and values in bash${reason('bash')}`, async () => {
    const { status, stdout } = await bootscope(['completion', 'bash']);
    expect(status).toBe(0);
    const complete = (...words: readonly string[]): readonly string[] => {
      const typed = `COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length - 1}`;
      const script = `${stdout}\n${typed}; _bootscope; printf '%s\\n' "\${COMPREPLY[@]}"`;
      const ended = spawnSync('bash', ['--norc', '-c', script], { encoding: 'utf8' });
      expect(ended.stderr).toBe('');
      return ended.stdout.split('\n').filter(Boolean);
    };
    expect(complete('bootscope', 'la')).toEqual(['layout']);
    expect(complete('bootscope', '')).toEqual([...COMMANDS.map(({ name }) => name), 'help']);
    expect(complete('bootscope', 'boot', '--initrd-')).toEqual(['--initrd-address']);
    expect(complete('bootscope', 'boot', '--entry', 'pro')).toEqual(['prot32']);
    expect(complete('bootscope', 'check', '--js')).toEqual(['--json']);
  });

  it.each(['zsh', 'fish'])('has every command and every option for %s', async (shell) => {
    const { status, stdout } = await bootscope(['completion', shell]);
    expect(status).toBe(0);
    for (const { name } of COMMANDS) expect(stdout).toContain(name);
    expect(stdout).toContain(shell === 'fish' ? '-l initrd-address' : '--initrd-address');
    if (has(shell)) expect(spawnSync(shell, ['-n'], { input: stdout }).status).toBe(0);
  });

  it('refuses another shell', async () => {
    expect(await bootscope(['completion', 'cmd'])).toMatchObject({ status: 2, stdout: '' });
  });
});

describe('manual', () => {
  it('has every command, every boot option once, and nothing that roff complains of', async () => {
    const { status, stdout } = await bootscope(['manual']);
    expect(status).toBe(0);
    for (const { name } of COMMANDS) expect(stdout).toContain(`.SS ${name} `);
    expect(stdout.match(/^\.B .*cmdline <text>/gm)).toHaveLength(1);
    if (!has('groff')) return;
    const { stderr } = spawnSync('groff', ['-man', '-Tutf8', '-ww'], { input: stdout, encoding: 'utf8' });
    expect(stderr).toBe('');
  });
});
