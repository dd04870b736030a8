// `bootscope/engine/native`: the native Unicorn library as what a boot runs on.

import type { Cpu } from './cpu/cpu.ts';
import { nativeTransport } from './cpu/native.ts';
import { createUnicorn } from './cpu/unicorn.ts';

export type { Cpu } from './cpu/cpu.ts';
export { hasNativeEngine } from './cpu/native.ts';

/**
 * Opens a CPU of libunicorn 2, in 64-bit mode, without memory: what the option `engine` of a boot takes.
 *
 * @param library - path of a libunicorn; empty: the one that `BOOTSCOPE_LIBUNICORN` names, else the newest that is installed
 * @throws {@link BootscopeError} `cpu-no-engine` where there is no such library, or it is no Unicorn 2
 * @example
 * ```ts
 * import { boot, readKernelImage } from 'bootscope';
 * import { openNativeCpu } from 'bootscope/engine/native';
 *
 * const image = await readKernelImage('demo-lz4.bzImage');
 * const { trace, close } = await boot(image, { engine: () => openNativeCpu() });
 * close();
 * console.log(trace.machine.engine, trace.kernel?.entry);
 * ```
 */
export async function openNativeCpu(library = ''): Promise<Cpu> {
  return createUnicorn(nativeTransport(library));
}
