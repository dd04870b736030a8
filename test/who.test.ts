// `bootscope who` on Debian's kernel: the instruction in setup, the page tables, the kernel's text, an initrd that was overwritten.

import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bootscope, buildCommand } from './command.ts';

const KERNEL = 'images/cache/debian/vmlinuz-6.12.111+deb12-amd64';
const missing = existsSync(KERNEL) ? '' : ` (left out: ${KERNEL} is not there)`;
/** Of boot_params. */
const E820_ENTRIES = 0x1e8;
const INITRD_ADDRESS = 0x134_3000;

interface Row {
  readonly by: string;
  readonly phase: string;
  readonly first: number;
  readonly before: string;
  readonly after: string;
  readonly what: string | null;
  readonly instruction: { readonly address: string; readonly mode: string; readonly text: string } | null;
}

describe.skipIf(missing !== '')(`bootscope who${missing}`, () => {
  const folder = mkdtempSync(join(tmpdir(), 'bootscope-who-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  beforeAll(() => buildCommand());

  /** The last first. */
  async function who(range: string, ...args: readonly string[]): Promise<readonly Row[]> {
    const { status, stdout, stderr } = await bootscope([
      ...['who', KERNEL, range, '--cmdline', 'nokaslr', '--json', ...args],
    ]);
    expect([status, stderr]).toEqual([0, '']);
    return (JSON.parse(stdout) as { readonly accessors: readonly Row[] }).accessors;
  }

  async function jump(): Promise<{ readonly bootParams: string; readonly cr3: string }> {
    const { stdout } = await bootscope(['boot', KERNEL, '--cmdline', 'nokaslr', '--json', '--no-hash']);
    const { kernel, phases } = JSON.parse(stdout) as {
      readonly kernel: { readonly bootParams: string };
      readonly phases: readonly { readonly registers: { readonly cr3: string } }[];
    };
    return { bootParams: kernel.bootParams, cr3: phases.at(-1)!.registers.cr3 };
  }

  it('names the instruction of setup that wrote e820_entries', async () => {
    const at = Number((await jump()).bootParams) + E820_ENTRIES;
    const [last, ...before] = await who(`0x${at.toString(16)}`);
    expect(last).toMatchObject({ by: 'guest', phase: 'setup', before: '00', after: '06' });
    expect(last!.instruction).toMatchObject({ mode: 'real16', text: expect.stringMatching(/^mov %[a-d]l,/) });
    expect(before.at(-1)).toMatchObject({ by: 'loader', what: expect.stringMatching(/setup/) });
  });

  it('names the code that wrote the page tables', async () => {
    const rows = await who((await jump()).cr3);
    expect(rows.length).toBeGreaterThan(0);
    expect(rows[0]).toMatchObject({ by: expect.stringMatching(/^(guest|extract_kernel)$/) });
    expect(rows[0]!.before).not.toBe(rows[0]!.after);
  });

  it('names the trap for the kernel text, with the bytes of the file in the payload', async () => {
    const [last] = await who('0x1000000+0x10');
    expect(last).toMatchObject({
      by: 'extract_kernel',
      phase: expect.stringMatching(/decompressed|parse_elf/),
    });
    expect(last!.what).toMatch(
      /^segment 0: bytes 0x[0-9a-f]+\.\.0x[0-9a-f]+ of the file in the zstd payload at 0x/,
    );
  });

  it('names what came over an initrd', async () => {
    const initrd = join(folder, 'initrd');
    writeFileSync(initrd, Buffer.alloc(0x1000, 0xab));
    const rows = await who(
      'initrd',
      '--initrd',
      initrd,
      '--initrd-address',
      `0x${INITRD_ADDRESS.toString(16)}`,
    );
    expect(rows.at(-1)).toMatchObject({ by: 'loader', what: 'initrd', after: 'ab'.repeat(16) });
    expect(rows[0]).toMatchObject({ by: 'extract_kernel' });
  });
});
