import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import type { KaslrGeneration } from '../decompressor/kaslr-generation.ts';
import { FACTS } from '../trace/test-facts.ts';
import { commandLineHazards, initrdHazards } from './loader-hazards.ts';

const KASLR = { memmap: true, optIn: false } as KaslrGeneration;
const facts = {
  ...FACTS,
  kernelParts: [],
  runArea: { start: 0x100_0000, end: 0x1ba_0000 },
  initrd: { start: 0x800_0000, end: 0x900_0000 },
};
const hazards = (line: string, kaslr: KaslrGeneration | null = KASLR) =>
  commandLineHazards(facts, line, kaslr).map(({ code, start, end }) => [code, Number(start), Number(end)]);

describe('memory that the command line takes away', () => {
  it('is named where kernel or initrd lie in it, with the bytes', () => {
    expect(hazards('memmap=1M$0x1100000')).toEqual([['memory-taken-away', 0x110_0000, 0x120_0000]]);
    expect(hazards('quiet memmap=64K#0x8000000,64K!0x8f00000')).toEqual([
      ['memory-taken-away', 0x800_0000, 0x801_0000],
      ['memory-taken-away', 0x8f0_0000, 0x8f1_0000],
    ]);
    expect(hazards('mem=24M')).toEqual([
      ['memory-taken-away', 0x180_0000, 0x1ba_0000],
      ['memory-taken-away', 0x800_0000, 0x900_0000],
    ]);
    expect(hazards('memmap=136M')).toEqual([['memory-taken-away', 0x880_0000, 0x900_0000]]);
  });

  it('is none where they do not, where the option gives memory, and behind --', () => {
    for (const line of [
      '',
      'memmap=1M$0x2000000',
      'memmap=1M@0x1100000',
      'mem=1G',
      'mem=nopentium',
      '-- mem=1M',
    ]) {
      expect(hazards(line), line).toEqual([]);
    }
  });

  it('is judged by the segments of the kernel where those are known, and by gaps of less than 2 MiB not', () => {
    const part = (start: number, end: number) => ({
      ...{ start, end, name: '', source: '' },
      hasBytes: true,
      segment: 0,
    });
    const placed = {
      ...facts,
      kernelParts: [
        part(0x200_0000, 0x210_0000),
        part(0x220_0000, 0x230_0000),
        part(0x300_0000, 0x310_0000),
        { ...part(0x900_0000, 0x910_0000), parent: 'a segment' },
      ],
    };
    const of = (line: string) =>
      commandLineHazards(placed, line, null).map(({ start, end }) => [Number(start), Number(end)]);
    expect(of('memmap=1M$0x1100000')).toEqual([]);
    expect(of('memmap=1M$0x2100000')).toEqual([[0x210_0000, 0x220_0000]]);
    expect(of('memmap=1M$0x2800000')).toEqual([]);
    expect(of('memmap=1M$0x3080000')).toEqual([[0x308_0000, 0x310_0000]]);
    expect(of('memmap=16K$0x9000000')).toEqual([]);
    expect(of('mem=0x3000000').map(([start]) => start)).toEqual([0x300_0000, 0x800_0000]);
  });

  it('is none of what is nowhere', () => {
    const nowhere = { ...facts, runArea: null, initrd: { start: 0x800_0000, end: 0x800_0000 } };
    expect(commandLineHazards(nowhere, 'mem=1M', null)).toEqual([]);
    expect(commandLineHazards({ ...nowhere, initrd: null }, 'mem=1M memmap=4G$0', null)).toEqual([]);
  });

  it('says which option it was, and how much', () => {
    const [first] = commandLineHazards(facts, 'mem=24M', null);
    expect(first!.text).toBe(
      "the command line's mem=24M takes the memory from 0x1800000 on away, and the kernel lies at 0x1000000..0x1ba0000: 0x3a0000 bytes of " +
        'it are in there',
    );
  });
});

