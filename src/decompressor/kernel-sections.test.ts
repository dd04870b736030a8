// Sections of a decompressed kernel where its segments were placed.

import { describe, expect, it } from 'vitest';
import { readKernelFileParts } from './kernel-sections.ts';

interface Section {
  readonly name: string;
  readonly type?: number;
  readonly flags?: number;
  readonly address: number;
  readonly offset: number;
  readonly size: number;
}
interface Header {
  readonly type?: number;
  readonly offset: number;
  readonly vaddr: number;
  readonly memsz: number;
}

const [PROGBITS, NOBITS, ALLOC] = [1, 8, 2];

/** An ELF file of 64 bits with these headers and no contents; the names' section comes last. */
function elf(headers: readonly Header[], sections: readonly Section[]): Uint8Array {
  const names = new TextEncoder().encode(`\0${sections.map(({ name }) => name).join('\0')}\0.shstrtab\0`);
  const program = 64;
  const namesAt = 0x8000;
  const table = 0x8400;
  const bytes = new Uint8Array(table + (sections.length + 2) * 64);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, 62, true);
  view.setUint32(20, 1, true);
  view.setBigUint64(32, BigInt(program), true);
  view.setBigUint64(40, BigInt(table), true);
  for (const [at, value] of [
    [52, 64],
    [54, 56],
    [56, headers.length],
    [58, 64],
    [60, sections.length + 2],
    [62, sections.length + 1],
  ] as const)
    view.setUint16(at, value, true);
  for (const [index, header] of headers.entries()) {
    const at = program + index * 56;
    view.setUint32(at, header.type ?? 1, true);
    view.setBigUint64(at + 8, BigInt(header.offset), true);
    view.setBigUint64(at + 16, BigInt(header.vaddr), true);
    view.setBigUint64(at + 24, BigInt(header.vaddr), true);
    view.setBigUint64(at + 32, BigInt(header.memsz), true);
    view.setBigUint64(at + 40, BigInt(header.memsz), true);
  }
  bytes.set(names, namesAt);
  let name = 1;
  for (const [index, section] of [
    ...sections,
    { name: '.shstrtab', type: 3, flags: 0, address: 0, offset: namesAt, size: names.length },
  ].entries()) {
    const at = table + (index + 1) * 64;
    view.setUint32(at, name, true);
    name += section.name.length + 1;
    view.setUint32(at + 4, section.type ?? PROGBITS, true);
    view.setBigUint64(at + 8, BigInt(section.flags ?? ALLOC), true);
    view.setBigUint64(at + 16, BigInt(section.address), true);
    view.setBigUint64(at + 24, BigInt(section.offset), true);
    view.setBigUint64(at + 32, BigInt(section.size), true);
  }
  return bytes;
}

const HEADERS = [
  { type: 4, offset: 0x100, vaddr: 0x10_0000, memsz: 0x1000 }, // a note: not placed
  { offset: 0x1000, vaddr: 0x10_0000, memsz: 0x1000 },
  { offset: 0x2000, vaddr: 0x20_0000, memsz: 0x3000 },
];
const PLACED = [
  { paddr: 0x500_0000n, vaddr: 0x10_0000n, memsz: 0x1000n },
  { paddr: 0x600_0000n, vaddr: 0x20_0000n, memsz: 0x3000n },
];
const read = (...sections: readonly Section[]) =>
  readKernelFileParts(elf(HEADERS, sections), PLACED).sections;

describe('sections', () => {
  it('lie where their segments do', () => {
    expect(
      read(
        { name: '.text', address: 0x10_0000, offset: 0x1000, size: 0x800 },
        { name: '.data', address: 0x20_0100, offset: 0x2100, size: 0x200 },
        { name: '.bss', type: NOBITS, address: 0x20_1000, offset: 0x2300, size: 0x2000 },
      ),
    ).toEqual([
      { name: '.text', paddr: 0x500_0000n, size: 0x800n, segment: 0, hasBytes: true },
      { name: '.data', paddr: 0x600_0100n, size: 0x200n, segment: 1, hasBytes: true },
      { name: '.bss', paddr: 0x600_1000n, size: 0x2000n, segment: 1, hasBytes: false },
    ]);
  });

  it.each([
    ['is not loaded', { flags: 0 }],
    ['is empty', { size: 0 }],
    ['lies before its segment', { address: 0xf_ff00, offset: 0xf00 }],
    ['reaches out of its segment', { size: 0x1001 }],
    ['is of another place in the file', { offset: 0x1008 }],
  ])('are none where one %s', (_, change) => {
    expect(read({ name: '.text', address: 0x10_0000, offset: 0x1000, size: 0x800, ...change })).toEqual([]);
  });

  it('may fill their segment, and are none of a segment that was not placed', () => {
    const all = { name: '.text', address: 0x10_0000, offset: 0x1000, size: 0x1000 };
    expect(read(all)).toHaveLength(1);
    expect(readKernelFileParts(elf(HEADERS, [all]), []).sections).toEqual([]);
  });

  it('are none of what is no ELF file', () => {
    expect(readKernelFileParts(new Uint8Array(100), PLACED)).toEqual({ sections: [], elfLength: null });
    expect(readKernelFileParts(elf(HEADERS, []), PLACED).elfLength).toBe(0x8400 + 2 * 64);
  });
});
