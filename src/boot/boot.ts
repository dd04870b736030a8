// The short way to boot: a session from the first instruction to the end, with the trace and the machine still open.

import type { KernelImage } from '../image/kernel-image.ts';
import type { Machine } from '../machine/machine.ts';
import type { BootTrace } from '../trace/boot-trace.ts';
import type { BootOptions } from './options.ts';
import { openBoot } from './session.ts';

/** A finished boot; the machine stays open so that its memory can be looked at. */
export interface FinishedBoot {
  readonly trace: BootTrace;
  readonly machine: Machine;
  /** Frees the machine; `machine.ram` must not be used any more. */
  close(): void;
}

/**
 * Boots an image. A guest that stops before the jump is no error: the trace then says where and why.
 *
 * @throws BootscopeError when image and options do not go together, or no engine is there; what `options.signal` says when it
 *   aborts
 */
export async function boot(image: KernelImage, options: Partial<BootOptions> = {}): Promise<FinishedBoot> {
  const session = await openBoot(image, options);
  try {
    await session.run();
    options.signal?.throwIfAborted();
    return { trace: session.trace(), machine: session.machine, close: () => session.close() };
  } catch (error) {
    session.close();
    throw error;
  }
}
