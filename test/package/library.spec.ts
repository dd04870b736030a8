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
