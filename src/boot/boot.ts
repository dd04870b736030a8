// The short way to boot: a session from the first instruction to the end, with the trace and the machine still open.

import type { KernelImage } from '../image/kernel-image.ts';
import type { Machine } from '../machine/machine.ts';
import type { BootTrace } from '../trace/boot-trace.ts';
import type { BootOptions } from './options.ts';
import { type BootSession, openBoot } from './session.ts';

/** A finished boot; the machine stays open so that its memory can be looked at. */
export interface FinishedBoot {
  /** As they were asked for, and the defaults. */
  readonly options: BootOptions;
  readonly trace: BootTrace;
  readonly machine: Machine;
  /** Frees the machine; `machine.ram` must not be used any more. */
  close(): void;
}

/**
 * Boots an image. A guest that stops before the jump is no error: the trace then says where and why.
 *
 * @param options - what differs from {@link DEFAULT_BOOT_OPTIONS}
 * @throws {@link BootscopeError} when image and options do not go together, or no engine is there; what `options.signal` says
 *   when it aborts
 * @example
 * ```ts
 * import { boot, readKernelImage } from 'bootscope';
 *
 * const { trace, machine, close } = await boot(await readKernelImage('demo-zstd.bzImage'), { memory: 256 << 20 });
 * if (trace.kernel === null) console.log(`no kernel was reached: ${trace.stopped}`);
 * else console.log('first bytes of the kernel', machine.memory.view(Number(trace.kernel.entry), 16));
 * close();
 * ```
 */
export async function boot(image: KernelImage, options: Partial<BootOptions> = {}): Promise<FinishedBoot> {
  // Nobody can go back in it, so nothing is kept for that.
  const session = await openBoot(image, { ...options, snapshotMemory: 0 });
  try {
    await session.run();
    options.signal?.throwIfAborted();
    return finishedBoot(session);
  } catch (error) {
    session.close();
    throw error;
  }
}

/** A session that has come to its end, as `boot` gives it. */
export function finishedBoot(session: BootSession): FinishedBoot {
  const { options, machine } = session;
  return { options, trace: session.trace(), machine, close: () => session.close() };
}
