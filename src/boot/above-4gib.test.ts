// Boots whose kernel, boot_params, command line and initrd lie above 4 GiB. Only the native engine has such RAM.

import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { readKernelImage } from '../image/kernel-image.ts';
import { boot } from './boot.ts';
import { type BootOptions, DEFAULT_BOOT_OPTIONS } from './options.ts';

const GIB = 2 ** 30;
const DEBIAN = fileURLToPath(
  new URL('../../images/cache/debian/vmlinuz-6.12.111+deb12-amd64', import.meta.url),
);
const why = existsSync(DEBIAN) ? '' : ' (skipped: Debian 6.12 is not in images/cache)';

async function bootDebian(options: Partial<BootOptions>) {
  const image = await readKernelImage('vmlinuz', readFileSync(DEBIAN));
  const finished = await boot(image, {
    ...DEFAULT_BOOT_OPTIONS,
    ...{ engine: 'native', memory: 8 * GIB, cmdline: 'nokaslr', ...options },
  });
  finished.close();
  return finished.trace;
}

describe.skipIf(why !== '')(`a boot above 4 GiB${why}`, () => {
  it('by the 64-bit protocol unpacks the same kernel there as below', async () => {
    const low = await bootDebian({ entry: 'long64' });
    const initrd = { path: 'initrd', bytes: new TextEncoder().encode('070701'.padEnd(0x5000, '7')) };
    const high = await bootDebian({
      ...{
        entry: 'long64',
        loadAddress: 5 * GIB,
        bootParamsAddress: 6 * GIB,
        cmdlineAddress: 6 * GIB + 0x2000,
      },
      ...{ initrd, initrdAddress: 7 * GIB },
    });
    expect(high.stopped).toBeNull();
    expect(high.hazards).toEqual([]);
    const { kernel } = high;
    expect(kernel).toMatchObject({ physicalBase: BigInt(5 * GIB), bootParams: BigInt(6 * GIB) });
    expect(kernel!.virtualBase).toBe(low.kernel!.virtualBase);
    expect(kernel!.segments.map(({ sha256 }) => sha256)).toEqual(
      low.kernel!.segments.map(({ sha256 }) => sha256),
    );
  });

  it('by KASLR moves the kernel alone', async () => {
    const trace = await bootDebian({
      cmdline: '',
      kaslr: { kind: 'forced', physical: 6 * GIB, virtual: 0x1a00_0000 },
    });
    expect(trace.kernel).toMatchObject({
      physicalBase: BigInt(6 * GIB),
      virtualBase: 0xffff_ffff_9a00_0000n,
    });
    expect(trace.phases.find(({ name }) => name === 'relocated')!.address).toBeLessThan(2n ** 32n);
  });

  it('is refused by the 32-bit protocol, which does not reach there', async () => {
    await expect(bootDebian({ entry: 'prot32', loadAddress: 5 * GIB })).rejects.toMatchObject({
      code: 'boot-above-4g',
      message: expect.stringContaining('the 32-bit protocol does not reach'),
    });
  });
});
