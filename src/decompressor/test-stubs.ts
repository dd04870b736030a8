// For tests: made-up boot stubs of each generation, with the instructions that the real ones have where it matters.

import type { KernelImage } from '../image/kernel-image.ts';
import { makeBootImage } from '../image/test-images.ts';
import { readSetupHeader, type SetupHeaderField } from '../protocol/setup-header.ts';

/** Puts bytes one after the other; `hex` may have spaces. */
export class Assembler {
  readonly #bytes: number[] = [];

  get offset(): number {
    return this.#bytes.length;
  }

  emit(hex: string, ...dwords: readonly number[]): this {
    this.#bytes.push(...Buffer.from(hex.replaceAll(' ', ''), 'hex'));
    for (const dword of dwords) {
      this.#bytes.push(dword & 0xff, (dword >> 8) & 0xff, (dword >> 16) & 0xff, (dword >> 24) & 0xff);
    }
    return this;
  }

  /** `hex`, then the distance from behind it to `target`. */
  relative(hex: string, target: number): this {
    this.emit(hex);
    return this.emit('', target - (this.offset + 4));
  }

  padTo(offset: number): this {
    while (this.offset < offset) {
      this.#bytes.push(0x90);
    }
    return this;
  }

  append(bytes: Uint8Array): this {
    for (const byte of bytes) {
      this.#bytes.push(byte);
    }
    return this;
  }

  bytes(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }
}

export interface StubRecipe {
  readonly payload: Uint8Array;
  readonly fields?: Partial<Record<SetupHeaderField, number | bigint>>;
  readonly version?: string;
  /** Bytes at the end of the stub: its messages. */
  readonly text?: string;
  /** Where the stub says that the payload is, if elsewhere. */
  readonly inputData?: number;
  /** Code of extract_kernel, at most 0x200 bytes; `text` follows it at offset 0x301. */
  readonly extractKernel?: Uint8Array;
  /** Whether a 64-bit stub loads an IDT before the call. */
  readonly loadsIdt?: boolean;
}

/** An image around protected-mode code, with a payload of gzip. */
export function imageOf(
  code: Uint8Array,
  payloadOffset: number,
  recipe: StubRecipe,
  protocol = 0x020f,
): KernelImage {
  const bytes = makeBootImage({
    protocol,
    code,
    version: recipe.version ?? '6.1.0-test (builder@host) #1 SMP',
    fields: {
      pref_address: 0x1000000,
      init_size: 0x800000,
      kernel_alignment: 0x200000,
      min_alignment: 21,
      relocatable_kernel: 1,
      payload_offset: payloadOffset,
      payload_length: recipe.payload.length,
      ...recipe.fields,
    },
  });
  const header = readSetupHeader(bytes);
  const setupSize = bytes.length - code.length;
  return {
    path: 'made-up',
    bytes,
    wrappers: [],
    kind: 'bzImage',
    header,
    setupSize,
    setup: bytes.subarray(0, setupSize),
    protectedModeCode: bytes.subarray(setupSize),
    kernelVersion: recipe.version ?? '6.1.0-test (builder@host) #1 SMP',
    program: null,
    payload: {
      codec: 'gzip',
      offset: payloadOffset,
      length: recipe.payload.length,
      outputLength: new DataView(recipe.payload.buffer, recipe.payload.byteOffset).getUint32(
        recipe.payload.length - 4,
        true,
      ),
      source: 'header',
    },
  };
}

const END = 0x40000;

/** How a made-up 64-bit stub calls. */
export type Kind64 =
  | 'rmode-output'
  | 'rmode-heap-input'
  | 'rmode-heap-input-run-size'
  | 'rmode-heap-input-rbp'
  | 'copy-loop';

