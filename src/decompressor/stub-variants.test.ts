// Stubs with one thing other than in those that are known: what they are recognised by, and what is told of them.

import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import type { KernelImage } from '../image/kernel-image.ts';
import { findStubDetails } from './find-stub.ts';
import { makeMoveParamsStub, makeStub32, makeStub64 } from './test-stubs.ts';

const PAYLOAD = gzipSync(Buffer.alloc(5000, 'kernel'));
const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(' ', ''), 'hex'));

/** The image with bytes of its protected-mode code, which are there once, replaced by as many others. */
function patched(image: KernelImage, from: string, to: string): KernelImage {
  const [old, next] = [hex(from), hex(to)];
  const code = Uint8Array.from(image.protectedModeCode);
  const at = Buffer.from(code).indexOf(old);
  expect([at >= 0, Buffer.from(code).indexOf(old, at + 1), next.length]).toEqual([true, -1, old.length]);
  code.set(next, at);
  return { ...image, protectedModeCode: code };
}
const little = (value: number): string => {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return Buffer.from(bytes).toString('hex');
};

describe('a 32-bit stub', () => {
  const input = makeStub32('stack-rmode-heap-input', { payload: PAYLOAD });
  const output = makeStub32('stack-rmode-output', { payload: PAYLOAD });
  const { relocated, call, extractKernel } = input.labels;
  const bss = extractKernel + 0x400;

  it('tells bss, heap, stack, input and where it may go', () => {
    expect(findStubDetails(input.image)).toMatchObject({
      ...{ bss: { start: bss, end: bss + 0x100 }, heap: bss, stackEnd: bss + 0x200, displacementBase: 0 },
      ...{
        inputData: 0x100,
        inputLength: PAYLOAD.length,
        loadPhysicalAddress: 0x1000000,
        extractOffset: null,
      },
      ...{ pageTable: null, handlesPageFaults: false, linkBase: 0 },
    });
    const got = output.labels.extractKernel + 0x400;
    expect(findStubDetails(output.image)).toMatchObject({
      ...{ bss: { start: got, end: got + 0x100 }, heap: null, stackEnd: got + 0x200, displacementBase: got },
      ...{ inputData: null, inputLength: null },
    });
    expect(findStubDetails(output.image)!.layout.evidence[0]).toContain(
      `displacements count from 0x${got.toString(16)}`,
    );
    const seven = findStubDetails(makeStub32('stack-run-size', { payload: PAYLOAD }).image);
    expect(seven!.argumentCount).toBe(7);
  });

  it('may count by other additions and subtractions', () => {
    // sub $9, %ebp by 83, with three bytes that do nothing
    const short = patched(input.image, '5d 81 ed 0d 00 00 00', '5d 83 ed 0d 90 90 90');
    expect(findStubDetails(short)?.displacementBase).toBe(0);
    const pop = 13;
    // pop %eax; sub $13, %eax
    const accumulator = patched(input.image, '5d 81 ed 0d 00 00 00', '58 2d 0d 00 00 00 90');
    expect(findStubDetails(accumulator)?.displacementBase).toBe(0);
    const added = patched(output.image, `5a 81 c2 ${little(bss - pop)}`, `58 05 ${little(bss - pop)} 90`);
    expect(findStubDetails(added)?.displacementBase).toBe(bss);
  });

  it.each([
    ['calls elsewhere for its address', 'e8 00 00 00 00 5d', 'e8 01 00 00 00 5d'],
    ['does not pop it', '5d 81 ed 0d', '5e 81 ed 0d'],
    ['pops nothing at all', '5d 81 ed 0d', '90 81 ed 0d'],
    ['compares it', '81 ed 0d 00 00 00', '81 fd 0d 00 00 00'],
    ['adjusts it in memory', '81 ed 0d 00 00 00', '81 6d 00 0d 00 90'],
    ['subtracts from another register by the short form', '5d 81 ed 0d 00 00 00', '5d 2d 0d 00 00 00 90'],
    ['moves a number instead', '5d 81 ed 0d 00 00 00', '5d bd 0d 00 00 00 90'],
    ['does not copy itself', 'fd f3 a5 fc', 'fd 90 a5 fc'],
    ['goes on somewhere else', `8d 83 ${little(relocated)} ff e0`, `8d 8b ${little(relocated)} ff e0`],
    ['goes on behind its end', `8d 83 ${little(relocated)} ff e0`, `8d 83 ${little(0x100000)} ff e0`],
    ['passes another register than boot_params', '50 56 e8', '50 57 e8'],
    ['changes the stack pointer between its arguments', '55 68', '58 68'],
  ])('that %s is none', (_, from, to) => {
    expect(findStubDetails(patched(input.image, from, to))).toBeNull();
  });

  it('of two arguments passes the output in EBP', () => {
    expect(findStubDetails(patched(output.image, '55 56 e8', '53 56 e8'))).toBeNull();
  });

  it('may pass input_len as a variable, and not as a byte', () => {
    const length = little(PAYLOAD.length);
    const number = input.image.protectedModeCode.length - 4;
    const code = Uint8Array.from(input.image.protectedModeCode);
    new DataView(code.buffer).setUint32(number, PAYLOAD.length, true);
    const there = { ...input.image, protectedModeCode: code };
    expect(findStubDetails(patched(there, `55 68 ${length}`, '55 6a 05 90 90 90'))).toBeNull();
    // push variable(%ebx) has one byte more than push $input_len: the push of EBP, the output, goes.
    const from = `68 00 00 10 00 55 68 ${length}`;
    const push = patched(there, from, `68 00 00 10 00 ff b3 ${little(number)}`);
    expect(findStubDetails(push)).toMatchObject({ inputLength: PAYLOAD.length, argumentCount: 5 });
    expect(findStubDetails(patched(there, from, `68 00 00 10 00 ff b3 ${little(number - 8)}`))).toBeNull();
  });

  it('may prepare its arguments between the pushes, but not by the stack pointer', () => {
    const seven = makeStub32('stack-run-size', { payload: PAYLOAD }).image;
    const [RUN_SIZE, OUTPUT_LENGTH] = ['68 00 00 20 00', '68 00 00 10 00'];
    const count = (other: string, from = `${RUN_SIZE} ${OUTPUT_LENGTH}`, first = RUN_SIZE) =>
      findStubDetails(patched(seven, from, `${first} ${other}`))?.argumentCount ?? null;
    // In place of push $output_len: a number to ECX, a subtraction from EAX.
    expect([count('b9 00 00 10 00'), count('2d 00 00 10 00')]).toEqual([6, 6]);
    for (const twice of ['89 e9', '29 e9', '8b cd', '2b cd', '8d 09'])
      expect(count(`51 ${twice} ${twice}`)).toBe(7);
    // What changes ESP, or does something else, ends them.
    for (const twice of ['89 cc', '29 cc', '8b e1', '2b e1', '89 09', '03 cd'])
      expect(count(`51 ${twice} ${twice}`)).toBe(5);
    expect(count('bc 00 00 10 00')).toBe(5);
    // sub $10h, %ecx has a byte more: the push of EBP goes.
    const output = `${RUN_SIZE} ${OUTPUT_LENGTH} 55`;
    expect([
      count('81 e9 10 00 00 00', output),
      count('81 ec 10 00 00 00', output),
      count('81 c1 10 00 00 00', output),
      count('81 29 10 00 00 00', output),
    ]).toEqual([5, null, null, null]);
  });

  it.each([
    ['ends behind its call for its address', '5d 81 ed 0d', '5d 0f ff 0d'],
    ['compares with what would lead to its start', '81 ed 0d 00 00 00', '81 fd f3 ff ff ff'],
    ['passes nothing', '50 56 e8', '50 90 e8'],
  ])('that %s is none, too', (_, from, to) => {
    expect(findStubDetails(patched(input.image, from, to))).toBeNull();
  });

  it('jumps by the register that it says', () => {
    expect(findStubDetails(input.image)!.layout.evidence.at(-1)).toBe(
      '6 arguments are pushed, then call and jmp *%eax',
    );
    expect(call).toBeGreaterThan(relocated);
  });
});

