import { describe, expect, it, vi } from 'vitest';
import { registerDump } from './dump.ts';
import { runCommand } from './test-output.ts';

vi.mock('./standard-output.ts', async () => import('./test-output.ts'));

const DEMO = new URL('../../images/demo/demo-zstd.bzImage', import.meta.url).pathname;

async function dump(...args: string[]): Promise<Buffer> {
  return (await runCommand(registerDump, DEMO, ...args)).bytes;
}

describe('bootscope dump', () => {
  it('prints the E820 map of the jump as text in one command', async () => {
    const lines = (await dump('--as', 'e820')).toString().trimEnd().split('\n');
    expect(lines.map((line) => line.split('  ').at(-1))).toEqual([
      '0x0..0x9fc00 usable',
      '0x9fc00..0xa0000 reserved',
      '0xf0000..0x100000 reserved',
      '0x100000..0x1ffe0000 usable',
      '0x1ffe0000..0x20000000 reserved',
      '0xfffc0000..0x100000000 reserved',
    ]);
  });

  it('shows bytes at the place that is asked for, as text, raw and as JSON', async () => {
    const at = ['--at', 'startup_32', '0x90202+4'];
    expect((await dump(...at)).toString()).toMatch(/^00090200 {8}48 64 72 53 .*\| {2}HdrS {10}\|\n$/);
    expect(await dump(...at, '--raw')).toEqual(Buffer.from('HdrS'));
    expect(JSON.parse((await dump(...at, '--json')).toString())).toMatchObject({
      at: { phase: 'startup_32', address: '0x100000', mode: 'prot32', instructions: 395 },
      ...{ start: '0x90202', end: '0x90206', bytes: '48647253' },
    });
  });

  it('finds a region by its name and decodes what is said to lie there', async () => {
    const { fields } = JSON.parse(
      (await dump('boot_params', '--as', 'boot_params', '--at', 'startup_32', '--json')).toString(),
    );
    const field = (name: string) => fields.find((each: { name: string }) => each.name === name);
    expect(field('e820_entries')).toMatchObject({ value: 6 });
    expect(field('hdr.code32_start')).toMatchObject({ value: '0x100000' });
  });

  it('shows the page tables and descriptor tables that are in force there', async () => {
    expect((await dump('--as', 'page-tables', '--at', 'startup_32')).toString()).toContain('off');
    expect((await dump('--as', 'page-tables', '--at', 'startup_64')).toString()).toMatch(/4-level.*\n.*PML4/);
    expect((await dump('--as', 'gdt', '--at', 'startup_64')).toString()).toContain('code64 rx, base 0x0');
  });

  it('says in one sentence what it cannot show', async () => {
    await expect(dump()).rejects.toThrow(/^name what to show: START\.\.END/);
    await expect(dump('--at', '0x12345', '0x0')).rejects.toThrow(
      'the boot never came to 0x12345: it went on to the kernel',
    );
    await expect(dump('0x20000000+16')).rejects.toThrow('16 bytes at 0x20000000 are not all RAM');
    await expect(dump('--as', 'acpi')).rejects.toThrow('no ACPI root pointer');
    await expect(dump('--as', 'e820', '--at', 'setup')).rejects.toThrow(
      'boot_params is not known in phase setup',
    );
  });
});
