// Whole boots of the demo images: the same trace each time, and with string instructions on the host or on the CPU.

import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { describeEachEngine } from '../cpu/each-engine.ts';
import { hasNativeEngine } from '../cpu/native.ts';
import { findWasmEngine } from '../cpu/wasm-file.ts';
import { readKernelImage } from '../image/kernel-image.ts';
import { traceToJson } from '../report/json.ts';
import { boot } from './boot.ts';
import { type BootOptions, DEFAULT_BOOT_OPTIONS } from './options.ts';

const DEMO = new URL('../../images/demo/', import.meta.url);
const MEMORY = 64 << 20;

async function traceOf(name: string, options: Partial<BootOptions>): Promise<Record<string, unknown>> {
  const image = await readKernelImage(name, readFileSync(fileURLToPath(new URL(name, DEMO))));
  const finished = await boot(image, { ...DEFAULT_BOOT_OPTIONS, memory: MEMORY, ...options });
  try {
    return traceToJson(finished.trace, { events: true }) as Record<string, unknown>;
  } finally {
    finished.close();
  }
}

const images = readdirSync(DEMO).filter((name) => name.endsWith('Image'));

describeEachEngine('a boot', (_, engine) => {
  for (const name of images) {
    it(`of ${name} leaves the same trace twice, and without host copies`, async () => {
      const first = await traceOf(name, { engine });
      expect(first).toMatchObject({ stopped: null, kernel: { entry: expect.stringMatching(/^0x/) } });
      const text = JSON.stringify(first);
      expect(JSON.stringify(await traceOf(name, { engine }))).toBe(text);
      expect(JSON.stringify(await traceOf(name, { engine, shortcuts: false }))).toBe(text);
    });
  }

  it('ends with the reason when its time is up', async () => {
    const trace = await traceOf('demo-xz.bzImage', { engine, decompress: 'emulated', timeoutSeconds: 0.001 });
    expect(trace).toMatchObject({
      kernel: null,
      stopped: expect.stringContaining('still running after 0.001 s'),
    });
  });
});

const missing = !hasNativeEngine() ? 'no libunicorn 2.x' : findWasmEngine() === null ? 'no Unicorn.js' : null;
describe.skipIf(missing !== null)(`both engines${missing === null ? '' : ` (left out: ${missing})`}`, () => {
  for (const name of images) {
    it(`leave the same trace of ${name}, but for their own names and the TSC that only one controls`, async () => {
      const [native, wasm] = await Promise.all([
        traceOf(name, { engine: 'native' }),
        traceOf(name, { engine: 'wasm' }),
      ]);
      const anonymous = (trace: Record<string, unknown>) => ({
        ...trace,
        machine: { ...(trace.machine as object), engine: '', engineVersion: '' },
      });
      expect(JSON.stringify(anonymous(native))).toBe(JSON.stringify(anonymous(wasm)));
    });
  }
});
