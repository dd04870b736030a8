import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { type BootSession, openBoot } from '../boot/session.ts';
import { hasNativeEngine } from '../cpu/native.ts';
import { readKernelImage } from '../image/kernel-image.ts';
import { SymbolTable } from '../trace/symbols.ts';
import { codeNames } from './code-names.ts';
import { Monitor } from './monitor.ts';

const DEMO = join(fileURLToPath(new URL('../../images/demo', import.meta.url)), 'demo-lz4.bzImage');
const missing = hasNativeEngine() ? '' : ' (left out: no libunicorn 2.x found)';

describe('codeNames of a boot as far as it has come', () => {
  const region = (role: string, start: bigint, end: bigint, zo?: string) => ({ role, start, end, zo });
  const SETUP = region('setup', 0x90000n, 0x94000n);
  const LOADED = region('zo', 0x100000n, 0x200000n, 'loaded');
  // Begins in what was loaded.
  const COPY = region('zo', 0x180000n, 0x280000n, 'copy');
  const phases = [
    { name: 'setup', regions: [region('ivt', 0n, 0x400n), SETUP, LOADED] },
    { name: 'startup_32', regions: [SETUP, LOADED] },
    { name: 'relocated', regions: [LOADED, COPY] },
  ];
  const session = { trace: () => ({ phases }) } as unknown as BootSession;
  const symbols = {
    setup: new SymbolTable([{ address: 0n, name: 'setup' }]),
    stub: new SymbolTable([{ address: 0n, name: 'stub' }]),
  };

  it('takes the region that holds the address in the phase, the copy before what was loaded', () => {
    const name = codeNames(session, symbols);
    expect(name(0x90000, 'setup')).toBe('setup');
    expect(name(0x93fff, 'setup')).toBe('setup+0x3fff');
    expect(name(0x94000, 'setup')).toBeNull();
    expect(name(0x10, 'setup')).toBeNull();
    expect(name(0x180010, 'startup_32')).toBe('stub+0x80010');
    expect(name(0x180010, 'relocated')).toBe('stub+0x10');
    expect(name(0x100010, 'relocated')).toBe('stub+0x10');
    expect(name(0x90000, 'relocated')).toBeNull();
    expect(name(0x90000, 'kernel')).toBeNull();
    // Where no phase is known, the last counts.
    expect(name(0x180010, null)).toBe('stub+0x10');
  });

  it('names with one file of symbols what that has', () => {
    const setup = codeNames(session, { ...symbols, stub: null });
    const stub = codeNames(session, { ...symbols, setup: null });
    expect([setup(0x90000, 'setup'), setup(0x100000, 'setup')]).toEqual(['setup', null]);
    expect([stub(0x90000, 'setup'), stub(0x100000, 'setup')]).toEqual([null, 'stub']);
    const unasked = { trace: () => expect.unreachable() } as unknown as BootSession;
    expect(codeNames(unasked, { setup: null, stub: null })(0x90000, 'setup')).toBeNull();
  });
});

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
