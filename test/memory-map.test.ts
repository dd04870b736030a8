// Memory maps of other machines, as the command takes them.

import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bootscope, buildCommand } from './command.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const GZIP = join(ROOT, 'images/demo/demo-gzip.bzImage');
const DEBIAN = join(ROOT, 'images/cache/debian/vmlinuz-6.12.111+deb12-amd64');
const MIB = 2 ** 20;

const folder = mkdtempSync(join(tmpdir(), 'bootscope-'));
const file = (name: string, text: string): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};
beforeAll(buildCommand);
afterAll(() => rmSync(folder, { recursive: true }));

const RAM = [
  [0x0, 0x9fbff],
  [0x100000, 0xbffdffff],
  [0x1_0000_0000, 0x10_3fff_ffff],
] as const;
const LOG = [
  '[    0.000000] Command line: root=/dev/sda1 ro',
  ...RAM.map(
    ([start, last]) =>
      `[    0.000000] BIOS-e820: [mem 0x${start.toString(16).padStart(16, '0')}-0x${last.toString(16).padStart(16, '0')}] usable`,
  ),
  '[    0.013000] RAMDISK: [mem 0x34a5c000-0x363fbfff]',
].join('\n');

describe('--memory-map', () => {
  it('names what else a log tells, with the options that would use it', async () => {
    const log = file('dmesg', LOG);
    const told = await bootscope(['lint', GZIP, '--memory-map', log]);
    expect(told.status).toBe(0);
    expect(told.stderr).toBe(
      `notice: ${log} has a command line, too: --cmdline 'root=/dev/sda1 ro'\n` +
        `notice: ${log} had its initrd at 0x34a5c000..0x363fc000: --initrd FILE --initrd-address 0x34a5c000\n`,
    );
    const used = await bootscope([
      'lint',
      GZIP,
      '--memory-map',
      log,
      '--cmdline',
      'ro',
      ...['--initrd-address', '0x34a5c000', '--initrd', file('initrd', 'a RAM disk')],
    ]);
    expect(used.stderr).toBe('');
  });

  const why = existsSync(DEBIAN) ? '' : ' (skipped: Debian 6.12 is not in images/cache)';
  it.skipIf(why !== '')(`gives KASLR the slots of a machine of 64 GiB${why}`, async () => {
    const { stdout } = await bootscope(['kaslr', DEBIAN, '--memory-map', file('dmesg', LOG), '--json']);
    const survey = JSON.parse(stdout);
    // One after the other, as somebody would count them by hand.
    const size = Number(survey.imageSize);
    const avoided = (survey.avoided as { start: string; end: string }[]).map(({ start, end }) => [
      Number(start),
      Number(end),
    ]);
    let slots = 0;
    for (let at = 16 * MIB; at < 0x10_4000_0000; at += 2 * MIB) {
      const inRam = RAM.some(([start, last]) => at >= start && at + size <= last + 1);
      if (inRam && !avoided.some(([start, end]) => at < end! && at + size > start!)) slots++;
    }
    expect(slots).toBeGreaterThan(30_000);
    expect(survey.physical.slots).toBe(slots);
    expect(2 ** survey.bits.physical).toBeCloseTo(slots, 3);
    expect(survey.bits.both).toBeCloseTo(Math.log2(slots * survey.virtual.slots), 9);
    const vs = await bootscope([
      ...['kaslr', DEBIAN, '--memory-map', file('dmesg', LOG), '--json'],
      ...['--vs', '--cmdline mem=8G', '--vs', "--cmdline 'memmap=1M$1G,1M$2G,1M$3G,1M$4G,1M$5G'"],
    ]);
    const compared = JSON.parse(vs.stdout);
    expect(compared[0]).toEqual({ options: '', ...survey });
    expect(compared[1].physical.slots).toBeLessThan(slots / 4);
    expect(compared[1].bits.virtual).toBe(survey.bits.virtual);
    expect(compared[2].physical.slots).toBe(0);
    expect(compared[2].notices[0]).toContain('lists more than the 4 regions that the stub can avoid');
    const csv = await bootscope([
      'kaslr',
      DEBIAN,
      '--memory-map',
      file('dmesg', LOG),
      '--csv',
      '--draws',
      '9',
    ]);
    const rows = csv.stdout
      .trimEnd()
      .split('\n')
      .map((line) => line.split(','));
    expect(rows.shift()).toEqual(['choice', 'slot', 'address', 'boots']);
    const physical = rows.filter(([choice]) => choice === 'physical');
    expect(physical).toHaveLength(slots);
    expect(physical.reduce((sum, [, , , boots]) => sum + Number(boots), 0)).toBe(9);
    expect(rows).toHaveLength(slots + survey.virtual.slots);
  });
});
