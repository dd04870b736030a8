// How long a step back takes in a held boot that stands at the jump into the kernel: wall-clock milliseconds, a number a step.

import { openBoot } from '../src/boot/session.ts';
import type { EngineName } from '../src/cpu/cpu.ts';
import type { KernelImage } from '../src/image/kernel-image.ts';

export async function measureStepsBack(
  image: KernelImage,
  engine: EngineName,
  decompress: 'hooked' | 'emulated',
  steps: number,
): Promise<number[]> {
  const session = await openBoot(image, { engine, decompress, cmdline: 'nokaslr', hash: false });
  try {
    await session.run();
    // The first one decompresses the payload for all that follow.
    await session.goTo(session.instructions! - 1);
    const measured: number[] = [];
    for (let step = 0; step < steps; step++) {
      const startedAt = performance.now();
      await session.goTo(session.instructions! - 1);
      measured.push(performance.now() - startedAt);
    }
    return measured;
  } finally {
    session.close();
  }
}
