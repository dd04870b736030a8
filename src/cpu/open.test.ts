import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

beforeEach(() => {
  // A loaded library stays with its module; each test looks for one anew.
  vi.resetModules();
});
afterEach(() => {
  vi.unstubAllEnvs();
});

describe('opening a CPU', () => {
  it.each(['native', 'auto'] as const)(
    'names the library that was asked for and is not there (%s)',
    async (engine) => {
      vi.stubEnv('BOOTSCOPE_UNICORN_JS', '');
      vi.stubEnv('BOOTSCOPE_LIBUNICORN', '/nowhere/libunicorn.so.2');
      const { openCpu } = await import('./open.ts');
      await expect(openCpu({ engine })).rejects.toMatchObject({
        code: 'cpu-no-engine',
        message: expect.stringContaining('BOOTSCOPE_LIBUNICORN names /nowhere/libunicorn.so.2'),
      });
    },
  );

  it('does not pass over a WASM engine that was asked for and is not there', async () => {
    vi.stubEnv('BOOTSCOPE_UNICORN_JS', '/nowhere/unicorn.js');
    vi.stubEnv('BOOTSCOPE_LIBUNICORN', '');
    const { openCpu } = await import('./open.ts');
    await expect(openCpu({ engine: 'auto' })).rejects.toMatchObject({
      code: 'cpu-no-engine',
      message: expect.stringContaining('/nowhere/unicorn.js'),
    });
  });

  it.runIf(process.platform === 'linux')(
    'finds what set-up has unpacked for the user and what Python has, the newest first',
    async () => {
      const cache = mkdtempSync(join(tmpdir(), 'bootscope-cache-'));
      try {
        const folder = join(cache, 'bootscope/libunicorn/2.9.1/usr/lib/x86_64-linux-gnu');
        mkdirSync(folder, { recursive: true });
        writeFileSync(join(folder, 'libunicorn.so.2'), '');
        vi.stubEnv('XDG_CACHE_HOME', cache);
        const python = join(cache, 'env/lib/python3.12/site-packages');
        mkdirSync(join(python, 'unicorn/lib'), { recursive: true });
        mkdirSync(join(python, 'unicorn-2.8.0.post1.dist-info'));
        writeFileSync(join(python, 'unicorn/lib/libunicorn.so.2'), '');
        vi.stubEnv('VIRTUAL_ENV', join(cache, 'env'));
        const { libraryCandidates } = await import('./find-library.ts');
        expect(libraryCandidates().slice(0, 3)).toEqual([
          { path: 'libunicorn.so.2', version: null },
          { path: join(folder, 'libunicorn.so.2'), version: '2.9.1' },
          { path: join(python, 'unicorn/lib/libunicorn.so.2'), version: '2.8.0' },
        ]);
      } finally {
        rmSync(cache, { recursive: true });
      }
    },
  );
});

const { hasNativeEngine } = await import('./native.ts');

describe(
  hasNativeEngine() ? 'the native engine' : 'the native engine (left out: no libunicorn 2.x found)',
  () => {
    it.skipIf(!hasNativeEngine())('takes no memory for RAM that nobody touches', async () => {
      const { openCpu } = await import('./open.ts');
      const cpu = await openCpu({ engine: 'native' });
      const MIB = 2 ** 20;
      const before = process.memoryUsage.rss();
      cpu.mapRam(0, 1900 * MIB);
      const ram = cpu.ram(0);
      ram[1899 * MIB] = 1;
      expect(process.memoryUsage.rss() - before).toBeLessThan(64 * MIB);
      cpu.close();
    });

    it.skipIf(!hasNativeEngine())('can be opened many times at once and after another', async () => {
      const { openCpu } = await import('./open.ts');
      for (let round = 0; round < 3; round++) {
        const cpus = await Promise.all([1, 2, 3].map(() => openCpu({ engine: 'native' })));
        cpus.forEach((cpu, index) => {
          cpu.mapRam(0, 0x10_0000);
          cpu.ram(0).set([0xb8, index, 0, 0, 0, 0xf4], 0x1000); // mov eax, index; hlt
          cpu.writeRegister('rip', 0x1000n);
        });
        expect(cpus.map((cpu) => cpu.run().kind)).toEqual(['halted', 'halted', 'halted']);
        expect(cpus.map((cpu) => cpu.readRegister('rax'))).toEqual([0n, 1n, 2n]);
        for (const cpu of cpus) cpu.close();
      }
    });
  },
);
