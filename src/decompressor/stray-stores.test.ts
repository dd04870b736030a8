import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { findStubDetails } from './find-stub.ts';
import { findStrayStores, type StrayStore } from './stray-stores.ts';
import { Assembler, makeStub32, makeStub64 } from './test-stubs.ts';

const PAYLOAD = gzipSync(new Uint8Array(1000));

/** Where the made-up stub has its bss, which does not depend on its code. */
const BSS = findStubDetails(makeStub32('stack-rmode-heap-input', { payload: PAYLOAD }).image)!.bss!.start;

function stores(code: Assembler): readonly StrayStore[] {
  const { image } = makeStub32('stack-rmode-heap-input', {
    payload: PAYLOAD,
    extractKernel: code.emit('c3').bytes(),
  });
  return findStrayStores(image, findStubDetails(image));
}

describe('stores at the addresses that a stub is linked to', () => {
  it('are those of real_mode and the heap’s ends, with the arguments that they come from', () => {
    const code = new Assembler()
      // push %ebp; push %ebx; sub $0x6c, %esp; call 1f; 1: pop %ebx; add $got, %ebx
      .emit('55 53 83 ec 6c e8 00000000 5b 81 c3', 0x5000)
      // mov 0x78(%esp), %esi; mov $variable, %eax; mov %esi, (%eax)
      .emit('8b 74 24 78')
      .emit('c7 c0', BSS + 8)
      .emit('89 30')
      // a message: lea text(%ebx), %eax; mov %eax, (%esp); call
      .emit('8d 83', 0x40)
      .emit('89 04 24')
      .relative('e8', 0x180)
      // mov $variable, %edi; mov 0x7c(%esp), %eax; mov %eax, (%edi); mov %eax, %edx; add $0x10000, %edx
      .emit('c7 c7', BSS + 16)
      .emit('8b 44 24 7c 89 07 89 c2 81 c2', 0x10000)
      // mov $variable, %eax; mov %edx, (%eax)
      .emit('c7 c0', BSS + 12)
      .emit('89 10');
    expect(stores(code)).toEqual([
      { address: BSS + 8, value: { base: { argument: 0 }, offset: 0 } },
      { address: BSS + 16, value: { base: { argument: 1 }, offset: 0 } },
      { address: BSS + 12, value: { base: { argument: 1 }, offset: 0x10000 } },
    ]);
  });

  it('hold numbers, addresses that count from the GOT, and what a frame keeps', () => {
    const code = new Assembler().emit('55 89 e5 e8 00000000 5b 81 c3');
    const got = 0x2000;
    const pop = code.offset - 3;
    code
      .emit('', got)
      // mov $variable, %ecx; movl $5, (%ecx); lea 0x10(%ebx), %eax; mov %eax, 4(%ecx)
      .emit('b9', BSS)
      .emit('c7 01', 5)
      .emit('8d 43 10 89 41 04')
      // mov 8(%ebp), %eax; sub $2, %eax; mov %eax, -4(%ebp); mov -4(%ebp), %edx; mov %edx, variable
      .emit('8b 45 08 83 e8 02 89 45 fc 8b 55 fc 89 15', BSS + 8);
    const { extractKernel } = makeStub32('stack-rmode-heap-input', { payload: PAYLOAD }).labels;
    expect(stores(code)).toEqual([
      { address: BSS, value: { base: 'number', offset: 5 } },
      { address: BSS + 4, value: { base: 'stub', offset: extractKernel + pop + got + 0x10 } },
      { address: BSS + 8, value: { base: { argument: 0 }, offset: -2 } },
    ]);
  });

  it('are none where the variable is reached from the GOT, lies elsewhere, or its value is not known', () => {
    expect(stores(new Assembler().emit('e8 00000000 5b 81 c3', 0x2000).emit('89 83', 0x10))).toEqual([]);
    expect(stores(new Assembler().emit('b8', 0xb8000).emit('c7 00', 0x20))).toEqual([]);
    expect(stores(new Assembler().emit('b9', BSS - 4).emit('c7 01', 0x20))).toEqual([]);
    expect(stores(new Assembler().emit('b9', BSS).emit('89 01'))).toEqual([]);
    // A call in between may change ECX and EAX, a comparison changes nothing.
    const called = new Assembler().emit('b9', BSS).relative('e8', 0x180).emit('c7 01', 0x20);
    expect(stores(called)).toEqual([]);
    expect(stores(new Assembler().emit('b9', BSS).emit('39 c8 c7 01', 0x20))).toHaveLength(1);
    expect(stores(new Assembler().emit('b9', BSS).emit('0f b6 08 c7 01', 0x20))).toEqual([]);
  });

  it.each([
    ['cmp %eax, %ecx', '39 c1', 1],
    ['cmp $1, %al', '3c 01', 1],
    ['cmp $1, %eax', '3d 01000000', 1],
    ['test %cl, %al', '84 c8', 1],
    ['test %ecx, %eax', '85 c8', 1],
    ['cmpb $1, %cl', '80 f9 01', 1],
    ['cmp $1, %ecx', '83 f9 01', 1],
    ['cmp $0x1000, %ecx', '81 f9 00100000', 1],
    ['test $1, %cl', 'f6 c1 01', 1],
    ['test $1, %ecx', 'f7 c1 01000000', 1],
    ['cmpl $0, 8(%esp)', '83 7c 24 08 00', 1],
    ['and $-2, %ecx', '83 e1 fe', 0],
    ['xor %ecx, %ecx', '31 c9', 0],
    ['movzbl (%eax), %ecx', '0f b6 08', 0],
    ['neg %ecx', 'f7 d9', 0],
    ['mov %eax, %ecx', '89 c1', 0],
    ['mov (%eax), %ecx', '8b 08', 0],
    ['pop %ecx', '59', 0],
    ['lea 4(%eax), %ecx', '8d 48 04', 0],
    ['lea (%eax,%ecx,1), %ecx', '8d 0c 08', 0],
  ])('are still known behind %s if that changes no address', (_, hex, count) => {
    const code = new Assembler().emit('b9', BSS).emit(hex).emit('c7 01', 0x20);
    expect(stores(code)).toHaveLength(count);
  });

  it.each([
    ['eax', '05 04000000', 'b8', 'c7 00'],
    ['edx', '83 c2 04', 'ba', 'c7 02'],
    ['edi', '81 c7 04000000', 'bf', 'c7 07'],
    ['esi', '83 ee fc', 'be', 'c7 06'],
  ])('follow an addition to %s', (_, add, move, store) => {
    const code = new Assembler().emit(move, BSS).emit(add).emit(store, 0x20);
    expect(stores(code)).toEqual([{ address: BSS + 4, value: { base: 'number', offset: 0x20 } }]);
  });

  it('are followed through the stack: what is pushed, popped, stored and loaded again', () => {
    const value = { base: 'number', offset: 0x12345678 };
    // push $imm; pop %eax; mov %eax, variable
    expect(stores(new Assembler().emit('68', 0x12345678).emit('58 a3', BSS))).toEqual([
      { address: BSS, value },
    ]);
    expect(stores(new Assembler().emit('68', 0x12345678).emit('58 89 05', BSS))).toEqual([
      { address: BSS, value },
    ]);
    // sub $0x200, %esp; movl $imm, 0x104(%esp); push %eax; mov 0x108(%esp), %ebx; mov %ebx, variable
    const code = new Assembler()
      .emit('81 ec', 0x200)
      .emit('c7 84 24', 0x104, 0x12345678)
      .emit('50 8b 9c 24', 0x108)
      .emit('89 1d', BSS);
    expect(stores(code)).toEqual([{ address: BSS, value }]);
  });

  it.each([
    ['eax', 'b8', 'c7 00', 0],
    ['ecx', 'b9', 'c7 01', 0],
    ['edx', 'ba', 'c7 02', 0],
    ['ebx', 'bb', 'c7 03', 1],
    ['esi', 'be', 'c7 06', 1],
    ['edi', 'bf', 'c7 07', 1],
  ])('know %s behind a call only if a function must keep it', (_, move, store, count) => {
    expect(stores(new Assembler().emit(move, BSS).relative('e8', 0x180).emit(store, 0x20))).toHaveLength(
      count,
    );
  });

  it('lie in the bss with all their bytes', () => {
    const { end } = findStubDetails(makeStub32('stack-rmode-heap-input', { payload: PAYLOAD }).image)!.bss!;
    const at = (address: number) => stores(new Assembler().emit('b9', address).emit('c7 01', 0x20)).length;
    expect([at(BSS - 1), at(BSS), at(end - 4), at(end - 3)]).toEqual([0, 1, 1, 0]);
  });

  it('are found behind a jump, and not behind the end of the function', () => {
    const jumped = new Assembler().emit('b9', BSS).emit('eb 01 c3').emit('c7 01', 0x20);
    expect(stores(jumped)).toHaveLength(1);
    expect(stores(new Assembler().emit('b9', BSS).emit('c3').emit('c7 01', 0x20))).toEqual([]);
  });

  it('are not looked for in a 64-bit stub', () => {
    const { image } = makeStub64('rmode-output', { payload: PAYLOAD });
    expect(findStrayStores(image, findStubDetails(image))).toEqual([]);
  });
});

