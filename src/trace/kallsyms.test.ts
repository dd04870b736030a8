// Tables made up here in each layout that scripts/kallsyms.c has had; test/trace.test.ts reads those of real kernels.

import { describe, expect, it } from 'vitest';
import { type ElfFile, ET_EXEC, PT_LOAD } from '../image/elf.ts';
import { noise } from '../image/test-images.ts';
import { findKallsyms, type KernelSymbol } from './kallsyms.ts';

interface Layout {
  readonly bits: 32 | 64;
  /** Whole addresses, 32-bit offsets from a base, or 32-bit offsets from where each stands. */
  readonly addresses: 'absolute' | 'relative' | 'percpu' | 'self-relative';
  /** Whether addresses stand behind the tokens and not before the names. */
  readonly behind: boolean;
  /** Bytes of an offset of a name. */
  readonly marker: 4 | 8;
  /** Whether the order by name, 3 bytes a symbol, stands between markers and tokens, or last. */
  readonly sequence: 'none' | 'inside' | 'last';
  /** What the parts are aligned to; a word where it is left out. */
  readonly align?: 4;
}

const KERNEL_64 = 0xffff_ffff_8100_0000n;
const KERNEL_32 = 0xc100_0000n;
const TABLE_OFFSET = 0x10_0000n;
const KERNEL_SIZE = 0x200_0000n;
const PERCPU = '__per_cpu_start';

/** Each character stands for itself; the codes that are left stand for pieces of names. */
const PIECES = [
  'Tsys_',
  'tdo_',
  '__',
  'init',
  '_lock',
  'free',
  'alloc',
  'page',
  'read',
  'write',
  '_to_',
  'get',
];
const TOKENS = Array.from({ length: 256 }, (_, code) => {
  const character = String.fromCharCode(code);
  return /[\w.$]/.test(character) ? character : (PIECES[code % PIECES.length] ?? '');
});

const PIECE_CODES = PIECES.map((piece) => ({ piece, code: TOKENS.indexOf(piece) })).sort(
  (a, b) => b.piece.length - a.piece.length,
);

function compress(text: string): number[] {
  const codes: number[] = [];
  for (let at = 0; at < text.length; ) {
    const code = PIECE_CODES.find(({ piece }) => text.startsWith(piece, at))?.code ?? text.charCodeAt(at);
    codes.push(code);
    at += TOKENS[code]!.length;
  }
  return codes;
}

/** Names of every length, in the order of their addresses, one address with two names. */
function makeSymbols(count: number, base: bigint, longest: number): KernelSymbol[] {
  const random = noise(count * 4, count);
  const symbols: KernelSymbol[] = [];
  let address = base;
  for (let index = 0; index < count; index++) {
    const piece = PIECES[random[index * 4]! % PIECES.length]!.replace(/^[Tt]/, '');
    const length = index % 50 === 7 ? longest : 1 + (random[index * 4 + 1]! % 30);
    const tail = Array.from({ length }, (_, at) => String.fromCharCode(0x61 + ((index * 7 + at * at) % 26)));
    symbols.push({ address, type: 'tTdb'[index % 4]!, name: `${piece}${index}${tail.join('')}` });
    if (index !== 3) address += BigInt(1 + random[index * 4 + 2]! * 13);
  }
  return symbols;
}

