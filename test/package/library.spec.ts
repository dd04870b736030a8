// A user's test of the installed package; `scripts/try-package` copies it into an empty folder and runs it there.

import { readFileSync } from 'node:fs';
import {
  BootscopeError,
  type BootTrace,
  boot,
  DEFAULT_BOOT_OPTIONS,
  readKernelImage,
  traceToJson,
} from 'bootscope';
import { findAccessors } from 'bootscope/debug';
import { hasNativeEngine, openNativeCpu } from 'bootscope/engine/native';
import { findWasmEngine, openWasmCpu } from 'bootscope/engine/wasm';
import { openBoot, parsePlace } from 'bootscope/session';
import { expect, test } from 'vitest';

const DEMO = process.env['DEMO'] ?? '';

test('a kernel enters where it should', async () => {
  const image = await readKernelImage(DEMO, readFileSync(DEMO));
  const { trace, close } = await boot(image, { ...DEFAULT_BOOT_OPTIONS, cmdline: 'nokaslr' });
  close();
  const kernel: BootTrace['kernel'] = trace.kernel;
  expect(kernel?.entry).toBe(0x1000040n);
  expect(JSON.stringify(traceToJson(trace))).toContain('0x1000040');
});

test('what is no kernel is an error with a code', async () => {
  const error = await readKernelImage('text', new TextEncoder().encode('hello\n')).catch(
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(BootscopeError);
  expect((error as BootscopeError).code).toBe('image-not-bootable');
});

test('a boot runs on the engine that it is given, and tells who wrote what', async () => {
  const openers = [
    ...(hasNativeEngine() ? [() => openNativeCpu()] : []),
    ...(findWasmEngine() === null ? [] : [openWasmCpu]),
  ];
  expect(openers).not.toEqual([]);
  const image = await readKernelImage(DEMO);
  for (const engine of openers) {
    const session = await openBoot(image, { engine });
    const range = { start: 0x100000, end: 0x100004 };
    const { accessors } = await findAccessors(session, image, range, 'write', parsePlace('startup_32'));
    expect(accessors.map(({ by }) => by)).toEqual(['loader']);
    session.close();
  }
});
