import { beforeEach, describe, expect, it, vi } from 'vitest';
import { registerEvents } from './events.ts';
import { runCommand } from './test-output.ts';

vi.mock('./standard-output.ts', async () => import('./test-output.ts'));

const DEMO = new URL('../../images/demo/demo-zstd.bzImage', import.meta.url).pathname;

async function events(...args: string[]): Promise<string> {
  return (await runCommand(registerEvents, DEMO, ...args)).text;
}

describe('bootscope events', () => {
  beforeEach(() => {
    process.exitCode = undefined;
  });

  it('lists the E820 map as the guest got it, a call a line', async () => {
    const lines = (await events('--only', 'bios'))
      .split('\n')
      .filter((line) => line.includes('INT 15h E820'));
    expect(lines.map((line) => line.split(': ').at(-1))).toEqual([
      '0x0..0x9fc00 usable',
      '0x9fc00..0xa0000 reserved',
      '0xf0000..0x100000 reserved',
      '0x100000..0x1ffe0000 usable',
      '0x1ffe0000..0x20000000 reserved',
      '0xfffc0000..0x100000000 reserved',
    ]);
    expect(process.exitCode).toBe(0);
  });

  it('makes one line of a line that the guest printed a character at a time', async () => {
    const text = await events();
    expect(text).toContain('"Bootscope demo image: setup"');
    expect(text).not.toContain('teletype');
  });

  it('prints the same as JSON, of the kinds that are asked for', async () => {
    const list = JSON.parse(await events('--only', 'mode,msr', '--json'));
    expect(list.map(({ text }: { text: string }) => text)).toEqual([
      'real16 to prot16',
      'prot16 to prot32',
      'MSR 0xc0000080 (EFER) is 0x0',
      'MSR 0xc0000080 (EFER) = 0x100',
      'prot32 to compat32',
      'compat32 to long64',
    ]);
  });

  it('lists those of one service or port alone', async () => {
    const all = (await events('--only', 'bios,port')).split('\n');
    const some = (await events('--only', 'bios=0x15/0xe820,port=0xa1')).split('\n');
    expect(some).toEqual(all.filter((line) => /INT 15h E820|0xa1|^$/.test(line)));
    expect(some.length).toBeLessThan(all.length);
    await expect(events('--only', 'bios=e820')).rejects.toThrow('name an interrupt, bios=0x13');
  });

  it('names the kinds there are when it is asked for another', async () => {
    await expect(events('--only', 'bios,bogus')).rejects.toThrow(/it is a list of: .*bios.*exception/);
  });
});
