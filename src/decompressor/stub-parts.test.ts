import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { readKernelImage } from '../image/kernel-image.ts';
import { makeBootImage, noise } from '../image/test-images.ts';
import { findStubDetails } from './find-stub.ts';
import type { StubDetails } from './stub.ts';
import { findStubParts } from './stub-parts.ts';
import { Assembler, makeStub32, makeStub64 } from './test-stubs.ts';

const DEMO = fileURLToPath(new URL('../../images/demo', import.meta.url));
const demos = readdirSync(DEMO).filter((name) => name.endsWith('Image'));

describe('findStubParts', () => {
  it.each(demos)(
    '%s: the parts in the file follow each other without overlap, the others lie behind them',
    async (name) => {
      const image = await readKernelImage(name, readFileSync(join(DEMO, name)));
      const parts = findStubParts(image, findStubDetails(image));
      const inFile = parts.filter((part) => part.inFile);
      expect(inFile[0]?.start).toBe(0);
      for (const [index, part] of inFile.slice(1).entries()) {
        const before = inFile[index]!;
        expect(part.start).toBeGreaterThanOrEqual(before.end);
        expect(part.start - before.end).toBeLessThan(0x1000);
      }
      expect(inFile.at(-1)!.end).toBeLessThanOrEqual(image.protectedModeCode.length);
      const bss = parts.find((part) => part.name === 'bss')!;
      expect(bss.start).toBeGreaterThanOrEqual(inFile.at(-1)!.end);
      for (const part of parts) expect(part.end).toBeGreaterThan(part.start);
    },
  );

  it('says that bounds are deduced where nothing but a guess gives them', async () => {
    const image = await readKernelImage('demo', readFileSync(join(DEMO, 'demo-gzip.bzImage')));
    const parts = findStubParts(image, findStubDetails(image));
    const inferred = Object.fromEntries(parts.map((part) => [part.name, part.inferred]));
    expect(inferred).toMatchObject({ head: false, payload: false, bss: false, stack: true });
  });

  it('knows nothing of an image without payload and stub', async () => {
    const bytes = makeBootImage({ protocol: 0x0203, code: noise(4096) });
    const image = await readKernelImage('image', bytes);
    expect(image.payload).toBeNull();
    expect(findStubParts(image, null)).toEqual([]);
  });
});