/** A 64-bit stub; `labels` says where things ended up. */
export function makeStub64(
  kind: Kind64,
  recipe: StubRecipe,
): { image: KernelImage; labels: { relocated: number; call: number; extractKernel: number; exit: number } } {
  const payloadOffset = 0x300;
  const relocated = (payloadOffset + recipe.payload.length + 15) & ~15;
  const extractKernel = relocated + 0x100;
  const bss = extractKernel + 0x400;
  const heap = bss + 0x100;
  const asm = new Assembler();
  // startup_32: where am I, page tables, and a far return to startup_64
  asm.emit('fc fa 8d a6', 0x1e8).emit('e8 00000000 5d 81 ed', 0x0d);
  asm.emit('8d 83', END - 0x10000).emit('0f 22 d8');
  asm.emit('8d 85', 0x200).emit('6a 10 50').emit('b8', 0x80050033).emit('0f 22 c0 cb');
  asm.padTo(0x200);
  asm.emit('fc fa').relative('48 8d 2d', 0);
  asm.emit('48 c7 c5', 0x1000000);
  asm.emit('8b 9e', 0x260).emit('81 eb', END).emit('48 01 eb');
  asm.emit('48 8d a3', bss + 0x800);
  if (kind === 'copy-loop') {
    asm.emit('49 83 e8 08 49 83 e9 08 49 8b 00 49 89 01 48 83 e9 08 75 ec');
  } else {
    asm.emit('fd f3 48 a5 fc');
  }
  asm.emit('48 8d 83', relocated).emit('ff e0');
  asm.padTo(payloadOffset).append(recipe.payload).padTo(relocated);
  asm
    .emit('31 c0')
    .relative('48 8d 3d', bss)
    .relative('48 8d 0d', bss + 0x1000)
    .emit('48 29 f9 f3 48 ab');
  // The GOT loop of the middle generations: jumps backwards, and code goes on behind it.
  asm.emit('48 39 ca 73 05 83 02 00 eb f6');
  asm.relative('e8', extractKernel + 0x200);
  let call: number;
  if (kind === 'rmode-output') {
    asm.emit('4c 89 ff 48 89 ee');
    call = asm.offset;
    asm.relative('e8', extractKernel).emit('4c 89 fe');
  } else {
    asm.emit('56');
    if (kind === 'rmode-heap-input-run-size') {
      asm.emit('49 c7 c1', 0x200000).emit('41 51');
    }
    asm.emit('48 89 f7').relative('48 8d 35', heap);
    asm.relative('48 8d 15', recipe.inputData ?? payloadOffset);
    asm.emit('b9', recipe.payload.length).emit('49 89 e8');
    if (kind === 'rmode-heap-input' || kind === 'rmode-heap-input-run-size') {
      asm.emit('49 c7 c1', 0x100000);
    }
    call = asm.offset;
    asm.relative('e8', extractKernel).emit('5e');
  }
  const exit = asm.offset;
  asm.emit(kind === 'rmode-heap-input-rbp' || kind === 'copy-loop' ? 'ff e5' : 'ff e0');
  asm
    .padTo(extractKernel)
    .append(recipe.extractKernel ?? Uint8Array.of(0xc3))
    .padTo(extractKernel + 0x200)
    .emit(recipe.loadsIdt === true ? '0f 01 18 c3' : 'c3')
    .padTo(extractKernel + 0x300);
  asm
    .emit('00')
    .append(Buffer.from(`${recipe.text ?? ''}\0`, 'latin1'))
    .padTo(bss);
  return {
    image: imageOf(asm.bytes(), payloadOffset, recipe),
    labels: { relocated, call, extractKernel, exit },
  };
}

/** A 32-bit stub that copies itself; `got`: displacements count from a GOT, arguments are two, as since 6.6. */
export function makeStub32(
  kind: 'stack-rmode-output' | 'stack-rmode-heap-input' | 'stack-run-size' | 'relocates-itself',
  recipe: StubRecipe,
): { image: KernelImage; labels: { relocated: number; call: number; extractKernel: number; exit: number } } {
  const payloadOffset = 0x100;
  const relocated = (payloadOffset + recipe.payload.length + 15) & ~15;
  const extractKernel = relocated + 0x100;
  const bss = extractKernel + 0x400;
  const base = kind === 'stack-rmode-output' ? bss : 0;
  const asm = new Assembler();
  asm.emit('fc fa 8d a6', 0x1e8).emit('e8 00000000');
  const pop = asm.offset;
  if (kind === 'stack-rmode-output') {
    asm.emit('5a 81 c2', base - pop);
  } else {
    asm.emit('5d 81 ed', pop);
  }
  asm.emit('bb', 0x1000000).emit('89 dd');
  asm.emit('03 9e', 0x260).emit('81 eb', END - base);
  asm.emit('8d a3', bss + 0x200 - base);
  asm
    .emit('56 fd f3 a5 fc 5e')
    .emit('8d 83', relocated - base)
    .emit('ff e0');
  asm.padTo(payloadOffset).append(recipe.payload).padTo(relocated);
  asm
    .emit('31 c0 8d bb', bss - base)
    .emit('8d 8b', bss + 0x100 - base)
    .emit('29 f9 f3 ab');
  let call: number;
  if (kind === 'stack-rmode-output') {
    asm.emit('55 56');
    call = asm.offset;
    asm.relative('e8', extractKernel).emit('83 c4 18 31 db');
  } else {
    if (kind === 'stack-run-size') {
      asm.emit('68', 0x200000);
    }
    if (kind === 'stack-rmode-heap-input' || kind === 'stack-run-size') {
      asm.emit('68', 0x100000);
    }
    asm.emit('55 68', recipe.payload.length);
    asm.emit('8d 83', (recipe.inputData ?? payloadOffset) - base).emit('50');
    asm.emit('8d 83', bss - base).emit('50 56');
    call = asm.offset;
    asm.relative('e8', extractKernel).emit('83 c4 18');
    if (kind === 'relocates-itself') {
      // 1: sub $4, %edi; mov (%edi), %ecx; test; jz 2f; add; jmp 1b; 2:
      asm.emit('83 ef 04 8b 0f 85 c9 74 09 01 9c 19 00 00 00 40 eb ec 31 db');
    }
  }
  const exit = asm.offset;
  asm.emit(kind === 'relocates-itself' ? 'ff e5' : 'ff e0');
  asm
    .padTo(extractKernel)
    .append(recipe.extractKernel ?? Uint8Array.of(0xc3))
    .padTo(extractKernel + 0x300);
  asm
    .emit('00')
    .append(Buffer.from(`${recipe.text ?? ''}\0`, 'latin1'))
    .padTo(bss);
  return {
    image: imageOf(asm.bytes(), payloadOffset, recipe),
    labels: { relocated, call, extractKernel, exit },
  };
}

