// What the boots of the demo images count: the same as stepping through them, with each engine and every way to do string
// instructions.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { describeEachEngine } from '../cpu/each-engine.ts';
import { readKernelImage } from '../image/kernel-image.ts';
import type { BootTrace } from '../trace/boot-trace.ts';
import { boot } from './boot.ts';
import { type BootOptions, DEFAULT_BOOT_OPTIONS } from './options.ts';
import { openBoot } from './session.ts';

const DEMO = fileURLToPath(new URL('../../images/demo', import.meta.url));

async function bootDemo(name: string, options: Partial<BootOptions>): Promise<BootTrace> {
  const path = join(DEMO, name);
  const image = await readKernelImage(path, readFileSync(path));
  const finished = await boot(image, {
    ...DEFAULT_BOOT_OPTIONS,
    ...{ hash: false, pageTables: false, cmdline: 'nokaslr' },
    ...options,
  });
  finished.close();
  return finished.trace;
}

const counts = ({ phases }: BootTrace): (readonly [string, number | null])[] =>
  phases.map(({ name, instructions }) => [name, instructions]);

interface Stepped {
  /** Instructions before each phase. */
  readonly phases: readonly (readonly [string, number])[];
  /** The linear address of each. */
  readonly addresses: readonly number[];
}

/** A boot that is stepped through. */
async function step(name: string, options: Partial<BootOptions>): Promise<Stepped> {
  const path = join(DEMO, name);
  const image = await readKernelImage(path, readFileSync(path));
  using session = await openBoot(image, {
    ...{ hash: false, pageTables: false, cmdline: 'nokaslr', shortcuts: false, events: false },
    ...options,
  });
  const addresses: number[] = [];
  const phases: [string, number][] = [];
  session.stream({
    syntax: 'gas',
    describe: ({ address }) => address,
    executed: (address) => addresses.push(address),
  });
  for await (const stop of session.phases()) {
    if (stop.reason === 'phase') phases.push([stop.phase!, addresses.length]);
    else expect(stop).toMatchObject({ reason: 'ended', stopped: null });
  }
  return { phases, addresses };
}

describeEachEngine('the count of instructions of a boot', (_open, engine) => {
  it.each([
    ['demo-lz4.bzImage', {}],
    ['demo-gzip.bzImage', { entry: 'prot32' }],
    ['demo-zstd.bzImage', { entry: 'long64' }],
    ['demo-i386.bzImage', {}],
    ['demo.zImage', {}],
    ['demo.zImage', { entry: 'boot-sector' }],
    ['demo-gzip.bzImage', { decompress: 'emulated' }],
    ['demo-lzo.bzImage', { decompress: 'emulated', entry: 'long64' }],
  ] as const)('is that of single steps: %s %o', async (name, options) => {
    const { phases: stepped } = await step(name, { ...options, engine });
    expect(counts(await bootDemo(name, { ...options, engine }))).toEqual(stepped);
    const { phases } = await bootDemo(name, { ...options, engine, shortcuts: false, events: false });
    expect(phases.map((phase) => [phase.name, phase.instructions])).toEqual(stepped);
    expect(stepped.at(-1)![1]).toBeGreaterThan(stepped[0]![1] + 10);
  });

  it('grows from event to event, and stands where the phase says', async () => {
    const { events, phases } = await bootDemo('demo-gzip.bzImage', { engine });
    const begin = new Map(phases.map(({ name, instructions }) => [name, instructions!]));
    expect(events.length).toBeGreaterThan(10);
    let last = 0;
    for (const event of events) {
      expect(event.instructions, event.text).toBeGreaterThanOrEqual(last);
      expect(event.instructions, event.text).toBeGreaterThanOrEqual(begin.get(event.phase)!);
      last = event.instructions!;
    }
  });

  it('comes with the address of the instruction itself for ports, BIOS calls and what they print', async () => {
    const { events } = await bootDemo('demo-gzip.bzImage', { engine });
    const { addresses } = await step('demo-gzip.bzImage', { engine });
    const checked = events.filter(({ kind }) => ['port', 'bios', 'console'].includes(kind));
    expect(new Set(checked.map(({ kind }) => kind)).size).toBeGreaterThan(1);
    for (const { text, address, instructions, phase } of checked) {
      // What is printed between two phases belongs to the host.
      if (phase === 'extract_kernel' || phase === 'decompressed') continue;
      expect([text, addresses[instructions!]]).toEqual([text, Number(address)]);
    }
  });
});
