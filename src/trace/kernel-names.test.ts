import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { PT_LOAD, readElf } from '../image/elf.ts';
import { extractVmlinux } from '../image/extract-vmlinux.ts';
import { readKernelImage } from '../image/kernel-image.ts';
import { makeSegmentedElf } from '../image/test-images.ts';
import type { BootTrace, KernelSegment } from './boot-trace.ts';
import { readKernelSymbols as readKallsyms } from './find-symbols.ts';
import {
  nameTrace,
  readKernelNames,
  readKernelSymbols,
  readSetupSymbols,
  readStubSymbols,
  readSymbolFiles,
} from './kernel-names.ts';
import { kernelNames } from './kernel-symbols.ts';
import { SymbolTable } from './symbols.ts';

const TEXT = 0xffff_ffff_8100_0000n;
const DATA = 0xffff_ffff_8200_0000n;
const elf = readElf(
  makeSegmentedElf({
    segments: [
      { type: 4, paddr: 0, vaddr: 0n, bytes: new Uint8Array(8) },
      { paddr: 0x100_0000, vaddr: TEXT, bytes: new Uint8Array(16), memsz: 0x2000 },
      { paddr: 0x200_0000, vaddr: DATA, bytes: new Uint8Array(16), memsz: 0x1000 },
    ],
  }),
);
const symbols = new SymbolTable([
  { address: TEXT, name: '_text' },
  { address: TEXT + 0x1800n, name: 'late' },
  { address: DATA, name: '_data' },
]);
const segment = (paddr: bigint, memsz: bigint): KernelSegment => ({ paddr, memsz }) as KernelSegment;

describe('kernelNames', () => {
  // Where KASLR put it: the segments lie otherwise than they were linked.
  const name = kernelNames(symbols, elf, [segment(0x900_0000n, 0x2000n), segment(0x500_0000n, 0x1000n)]);

  it('names physical addresses by the symbols of the segment that lies there', () => {
    expect(name(0x900_0000n)).toBe('_text');
    expect(name(0x900_1804n)).toBe('late+0x4');
    expect(name(0x900_1fffn)).toBe('late+0x7ff');
    expect(name(0x500_0010n)).toBe('_data+0x10');
  });

  it('has no names outside of the segments', () => {
    for (const address of [0x8ff_ffffn, 0x900_2000n, 0x4ff_ffffn, 0x500_1000n])
      expect(name(address)).toBeNull();
  });

  it('has no name in a segment that the file has no header of', () => {
    const all = [segment(0n, 1n), segment(1n, 1n), segment(0x700_0000n, 0x10n)];
    expect(kernelNames(symbols, elf, all)(0x700_0000n)).toBeNull();
  });
});