describe('the heap that extract_kernel takes', () => {
  const [START, SIZE] = [0x5000, 0x10000];
  const PAYLOAD = gzipSync(Buffer.alloc(500, 'kernel'));
  const BSS = { start: 0x4000, end: 0x40000 };
  /** The heap's bounds from code of extract_kernel; `write` gets an assembler and where the code stands. */
  const heapOf = (
    bits: 32 | 64,
    write: (asm: Assembler, at: number) => void,
    bss: { readonly start: number; readonly end: number } = BSS,
  ) => {
    const make = bits === 64 ? makeStub64 : makeStub32;
    const kind = (bits === 64 ? 'rmode-output' : 'stack-rmode-output') as never;
    const { labels } = make(kind, { payload: PAYLOAD });
    const asm = new Assembler();
    write(asm, labels.extractKernel);
    const { image } = make(kind, { payload: PAYLOAD, extractKernel: asm.bytes() });
    const details = findStubDetails(image)!;
    const found = findStubParts(image, { ...details, bss }).find(({ name }) => name === 'heap');
    return found === undefined ? null : [found.start, found.end];
  };
  /** An instruction with a place in the stub, as the distance from behind it. */
  const place = (asm: Assembler, at: number, code: string, target: number): Assembler => {
    asm.emit(code);
    return asm.emit('', target - (at + asm.offset + 4));
  };
  const [FREE, END] = [0x6008, 0x6000];

  it('is told by two neighbouring variables, through registers', () => {
    const direct = heapOf(64, (asm, at) => {
      place(asm, at, '48 8d 05', START); // lea heap(%rip), %rax
      place(asm, at, '48 89 05', FREE); // mov %rax, free_mem_ptr(%rip)
      asm.emit('48 05', SIZE); // add $size, %rax
      place(asm, at, '48 89 05', END);
      asm.emit('c3');
    });
    expect(direct).toEqual([START, START + SIZE]);
    const other = heapOf(64, (asm, at) => {
      place(asm, at, '48 8d 0d', START); // lea heap(%rip), %rcx
      asm.emit('48 89 ca'); // mov %rcx, %rdx
      asm.emit('48 81 c2', SIZE); // add $size, %rdx
      place(asm, at, '48 89 15', END);
      asm.emit('48 8b d9'); // mov %rcx, %rbx by 8b
      place(asm, at, '48 89 1d', FREE);
    });
    expect(other).toEqual([START, START + SIZE]);
    const lea = heapOf(64, (asm, at) => {
      place(asm, at, '48 8d 0d', START);
      asm.emit('48 8d 91', SIZE); // lea size(%rcx), %rdx
      place(asm, at, '48 89 15', END);
      place(asm, at, '48 89 0d', FREE);
    });
    expect(lea).toEqual([START, START + SIZE]);
  });

  it.each([
    ['by RSP', '48 89 44 24 10', '48 8b 4c 24 10'],
    ['by RBP', '48 89 45 f0', '48 8b 4d f0'],
  ])('is followed through the stack, %s', (_, store, load) => {
    const through = (between: string): readonly number[] | null =>
      heapOf(64, (asm, at) => {
        place(asm, at, '48 8d 05', START);
        asm.emit(store).emit(between).emit(load);
        place(asm, at, '48 89 0d', FREE); // %rcx
        asm.emit('48 81 c1', SIZE);
        place(asm, at, '48 89 0d', END);
      });
    expect(through('')).toEqual([START, START + SIZE]);
    // Another value in the slot: of an unknown register, or a number.
    const slot = store.slice(-2) === '10' ? '24 10' : 'f0';
    const mod = slot === 'f0' ? ['55', '45'] : ['54', '44'];
    expect(through(`48 89 ${mod[0]} ${slot}`)).toBeNull();
    expect(through(`48 c7 ${mod[1]} ${slot} 00 00 00 00`)).toBeNull();
    // Another slot does no harm.
    expect(through(`48 89 ${mod[0]} ${slot === 'f0' ? 'e0' : '24 18'}`)).toEqual([START, START + SIZE]);
  });

  it.each([
    ['a size that no heap has', (asm: Assembler) => asm.emit('48 05', 0x11000)],
    ['a register that nobody knows', (asm: Assembler) => asm.emit('48 8b c1 48 05', SIZE)],
    ['a register that is loaded from memory', (asm: Assembler) => asm.emit('48 8b 00 48 05', SIZE)],
    ['a register that points somewhere else', (asm: Assembler) => asm.emit('48 8d 04 08 48 05', SIZE)],
    ['a subtraction', (asm: Assembler) => asm.emit('48 81 e8', -SIZE)],
    ['an addition in memory', (asm: Assembler) => asm.emit('48 81 00', SIZE)],
    ['an end of the function', (asm: Assembler) => asm.emit('c3 48 05', SIZE)],
  ])('is none with %s', (_, between) => {
    const found = heapOf(64, (asm, at) => {
      place(asm, at, '48 8d 05', START);
      place(asm, at, '48 89 05', FREE);
      between(asm);
      place(asm, at, '48 89 05', END);
    });
    expect(found).toBeNull();
  });

  it('lies in the bss, between variables that are neighbours', () => {
    const write =
      (end: number) =>
      (asm: Assembler, at: number): void => {
        place(asm, at, '48 8d 05', START);
        place(asm, at, '48 89 05', FREE);
        asm.emit('48 05', SIZE);
        place(asm, at, '48 89 05', end);
      };
    expect(heapOf(64, write(END + 4))).toBeNull();
    expect(heapOf(64, write(FREE + 8))).toBeNull();
    expect(heapOf(64, write(END), { start: START, end: START + SIZE })).toEqual([START, START + SIZE]);
    expect(heapOf(64, write(END), { start: START + 1, end: 0x40000 })).toBeNull();
    expect(heapOf(64, write(END), { start: 0x4000, end: START + SIZE - 1 })).toBeNull();
  });

  it('is found in a 32-bit stub from its GOT on', () => {
    const write =
      (add: string) =>
      (asm: Assembler, at: number): void => {
        asm.emit('e8 00 00 00 00'); // call __x86.get_pc_thunk.bx
        const got = at + asm.offset + 0x100;
        asm.emit(add, 0x100);
        asm.emit('8d 83', START - got); // lea heap(%ebx), %eax
        asm.emit('89 83', FREE - got).emit('05', SIZE);
        asm.emit('89 83', FREE - 4 - got);
      };
    expect(heapOf(32, write('81 c3'))).toEqual([START, START + SIZE]);
    // Not what is subtracted, or added to another register.
    expect(heapOf(32, write('81 eb'))).toBeNull();
    expect(heapOf(32, write('81 c1'))).toBeNull();
  });
});

