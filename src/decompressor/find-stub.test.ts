import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { readElf, readElfSymbols } from '../image/elf.ts';
import { readKernelImage } from '../image/kernel-image.ts';
import { findStub, findStubDetails } from './find-stub.ts';
import { makeMoveParamsStub, makeStub32, makeStub64 } from './test-stubs.ts';

const PAYLOAD = gzipSync(Buffer.alloc(5000, 'kernel'));
const BUILT = fileURLToPath(new URL('../../images/cache/built', import.meta.url));

describe('finding extract_kernel in a 64-bit stub', () => {
  it.each([
    ['rmode-output', 'rmode-output', 'rax', 2],
    ['rmode-heap-input', 'rmode-heap-input', 'rax', 6],
    ['rmode-heap-input-rbp', 'rmode-heap-input', 'rbp', 5],
    ['copy-loop', 'rmode-heap-input', 'rbp', 5],
  ] as const)('recognises the %s kind', (kind, abi, exitRegister, argumentCount) => {
    const { image, labels } = makeStub64(kind, { payload: PAYLOAD });
    const details = findStubDetails(image);
    expect(details?.layout).toMatchObject({
      bits: 64,
      abi,
      startup64: 0x200,
      relocated: labels.relocated,
      call: labels.call,
      extractKernel: labels.extractKernel,
      returnSite: labels.call + 5,
      exitJump: labels.exit,
      exitRegister,
    });
    expect(details?.argumentCount).toBe(argumentCount);
    expect(details).toMatchObject({ end: 0x40000, pageTable: 0x30000, loadPhysicalAddress: 0x1000000 });
  });

  it('refuses a call whose input is not the payload', () => {
    const { image } = makeStub64('rmode-heap-input', { payload: PAYLOAD, inputData: 0x310 });
    expect(findStub(image)).toBeNull();
  });

  it('says why it is this place', () => {
    const { image } = makeStub64('rmode-heap-input', { payload: PAYLOAD });
    expect(findStub(image)?.evidence.join('; ')).toContain('input_data at 0x300');
  });
});

describe('finding extract_kernel in a 32-bit stub', () => {
  it.each([
    ['stack-rmode-output', 'stack-rmode-output', 'rax', 2],
    ['stack-rmode-heap-input', 'stack-rmode-heap-input', 'rax', 6],
    ['relocates-itself', 'stack-rmode-heap-input', 'rbp', 5],
  ] as const)('recognises the %s kind', (kind, abi, exitRegister, argumentCount) => {
    const { image, labels } = makeStub32(kind, { payload: PAYLOAD });
    const details = findStubDetails(image);
    expect(details?.layout).toMatchObject({
      bits: 32,
      abi,
      startup64: null,
      relocated: labels.relocated,
      call: labels.call,
      extractKernel: labels.extractKernel,
      exitJump: labels.exit,
      exitRegister,
    });
    expect(details?.argumentCount).toBe(argumentCount);
    expect(details?.end).toBe(0x40000);
  });

  it('refuses a call whose input is not the payload', () => {
    const { image } = makeStub32('stack-rmode-heap-input', { payload: PAYLOAD, inputData: 0x110 });
    expect(findStub(image)).toBeNull();
  });
});

describe('finding decompress_kernel of a moveparams stub', () => {
  it.each(['bzImage', 'zImage'] as const)('recognises that of a %s', (kind) => {
    const { image, labels } = makeMoveParamsStub(kind, { payload: PAYLOAD });
    expect(findStub(image)).toMatchObject({
      bits: 32,
      abi: 'moveparams',
      relocated: null,
      call: labels.call,
      extractKernel: labels.extractKernel,
      exitJump: labels.exit,
      exitRegister: null,
    });
  });

  it('recognises the one of 2.2, which is passed the struct alone', () => {
    const { image, labels } = makeMoveParamsStub('bzImage', { payload: PAYLOAD }, true);
    expect(findStubDetails(image)).toMatchObject({ argumentCount: 1, layout: { call: labels.call } });
  });
});

describe('what is no stub', () => {
  it('is not recognised in noise, in zeroes, or in an empty file', () => {
    const { image } = makeStub64('rmode-output', { payload: PAYLOAD });
    let state = 1;
    const noise = Uint8Array.from({ length: 20000 }, () => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return state >>> 24;
    });
    for (const protectedModeCode of [noise, new Uint8Array(5000), new Uint8Array(0)]) {
      expect(findStub({ ...image, protectedModeCode })).toBeNull();
    }
  });

  it('is not recognised in a stub cut anywhere before its call', () => {
    const { image, labels } = makeStub64('rmode-output', { payload: PAYLOAD });
    for (let length = 0; length < labels.call; length += 61) {
      expect(
        findStub({ ...image, protectedModeCode: image.protectedModeCode.subarray(0, length) }),
      ).toBeNull();
    }
  });
});

const built = existsSync(BUILT)
  ? readdirSync(BUILT).filter(
      (name) => existsSync(join(BUILT, name, 'stub')) && existsSync(join(BUILT, name, 'bzImage')),
    )
  : [];

describe.skipIf(built.length === 0)(
  'built kernels (left out where scripts/build-kernels did not run)',
  () => {
    it.each(built)('%s: what is found is where the symbols of its stub say', async (name) => {
      const image = await readKernelImage(name, readFileSync(join(BUILT, name, 'bzImage')));
      const symbols = new Map(
        readElfSymbols(readElf(readFileSync(join(BUILT, name, 'stub')))).map((symbol) => [
          symbol.name,
          Number(symbol.value),
        ]),
      );
      const details = findStubDetails(image);
      expect(details?.layout.extractKernel).toBe(symbols.get('extract_kernel'));
      expect(details?.bss).toEqual({ start: symbols.get('_bss'), end: symbols.get('_ebss') });
      expect(details?.end).toBe(symbols.get('_end'));
      expect(details?.layout.startup64).toBe(symbols.get('startup_64') ?? null);
      expect(details?.stackEnd).toBe(symbols.get('boot_stack_end'));
      expect(details?.pageTable).toBe(symbols.get('pgtable') ?? null);
      expect(image.payload?.offset).toBe(symbols.get('input_data'));
    });
  },
);
