import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  elfBuildId,
  elfFileLength,
  elfSectionBytes,
  elfSegmentBytes,
  missingSegmentBytes,
  PT_LOAD,
  readElf,
  readElfSymbols,
} from './elf.ts';
import { makeElf, makeSegmentedElf, noise } from './test-images.ts';
import { describeVmlinux, sectionGroup } from './vmlinux.ts';

const CONTENT = noise(321);

describe.each([32, 64] as const)('an ELF%i file', (bits) => {
  it('is read with its segment and its sections', () => {
    const elf = readElf(makeElf(bits, CONTENT));
    expect(elf.bits).toBe(bits);
    expect(elf.machineName).toBe(bits === 64 ? 'x86-64' : 'i386');
    expect(elf.entry).toBe(0x1000000n);
    const [segment] = elf.programHeaders;
    expect(segment).toMatchObject({
      type: PT_LOAD,
      flags: 5,
      paddr: 0x1000000n,
      memsz: BigInt(CONTENT.length + 0x1000),
    });
    expect(elfSegmentBytes(elf, segment!)).toEqual(CONTENT);
    expect(elf.sections.map(({ name }) => name)).toEqual(['', '.text', '.shstrtab']);
    expect(elfSectionBytes(elf, elf.sections[1]!)).toEqual(CONTENT);
  });

  it('ends behind its section header table, whatever follows', () => {
    const file = makeElf(bits, CONTENT);
    expect(elfFileLength(readElf(file))).toBe(file.length);
    expect(elfFileLength(readElf(Buffer.concat([file, noise(1000)])))).toBe(file.length);
  });

  it('is cut where its tables reach beyond its end', () => {
    const file = makeElf(bits, CONTENT);
    const cut = readElf(file.subarray(0, file.length - 1));
    expect(cut.sections).toEqual([]);
    expect(() => elfFileLength(cut)).toThrow(`reach to byte ${file.length}, there are ${file.length - 1}`);
  });

  it('is refused where its program headers are cut off', () => {
    expect(() => readElf(makeElf(bits, CONTENT).subarray(0, 70))).toThrow(
      /ELF program header table needs 4 bytes/,
    );
  });

  it('says that a segment lies outside', () => {
    const elf = readElf(makeElf(bits, CONTENT).subarray(0, 200));
    expect(() => elfSegmentBytes(elf, elf.programHeaders[0]!)).toThrow(/ELF segment needs 321 bytes/);
  });
});

describe('what is no ELF file for Bootscope', () => {
  it('is refused without the magic', () => {
    expect(() => readElf(noise(100))).toThrow(/magic 7f 45 4c 46 is missing/);
  });

  it.each([32, 64] as const)('is read in big endian, with %d bits', (bits) => {
    const recipe = { bits, bigEndian: true, machine: 8, entry: 0x80100400 };
    const elf = readElf(makeSegmentedElf({ ...recipe, segments: [{ paddr: 0x100000, bytes: CONTENT }] }));
    expect(elf).toMatchObject({
      bits,
      littleEndian: false,
      type: 2,
      machineName: 'MIPS',
      entry: 0x80100400n,
    });
    expect(elf.programHeaders).toMatchObject([
      { paddr: 0x100000n, filesz: BigInt(CONTENT.length), flags: 5 },
    ]);
  });

  it('says which segment of a cut file lacks how many bytes', () => {
    const segments = [{ bytes: noise(100) }, { bytes: noise(200) }];
    const file = makeSegmentedElf({ segments });
    expect(missingSegmentBytes(readElf(file))).toEqual([]);
    expect(missingSegmentBytes(readElf(file.subarray(0, 64 + 2 * 56 + 150)))).toEqual([
      'segment 1 needs 200 bytes at offset 276, 150 of them lie behind the end of the file of 326 bytes',
    ]);
    expect(missingSegmentBytes(readElf(file.subarray(0, 64 + 2 * 56 + 40)))).toHaveLength(2);
  });

  it('is refused with program headers that are too small', () => {
    const file = makeElf(64, CONTENT);
    file.set([8, 0], 54);
    expect(() => readElf(file)).toThrow('an ELF program header has 8 bytes, 56 are needed');
  });

  it('is refused with a program header table at the end of the address space', () => {
    const file = makeElf(64, CONTENT);
    file.fill(0xff, 32, 40);
    expect(() => readElf(file)).toThrow(/ELF program header table needs/);
  });
});

