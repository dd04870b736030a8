// What extract_kernel does to boot_params before anything else, in made-up stubs of several generations.

import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { PhysicalMemory } from '../x86/physical-memory.ts';
import type { ExtractionContext } from './extraction.ts';
import { beginExtraction } from './extraction-state.ts';
import { findStub, findStubDetails } from './find-stub.ts';
import { prepareBootParams } from './prepare-boot-params.ts';
import { Assembler, makeStub32, makeStub64 } from './test-stubs.ts';

const PAYLOAD = gzipSync(Buffer.alloc(500, 'kernel'));
const BOOT_PARAMS = 0x10000;
const COMMAND_LINE = 0x12000;
const STACK = 0x20000;
const [LOADFLAGS, XLOADFLAGS] = [0x211, 0x236];
const ZO = 0x80000;

function prepare(image: ReturnType<typeof makeStub64>['image'], commandLine = '') {
  const memory = PhysicalMemory.of(new Uint8Array(0x110000));
  memory.write8(BOOT_PARAMS + LOADFLAGS, 0xff);
  memory.write32(BOOT_PARAMS + 0x228, COMMAND_LINE);
  memory.copyIn(COMMAND_LINE, new TextEncoder().encode(`${commandLine}\0`));
  memory.write32(STACK + 4, 0x1111);
  memory.write32(STACK + 8, 0x2222);
  const context = {
    ...{ image, stub: findStub(image)!, memory, zo: ZO },
    readRegister: () => BigInt(STACK),
  } as unknown as ExtractionContext;
  const state = beginExtraction(context, { bootParams: BOOT_PARAMS } as never);
  prepareBootParams(state);
  return { memory, state };
}

describe('boot_params', () => {
  it('lose KASLR_FLAG in stubs that know it', () => {
    const flags = (kind: 'rmode-output' | 'rmode-heap-input-rbp') =>
      prepare(makeStub64(kind, { payload: PAYLOAD }).image).memory.read8(BOOT_PARAMS + LOADFLAGS);
    expect([flags('rmode-output'), flags('rmode-heap-input-rbp')]).toEqual([0xfd, 0xff]);
  });

  it.each([
    ['mem_encrypt=on', 0x80],
    ['quiet mem_encrypt=on', 0x80],
    ['mem_encrypt=off', 0],
    ['mem_encrypt=on mem_encrypt=off', 0],
    ['mem_encrypt=only', 0],
    ['', 0],
  ])('say with "%s" that memory is to be encrypted: %i', (commandLine, expected) => {
    const of = (text: string) =>
      prepare(makeStub64('rmode-output', { payload: PAYLOAD, text }).image, commandLine).memory.read8(
        BOOT_PARAMS + XLOADFLAGS,
      );
    expect([of('mem_encrypt=on'), of('nothing')]).toEqual([expected, 0]);
  });
});

describe('variables of 32-bit stubs', () => {
  it('are stored where the stub is linked to, whatever lies there: numbers, places of the stub, arguments', () => {
    const bss = findStubDetails(makeStub32('stack-rmode-heap-input', { payload: PAYLOAD }).image)!.bss!.start;
    const { extractKernel } = makeStub32('stack-rmode-heap-input', { payload: PAYLOAD }).labels;
    const code = new Assembler()
      .emit('b8', 5)
      .emit('a3', bss)
      // mov 8(%esp), %eax: the second argument
      .emit('8b 44 24 08')
      .emit('a3', bss + 4)
      // call 1f; 1: pop %ebx; add $100h, %ebx; mov %ebx, %eax
      .emit('e8 00000000 5b 81 c3', 0x100)
      .emit('89 d8')
      .emit('a3', bss + 8);
    const pop = extractKernel + 5 + 5 + 4 + 5 + 5;
    const { image } = makeStub32('stack-rmode-heap-input', {
      payload: PAYLOAD,
      extractKernel: code.emit('c3').bytes(),
    });
    const { memory, state } = prepare(image);
    expect([0, 4, 8].map((at) => memory.read32(bss + at))).toEqual([5, 0x2222, ZO + pop + 0x100]);
    expect(state.writes).toEqual(
      [0, 4, 8].map((at) => ({ start: bss + at, end: bss + at + 4, role: 'stray-variable' })),
    );
  });
});
