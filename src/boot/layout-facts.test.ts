// What placements and hazards go by: of the header, of what a loader left, of what extract_kernel did.

import { describe, expect, it } from 'vitest';
import type { Extraction } from '../decompressor/extraction.ts';
import { readKernelImage } from '../image/kernel-image.ts';
import { makeBootImage } from '../image/test-images.ts';
import type { Machine } from '../machine/machine.ts';
import { bootParamsOffset } from '../protocol/boot-params.ts';
import { PhysicalMemory } from '../x86/physical-memory.ts';
import type { LoadedImage } from './entries/loaded-image.ts';
import {
  decompressedPieces,
  extentOf,
  headerRules,
  kernelParts,
  layoutFacts,
  placementRules,
  relocationLists,
  setupDataNodes,
  setupMemory,
} from './layout-facts.ts';

const LOADED: LoadedImage = {
  ...{ entry: 'prot32', setup: null, heapEnd: null, startup32: 0x100000, start: 0x100000 },
  protectedModeCode: { address: 0x200000, size: 0x1000 },
  ...{ commandLine: null, initrd: null, bootParams: null, kernel: null },
};

const imageOf = (protocol: number, fields: Parameters<typeof makeBootImage>[0]['fields'] = {}) =>
  readKernelImage('made', makeBootImage({ protocol, fields }));

const MODERN = {
  ...{ relocatable_kernel: 1, kernel_alignment: 0x200000, pref_address: 0x1000000, init_size: 0x41000 },
  initrd_addr_max: 0x7fff_ffff,
};

describe('the rules of the header', () => {
  it('are what the fields say', async () => {
    expect(headerRules(await imageOf(0x020f, MODERN))).toEqual({
      ...{ initrdAddressMax: 0x7fff_ffff, relocatable: true, alignment: 0x200000 },
      ...{ preferredAddress: 0x1000000, initSize: 0x41000, linkedAddress: null, high: true },
    });
    expect(headerRules(await imageOf(0x020f, { ...MODERN, relocatable_kernel: 0 })).relocatable).toBe(false);
  });

  it('are what boot.rst says of protocols that have no field for it', async () => {
    expect(headerRules(await imageOf(0x0202, { loadflags: 0 }))).toMatchObject({
      ...{ initrdAddressMax: 0x37ff_ffff, relocatable: false, initSize: null, high: false },
    });
    expect(headerRules(await imageOf(0x0209)).initSize).toBeNull();
    expect(headerRules(await imageOf(0)).initrdAddressMax).toBeNull();
  });

  it('let an initrd lie above 4 GiB by the 64-bit entry alone, and where xloadflags has the bit', async () => {
    const [with4G, without] = [
      await imageOf(0x020f, { ...MODERN, xloadflags: 3 }),
      await imageOf(0x020f, { ...MODERN, xloadflags: 1 }),
    ];
    const max = (image: typeof with4G, entry: LoadedImage['entry']) =>
      placementRules(image, { ...LOADED, entry }).initrdAddressMax;
    expect(max(with4G, 'long64')).toBe(Number.MAX_SAFE_INTEGER);
    expect(max(without, 'long64')).toBe(0x7fff_ffff);
    expect(max(with4G, 'prot32')).toBe(0x7fff_ffff);
    expect(max(with4G, 'efi-handover')).toBe(0x7fff_ffff);
  });

  it('keep nothing free where an EFI stub allocates what it needs', async () => {
    const image = await imageOf(0x020f, MODERN);
    expect(placementRules(image, LOADED)).toMatchObject({ initSize: 0x41000, loadAddress: 0x200000 });
    expect(placementRules(image, { ...LOADED, allocatesKernel: true }).initSize).toBeNull();
    expect(placementRules(image, { ...LOADED, protectedModeCode: null }).loadAddress).toBe(0);
  });
});

it('facts of a boot have setup_data from protocol 2.09 on, and once boot_params is there', async () => {
  const ram = new Uint8Array(0x10_0000);
  const view = new DataView(ram.buffer);
  view.setBigUint64(0x1000 + bootParamsOffset('setup_data'), 0x3000n, true);
  const machine = {
    ...{ memory: PhysicalMemory.of(ram), ebdaAddress: 0x9fc00 },
    memoryMap: [
      { address: 0n, size: 0x9fc00n, type: 1 },
      { address: 0xf0000n, size: 0x10000n, type: 2 },
    ],
  } as unknown as Machine;
  const seen = {
    loaded: LOADED,
    copyAddress: null,
    bootParams: 0x1000,
    extraction: null,
    kernelFile: null,
    kernel: null,
  };
  const [old, modern] = [await imageOf(0x0208), await imageOf(0x0209)];
  expect(layoutFacts(machine, modern, seen)).toMatchObject({
    ...{ setupData: [{ start: 0x3000, end: 0x3010 }], bootParams: { start: 0x1000, end: 0x2000 } },
    ...{ usable: [{ start: 0, end: 0x9fc00 }], reserved: [{ start: 0xf0000, end: 0x100000, type: 2 }] },
    ...{ ebda: { start: 0x9fc00, end: 0xa0000 }, loaded: { start: 0x200000, end: 0x201000 } },
    ...{
      started: { start: 0x100000, end: 0x101000 },
      copy: null,
      setup: null,
      commandLine: null,
      initrd: null,
    },
    ...{ ram: 0x100000, decompressed: [], relocations: null, kernelParts: [], bootParamsByLoader: false },
  });
  expect(layoutFacts(machine, old, seen).setupData).toEqual([]);
  expect(layoutFacts(machine, modern, { ...seen, bootParams: null })).toMatchObject({
    setupData: [],
    bootParams: null,
  });
});

