// The matchers that the package gives to tests of boot loaders.

import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { boot, readKernelImage } from '../src/index.ts';
import '../src/vitest.ts';

const DEMO = fileURLToPath(new URL('../images/demo/demo-lz4.bzImage', import.meta.url));

test('toEnterKernelAt and toKeepFree say what a boot does', async () => {
  const { trace, close } = await boot(await readKernelImage(DEMO));
  close();
  expect(trace).toEnterKernelAt(0x1000040);
  expect(trace).toKeepFree(0x800_0000, 0x900_0000n);
  expect(trace).not.toEnterKernelAt(0x1000000n);
  expect(trace).not.toKeepFree(0x100_0000, 0x100_0001);
  expect(() => expect(trace).toEnterKernelAt(0x5000)).toThrow(
    'to be entered at 0x5000, and it was entered at 0x1000040',
  );
  expect(() => expect(trace).toKeepFree(0x100_0000, 0x100_1000)).toThrow(/expected nothing in .*\n {2}\w+: /);
});

test('they refuse what is no trace, and tell why no kernel was reached', async () => {
  expect(() => expect({}).toEnterKernelAt(0)).toThrow('a BootTrace is expected');
  const { trace, close } = await boot(await readKernelImage(DEMO), {
    kaslr: { kind: 'forced', physical: 0x1234, virtual: null },
  });
  close();
  expect(trace.kernel).toBeNull();
  expect(() => expect(trace).toEnterKernelAt(0x1000040)).toThrow('no kernel was reached');
});
