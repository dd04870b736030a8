// What a stub prints of the messages that it holds, by its generation, its options and the function that it hands them to.

import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { PhysicalMemory } from '../x86/physical-memory.ts';
import { findStub } from './find-stub.ts';
import { GuestConsole } from './guest-console.ts';
import { findTrampolineVariable, StubMessages } from './stub-messages.ts';
import { Assembler, makeStub32, makeStub64, type StubRecipe } from './test-stubs.ts';

const PAYLOAD = gzipSync(Buffer.alloc(500, 'kernel'));
const DECOMPRESSING = '\nDecompressing Linux... ';
const BOOTING = 'done.\nBooting the kernel.\n';

type Kind = 'rax' | 'rbp';
/** A stub and what it prints; `act` is handed what extract_kernel does. */
function printed(
  act: (messages: StubMessages) => void,
  recipe: Partial<StubRecipe>,
  {
    bits = 64,
    kind = 'rax',
    options = '',
    loadflags = 0,
  }: {
    bits?: 32 | 64;
    kind?: Kind;
    options?: string | null;
    loadflags?: number;
  } = {},
): string {
  const image = makeOf(bits, kind, recipe);
  const console = new GuestConsole(PhysicalMemory.of(new Uint8Array(0x2000)), 0x1000, null);
  act(new StubMessages(image, findStub(image)!, console, options, loadflags));
  return console.text;
}

function makeOf(bits: 32 | 64, kind: Kind, recipe: Partial<StubRecipe>) {
  const whole = { payload: PAYLOAD, ...recipe };
  if (bits === 64) return makeStub64(kind === 'rbp' ? 'rmode-heap-input-rbp' : 'rmode-output', whole).image;
  return makeStub32(kind === 'rbp' ? 'relocates-itself' : 'stack-rmode-output', whole).image;
}

describe('messages', () => {
  it('are printed as the stub holds them', () => {
    const whole = (messages: StubMessages): void => {
      messages.decompressing();
      messages.parsingElf();
      messages.relocating(true);
      messages.relocating(false);
      messages.done(0x1234);
    };
    expect(
      printed(whole, { text: `${DECOMPRESSING}\0Parsing ELF... \0No relocation needed... \0${BOOTING}` }),
    ).toBe(`${DECOMPRESSING}Parsing ELF... No relocation needed... ${BOOTING}`);
    expect(
      printed(whole, {
        text: '.\nUncompressing Linux... \0Performing relocations... \0Ok, booting the kernel.\n',
      }),
    ).toBe('.\nUncompressing Linux... Performing relocations... Ok, booting the kernel.\n');
    expect(printed(whole, { text: 'done.\nBooting the kernel (entry_offset: 0x' })).toBe(
      'done.\nBooting the kernel (entry_offset: 0x0000000000001234).\n',
    );
    expect(printed(whole, { text: 'done.\nBooting the kernel (entry_offset: 0x' }, { bits: 32 })).toContain(
      '0x00001234)',
    );
    expect(printed((messages) => messages.halt('bad'), {})).toBe('\n\nbad\n\n -- System halted');
  });

  it('say from 6.5 on where EFI is not asked', () => {
    const text = `early console in extract_kernel\n\0${DECOMPRESSING}\0Unknown version of unaccepted memory table\n\0No EFI environment detected.\n`;
    expect(printed((messages) => messages.decompressing(), { text })).toBe(
      `${DECOMPRESSING}No EFI environment detected.\n`,
    );
    expect(printed((messages) => messages.decompressing(true), { text })).toBe(DECOMPRESSING);
    expect(printed((messages) => messages.decompressing(), { text: text.slice(text.indexOf('\nDec')) })).toBe(
      DECOMPRESSING,
    );
  });

  it('of a verbose stub are printed where it holds them', () => {
    const text = 'early console in extract_kernel\n\0KASLR disabled\n';
    const say = (messages: StubMessages): void => {
      messages.earlyConsole();
      messages.debug('KASLR disabled\n');
      messages.debug('something else\n');
    };
    expect(printed(say, { text })).toBe('early console in extract_kernel\nKASLR disabled\n');
    expect(printed(say, { text: 'KASLR disabled\n' })).toBe('');
    // Until 3.6 only with `debug`, where the stub knows it.
    expect(printed(say, { text }, { kind: 'rbp' })).toBe('early console in extract_kernel\n');
    const knows = `debug\0${text}`;
    expect(printed(say, { text: knows }, { kind: 'rbp' })).toBe('');
    expect(printed(say, { text: knows }, { kind: 'rbp', options: 'debug' })).toBe(
      'early console in extract_kernel\n',
    );
    expect(printed(say, { text: knows })).toContain('early console');
  });

  it('of values are those that it names, in its width', () => {
    const values = {
      ...{ input_data: 1, input_len: 2, output: 3, output_len: 4 },
      ...{ run_size: 5, kernel_total_size: 6, needed_size: 0xabc },
    };
    const text = 'input_data: 0x\0output: 0x\0needed_size: 0x\0trampoline_32bit: 0x';
    expect(printed((messages) => messages.values(values, null), { text }, { bits: 32 })).toBe(
      'input_data: 0x00000001\noutput: 0x00000003\nneeded_size: 0x00000abc\ntrampoline_32bit: 0x00000000\n',
    );
    expect(printed((messages) => messages.values(values, 0x9000n), { text: 'trampoline_32bit: 0x' })).toBe(
      'trampoline_32bit: 0x0000000000009000\n',
    );
  });
});