describe('names of a kernel that was booted', async () => {
  const path = new URL('../../images/demo/demo-lz4.bzImage', import.meta.url).pathname;
  const image = await readKernelImage(path, readFileSync(path));
  const { elf: kernel } = await extractVmlinux(image);
  const headers = kernel!.programHeaders.filter(({ type }) => type === PT_LOAD);
  const segments = headers.map(({ vaddr, memsz }) => ({
    paddr: (vaddr & 0xfff_ffffn) + 0x400_0000n,
    vaddr,
    memsz,
  }));
  const entry = segments[0]!.paddr;
  const trace = {
    phases: [{ name: 'kernel', address: entry, regions: [] }],
    events: [],
    kernel: { entry, segments },
  } as unknown as BootTrace;
  const folder = mkdtempSync(join(tmpdir(), 'kernel-names-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const systemMap = join(folder, 'System.map');
  writeFileSync(
    systemMap,
    headers.map(({ vaddr }, index) => `${vaddr.toString(16)} T segment_${index}\n`).join(''),
  );

  it('come from a System.map, where one is named', async () => {
    const file = await readKernelSymbols({ systemMap });
    expect(file).toMatchObject({ path: systemMap, elf: null });
    const name = await readKernelNames(file, image, trace);
    expect(name?.(entry)).toBe('segment_0');
    expect(name?.(segments[1]!.paddr + 4n)).toBe('segment_1+0x4');
    expect(name?.(0n)).toBeNull();
    expect(await readSymbolFiles({ systemMap })).toMatchObject({ stub: null, kernel: { path: systemMap } });
    const named = await nameTrace(trace, image, { stub: null, kernel: file }, { kallsyms: false });
    expect(named.kernel?.entrySymbol).toBe('segment_0');
  });

  it('are none where no file is named, and the kernel has no kallsyms', async () => {
    expect(await readKernelSymbols({})).toBeNull();
    expect(await readStubSymbols({})).toBeNull();
    expect(await readSetupSymbols(undefined)).toBeNull();
    expect(await readSymbolFiles({})).toEqual({ stub: null, kernel: null });
    expect(await readKernelNames(null, image, trace)).toBeNull();
    expect(await readKallsyms(image, trace)).toBeNull();
    const named = await nameTrace(trace, image, { stub: null, kernel: null }, { kallsyms: true });
    expect(named.kernel).not.toHaveProperty('entrySymbol');
  });

  it('are none before the jump into a kernel, and of an image without one', async () => {
    const file = await readKernelSymbols({ systemMap });
    expect(await readKernelNames(file, image, { ...trace, kernel: null })).toBeNull();
    expect(await readKernelNames(file, { ...image, payload: null }, trace)).toBeNull();
    expect(await readKallsyms(image, { ...trace, kernel: null })).toBeNull();
    expect(await readKallsyms({ ...image, payload: null }, trace)).toBeNull();
  });

  it('are refused of another kernel, by the first segment that differs', async () => {
    const of = (sizes: readonly number[], more: object = {}) => ({
      ...{ path: 'vmlinux', symbols },
      elf: readElf(
        makeSegmentedElf({
          segments: [
            { type: 4, bytes: new Uint8Array(4) },
            ...sizes.map((memsz, index) => ({
              ...{ bytes: new Uint8Array(0), memsz, vaddr: headers[index]?.vaddr ?? 0n, ...more },
            })),
          ],
        }),
      ),
    });
    const sizes = headers.map(({ memsz }) => Number(memsz));
    expect(await readKernelNames(of(sizes), image, trace)).not.toBeNull();
    await expect(readKernelNames(of([sizes[0]!, 1]), image, trace)).rejects.toThrow(
      /^vmlinux is of another kernel: its segment 1 is 0x1 bytes at 0x[0-9a-f]+, that of the image 0x[0-9a-f]+ bytes/,
    );
    await expect(readKernelNames(of(sizes.slice(0, 1)), image, trace)).rejects.toThrow(
      'its segment 1 is missing',
    );
    await expect(readKernelNames(of([...sizes, 16]), image, trace)).rejects.toThrow(
      'that of the image missing',
    );
    await expect(readKernelNames(of(sizes, { vaddr: 0x1234n }), image, trace)).rejects.toThrow(
      'segment 0 is',
    );
  });

  it('are refused of files without symbols or that are none, naming the file', async () => {
    const [stripped, text] = [join(folder, 'stripped'), join(folder, 'text')];
    writeFileSync(stripped, makeSegmentedElf({ segments: [{ bytes: new Uint8Array(8) }] }));
    writeFileSync(text, 'hello');
    await expect(readKernelSymbols({ vmlinux: stripped })).rejects.toThrow(
      `${stripped} has no symbols: it is stripped`,
    );
    await expect(readSetupSymbols(stripped)).rejects.toThrow(`${stripped} has no symbols`);
    await expect(readStubSymbols({ zoVmlinux: stripped })).rejects.toThrow('no sections');
    await expect(readSetupSymbols(text)).rejects.toThrow(`${text}: `);
  });
});