/** A stub up to 2.6.21, linked to 1 MiB (bzImage) or 0x1000 (zImage). */
export function makeMoveParamsStub(
  kind: 'bzImage' | 'zImage',
  recipe: StubRecipe,
  /** To 2.2: boot_params are not passed. */
  addressAlone = false,
): { image: KernelImage; labels: { call: number; extractKernel: number; exit: number; bssEnd: number } } {
  const link = kind === 'bzImage' ? 0x100000 : 0x1000;
  const extractKernel = 0x100;
  const payloadOffset = 0x200;
  const bss = payloadOffset + recipe.payload.length;
  const bssEnd = bss + 0x3000;
  const asm = new Assembler();
  asm
    .emit('fc fa')
    .emit('b8', 0x18)
    .emit('8e d8')
    .emit('31 c0 bf', link + bss)
    .emit('b9', link + bssEnd);
  asm.emit('29 f9 fc f3 aa 83 ec 10').emit(addressAlone ? '54' : '89 e0 56 50');
  const call = asm.offset;
  asm.relative('e8', extractKernel).emit('09 c0 75 0b 5e 5e 31 db');
  const exit = asm.offset;
  asm
    .emit('ea', 0x100000)
    .emit('10 00')
    .emit('be', link + 0x90);
  asm
    .padTo(extractKernel)
    .emit('b8', link + bssEnd + 0x3000)
    .emit('c3');
  asm
    .padTo(0x140)
    .append(Buffer.from(`${recipe.text ?? ''}\0`, 'latin1'))
    .padTo(payloadOffset);
  asm.append(recipe.payload);
  const image = imageOf(asm.bytes(), payloadOffset, recipe, 0x0203);
  return {
    image: { ...image, kind },
    labels: { call, extractKernel, exit, bssEnd: link + bssEnd },
  };
}

/** A made-up kernel: an ELF file of one or more segments at `paddr`, with relocation lists behind it. */
export function makeKernel(recipe: {
  readonly bits: 32 | 64;
  readonly entry: number;
  readonly virtualOffset: bigint;
  readonly segments: readonly {
    readonly paddr: number;
    readonly content: Uint8Array;
    readonly memsz?: number;
  }[];
  /** Lists as the build appends them: 64-bit, inverse 32-bit, 32-bit (or the one of 32-bit kernels). */
  readonly relocations?: readonly (readonly number[])[];
  readonly align?: number;
}): Uint8Array {
  const wide = recipe.bits === 64;
  const headerSize = wide ? 64 : 52;
  const entrySize = wide ? 56 : 32;
  const asm = new Assembler();
  const view = new DataView(new ArrayBuffer(headerSize + entrySize * recipe.segments.length));
  view.setUint32(0, 0x464c457f, true);
  view.setUint8(4, wide ? 2 : 1);
  view.setUint8(5, 1);
  const word = (at: number, value: bigint): void =>
    wide ? view.setBigUint64(at, value, true) : view.setUint32(at, Number(value & 0xffffffffn), true);
  word(24, BigInt(recipe.entry));
  word(wide ? 32 : 28, BigInt(headerSize));
  view.setUint16(wide ? 56 : 44, recipe.segments.length, true);
  let offset = (headerSize + entrySize * recipe.segments.length + 15) & ~15;
  const contents: Uint8Array[] = [];
  for (const [index, { paddr, content, memsz }] of recipe.segments.entries()) {
    const at = headerSize + entrySize * index;
    const address = BigInt(paddr);
    view.setUint32(at, 1, true);
    if (wide) {
      view.setUint32(at + 4, 5, true);
    } else {
      view.setUint32(at + 24, 5, true);
    }
    const values = [
      BigInt(offset),
      BigInt.asUintN(64, address + recipe.virtualOffset),
      address,
      BigInt(content.length),
      BigInt(memsz ?? content.length),
    ];
    for (const [slot, value] of values.entries()) {
      word(wide ? at + 8 + 8 * slot : at + 4 + 4 * slot, value);
    }
    word(wide ? at + 48 : at + 28, BigInt(recipe.align ?? 0x200000));
    contents.push(content);
    offset += content.length;
  }
  asm.append(new Uint8Array(view.buffer));
  while (asm.offset % 16 !== 0) {
    asm.emit('00');
  }
  for (const content of contents) {
    asm.append(content);
  }
  for (const list of recipe.relocations ?? []) {
    asm.emit('', 0, ...list);
  }
  return asm.bytes();
}
