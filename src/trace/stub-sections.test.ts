import { describe, expect, it } from 'vitest';
import { type ElfFile, type ElfSection, SHF_ALLOC, SHT_NOBITS, SHT_SYMTAB } from '../image/elf.ts';
import type { BootTrace, MemoryRegion, Phase } from './boot-trace.ts';
import { nameStubSections, stubBase } from './stub-sections.ts';

const PROGBITS = 1;

function section(name: string, address: number, size: number, more: Partial<ElfSection> = {}): ElfSection {
  return {
    ...{ name, type: PROGBITS, flags: BigInt(SHF_ALLOC), address: BigInt(address), offset: 0n },
    ...{ size: BigInt(size), link: 0, info: 0, entrySize: 0n },
    ...more,
  };
}

/** The stub's ELF file with these symbols: name, value, size. */
function stub(sections: readonly ElfSection[], symbols: readonly (readonly [string, number, number])[] = []) {
  const names = Buffer.from(`\0${symbols.map(([name]) => `${name}\0`).join('')}`);
  const table = Buffer.alloc(symbols.length * 24);
  for (const [index, [name, value, size]] of symbols.entries()) {
    table.writeUInt32LE(names.indexOf(`${name}\0`), index * 24);
    table.writeBigUInt64LE(BigInt(value), index * 24 + 8);
    table.writeBigUInt64LE(BigInt(size), index * 24 + 16);
  }
  const bytes = Buffer.concat([table, names]);
  const all = [
    ...sections,
    section('.symtab', 0, table.length, { type: SHT_SYMTAB, flags: 0n, link: sections.length + 1 }),
    section('.strtab', 0, names.length, { type: 3, flags: 0n, offset: BigInt(table.length) }),
  ];
  return { bytes, bits: 64, littleEndian: true, sections: all, programHeaders: [] } as unknown as ElfFile;
}

const SECTIONS = [
  section('.head.text', 0, 0x300),
  section('.rodata..compressed', 0x300, 0x1000),
  section('.text', 0x1300, 0x500),
  section('.note', 0, 0x20, { flags: 0n }),
  section('.empty', 0x1800, 0),
  section('.rodata', 0x1800, 0x100),
  section('.made.up', 0x1900, 0x10),
  section('.bss', 0x2000, 0x800, { type: SHT_NOBITS }),
  section('.pgtable', 0x3000, 0x6000, { type: SHT_NOBITS }),
];
const SYMBOLS = [
  ['boot_heap', 0x2000, 0x400],
  ['boot_stack', 0x2400, 0x200],
  ['boot_stack_end', 0x2600, 0],
] as const;

function region(name: string, start: number, end: number, more: Partial<MemoryRegion>): MemoryRegion {
  return {
    ...{ name, start: BigInt(start), end: BigInt(end), kind: 'stub', role: 'stub', source: 'header' },
    ...more,
  };
}
const LOADED = region('ZO as loaded', 0x100000, 0x101a00, { role: 'zo', zo: 'loaded', by: 'loader' });
const LOADED_PAYLOAD = region('ZO as loaded payload', 0x100300, 0x101300, {
  ...{ role: 'payload', kind: 'payload', parent: 'ZO as loaded' },
});
const COPY = region('ZO copy', 0x1000000, 0x1001a00, { role: 'zo', zo: 'copy', by: 'stub' });
const BSS = region('ZO bss', 0x1001f00, 0x1002900, { role: 'zo-bss', inferred: true });
const HEAP = region('boot heap', 0x1001f00, 0x1002000, { role: 'boot-heap' });
const STACK = region('boot stack', 0x1002000, 0x1002900, { role: 'boot-stack', inferred: true });
const TABLES = region('boot page tables', 0x1003000, 0x1008000, { role: 'boot-page-tables' });
const OTHER = region('IVT', 0, 0x400, { role: 'ivt' as never });

function trace(...phases: readonly (readonly MemoryRegion[])[]): BootTrace {
  return {
    phases: phases.map((regions) => ({ name: 'setup', regions }) as unknown as Phase),
  } as unknown as BootTrace;
}
const named = (traced: BootTrace, zo = stub(SECTIONS, SYMBOLS)) =>
  nameStubSections(traced, zo).phases.map(({ regions }) => regions);
const extents = (regions: readonly MemoryRegion[] | undefined) =>
  regions?.map(({ name, start, end }) => `${name} ${start.toString(16)}..${end.toString(16)}`);