describe('a 64-bit stub', () => {
  const output = makeStub64('rmode-output', { payload: PAYLOAD });
  const input = makeStub64('rmode-heap-input', { payload: PAYLOAD });
  const { relocated, extractKernel } = input.labels;
  const bss = extractKernel + 0x400;

  it('tells bss, heap, stack, page tables and where it may go', () => {
    expect(findStubDetails(input.image)).toMatchObject({
      ...{
        bss: { start: bss, end: bss + 0x1000 },
        heap: bss + 0x100,
        stackEnd: bss + 0x800,
        pageTable: 0x30000,
      },
      ...{ inputData: 0x300, inputLength: PAYLOAD.length, end: 0x40000, loadPhysicalAddress: 0x1000000 },
      ...{ extractOffset: null, handlesPageFaults: false, displacementBase: 0 },
    });
    expect(findStubDetails(output.image)).toMatchObject({ heap: null, inputData: null, inputLength: null });
    const seven = makeStub64('rmode-heap-input-run-size', { payload: PAYLOAD });
    expect(findStubDetails(seven.image)?.argumentCount).toBe(7);
    const idt = makeStub64('rmode-output', { payload: PAYLOAD, loadsIdt: true });
    expect(findStubDetails(idt.image)?.handlesPageFaults).toBe(true);
  });

  it('may go on at a place that startup_32 names', () => {
    // lea 200h(%ebp), %eax: where startup_64 is.
    const named = findStubDetails(output.image)!.layout;
    expect(named.evidence[0]).toBe('startup_32 returns far to startup_64 at 0x200');
    const unnamed = patched(output.image, '8d 85 00 02 00 00', '8d 8d 00 02 00 00');
    expect(findStubDetails(unnamed)!.layout.evidence[0]).toBe('startup_64 is at 0x200 by the boot protocol');
    const elsewhere = patched(output.image, '8d 85 00 02 00 00', '8d 85 00 00 00 7f');
    expect(findStubDetails(elsewhere)?.layout.startup64).toBe(0x200);
    const before = patched(output.image, '8d 85 00 02 00 00', '8d 85 00 ff ff ff');
    expect(findStubDetails(before)?.layout.startup64).toBe(0x200);
  });

  it.each([
    ['does not copy itself', 'fd f3 48 a5 fc', 'fd 90 48 a5 fc'],
    ['goes on behind its end', `48 8d 83 ${little(relocated)}`, `48 8d 83 ${little(0x100000)}`],
    ['does not pass the output', '49 89 e8', '49 89 f8'],
    ['passes another length', `b9 ${little(PAYLOAD.length)}`, `b9 ${little(PAYLOAD.length + 1)}`],
  ])('that %s is none', (_, from, to) => {
    expect(findStubDetails(patched(input.image, from, to))).toBeNull();
  });

  it.each([
    ['does not pass the output', '48 89 ee', '48 89 f6'],
    ['jumps through another register', '4c 89 fe ff e0', '4c 89 fe ff e1'],
  ])('of two arguments that %s is none', (_, from, to) => {
    expect(findStubDetails(patched(output.image, from, to))).toBeNull();
  });

  it('passes a length by a number or a variable, and output_len by either', () => {
    const none = patched(input.image, `b9 ${little(PAYLOAD.length)}`, `bb ${little(PAYLOAD.length)}`);
    expect(findStubDetails(none)).toMatchObject({ inputLength: null, argumentCount: 6 });
    const five = patched(input.image, '49 c7 c1 00 00 10 00', '49 c7 c2 00 00 10 00');
    expect(findStubDetails(five)).toMatchObject({ argumentCount: 5 });
    // What is set before the call before has nothing to do with it.
    expect(
      findStubDetails(makeStub64('rmode-heap-input-rbp', { payload: PAYLOAD }).image)?.argumentCount,
    ).toBe(5);
  });
});

