// For tests: runs a suite once per binding of Unicorn that is there, and names the one that is left out.

import { describe } from 'vitest';
import type { Cpu, EngineName } from './cpu.ts';
import { hasNativeEngine, nativeTransport } from './native.ts';
import { openCpu } from './open.ts';
import type { Transport } from './transport.ts';
import { findWasmEngine, wasmTransport } from './wasm.ts';

const MISSING: Readonly<Record<EngineName, () => string | null>> = {
  native: () => (hasNativeEngine() ? null : 'no libunicorn 2.x found'),
  wasm: () =>
    findWasmEngine() === null ? 'neither BOOTSCOPE_UNICORN_JS nor @alexaltea/unicorn-js is there' : null,
};

/** `describe` for each engine that is there; one that is missing stays in the output as a skipped suite with the reason in its name. */
function describeEach(name: string, suite: (engine: EngineName) => void): void {
  for (const engine of ['native', 'wasm'] as const) {
    const missing = MISSING[engine]();
    if (missing === null) describe(`${name} (${engine})`, () => suite(engine));
    else describe.skip(`${name} (${engine} left out: ${missing})`, () => suite(engine));
  }
}

/** Runs the suite for each engine; `open` opens a CPU on it. */
export function describeEachEngine(
  name: string,
  suite: (open: () => Promise<Cpu>, engine: EngineName) => void,
): void {
  describeEach(name, (engine) => suite(() => openCpu({ engine }), engine));
}

/** Runs the suite for each binding; `create` makes a transport without an instance. */
export function describeEachTransport(name: string, suite: (create: () => Promise<Transport>) => void): void {
  describeEach(name, (engine) =>
    suite(async () => (engine === 'native' ? nativeTransport() : await wasmTransport())),
  );
}
