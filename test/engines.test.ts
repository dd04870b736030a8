// The same boot has the same result on every engine and version, to the byte.

import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { openBoot } from '../src/boot/session.ts';
import { testEngines } from '../src/cpu/each-engine.ts';
import { createUnicorn } from '../src/cpu/unicorn.ts';
import { readKernelImage } from '../src/image/kernel-image.ts';
import { traceToJson } from '../src/report/json.ts';

const DEBIAN = 'images/cache/debian/vmlinuz-6.12.111+deb12-amd64';
const DEMOS = ['demo-lz4.bzImage', 'demo-i386.bzImage', 'demo.zImage'].map((name) => `images/demo/${name}`);
const SEEDS = [1n, 2n, 3n, 4n, 5n];
const engines = testEngines();
const reason =
  engines.length > 1 || process.env.BOOTSCOPE_EXPECT_ENGINES !== undefined
    ? ''
    : ` (left out: of engines there is only ${engines[0]?.label ?? 'none'})`;

async function boot(path: string, seed: bigint, decompress: 'hooked' | 'emulated'): Promise<string[]> {
  const results: string[] = [];
  for (const { create } of engines) {
    const session = await openBoot(await readKernelImage(path, readFileSync(path)), {
      kaslr: { kind: 'seed', seed },
      decompress,
      engine: async () => createUnicorn(await create()),
    });
    await session.run();
    const { machine, ...rest } = traceToJson(session.trace(), { events: true }) as unknown as {
      machine: Record<string, unknown>;
    };
    const { engine: _, engineVersion: __, ...same } = machine;
    results.push(JSON.stringify({ ...rest, machine: same }, null, 1));
    session.close();
  }
  return results;
}

describe.skipIf(reason !== '')(
  `the JSON of a boot on ${engines.map(({ label }) => label).join(' and ')}${reason}`,
  () => {
    it('compares more engines than one', () => {
      expect(engines.length).toBeGreaterThan(1);
    });

    it.each(SEEDS)('of a demo image with KASLR from seed %d is the same', async (seed) => {
      for (const path of DEMOS) {
        const [first, ...others] = await boot(path, seed, 'hooked');
        for (const other of others) expect(other).toBe(first);
      }
    });

    it('of a demo image that decompresses itself is the same', async () => {
      const [first, ...others] = await boot(DEMOS[0]!, 1n, 'emulated');
      for (const other of others) expect(other).toBe(first);
    });

    const missing = existsSync(DEBIAN) ? '' : ' (left out: no Debian kernel in the cache)';
    it.skipIf(missing !== '').each(SEEDS)(
      `of Debian's 6.12 with KASLR from seed %d is the same${missing}`,
      async (seed) => {
        const [first, ...others] = await boot(DEBIAN, seed, 'hooked');
        for (const other of others) expect(other).toBe(first);
      },
    );
  },
);
