// How the CPU leaves the trapped extract_kernel.

import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { readKernelImage } from '../../image/kernel-image.ts';
import { openBoot } from '../session.ts';

const IMAGES = new URL('../../../images/', import.meta.url);
const DEBIAN = fileURLToPath(new URL('cache/debian/vmlinuz-6.12.111+deb12-amd64', IMAGES));
const why = existsSync(DEBIAN) ? '' : ' (skipped: Debian 6.12 is not in images/cache)';

/** IDTR as the kernel finds it, where the stub has an IDT when it calls extract_kernel. */
async function idtrAtKernel(path: string) {
  using session = await openBoot(await readKernelImage(path, readFileSync(path)), {
    ...{
      memory: 256 << 20,
      cmdline: 'nokaslr',
      entry: 'long64',
      hash: false,
      events: false,
      pageTables: false,
    },
  });
  await session.run({ until: 'extract_kernel' });
  session.machine.cpu.writeDescriptorTable('idtr', { base: 0x1234_5000n, limit: 0x1ff });
  await session.run();
  return session.trace().phases.at(-1)!.idtr;
}

describe('an IDT of the stub', () => {
  it('is still loaded behind an extract_kernel that does not take it away', async () => {
    const demo = fileURLToPath(new URL('demo/demo-lz4.bzImage', IMAGES));
    expect(await idtrAtKernel(demo)).toEqual({ base: 0x1234_5000n, limit: 0x1ff });
  });

  it.skipIf(why !== '')(`is none behind one that does, as kernels from 5.12 on have it${why}`, async () => {
    expect(await idtrAtKernel(DEBIAN)).toEqual({ base: 0n, limit: 0 });
  });
});