describe('a quiet stub of 2.6.26 to 3.6', () => {
  const text = `${DECOMPRESSING}\0${BOOTING}`;
  const say = (messages: StubMessages): void => messages.decompressing();

  it('is told so by the option or, before there was one, by a flag', () => {
    const rbp = { kind: 'rbp' } as const;
    expect(printed(say, { text }, rbp)).toBe(DECOMPRESSING);
    expect(printed(say, { text }, { ...rbp, loadflags: 0x20 })).toBe('');
    expect(printed(say, { text }, { ...rbp, loadflags: 0xdf, options: 'quiet' })).toBe(DECOMPRESSING);
    const knows = `quiet\0${text}`;
    expect(printed(say, { text: knows }, { ...rbp, loadflags: 0x20 })).toBe(DECOMPRESSING);
    expect(printed(say, { text: knows }, { ...rbp, options: 'quiet' })).toBe('');
    // Without a command line its function says -1, which is taken for a yes.
    expect(printed(say, { text: knows }, { ...rbp, options: null })).toBe('');
    // Not a part of a longer word.
    expect(printed(say, { text: `xquiet\0quiets\0${text}` }, { ...rbp, options: 'quiet' })).toBe(
      DECOMPRESSING,
    );
    // Later stubs hold the word for EFI.
    expect(printed(say, { text: knows }, { options: 'quiet', loadflags: 0x20 })).toBe(DECOMPRESSING);
  });

  /** extract_kernel that names the message and calls a function with this code. */
  const calling = (bits: 32 | 64, put: string, between = ''): string => {
    const make = bits === 64 ? makeStub64 : makeStub32;
    const kind = (bits === 64 ? 'rmode-heap-input-rbp' : 'relocates-itself') as never;
    const { extractKernel } = make(kind, { payload: PAYLOAD }).labels;
    const string = extractKernel + 0x301;
    const asm = new Assembler();
    if (bits === 64) asm.emit('48 8d 35', string - (extractKernel + 7));
    else asm.emit('8d 93', string);
    asm.emit(between).relative('e8', 0x80).emit('c3').padTo(0x80).emit(put).padTo(0x180);
    return printed(say, { text, extractKernel: asm.bytes() }, { bits, kind: 'rbp' });
  };

  it.each([
    ['test %edi, %edi', 64, '85 ff 74 10'],
    ['test of EDI behind something else', 64, '53 48 89 f3 85 ff 74 10'],
    ['test %eax, %eax', 32, '85 c0 74 10'],
    ['test of EAX behind a copy of it', 32, '89 c2 85 c0 74 10'],
    ['cmpl $0, 4(%esp)', 32, '83 7c 24 04 00 74 10'],
    ['the same behind a push', 32, '53 83 7c 24 08 00 74 10'],
    ['the same behind a push and a pop', 32, '53 5b 83 7c 24 04 00 74 10'],
    ['the same with room on the stack', 32, '83 ec 0c 83 7c 24 10 00 74 10'],
    ['the same with more room', 32, '81 ec 00 01 00 00 83 bc 24 04 01 00 00 00 74 10'],
    ['the same behind a call for the address', 32, 'e8 00 00 00 00 83 7c 24 08 00 74 10'],
    ['cmpl $0, 8(%ebp)', 32, '55 89 e5 83 7d 08 00 74 10'],
    ['a load of it, and a test', 32, '53 8b 4c 24 08 85 c9 74 10'],
    ['a load by the frame', 32, '55 89 e5 8b 45 08 85 c0 74 10'],
  ] as const)('swallows its messages by %s', (_, bits, put) => {
    expect(calling(bits, put)).toBe('');
  });

  it.each([
    ['a test of another register', 64, '85 c0 74 10'],
    ['a test of two registers', 64, '85 f7 74 10'],
    ['a test of memory', 64, '85 3f 74 10'],
    ['a comparison on the stack', 64, '83 7c 24 04 00 74 10'],
    ['a branch before the test', 64, '74 00 85 ff 74 10'],
    ['another value in EDI', 64, '89 f7 85 ff 74 10'],
    ['a zero in EDI', 64, '31 ff 85 ff 74 10'],
    ['a load to EDI', 64, '8b 3e 85 ff 74 10'],
    ['a byte in EDI', 64, '0f b6 3e 85 ff 74 10'],
    ['no code', 64, '0f ff'],
    ['a pop of EAX', 32, '50 58 85 c0 74 10'],
    ['a comparison of another argument', 32, '83 7c 24 08 00 74 10'],
    ['a comparison with 1', 32, '83 7c 24 04 01 74 10'],
    ['an addition', 32, '83 44 24 04 00 74 10'],
    ['a comparison by a frame that is none', 32, '83 7d 08 00 74 10'],
    ['a frame of another register', 32, '55 89 c5 83 7d 08 00 74 10'],
    ['a frame that was made later', 32, '55 53 89 e5 83 7d 08 00 74 10'],
    ['a load of another argument', 32, '8b 4c 24 08 85 c9 74 10'],
    ['an address on the stack', 32, '8d 4c 24 04 85 c9 74 10'],
    ['sixteen instructions before it', 64, `${'90 '.repeat(16)} 85 ff`],
  ] as const)('prints its messages for all %s', (_, bits, put) => {
    expect(calling(bits, put)).toBe(DECOMPRESSING);
  });

  it('is known by the call that follows the message within four instructions', () => {
    const put = '85 ff 74 10';
    expect([calling(64, put, '90 90 90'), calling(64, put, '90 90 90 90')]).toEqual(['', DECOMPRESSING]);
  });
});