describe('sections of a vmlinux', () => {
  it.each([
    ['.text', 6n, 1, 'text'],
    ['.rodata', 2n, 1, 'rodata'],
    ['.data', 3n, 1, 'data'],
    ['.data..percpu', 3n, 1, 'percpu'],
    ['.init.text', 6n, 1, 'init'],
    ['.init.data', 3n, 1, 'init'],
    ['.altinstructions', 2n, 1, 'init'],
    ['.bss', 3n, 8, 'bss'],
    ['.brk', 3n, 8, 'bss'],
    ['.head.text', 6n, 1, 'text'],
    ['.data.rel.ro', 3n, 1, 'rodata'],
    ['.rodata', 3n, 1, 'rodata'],
    ['__bug_table', 3n, 1, 'data'],
  ] as const)('%s counts to its group', (name, flags, type, group) => {
    expect(sectionGroup(name, flags, type)).toBe(group);
  });

  it('are added up', () => {
    const { groups } = describeVmlinux(readElf(makeElf(64, CONTENT)));
    expect(groups).toEqual({
      text: BigInt(CONTENT.length),
      rodata: 0n,
      data: 0n,
      init: 0n,
      percpu: 0n,
      bss: 0n,
    });
  });
});

const hasReadelf = spawnSync('readelf', ['--version']).status === 0;
describe.skipIf(!hasReadelf)('beside readelf (needs readelf)', () => {
  const path = process.execPath;
  const run = (option: string): string =>
    spawnSync('readelf', ['-W', option, path], { encoding: 'utf8', maxBuffer: 1 << 28 }).stdout;
  const bytes = readFileSync(path);
  const isReadable = bytes[0] === 0x7f && bytes[5] === 1;

  it.skipIf(!isReadable)(
    "Node's own program has the same segments, sections and build id (needs a little-endian ELF host)",
    () => {
      const elf = readElf(bytes);
      const loads = [...run('-l').matchAll(/^ +LOAD +0x(\w+) 0x(\w+) 0x(\w+) 0x(\w+) 0x(\w+)/gm)];
      expect(
        elf.programHeaders
          .filter(({ type }) => type === PT_LOAD)
          .map(({ offset, vaddr, paddr, filesz, memsz }) => [offset, vaddr, paddr, filesz, memsz]),
      ).toEqual(loads.map((match) => match.slice(1, 6).map((digits) => BigInt(`0x${digits}`))));
      const names = [...run('-S').matchAll(/^ +\[ *\d+\] (\S*) /gm)].map((match) => match[1]);
      expect(elf.sections.length).toBe(names.length);
      expect(elf.sections.slice(1).map(({ name }) => name)).toEqual(names.slice(1));
      expect(elfBuildId(elf)).toBe(/Build ID: (\w+)/.exec(run('-n'))?.[1] ?? null);
      expect(elfFileLength(elf)).toBe(bytes.length);
    },
  );

  it.skipIf(!isReadable)(
    "Node's own program has as many named symbols (needs a little-endian ELF host)",
    () => {
      const counted = /Symbol table '\.symtab' contains (\d+) entries/.exec(run('-s'));
      const symbols = readElfSymbols(readElf(bytes));
      if (counted === null) expect(symbols).toEqual([]);
      else expect(symbols.length).toBeGreaterThan(Number(counted[1]) / 2);
    },
  );
});