describe('a 64-bit stub’s tail', () => {
  it('sets its arguments behind the call before', () => {
    const { image } = makeStub64('rmode-output', { payload: PAYLOAD });
    // lea 0(%rip), %rsi; mov %rsi, %rsi before the call before: no heap is passed.
    const earlier = patched(image, '48 39 ca 73 05 83 02 00 eb f6', '48 8d 35 00 00 00 00 48 89 f6');
    expect(findStubDetails(earlier)).toMatchObject({ heap: null, argumentCount: 2 });
  });

  it('may load an IDT in a function that it calls, or one that that calls, and no further', () => {
    const { image, labels } = makeStub64('rmode-output', { payload: PAYLOAD });
    const at = labels.extractKernel + 0x200;
    const handles = (...places: readonly (readonly [number, string])[]): boolean => {
      const code = Uint8Array.from(image.protectedModeCode);
      for (const [offset, text] of places) code.set(hex(text), at + offset);
      return findStubDetails({ ...image, protectedModeCode: code })!.handlesPageFaults;
    };
    const LIDT = '0f 01 18 c3';
    expect([
      handles([0, LIDT]),
      handles([0, '90 eb 02 c3 c3'], [5, LIDT]),
      handles([0, 'c3'], [1, LIDT]),
      handles([0, 'e8 0b 00 00 00 c3'], [0x10, LIDT]),
      handles([0, 'e8 0b 00 00 00 c3'], [0x10, `e8 0b 00 00 00 c3`], [0x20, LIDT]),
      handles([0, 'e8 0b 00 00 00 0f 01 18 c3'], [0x10, 'c3']),
      handles([0, '0f 01 10 c3']),
    ]).toEqual([true, true, false, true, false, true, false]);
  });
});

