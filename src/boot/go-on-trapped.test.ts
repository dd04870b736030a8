// A boot that is gone on with on a second machine is the hooked boot: trace, memory and registers; the guest's own goes on as if
// nothing had been.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, it, vi } from 'vitest';
import { describeEachEngine } from '../cpu/each-engine.ts';
import * as extraction from '../decompressor/extract-kernel.ts';
import { readKernelImage } from '../image/kernel-image.ts';
import { boot, finishedBoot } from './boot.ts';
import { differingChunks } from './differing-memory.ts';
import { goOnTrapped } from './go-on-trapped.ts';
import { type BootOptions, DEFAULT_BOOT_OPTIONS } from './options.ts';
import { HeldBoot } from './session.ts';
import { verify } from './verify.ts';

vi.mock('../decompressor/extract-kernel.ts', { spy: true });
afterEach(() => void vi.mocked(extraction.extractKernel).mockRestore());

function demo(name: string) {
  const path = fileURLToPath(new URL(`../../images/demo/${name}`, import.meta.url));
  return readKernelImage(name, readFileSync(path));
}

async function atCall(name: string, options: Partial<BootOptions>) {
  const image = await demo(name);
  const whole = {
    ...DEFAULT_BOOT_OPTIONS,
    memory: 64 << 20,
    snapshotMemory: 0,
    cmdline: 'nokaslr',
    ...options,
  };
  const guest = await HeldBoot.open(image, { ...whole, decompress: 'emulated' });
  await guest.run({ until: 'extract_kernel' });
  return { image, whole, guest };
}

/** Without what depends on the host's speed. */
const comparable = (trace: unknown): string =>
  JSON.stringify(trace, (key, value) =>
    key === 'milliseconds' ? null : typeof value === 'bigint' ? `${value}` : value,
  );

describeEachEngine('a boot gone on with by the trap', (_, engine) => {
  it.each([
    ['demo-gzip.bzImage', {}],
    ['demo-zstd.bzImage', { entry: 'long64' }],
    ['demo-lz4.bzImage', { entry: 'prot32', console: true }],
    ['demo-i386.bzImage', {}],
  ] as const)('is the hooked boot in all that is told of it: %s, %o', async (name, { ...options }) => {
    const { image, whole, guest } = await atCall(name, { ...options, engine } as Partial<BootOptions>);
    const hooked = await boot(image, { ...whole, decompress: 'hooked' });
    const own = await boot(image, { ...whole, decompress: 'emulated' });
    const trapped = (await goOnTrapped(guest))!;
    expect(comparable(trapped.trace)).toBe(comparable(hooked.trace));
    expect([...differingChunks(trapped.machine.memory, hooked.machine.memory)]).toEqual([]);
    await guest.run();
    expect(comparable(finishedBoot(guest).trace)).toBe(comparable(own.trace));
    expect([...differingChunks(guest.machine.memory, own.machine.memory)]).toEqual([]);
    for (const each of [trapped, hooked, own, guest]) each.close();
  });

  it('is not told of where addresses are drawn', async () => {
    const { guest } = await atCall('demo-gzip.bzImage', { kaslr: { kind: 'seed', seed: 1n }, engine });
    expect(await goOnTrapped(guest)).toBeNull();
    guest.close();
  });

  it('is not told of where the stub has made no copy of itself', async () => {
    const { guest } = await atCall('demo.zImage', { engine });
    expect(await goOnTrapped(guest)).toBeNull();
    guest.close();
  });

  it('is found out by verify where the extraction in TypeScript is wrong', async () => {
    const { image, whole, guest } = await atCall('demo-xz.bzImage', { engine });
    guest.close();
    const { extractKernel: actual } = await vi.importActual<typeof extraction>(
      '../decompressor/extract-kernel.ts',
    );
    let at = 0;
    vi.mocked(extraction.extractKernel).mockImplementation(async (context) => {
      const result = await actual(context);
      at = Number(result.segments[0]!.paddr) + 5;
      context.memory.write8(at, context.memory.read8(at) ^ 1);
      return result;
    });
    const { equal, memory } = await verify(image, whole);
    expect(equal).toBe(false);
    expect(memory.filter(({ expected }) => expected === null)).toMatchObject([{ start: at, end: at + 1 }]);
    expect(extraction.extractKernel).toHaveBeenCalledTimes(1);
  });
});