describe('a value on its way to its store', () => {
  const END = findStubDetails(makeStub32('stack-rmode-heap-input', { payload: PAYLOAD }).image)!.bss!.end;
  /** mov $5, %eax; what is between; mov %eax, variable: the number that is stored, null for none. */
  const stored = (between: string): number | null => {
    const found = stores(new Assembler().emit('b8', 5).emit(between).emit('a3', BSS));
    expect(found.length).toBeLessThan(2);
    expect(found.map(({ address }) => address)).toEqual(found.map(() => BSS));
    return found[0]?.value.offset ?? null;
  };

  it.each([
    ['nothing', '', 5],
    ['cmp $1, %eax', '83 f8 01', 5],
    ['cmp $1, %eax, the short form', '3d 01 00 00 00', 5],
    ['cmp %eax, %eax', '39 c0', 5],
    ['test %eax, %eax', '85 c0', 5],
    ['test %al, %al', '84 c0', 5],
    ['test $1, %eax', 'f7 c0 01 00 00 00', 5],
    ['test $1, %al', 'f6 c0 01', 5],
    ['not %eax', 'f7 d0', null],
    ['xor %eax, %eax', '31 c0', null],
    ['add %ecx, %eax', '01 c8', null],
    ['add (%eax), %ecx', '03 08', 5],
    ['cmpb $1, (%eax)', '80 38 01', 5],
    ['orb $1, (%eax)', '80 08 01', 5],
    ['orl $1, %eax', '83 c8 01', null],
    ['and $1, %eax', '81 e0 01 00 00 00', null],
    ['add $3, %eax', '83 c0 03', 8],
    ['sub $1, %eax', '83 e8 01', 4],
    ['add $10h, %eax, the short form', '05 10 00 00 00', 0x15],
    ['add $3, %ecx', '83 c1 03', 5],
    ['a call', 'e8 00 01 00 00', null],
    ['a call of what is next, and a pop', 'e8 00 00 00 00 59', 5],
    ['a push and a pop', '50 31 c0 58', 5],
    ['a push, another, and two pops', '50 6a 07 59 58', 5],
    ['a push of a byte and a pop', '6a 07 58', 7],
    ['a push of a word and a pop', '68 00 01 00 00 58', 0x100],
    ['a push of what nobody knows, and a pop', '51 58', null],
    ['mov %eax, %ecx; mov %ecx, %eax', '89 c1 31 c0 8b c1', 5],
    ['mov $9, %eax', 'c7 c0 09 00 00 00', 9],
    ['mov (%ecx), %eax', '8b 01', null],
    ['lea 4(%eax), %eax', '8d 40 04', 9],
    ['lea (%eax,%ecx), %eax', '8d 04 08', null],
    ['lea 100h, %eax', '8d 05 00 01 00 00', null],
    ['a branch', '74 00', 5],
    ['a jump', 'eb 00', 5],
    ['a jump over another value', 'eb 05 b8 06 00 00 00', 5],
    ['a return', 'c3', null],
    ['through the stack by ESP', '83 ec 10 89 44 24 08 31 c0 8b 44 24 08', 5],
    ['through another place of the stack', '83 ec 10 89 44 24 08 31 c0 8b 44 24 0c', null],
    ['through what is not the stack', '89 44 0c 08 31 c0 8b 44 0c 08', null],
    ['a number on the stack', '83 ec 10 c7 44 24 08 06 00 00 00 8b 44 24 08', 6],
    ['a number on the stack that is lost', '83 ec 10 89 44 24 08 89 4c 24 08 8b 44 24 08', null],
    ['through a frame', '55 89 e5 89 45 fc 31 c0 8b 45 fc', 5],
    ['through a frame that is none', '89 45 fc 31 c0 8b 45 fc', null],
  ])('%s', (_, between, expected) => {
    expect(stored(between)).toBe(expected);
  });

  it('is stored in the bss alone', () => {
    const at = (address: number) => stores(new Assembler().emit('b8', 5).emit('a3', address)).length;
    expect([BSS - 1, BSS, END - 4, END - 3].map(at)).toEqual([0, 1, 1, 0]);
    // By a register that holds a number, with a distance; not by one that counts from elsewhere.
    const by = (code: string) =>
      stores(new Assembler().emit('ba', BSS - 0x10).emit(code)).map(({ address }) => address);
    expect([by('c7 42 10 05 00 00 00'), by('c7 02 05 00 00 00'), by('c7 41 10 05 00 00 00')]).toEqual([
      [BSS],
      [],
      [],
    ]);
    expect(by('89 42 10')).toEqual([]);
  });

  it('is an argument where the stack says so', () => {
    const value = (code: string) => stores(new Assembler().emit(code).emit('a3', BSS))[0]?.value;
    expect(value('8b 44 24 04')).toEqual({ base: { argument: 0 }, offset: 0 });
    expect(value('53 8b 44 24 0c')).toEqual({ base: { argument: 1 }, offset: 0 });
    expect(value('83 ec 0c 8b 44 24 18')).toEqual({ base: { argument: 2 }, offset: 0 });
    expect([value('8b 04 24'), value('8b 44 24 06')]).toEqual([undefined, undefined]);
  });

  it('is looked for in 32-bit stubs that find out where they are', () => {
    const image = makeStub32('stack-rmode-heap-input', {
      payload: PAYLOAD,
      extractKernel: new Assembler().emit('b8', 5).emit('a3', BSS).bytes(),
    }).image;
    const details = findStubDetails(image)!;
    const of = (change: object) => findStrayStores(image, { ...details, ...change }).length;
    expect([of({}), of({ bss: null }), of({ layout: { ...details.layout, abi: 'moveparams' } })]).toEqual([
      1, 0, 0,
    ]);
    expect([of({ layout: { ...details.layout, bits: 64 } }), findStrayStores(image, null).length]).toEqual([
      0, 0,
    ]);
  });
});
