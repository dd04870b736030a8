// An engine that aborts in the middle of a boot ends that boot with a sentence: what holds several boots, or one for somebody,
// goes on.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { testEngines } from '../src/cpu/each-engine.ts';
import { libraryName } from '../src/cpu/find-library.ts';
import type { Answers, Command, Message } from '../src/explorer/protocol.ts';
import { bootscope, buildCommand, COMMAND } from './command.ts';

const DEMO = fileURLToPath(new URL('../images/demo/demo-gzip.bzImage', import.meta.url));
const BROKE_DOWN = 'the engine (Unicorn 2.0.';
/** Behind the boot sector: where `setup` begins. */
const SETUP = 0x268;

const engine = testEngines().find(({ label }) => label.startsWith('native 2.0.'));
const missing = engine === undefined ? ' (left out: there is no libunicorn 2.0, which breaks down)' : '';
const library = engine?.path || process.env.BOOTSCOPE_LIBUNICORN || libraryName();
const env = { BOOTSCOPE_LIBUNICORN: library };

let folder = '';
let broken = '';
beforeAll(() => {
  buildCommand();
  folder = mkdtempSync(join(tmpdir(), 'bootscope-breakdown-'));
  broken = join(folder, 'broken.bzImage');
  const image = readFileSync(DEMO);
  // `mov ds, ax` becomes `lcall *%ax`, which is no instruction: the translator of 2.0 aborts over it.
  const move = image.indexOf(Uint8Array.of(0x8e, 0xd8), SETUP);
  image[move] = 0xff;
  writeFileSync(broken, image);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Ends the process, if it has not ended by itself. */
async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGINT');
  await once(child, 'close');
}

describe.skipIf(engine === undefined)(`an engine that breaks down${missing}`, () => {
  it('ends a command with a sentence and status 1', async () => {
    const { status, stderr } = await bootscope(['boot', broken], { env });
    expect(status).toBe(1);
    expect(stderr).toMatch(
      /^bootscope: no kernel was reached: the engine \(Unicorn 2\.0\.\d\) broke down: .+/,
    );
    expect(stderr).toContain('over ff d8 (a far call or jump of a register, which is no instruction)');
    expect(stderr.trim().split('\n').length).toBe(1);
  });

  it('leaves the other boots of a matrix as they are, in the same process', async () => {
    const reference = join(folder, 'reference.json');
    expect(await bootscope(['record', DEMO, '-o', reference], { env })).toMatchObject({ status: 0 });
    const matrix = join(folder, 'matrix.json');
    writeFileSync(
      matrix,
      JSON.stringify([DEMO, broken, DEMO, broken, DEMO].map((image) => ({ image, reference }))),
    );
    const { status, stdout } = await bootscope(['check', '--matrix', matrix, '--jobs', '1', '--json'], {
      env,
    });
    expect(status).toBe(1);
    const cases = JSON.parse(stdout) as { error: string | null; differences: { actual: unknown }[] }[];
    expect(cases.map(({ error }) => error)).toEqual([null, null, null, null, null]);
    expect(cases.map(({ differences }) => differences.length > 0)).toEqual([false, true, false, true, false]);
    expect(JSON.stringify(cases[1]?.differences)).toContain(BROKE_DOWN);
    expect(cases[3]?.differences).toEqual(cases[1]?.differences);
  });

  it.skipIf(spawnSync('gdb', ['--version']).status !== 0)(
    `leaves gdb's session as it was, back and on again${spawnSync('gdb', ['--version']).status === 0 ? '' : ' (left out: gdb is not installed)'}`,
    () => {
      const server = `| ${process.execPath} ${COMMAND} gdb ${broken} --stdio`;
      const script = ['continue', 'print $instructions', 'reverse-continue', 'print $instructions'];
      const again = ['continue', 'print $instructions', 'monitor goto #0', 'kill'];
      const { status, stdout, stderr } = spawnSync(
        'gdb',
        [
          '-nx',
          '-batch',
          ...[`target remote ${server}`, ...script, ...again].flatMap((line) => ['-ex', line]),
        ],
        { encoding: 'utf8', env: { ...process.env, ...env } },
      );
      expect(stderr).toContain(BROKE_DOWN);
      expect(stdout.match(/^\$\d = \d+$/gm)).toEqual(['$1 = 1', '$2 = 0', '$3 = 1']);
      expect(stderr).toContain('#0');
      expect(status).toBe(0);
    },
  );

  it('leaves the explorer its session, which says what happened and goes back', async () => {
    const server = spawn(process.execPath, [COMMAND, 'explore', broken, '--no-open'], {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      let said = '';
      server.stdout.setEncoding('utf8').on('data', (text: string) => {
        said += text;
      });
      await expect.poll(() => said, { timeout: 30_000 }).toMatch(/^http:.*\n/);
      const url = new URL(said.trim());
      const page = new WebSocket(`ws://${url.host}${url.pathname}socket`, { origin: `http://${url.host}` });
      await once(page, 'open');
      let id = 0;
      const ask = async <Name extends keyof Answers>(
        command: Extract<Command, { do: Name }>,
      ): Promise<Answers[Name]> => {
        const own = ++id;
        const answered = new Promise<Answers[Name]>((done, fail) => {
          page.on('message', (text) => {
            const message = JSON.parse(String(text)) as Message;
            if ('lost' in message) fail(new Error(message.lost));
            if (!('id' in message) || message.id !== own) return;
            if ('error' in message) fail(new Error(message.error.sentence));
            else done(message.result as Answers[Name]);
          });
        });
        page.send(JSON.stringify({ id: own, command }));
        return answered;
      };

      await ask<'open'>({ do: 'open' });
      const run = { do: 'run', until: ['startup_32'], writes: [] } as const;
      const first = await ask<'run'>(run);
      expect(first).toMatchObject({ reason: 'ended', ended: true, instructions: 1 });
      expect(first.detail).toContain(BROKE_DOWN);
      const begin = await ask<'goTo'>({ do: 'goTo', place: '#0' });
      expect(begin).toMatchObject({ instructions: 0, ended: false, address: '0x90200' });
      expect(await ask<'run'>(run)).toEqual(first);
      const survey = await ask<'survey'>({ do: 'survey' });
      expect(JSON.stringify(survey)).toContain(BROKE_DOWN);
      page.close();
    } finally {
      await end(server);
    }
  });
});