describe('parts by what is known of a stub', () => {
  const PAYLOAD = gzipSync(Buffer.alloc(500, 'kernel'));
  const { image, labels } = makeStub64('rmode-heap-input', { payload: PAYLOAD });
  const details = findStubDetails(image)!;
  const { bss } = details;
  const parts = (change: Partial<StubDetails> = {}) =>
    Object.fromEntries(
      findStubParts(image, { ...details, ...change }).map((part) => [
        part.name,
        [part.start, part.end, part.inferred, part.inFile],
      ]),
    );

  it('are what the payload, the text and what is cleared bound', () => {
    const payloadEnd = 0x300 + PAYLOAD.length;
    expect(parts()).toEqual({
      head: [0, 0x300, false, true],
      payload: [0x300, payloadEnd, false, true],
      'text, rodata and data': [labels.relocated, bss!.start, false, true],
      bss: [bss!.start, bss!.end, false, false],
      'page tables': [0x30000, 0x40000, false, false],
    });
    expect(findStubParts(image, null).map(({ name, start, end }) => [name, start, end])).toEqual([
      ['head', 0, 0x300],
      ['payload', 0x300, payloadEnd],
      ['text, rodata and data', payloadEnd, image.protectedModeCode.length],
    ]);
    expect(parts({ bss: null })).not.toHaveProperty('page tables');
  });

  it('have the text behind the payload where the copy goes on elsewhere', () => {
    const text = (relocated: number | null) =>
      parts({ layout: { ...details.layout, relocated } })['text, rodata and data']![0];
    const payloadEnd = 0x300 + PAYLOAD.length;
    expect([
      text(payloadEnd),
      text(payloadEnd + 63),
      text(payloadEnd + 64),
      text(payloadEnd - 1),
      text(null),
    ]).toEqual([...[payloadEnd, payloadEnd + 63, payloadEnd, payloadEnd, payloadEnd]]);
  });

  it('have a stack where its end says, and a heap up to that', () => {
    const { start } = bss!;
    const wide = { start, end: start + 0x20000 };
    const end = start + 0x10000;
    expect(parts({ bss: wide, stackEnd: end, heap: start + 0x100 })).toMatchObject({
      stack: [end - 0x4000, end, true, false],
      heap: [start + 0x100, end - 0x4000, true, false],
    });
    expect(parts({ bss: wide, stackEnd: start + 0x4000, heap: start })).toMatchObject({
      stack: [start, start + 0x4000, true, false],
    });
    expect(parts({ bss: wide, stackEnd: start + 0x4000, heap: start })).not.toHaveProperty('heap');
    expect(parts({ bss: wide, stackEnd: start + 0x3fff, heap: start + 0x100 })).not.toHaveProperty('stack');
    expect(parts({ bss: wide, stackEnd: null, heap: start + 0x100 })).not.toHaveProperty('heap');
    const small = { ...details, bss: wide, stackEnd: end, layout: { ...details.layout, bits: 32 as const } };
    expect(parts(small).stack).toEqual([end - 0x1000, end, true, false]);
  });

  it('have page tables up to the end, or the six that startup_32 builds', () => {
    expect(parts({ end: null })['page tables']).toEqual([0x30000, 0x36000, true, false]);
    expect(parts({ pageTable: null })).not.toHaveProperty('page tables');
  });

  it('have a last page of data where the build aligns that', () => {
    const PAGE = 0x1000;
    const code = new Uint8Array(0x6000);
    code.fill(1, 0, 0x4000);
    const made = { ...image, protectedModeCode: code };
    const of = (start: number, change: Partial<StubDetails['layout']> = {}, bytes = code) =>
      findStubParts(
        { ...made, protectedModeCode: bytes },
        {
          ...details,
          layout: { ...details.layout, abi: 'rmode-output', ...change },
          bss: { start, end: 0x9000 },
        },
      )
        .filter(({ name }) => name === 'data' || name.startsWith('text'))
        .map(({ name, start: from, end }) => [name, from, end]);
    const text = labels.relocated;
    expect(of(0x5200)).toEqual([
      ['text and rodata', text, 0x5000],
      ['data', 0x5000, 0x5200],
    ]);
    expect(of(0x5000)).toEqual([['text, rodata and data', text, 0x5000]]);
    expect(of(0x6000)).toEqual([
      ['text and rodata', text, 0x5000],
      ['data', 0x5000, 0x6000],
    ]);
    // No multiple of 200h, a generation that does not align it, or no zeroes before it.
    expect(of(0x5210)).toEqual([['text, rodata and data', text, 0x5210]]);
    expect(of(0x5200, { abi: 'rmode-heap-input' })).toHaveLength(1);
    const full = Uint8Array.from(code);
    full[5 * PAGE - 4] = 1;
    expect(of(0x5200, {}, full)).toHaveLength(1);
    full[5 * PAGE - 4] = 0;
    full[5 * PAGE - 5] = 1;
    expect(of(0x5200, {}, full)).toHaveLength(2);
  });

  it('have all before the payload as code where extract_kernel lies there', () => {
    const before = findStubParts(image, { ...details, layout: { ...details.layout, extractKernel: 0x100 } });
    expect(before.filter(({ inFile }) => inFile).map(({ name }) => name)).toEqual([
      'text, rodata and data',
      'payload',
    ]);
  });

  it('say where a payload was found by its magic', () => {
    const found = findStubParts(
      { ...image, payload: { ...image.payload!, source: 'magic' as never } },
      details,
    );
    const payload = found.find(({ name }) => name === 'payload')!;
    expect([payload.source, payload.inferred]).toEqual(["the codec's magic", true]);
  });
});