it('an extent ends behind its last byte', () => {
  expect(extentOf({ address: 0x1000, size: 0x234 })).toEqual({ start: 0x1000, end: 0x1234 });
  expect(extentOf(null)).toBeNull();
});

it('setup has no memory that is known where its code does not show it', async () => {
  const image = await imageOf(0x020f);
  expect(setupMemory(image, { ...LOADED, setup: { address: 0x90000, size: 0xa00 } })).toBeNull();
});

describe('what extract_kernel did', () => {
  const extraction = (part: Partial<Extraction>): Extraction =>
    ({ output: 0x1000000n, outputLength: 0x5000, file: null, writes: [], ...part }) as Extraction;
  const file = { sections: [], elfLength: 0x4800 };

  it('left an ELF file or a kernel in one piece, or two buffers', () => {
    const writes: Extraction['writes'] = [
      { start: 0x1000000, end: 0x1005000, role: 'decompressed' },
      { start: 0x2000000, end: 0x2001000, role: 'segment', segment: 0 },
    ];
    expect(decompressedPieces(extraction({ writes, file }))).toEqual([
      { start: 0x1000000, end: 0x1005000, name: 'decompressed ELF file' },
    ]);
    expect(decompressedPieces(extraction({ writes }))[0]!.name).toBe('decompressed kernel');
    const buffers: Extraction['writes'] = [
      { start: 0x2000, end: 0x90000, role: 'low-buffer' },
      { start: 0x300000, end: 0x380000, role: 'high-buffer' },
    ];
    expect(decompressedPieces(extraction({ writes: buffers })).map(({ name }) => name)).toEqual([
      'kernel low buffer',
      'kernel high buffer',
    ]);
    expect(decompressedPieces(null)).toEqual([]);
  });

  it('left relocation lists behind the ELF file, where its length is known', () => {
    expect(relocationLists(extraction({ file }))).toEqual({ start: 0x1004800, end: 0x1005000 });
    expect(relocationLists(extraction({ file: { sections: [], elfLength: null } }))).toBeNull();
    expect(relocationLists(extraction({}))).toBeNull();
    expect(relocationLists(null)).toBeNull();
  });

  it('left segments with sections in them, or a flat kernel', () => {
    const segment = { paddr: 0x1000000n, vaddr: 0n, filesz: 0x1000n, memsz: 0x3000n, flags: 'r-x' };
    const sections = [
      { name: '.text', paddr: 0x1000000n, size: 0x800n, hasBytes: true, segment: 0 },
      { name: '.bss', paddr: 0x1001000n, size: 0x2000n, hasBytes: false, segment: 0 },
    ] as never;
    expect(kernelParts([segment], { sections, elfLength: null })).toEqual([
      {
        ...{ name: 'kernel segment 0 (r-x)', start: 0x1000000, end: 0x1003000, hasBytes: true, segment: 0 },
        source: 'program header 0',
      },
      {
        ...{ name: 'kernel .text', start: 0x1000000, end: 0x1000800, hasBytes: true, segment: 0 },
        ...{ source: 'ELF section .text', parent: 'kernel segment 0 (r-x)' },
      },
      {
        ...{ name: 'kernel .bss', start: 0x1001000, end: 0x1003000, hasBytes: false, segment: 0 },
        ...{ source: 'ELF section .bss', parent: 'kernel segment 0 (r-x)' },
      },
    ]);
    expect(kernelParts([segment], null)).toEqual([
      {
        ...{ name: 'flat kernel', start: 0x1000000, end: 0x1003000, hasBytes: true, segment: null },
        source: 'what was decompressed',
      },
    ]);
  });
});

describe('the list of setup_data', () => {
  const PARAMS = 0x1000;
  function memoryWith(head: number, nodes: readonly (readonly [at: number, next: number, length: number])[]) {
    const ram = new Uint8Array(0x10000);
    const view = new DataView(ram.buffer);
    view.setBigUint64(PARAMS + bootParamsOffset('setup_data'), BigInt(head), true);
    for (const [at, next, length] of nodes) {
      view.setBigUint64(at, BigInt(next), true);
      view.setUint32(at + 8, 3, true);
      view.setUint32(at + 12, length, true);
    }
    return PhysicalMemory.of(ram);
  }

  it('has each node with its header of 16 bytes', () => {
    expect(setupDataNodes(memoryWith(0, []), PARAMS)).toEqual([]);
    const two = memoryWith(0x3000, [
      [0x3000, 0x5000, 0x20],
      [0x5000, 0, 0],
    ]);
    expect(setupDataNodes(two, PARAMS)).toEqual([
      { start: 0x3000, end: 0x3030 },
      { start: 0x5000, end: 0x5010 },
    ]);
  });

  it('ends where memory does, and where it goes round', () => {
    expect(setupDataNodes(memoryWith(0xfff8, []), PARAMS)).toEqual([]);
    expect(setupDataNodes(memoryWith(0xfff0, [[0xfff0, 0x20000, 4]]), PARAMS)).toEqual([
      { start: 0xfff0, end: 0x10004 },
    ]);
    expect(setupDataNodes(memoryWith(0x3000, [[0x3000, 0x3000, 4]]), PARAMS)).toHaveLength(64);
    expect(setupDataNodes(memoryWith(0x3000, []), 0xf800)).toEqual([]);
  });
});