describe('nameStubSections', () => {
  it('has the parts of ZO by their sections, in place of what was deduced, sorted by address', () => {
    const [regions] = named(trace([LOADED_PAYLOAD, LOADED, OTHER]));
    expect(extents(regions)).toEqual([
      'IVT 0..400',
      'ZO as loaded 100000..101a00',
      'ZO as loaded head 100000..100300',
      'ZO as loaded payload 100300..101300',
      'ZO as loaded text 101300..101800',
      'ZO as loaded rodata 101800..101900',
      'ZO as loaded .made.up 101900..101910',
    ]);
    expect(regions?.find(({ name }) => name === 'ZO as loaded payload')).toEqual({
      ...{ name: 'ZO as loaded payload', start: 0x100300n, end: 0x101300n, kind: 'payload', role: 'payload' },
      ...{ by: 'loader', zo: 'loaded', parent: 'ZO as loaded' },
      source: 'ELF section .rodata..compressed of the stub',
    });
    expect(regions?.at(-1)).toMatchObject({ kind: 'stub', role: 'stub' });
  });

  it('counts from where the first section is linked, as in kernels that are linked where they are loaded', () => {
    const linked = SECTIONS.map((each) => ({ ...each, address: each.address + 0x100000n }));
    const symbols = SYMBOLS.map(([name, value, size]) => [name, value + 0x100000, size] as const);
    expect(stubBase(stub(linked))).toBe(0x100000n);
    const phases = [LOADED, LOADED_PAYLOAD, COPY, BSS, HEAP, STACK, TABLES];
    expect(named(trace(phases), stub(linked, symbols))).toEqual(named(trace(phases)));
  });

  it('has bss, heap, stack and page tables where the copy runs, exactly', () => {
    const [regions] = named(trace([LOADED, LOADED_PAYLOAD, COPY, BSS, HEAP, STACK, TABLES]));
    // The larger one of two with the same start comes first.
    const [mixed] = named(trace([HEAP, TABLES, BSS, COPY, LOADED_PAYLOAD, LOADED, STACK]));
    expect(extents(mixed)).toEqual(extents(regions));
    const behind = extents(regions)?.filter((text) => /^(ZO bss|boot)/.test(text));
    expect(behind?.map((text) => text.replace(/ \w+\.\.\w+$/, ''))).toEqual([
      ...['ZO bss', 'boot heap', 'boot stack', 'boot page tables'],
    ]);
    const find = (name: string) => regions?.find((each) => each.name === name);
    expect(find('ZO bss')).toMatchObject({ start: 0x1002000n, end: 0x1002800n });
    expect(find('ZO bss')?.source).toBe('ELF section .bss of the stub');
    expect(find('ZO bss')).not.toHaveProperty('inferred');
    expect(find('boot heap')).toMatchObject({
      ...{ start: 0x1002000n, end: 0x1002400n, source: 'symbol boot_heap' },
    });
    expect(find('boot stack')).toMatchObject({ start: 0x1002400n, end: 0x1002600n });
    expect(find('boot stack')?.source).toBe('symbols boot_stack and boot_stack_end');
    expect(find('boot page tables')).toMatchObject({ start: 0x1003000n, end: 0x1009000n });
  });

  it('has page tables that were built for the copy before there is one where they are', () => {
    const [regions] = named(trace([LOADED, LOADED_PAYLOAD, TABLES]));
    expect(extents(regions)).toContain('boot page tables 1003000..1009000');
  });

  it('has bss where ZO was loaded while it runs there', () => {
    const [regions] = named(trace([LOADED, LOADED_PAYLOAD, { ...BSS, start: 0x101f00n, end: 0x102000n }]));
    expect(extents(regions)).toContain('ZO bss 102000..102800');
  });

  it('ends a heap without a size where the stack begins, and leaves what has no symbol as it was', () => {
    const all = [LOADED, LOADED_PAYLOAD, COPY, HEAP, STACK];
    const labels = SYMBOLS.map(([name, value]) => [name, value, 0] as const);
    expect(extents(named(trace(all), stub(SECTIONS, labels))[0])).toContain('boot heap 1002000..1002400');
    const bare = named(trace(all), stub(SECTIONS))[0]!;
    expect(bare).toContainEqual(HEAP);
    expect(bare).toContainEqual(STACK);
    const heapOnly = named(trace(all), stub(SECTIONS, [['boot_heap', 0x2000, 0]]))[0]!;
    expect(heapOnly).toContainEqual(HEAP);
    const noEnd = named(trace(all), stub(SECTIONS, [['boot_stack', 0x2400, 0x200]]))[0]!;
    expect(noEnd).toContainEqual(STACK);
  });

  it('leaves phases without ZO as they are', () => {
    expect(named(trace([OTHER, STACK]))).toEqual([[OTHER, STACK]]);
  });

  it('refuses the file of another image, with both sizes and places', () => {
    const other = SECTIONS.map((each) =>
      each.name === '.rodata..compressed' ? { ...each, size: 0x800n } : each,
    );
    const [fits, without] = [
      trace([OTHER], [LOADED, LOADED_PAYLOAD]),
      SECTIONS.filter(({ size }) => size !== 0x1000n),
    ];
    expect(() => named(fits, stub(other))).toThrow(
      "the stub's ELF file is of another image: its payload is 0x800 bytes at 0x300, the image's 0x1000 bytes at 0x300",
    );
    expect(() => named(fits, stub(without))).toThrow('its payload is none, ');
    const moved = SECTIONS.map((each) =>
      each.name === '.rodata..compressed' ? { ...each, address: 0x310n } : each,
    );
    expect(() => named(fits, stub(moved))).toThrow('0x1000 bytes at 0x310');
    expect(() => stubBase(stub([]))).toThrow("the stub's ELF file has no sections");
    expect(() => stubBase(stub([section('.note', 0, 8, { flags: 0n })]))).toThrow('has no sections');
  });
});
