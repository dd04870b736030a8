// States that QEMU's own loader left, by the script that takes them: judged, and gone on from.

import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { takeState, takeStateFromStub } from '../scripts/take-state.ts';
import { readElf } from '../src/image/elf.ts';
import { readXenNotes } from '../src/image/vmlinux.ts';
import { bootscope, buildCommand } from './command.ts';
import { CLOUD_KERNEL } from './debian-kernels.ts';
import { noQemu } from './witnesses.ts';

const IMAGE = fileURLToPath(new URL('../images/demo/demo-lz4.bzImage', import.meta.url));
const why = noQemu === null ? '' : ` (skipped: ${noQemu})`;
const folder = mkdtempSync(join(tmpdir(), 'bootscope-qemu-state-'));
beforeAll(buildCommand, 120_000);
afterAll(() => rmSync(folder, { recursive: true }));

describe('a state of QEMU', () => {
  for (const entry of ['real16', 'prot32'] as const) {
    it.skipIf(noQemu !== null)(`is clean at ${entry}, and boots from there as by itself${why}`, async () => {
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

/** Offset in hvm_start_info. */
const RSDP_PADDR = 0x20;
const noKernel = existsSync(CLOUD_KERNEL) ? why : ' (skipped: no cloud kernel is in images/cache)';

describe('a state behind a gdb stub', () => {
  it.skipIf(noKernel !== '')(
    `is clean where QEMU enters a vmlinux by PVH, and goes on from there${noKernel}`,
    async () => {
      const vmlinux = join(folder, 'vmlinux');
      expect(await bootscope(['extract', CLOUD_KERNEL, '-o', vmlinux])).toMatchObject({ status: 0 });
      const entry = readXenNotes(readElf(readFileSync(vmlinux))).pvhEntry!;
      const socket = join(folder, 'gdb');
      const qemu = spawn('qemu-system-x86_64', [
        ...['-accel', 'tcg', '-m', '64', '-display', 'none', '-net', 'none', '-monitor', 'none', '-S'],
        ...['-kernel', vmlinux, '-append', 'quiet', '-gdb', `unix:${socket},server=on,wait=off`],
      ]);
      try {
        while (!existsSync(socket)) await sleep(20);
        const to = join(folder, 'stub');
        expect(await takeStateFromStub(vmlinux, to, { socket, entry: 'pvh', at: BigInt(entry) })).toBe(
          BigInt(entry),
        );
        const lint = await bootscope(['lint', '--from-state', to]);
        expect(lint).toMatchObject({ status: 0, stdout: `${vmlinux}: no hazards\n` });
        const wrong = JSON.parse(readFileSync(join(to, 'state.json'), 'utf8'));
        const low = readFileSync(join(to, '0x0'));
        low.writeBigUInt64LE(0xf0000n, Number(wrong.registers.rbx) + RSDP_PADDR);
        writeFileSync(join(to, '0x0'), low);
        expect((await bootscope(['lint', '--from-state', to])).stdout).toContain(
          'rsdp_paddr is 0xf0000, where no ACPI root pointer stands',
        );
        const boot = await bootscope(['boot', '--from-state', to, '--json', '--no-hash']);
        expect(JSON.parse(boot.stdout)).toMatchObject({
          machine: { entry: 'pvh', cmdline: 'quiet' },
          stopped: null,
        });
      } finally {
        qemu.kill('SIGKILL');
      }
    },
  );
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