/** The table as a kernel's ELF file has it, with other data around it. */
function makeKernel(layout: Layout, symbols: readonly KernelSymbol[], pad = 0x2000): ElfFile {
  const word = layout.bits / 8;
  const align = layout.align ?? word;
  const kernel = layout.bits === 64 ? KERNEL_64 : KERNEL_32;
  const bytes = Buffer.alloc(0x8_0000);
  bytes.set(noise(pad, 5), 0);
  let at = pad;
  const number = (value: number | bigint, size: number): void => {
    const bits = BigInt.asUintN(64, BigInt(value));
    bytes.writeUInt32LE(Number(bits & 0xffff_ffffn), at);
    if (size === 8) bytes.writeUInt32LE(Number(bits >> 32n), at + 4);
    at += size;
  };
  const part = (): void => {
    at = Math.ceil(at / align) * align;
  };
  const addresses = (): void => {
    part();
    const base = symbols.find(({ address }) => address >= kernel)!.address;
    for (const { address } of symbols) {
      const own = kernel + TABLE_OFFSET + BigInt(at);
      const negative = address < kernel ? address : base - 1n - address;
      if (layout.addresses === 'absolute') number(address, word);
      else if (layout.addresses === 'self-relative') number(address - own, 4);
      else number(layout.addresses === 'percpu' ? negative : address - base, 4);
    }
    part();
    if (layout.addresses === 'relative' || layout.addresses === 'percpu') number(base, word);
  };
  const sequence = (): void => {
    part();
    const order = symbols
      .map(({ name }, index) => ({ name, index }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const { index } of order) {
      bytes.writeUIntBE(index, at, 3);
      at += 3;
    }
  };
  if (!layout.behind) addresses();
  part();
  number(symbols.length, 4);
  part();
  const start = at;
  const markers: number[] = [];
  for (const [index, { type, name }] of symbols.entries()) {
    if (index % 256 === 0) markers.push(at - start);
    const codes = compress(`${type}${name}`);
    const { length } = codes;
    const head = length < 0x80 ? [length] : [(length & 0x7f) | 0x80, length >> 7];
    bytes.set([...head, ...codes], at);
    at += head.length + length;
  }
  part();
  for (const marker of markers) number(marker, layout.marker);
  if (layout.sequence === 'inside') sequence();
  part();
  const tokenTable = at;
  const offsets = TOKENS.map((token) => {
    const offset = at - tokenTable;
    at += bytes.write(`${token}\0`, at, 'latin1');
    return offset;
  });
  part();
  for (const offset of offsets) {
    bytes.writeUInt16LE(offset, at);
    at += 2;
  }
  if (layout.behind) addresses();
  if (layout.sequence === 'last') sequence();
  bytes.set(noise(0x2000, 6), at);
  const segment = { type: PT_LOAD, flags: 5, paddr: 0n, align: 0x1000n };
  return {
    bytes,
    bits: layout.bits,
    littleEndian: true,
    type: ET_EXEC,
    machine: layout.bits === 64 ? 62 : 3,
    machineName: '',
    entry: kernel,
    programHeaders: [
      { ...segment, offset: 0x7_f000n, filesz: 0n, vaddr: kernel, memsz: TABLE_OFFSET },
      {
        ...segment,
        offset: 0n,
        filesz: BigInt(bytes.length),
        vaddr: kernel + TABLE_OFFSET,
        memsz: KERNEL_SIZE - TABLE_OFFSET,
      },
    ],
    sections: [],
    sectionTable: null,
  };
}

const before = { behind: false, sequence: 'none' } as const;
const behind = { behind: true, sequence: 'last', marker: 4 } as const;
const inside = { behind: false, sequence: 'inside', marker: 4 } as const;
const LAYOUTS: readonly (readonly [string, Layout])[] = [
  ['64 bits, 4.0 to 4.5', { ...before, bits: 64, addresses: 'absolute', marker: 8 }],
  ['64 bits, 4.6 to 4.19', { ...before, bits: 64, addresses: 'relative', marker: 8 }],
  ['64 bits, 4.6 to 4.19, per-CPU', { ...before, bits: 64, addresses: 'percpu', marker: 8 }],
  ['64 bits, 4.20 to 6.1', { ...before, bits: 64, addresses: 'relative', marker: 4 }],
  ['64 bits, 4.20 to 6.1, per-CPU', { ...before, bits: 64, addresses: 'percpu', marker: 4 }],
  ['64 bits, 6.2 and 6.3', { ...inside, bits: 64, addresses: 'relative' }],
  ['64 bits, 6.2 and 6.3, per-CPU', { ...inside, bits: 64, addresses: 'percpu' }],
  ['64 bits, from 6.4', { ...behind, bits: 64, addresses: 'relative' }],
  ['64 bits, from 6.4, per-CPU', { ...behind, bits: 64, addresses: 'percpu' }],
  ['64 bits, from 6.4, absolute', { ...behind, bits: 64, addresses: 'absolute' }],
  ['64 bits, 7.x', { ...behind, bits: 64, addresses: 'self-relative', align: 4 }],
  ['32 bits, 4.0 to 4.5', { ...before, bits: 32, addresses: 'absolute', marker: 4 }],
  ['32 bits, 4.6 to 6.1', { ...before, bits: 32, addresses: 'relative', marker: 4 }],
  ['32 bits, 6.2 and 6.3', { ...inside, bits: 32, addresses: 'relative' }],
  ['32 bits, from 6.4', { ...behind, bits: 32, addresses: 'relative' }],
  ['32 bits, 7.x', { ...behind, bits: 32, addresses: 'absolute' }],
];

function read(elf: ElfFile): KernelSymbol[] | null {
  const table = findKallsyms(elf);
  return table === null ? null : Array.from({ length: table.size }, (_, index) => table.symbol(index));
}

function kernelOf({ bits }: Layout): bigint {
  return bits === 64 ? KERNEL_64 : KERNEL_32;
}

describe('findKallsyms', () => {
  it.each(LAYOUTS)('reads every symbol: %s', (_, layout) => {
    const symbols = makeSymbols(1500, kernelOf(layout), 100);
    if (layout.addresses === 'percpu') symbols.unshift({ address: 0n, type: 'A', name: PERCPU });
    expect(read(makeKernel(layout, symbols))).toEqual(symbols);
  });

  it.each(LAYOUTS)('reads names whose length takes two bytes: %s', (_, layout) => {
    const symbols = makeSymbols(600, kernelOf(layout), 400);
    const elf = makeKernel(layout, symbols);
    expect(compress(`${symbols[7]!.type}${symbols[7]!.name}`).length).toBeGreaterThan(128);
    expect(read(elf)).toEqual(symbols);
  });

  // What stands last in a group of 256, or on an odd multiple of the alignment, shifts the parts behind it.
  it.each(LAYOUTS)('reads tables of any size and place: %s', (_, layout) => {
    for (const count of [257, 300, 512, 513, 769]) {
      const pad = layout.align === 4 ? 0x2000 + (count % 8) * 4 : 0x2000;
      const symbols = makeSymbols(count, kernelOf(layout), 60);
      expect(read(makeKernel(layout, symbols, pad)), `${count} symbols`).toEqual(symbols);
    }
  });

  it('names an address by the plainest symbol before it', () => {
    const layout = LAYOUTS[3]![1];
    const symbols = makeSymbols(1500, KERNEL_64, 60);
    const table = findKallsyms(makeKernel(layout, symbols))!;
    const { address, name } = symbols[700]!;
    expect(table.name(address)).toBe(name);
    expect(table.name(symbols[701]!.address - 1n)).toBe(
      `${name}+0x${(symbols[701]!.address - 1n - address).toString(16)}`.replace(/\+0x0$/, ''),
    );
    expect(table.name(KERNEL_64 - 1n)).toBeNull();
  });

  it('names no address before the first function by a per-CPU variable', () => {
    const layout = LAYOUTS[4]![1];
    const symbols = makeSymbols(600, KERNEL_64 + 0x100n, 60);
    symbols.unshift({ address: 0n, type: 'A', name: PERCPU });
    const table = findKallsyms(makeKernel(layout, symbols))!;
    expect(table.name(KERNEL_64)).toBeNull();
    expect(table.name(KERNEL_64 + 0x100n)).toBe(symbols[1]!.name);
    expect(table.name(0x10n)).toBe(`${PERCPU}+0x10`);
  });

  it('finds none where tokens or names are damaged, or cut off', () => {
    const layout = LAYOUTS[3]![1];
    const symbols = makeSymbols(600, KERNEL_64, 60);
    const whole = makeKernel(layout, symbols);
    const digits = Buffer.from(whole.bytes).indexOf('0\x001\x002\x003\x00', 0, 'latin1');
    const cut = whole.bytes.subarray(0, digits + 0x300);
    expect(findKallsyms({ ...whole, bytes: cut })).toBeNull();
    const damaged = Buffer.from(whole.bytes);
    damaged.fill(0, digits + 4, digits + 8);
    expect(findKallsyms({ ...whole, bytes: damaged })).toBeNull();
    const nameless = Buffer.from(whole.bytes);
    nameless.fill(0, 0x2000 + 600 * 4 + 0x100, 0x2000 + 600 * 4 + 0x200);
    expect(findKallsyms({ ...whole, bytes: nameless })).toBeNull();
    expect(findKallsyms({ ...whole, bytes: Buffer.from(noise(0x10000)) })).toBeNull();
  });

  it('takes no table whose addresses lie outside the kernel', () => {
    const symbols = makeSymbols(600, KERNEL_64, 60);
    const elf = makeKernel(LAYOUTS[0]![1], symbols);
    const elsewhere = elf.programHeaders.map((header) => ({ ...header, vaddr: header.vaddr - 0x4000_0000n }));
    expect(findKallsyms({ ...elf, programHeaders: elsewhere })).toBeNull();
  });
});
