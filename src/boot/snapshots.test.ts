// Going back by snapshots and by running again is being there: registers, memory, devices and events as in a straight run.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { describeEachEngine } from '../cpu/each-engine.ts';
import { readKernelImage } from '../image/kernel-image.ts';
import type { BootOptions } from './options.ts';
import { type BootSession, openBoot } from './session.ts';

const DEMO = fileURLToPath(new URL('../../images/demo', import.meta.url));
/** Of each boot; the environment may ask for more. */
const POSITIONS = Number(process.env.BOOTSCOPE_POSITIONS ?? 40);
const EMPTY = new Uint8Array(0x10000);

const BOOTS: readonly (readonly [name: string, image: string, options: Partial<BootOptions>])[] = [
  ['the 16-bit entry', 'demo-lz4.bzImage', {}],
  ['a 32-bit kernel', 'demo-i386.bzImage', {}],
  ['a zImage by its boot sector', 'demo.zImage', { entry: 'boot-sector' }],
  ['the 64-bit entry', 'demo-xz.bzImage', { entry: 'long64' }],
  ['a guest that decompresses by itself', 'demo-gzip.bzImage', { decompress: 'emulated', entry: 'prot32' }],
];

async function open(image: string, options: Partial<BootOptions>): Promise<BootSession> {
  const parsed = await readKernelImage(image, readFileSync(join(DEMO, image)));
  return openBoot(parsed, {
    memory: 64 << 20,
    cmdline: 'nokaslr console=ttyS0',
    pageTables: false,
    ...options,
  });
}

/** Of the session as it stands. */
function fingerprint(session: BootSession): string {
  const { machine, registers, instructions, events } = session;
  const hash = createHash('sha1');
  // Most of memory is empty, and comparing is faster than hashing.
  for (let at = 0; at < machine.ram.length; at += EMPTY.length) {
    const part = machine.ram.subarray(at, at + EMPTY.length);
    if (Buffer.compare(part, EMPTY) !== 0) hash.update(String(at)).update(part);
  }
  const rest = [
    ...Object.values(registers).map(String),
    instructions,
    machine.serialText,
    machine.clock.nanoseconds,
  ];
  return hash.update(JSON.stringify([...rest, events.map(({ text }) => text)])).digest('hex');
}

/** The same numbers for each run of the test. */
function* randomNumbers(seed: number): Generator<number> {
  for (let state = seed; ; ) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield state / 2 ** 32;
  }
}

describeEachEngine('goTo', (_, engine) => {
  it.each(BOOTS)(
    `is exact at random positions of %s`,
    async (_name, image, options) => {
      using straight = await open(image, { ...options, engine, snapshotMemory: 0 });
      await straight.run();
      const all = straight.instructions!;
      const random = randomNumbers(all);
      const wanted = Array.from({ length: POSITIONS }, () => Math.floor(random.next().value! * all));
      const expected = new Map<number, string>();
      for (const position of [...new Set(wanted)].sort((a, b) => a - b)) {
        await straight.goTo(position);
        expected.set(position, fingerprint(straight));
      }
      using session = await open(image, { ...options, engine });
      await session.run();
      for (const position of wanted) {
        const stop = await session.goTo(position);
        expect(stop.instructions).toBe(position);
        expect([position, fingerprint(session)]).toEqual([position, expected.get(position)]);
      }
    },
    1_800_000,
  );

  it('gives up snapshots for its limit, and is exact with those that are left', async () => {
    using straight = await open('demo-bzip2.bzImage', { decompress: 'emulated', engine, snapshotMemory: 0 });
    using session = await open('demo-bzip2.bzImage', { decompress: 'emulated', engine, snapshotMemory: 1 });
    await session.run();
    expect(session.instructions!).toBeGreaterThan(5_000_000);
    for (const part of [0.9, 0.4]) {
      const position = Math.floor(session.instructions! * part);
      await session.goTo(position);
      await straight.goTo(position);
      expect(fingerprint(session)).toBe(fingerprint(straight));
    }
  }, 1_800_000);
});