describe('a stub with a struct moveparams', () => {
  const { image, labels } = makeMoveParamsStub('bzImage', { payload: PAYLOAD });
  const older = makeMoveParamsStub('bzImage', { payload: PAYLOAD }, true);

  it('tells bss and where the kernel goes', () => {
    expect(findStubDetails(image)).toMatchObject({
      ...{ linkBase: 0x100000, bss: { start: 0x200 + PAYLOAD.length, end: labels.bssEnd - 0x100000 } },
      ...{ end: labels.bssEnd - 0x100000, argumentCount: 2, loadPhysicalAddress: 0x100000, heap: null },
    });
    const small = makeMoveParamsStub('zImage', { payload: PAYLOAD });
    expect(findStubDetails(small.image)).toMatchObject({
      ...{ linkBase: 0x1000, bss: { start: 0x200 + PAYLOAD.length, end: small.labels.bssEnd - 0x1000 } },
    });
  });

  it('may test its result in two ways', () => {
    expect(findStubDetails(patched(image, '09 c0 75 0b', '85 c0 75 0b'))).not.toBeNull();
  });

  it.each([
    ['makes room for something else', '83 ec 10 89 e0', '83 ec 14 89 e0'],
    ['adds to the stack pointer', '83 ec 10 89 e0', '83 c4 10 89 e0'],
    ['takes from another register', '83 ec 10 89 e0', '83 ea 10 89 e0'],
    ['takes from memory', '83 ec 10 89 e0', '83 2c 10 10 90'],
    ['passes another address', '83 ec 10 89 e0', '83 ec 10 89 c8'],
    ['passes something else than boot_params', '89 e0 56 50', '89 e0 57 50'],
    ['passes something else than the struct', '89 e0 56 50', '89 e0 56 51'],
    ['does not call', '56 50 e8', '56 50 b8'],
    ['does not look at the result', '09 c0 75 0b', '31 c0 75 0b'],
    ['looks at another result', '09 c0 75 0b', '09 c9 75 0b'],
    ['looks at half of it', '09 c0 75 0b', '09 c8 75 0b'],
    ['looks at memory', '09 c0 75 0b', '09 00 75 0b'],
    ['goes the other way', '09 c0 75 0b', '09 c0 74 0b'],
    ['does not jump', `ea ${little(0x100000)} 10 00`, `b8 ${little(0x100000)} 90 90`],
    ['jumps only where its result leads', '09 c0 75 0b', '09 c0 75 04'],
  ])('that %s is none', (_, from, to) => {
    expect(findStubDetails(patched(image, from, to))).toBeNull();
  });

  it.each([
    ['makes room for something else', '83 ec 10 54', '83 ec 14 54'],
    ['passes something else', '83 ec 10 54', '83 ec 10 53'],
  ])('of one argument that %s is none', (_, from, to) => {
    expect(findStubDetails(patched(older.image, from, to))).toBeNull();
  });

  it('that calls what is not in it is none', () => {
    const far = patched(image, `e8 ${little(0x100 - (labels.call + 5))}`, `e8 ${little(0x100000)}`);
    expect(findStubDetails(far)).toBeNull();
    const start = patched(
      image,
      `e8 ${little(0x100 - (labels.call + 5))}`,
      `e8 ${little(-(labels.call + 5))}`,
    );
    expect(findStubDetails(start)).toBeNull();
  });
});