describe('the variable trampoline_32bit', () => {
  const text = 'trampoline_32bit: 0x';
  const VARIABLE = 0x5008;
  const find = (write: (asm: Assembler, at: number, string: number) => void, has = text) => {
    const { extractKernel } = makeStub64('rmode-output', { payload: PAYLOAD }).labels;
    const asm = new Assembler();
    write(asm, extractKernel, extractKernel + 0x301);
    const { image } = makeStub64('rmode-output', { payload: PAYLOAD, text: has, extractKernel: asm.bytes() });
    return findTrampolineVariable(image, findStub(image)!);
  };
  const place = (asm: Assembler, at: number, code: string, target: number): void => {
    asm.emit(code);
    asm.emit('', target - (at + asm.offset + 4));
  };
  const NAME = '48 8d 3d';
  const LOAD = '48 8b 35';

  it('is what is loaded behind its name', () => {
    const write = (asm: Assembler, at: number, string: number): void => {
      place(asm, at, LOAD, VARIABLE + 16);
      place(asm, at, NAME, string + 1);
      place(asm, at, NAME, string);
      asm.emit('48 8b 07').emit('48 89 f8');
      place(asm, at, '48 89 35', VARIABLE + 8);
      place(asm, at, LOAD, VARIABLE);
    };
    expect(find(write)).toBe(VARIABLE);
    expect(find(write, 'nothing')).toBeNull();
  });

  it('is none without its name, in what is no code, or in a 32-bit stub', () => {
    expect(find((asm, at) => place(asm, at, LOAD, VARIABLE))).toBeNull();
    expect(
      find((asm, at, string) => {
        place(asm, at, NAME, string);
        asm.emit('0f ff');
        place(asm, at, LOAD, VARIABLE);
      }),
    ).toBeNull();
    const { image } = makeStub32('stack-rmode-output', { payload: PAYLOAD, text });
    expect(findTrampolineVariable(image, findStub(image)!)).toBeNull();
  });
});
