// For tests: runs a suite once per binding of Unicorn that is there, and names the one that is left out.

import { describe } from 'vitest';
import type { Cpu, EngineName } from './cpu.ts';
import { hasNativeEngine } from './native.ts';
import { openCpu } from './open.ts';
import { findWasmEngine } from './wasm.ts';

const MISSING: Readonly<Record<EngineName, () => string | null>> = {
  native: () => (hasNativeEngine() ? null : 'no libunicorn 2.x found'),
  wasm: () =>
    findWasmEngine() === null ? 'neither BOOTSCOPE_UNICORN_JS nor @alexaltea/unicorn-js is there' : null,
};

/**
 * `describe` for each engine; `open` opens a CPU on it. An engine that is missing stays in the output as a
 * skipped suite with the reason in its name.
 */
export function describeEachEngine(
  name: string,
  suite: (open: () => Promise<Cpu>, engine: EngineName) => void,
): void {
  for (const engine of ['native', 'wasm'] as const) {
    const missing = MISSING[engine]();
    const register = () => suite(() => openCpu({ engine }), engine);
    if (missing === null) describe(`${name} (${engine})`, register);
    else describe.skip(`${name} (${engine} left out: ${missing})`, register);
  }
}
