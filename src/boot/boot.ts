// The public way to boot: opens a CPU, runs one boot on it, and hands back the trace with the machine still open.

import { openCpu } from '../cpu/open.ts';
import { PayloadAhead } from '../decompressor/payload-ahead.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import type { Machine } from '../machine/machine.ts';
import type { BootTrace } from '../trace/boot-trace.ts';
import { BootRun } from './boot-run.ts';
import { cmdlineForGuest } from './kaslr-request.ts';
import type { BootOptions } from './options.ts';

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
 * @throws BootscopeError when image and options do not go together, or no engine is there
 */
export async function boot(image: KernelImage, options: BootOptions): Promise<FinishedBoot> {
  const ahead = options.decompress === 'hooked' ? await PayloadAhead.begin(image) : null;
  const cpu = await openCpu({ engine: options.engine });
  try {
    // The guest's own code draws unless it is told not to.
    const cmdline = options.decompress === 'emulated' ? cmdlineForGuest(image, options) : options.cmdline;
    const run = new BootRun(cpu, image, { ...options, cmdline }, ahead);
    await run.start();
    return { trace: run.trace(), machine: run.machine, close: () => cpu.close() };
  } catch (error) {
    cpu.close();
    throw error;
  }
}
