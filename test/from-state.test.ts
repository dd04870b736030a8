// States that QEMU's own loader left, by the script that takes them: judged, and gone on from.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { takeState } from '../scripts/take-state.ts';
import { bootscope, buildCommand } from './command.ts';

const IMAGE = fileURLToPath(new URL('../images/demo/demo-lz4.bzImage', import.meta.url));
const hasQemu = spawnSync('qemu-system-x86_64', ['--version']).status === 0;
const why = hasQemu ? '' : ' (skipped: no qemu-system-x86_64)';
const folder = mkdtempSync(join(tmpdir(), 'bootscope-qemu-state-'));
beforeAll(buildCommand, 120_000);
afterAll(() => rmSync(folder, { recursive: true }));

describe('a state of QEMU', () => {
  for (const entry of ['real16', 'prot32'] as const) {
    it.skipIf(!hasQemu)(`is clean at ${entry}, and boots from there as by itself${why}`, async () => {
      const initrd = join(folder, 'initrd');
      writeFileSync(initrd, '070701'.padEnd(512, '0'));
      const to = join(folder, entry);
      await takeState(IMAGE, to, {
        ...{
          entry,
          cmdline: 'nokaslr quiet',
          initrd,
          machine: 'pc',
          memory: 32,
          cpu: 'qemu64',
          timeout: 120,
        },
      });
      const lint = await bootscope(['lint', '--from-state', to]);
      expect(lint).toMatchObject({ status: 0, stdout: `${IMAGE}: no hazards\n` });
      const boot = await bootscope(['boot', '--from-state', to, '--json']);
      const itself = await bootscope([
        'boot',
        IMAGE,
        '--memory',
        '32M',
        '--cmdline',
        'nokaslr quiet',
        '--json',
      ]);
      const [ours, own] = [boot, itself].map(({ stdout }) => JSON.parse(stdout));
      expect(ours.machine).toMatchObject({ entry, ram: 32 << 20, cmdline: 'nokaslr quiet' });
      expect({ ...ours.kernel, bootParams: null }).toEqual({ ...own.kernel, bootParams: null });
    });
  }
});

describe('the command', () => {
  it('refuses what the loader has decided, and a folder that has no state', async () => {
    const unused = await bootscope(['boot', '--from-state', folder, '--cmdline', 'quiet']);
    expect(unused).toMatchObject({ status: 2 });
    expect(unused.stderr).toContain(`--cmdline has no effect with --from-state ${folder}`);
    const none = join(folder, 'none');
    const empty = await bootscope(['lint', IMAGE, '--from-state', none]);
    expect(empty).toMatchObject({ status: 2 });
    expect(empty.stderr).toContain('cannot be read as a folder');
  });
});
