import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { openBoot } from '../boot/session.ts';
import { hasNativeEngine } from '../cpu/native.ts';
import { readKernelImage } from '../image/kernel-image.ts';
import { SymbolTable } from '../trace/symbols.ts';
import { codeNames } from './code-names.ts';
import { Monitor } from './monitor.ts';

const DEMO = join(fileURLToPath(new URL('../../images/demo', import.meta.url)), 'demo-lz4.bzImage');
const missing = hasNativeEngine() ? '' : ' (left out: no libunicorn 2.x found)';

describe.skipIf(missing !== '')(`codeNames${missing}`, () => {
  const symbols = {
    setup: new SymbolTable([{ address: 0x200n, name: '_start' }]),
    stub: new SymbolTable([
      { address: 0n, name: 'startup_32' },
      { address: 0x200n, name: 'startup_64' },
    ]),
  };

  it('names instructions of setup, of the stub as it was loaded, and of its copy', async () => {
    const image = await readKernelImage(DEMO, readFileSync(DEMO));
    using session = await openBoot(image, { cmdline: 'nokaslr', engine: 'native' });
    await session.run();
    const name = codeNames(session, symbols);
    const phases = session.trace().phases;
    const at = (phase: string): number => Number(phases.find((each) => each.name === phase)!.address);
    expect(name(at('setup'), 'setup')).toBe('_start');
    expect(name(at('setup') + 0x6c, 'setup')).toBe('_start+0x6c');
    expect(name(at('startup_32'), 'startup_32')).toBe('startup_32');
    expect(name(at('startup_64') + 4, 'startup_64')).toBe('startup_64+0x4');
    expect(name(at('relocated'), 'relocated')).toMatch(/^startup_64\+0x/);
    expect(name(0x500, 'setup')).toBeNull();
    expect(codeNames(session, { setup: null, stub: null })(at('setup'), 'setup')).toBeNull();

    const monitor = new Monitor(session, image, { symbols });
    expect(await monitor.run(`who ${session.registers.cr3}`)).toContain('<startup_32+0x');
    expect(await monitor.run('goto startup_64')).toContain('startup_64, 0x100200 <startup_64>, long64');
  });
});
