// `bootscope/engine/wasm`: Unicorn.js, Unicorn compiled to WebAssembly, as what a boot runs on.

import type { Cpu } from './cpu/cpu.ts';
import { createUnicorn } from './cpu/unicorn.ts';
import { wasmTransport } from './cpu/wasm-file.ts';

export type { Cpu } from './cpu/cpu.ts';
export { findWasmEngine } from './cpu/wasm-file.ts';

/**
 * Opens a CPU of Unicorn.js, in 64-bit mode, without memory: what the option `engine` of a boot takes. Its memory ends at
 * 1900 MiB.
 *
 * @throws {@link BootscopeError} `cpu-no-engine` where neither the package `@alexaltea/unicorn-js` is installed nor
 *   `BOOTSCOPE_UNICORN_JS` names a build of it
 * @example
 * ```ts
 * import { boot, readKernelImage } from 'bootscope';
 * import { findWasmEngine, openWasmCpu } from 'bootscope/engine/wasm';
 *
 * if (findWasmEngine() !== null) {
 *   const { trace, close } = await boot(await readKernelImage('demo-lz4.bzImage'), { engine: openWasmCpu });
 *   close();
 *   console.log(trace.machine.engine, trace.kernel?.entry);
 * }
 * ```
 */
export async function openWasmCpu(): Promise<Cpu> {
  return createUnicorn(await wasmTransport());
}