describe('ranges of memmap= that KASLR does not keep clear of', () => {
  const range = (gib: number): string => `1M$${gib}G`;
  const separate = [1, 2, 3, 4, 5, 6].map((gib) => `memmap=${range(gib)}`);

  it('are those behind the fourth', () => {
    expect(hazards(separate.slice(0, 4).join(' '))).toEqual([]);
    expect(hazards(separate.join(' '))).toEqual([
      ['memmap-not-avoided', 0x1_4000_0000, 0x1_4010_0000],
      ['memmap-not-avoided', 0x1_8000_0000, 0x1_8010_0000],
    ]);
  });

  it('end the choice where one option lists more than four', () => {
    const list = `memmap=${[1, 2, 3, 4, 5].map(range).join(',')}`;
    const [hazard, ...others] = commandLineHazards(facts, list, KASLR);
    expect(others).toEqual([]);
    expect(hazard).toMatchObject({ code: 'kaslr-no-slot' });
    expect(hazard!.text).toContain(
      'with memmap=1M$5G: it then does not look at the memory map, finds 0 physical slots',
    );
    expect(hazards(`memmap=${[1, 2, 3, 4].map(range).join(',')}`)).toEqual([]);
  });

  it('do no harm without KASLR', () => {
    expect(hazards(separate.join(' '), null)).toEqual([]);
    expect(hazards(`nokaslr ${separate.join(' ')}`)).toEqual([]);
    expect(hazards(separate.join(' '), { ...KASLR, optIn: true })).toEqual([]);
    expect(hazards(separate.join(' '), { ...KASLR, memmap: false })).toEqual([]);
  });
});

describe('an initrd', () => {
  const bytes = (text: string): Uint8Array => new TextEncoder().encode(text.padEnd(600, '.'));
  const named = (content: Uint8Array): string | undefined => initrdHazards(content, 0x1000)[0]?.text;

  it('may be a cpio archive, a compressed one, behind zeroes, or a RAM disk of old', () => {
    const cpio = bytes('070701');
    const xz = new Uint8Array([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0, 0, 4, ...bytes('')]);
    for (const good of [
      cpio,
      bytes('070702'),
      gzipSync(cpio),
      xz,
      new Uint8Array([0, 0, 0, 0, ...cpio]),
      bytes('-rom1fs-'),
    ]) {
      expect(named(good)).toBeUndefined();
    }
    expect(named(new Uint8Array(0))).toBeUndefined();
  });

  it.each([
    [
      'HTML',
      bytes('<!DOCTYPE html><html>'),
      'is a page of the web and no cpio archive: it begins with "<!DOCTYPE html>',
    ],
    [
      'HTML that was compressed',
      gzipSync(bytes('<html>')),
      'is compressed with gzip, and what is in it is a page of the web',
    ],
    ['a text', bytes('404 not found'), 'is a text file and no cpio archive'],
    ['zeroes', new Uint8Array(5000), 'holds nothing but zeroes'],
    ['an archive of another format', bytes('070707'), 'cpio -H newc makes the right one'],
    ['a tar archive', bytes(`${'a'.padEnd(257, '\0')}ustar`), 'is a tar archive and no cpio archive'],
    [
      "compressed in lz4's frame format",
      new Uint8Array([0x04, 0x22, 0x4d, 0x18, 0x64, 0x40, 0xa7, ...bytes('')]),
      'which the kernel does not read: lz4 -l makes the one it does',
    ],
    [
      'compressed behind a skippable frame',
      new Uint8Array([0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 7, 0x28, 0xb5, 0x2f, 0xfd, ...bytes('')]),
      'begins with a skippable frame',
    ],
    [
      'noise',
      new Uint8Array(600).fill(0xa5),
      'is neither a cpio archive nor a compressed one: it begins with a5 a5 a5 a5',
    ],
  ])('is named that is %s', (_name, content, text) => {
    expect(named(content)).toContain(text);
    expect(initrdHazards(content, 0x1000)).toMatchObject([{ code: 'initrd-content', start: 0x1000n }]);
  });
});
