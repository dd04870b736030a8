// What is said of an EFI boot that goes wrong, by what its firmware has seen: firmware and boot are made up here.

import { describe, expect, it } from 'vitest';
import { readKernelImage } from '../image/kernel-image.ts';
import { makeBootImage, noise } from '../image/test-images.ts';
import type { BootRun } from './boot-run.ts';
import { efiHazards } from './efi-hazards.ts';

const MIB = 0x100000;
const image = await readKernelImage(
  'made',
  makeBootImage({
    protocol: 0x020f,
    code: noise(0x1000),
    fields: { kernel_alignment: 2 * MIB, init_size: 0x9000 },
  }),
);

const allocation = (start: number, end: number, part: object = {}) => ({
  ...{
    start,
    end,
    type: 'LoaderCode',
    service: 'AllocatePages',
    call: 7,
    caller: 'stub+0x10',
    freedIn: null,
  },
  ...part,
});

interface Seen {
  readonly firmware?: object;
  readonly phase?: string;
  readonly loaded?: object | null;
  readonly outputLength?: number | null;
  readonly cpuid?: object;
}

/** A boot with nothing wrong, changed. */
function hazards({ firmware = {}, phase = 'kernel', loaded = {}, outputLength = 3 * MIB, cpuid = {} }: Seen) {
  const boot = {
    image: { ...image, payload: outputLength === null ? null : { outputLength } },
    record: { phase },
    found: {
      loaded: loaded === null ? null : { entry: 'efi', allocatesKernel: true, ...loaded },
    },
    machine: {
      cpuid: { hasTsc: true, hasRdrand: true, ...cpuid },
      uefi: {
        ...{
          allocations: [],
          images: [],
          gaveUp: false,
          bootServicesExited: true,
          nxFault: null,
          calledNull: false,
        },
        ...{ callsOf: () => 0, parts: { enforcesNx: false }, memoryAttributes: { writableCode: () => [] } },
        pages: { largestFree: () => ({ start: 0x40_0000, size: MIB }), describe: () => [] },
        ...firmware,
      },
    },
  };
  return efiHazards(boot as unknown as BootRun);
}

it('nothing is said of a boot that went well, or without firmware of that kind', () => {
  expect(hazards({})).toEqual([]);
  expect(efiHazards({ machine: { uefi: null } } as unknown as BootRun)).toEqual([]);
});

describe('a kernel without a place', () => {
  const stuck = { phase: 'efi_pe_entry', firmware: { gaveUp: true } };

  it('is told with what it needs, aligned, and the largest piece that there is', () => {
    const [found] = hazards(stuck);
    expect(found).toMatchObject({ code: 'efi-no-slot', start: 0x40_0000n, end: 0x50_0000n });
    expect(found!.text).toContain(
      'the kernel needs 0x400000 bytes or more in one free piece of memory, aligned to 0x200000',
    );
    expect(found!.advice).toContain('give the guest 3 MiB more of RAM');
    expect(hazards({ ...stuck, phase: 'efi_handover_entry' })).toHaveLength(1);
  });

  const pages = (size: number) => ({ largestFree: () => ({ start: 0, size }), describe: () => [] });
  it.each<[string, Seen]>([
    ['there was one', { ...stuck, firmware: { gaveUp: true, pages: pages(4 * MIB) } }],
    [
      'memory for it was allocated',
      { ...stuck, firmware: { gaveUp: true, allocations: [allocation(MIB, 4 * MIB)] } },
    ],
    ['the image did not give up', { phase: 'efi_pe_entry' }],
    ['the stub is through', { ...stuck, phase: 'exit_boot_services' }],
    ['nobody knows how large it is', { ...stuck, outputLength: null }],
    ['its loader has placed it', { ...stuck, loaded: { allocatesKernel: undefined } }],
    ['nothing was loaded', { ...stuck, loaded: null }],
  ])('is not what is wrong where %s', (_why, seen) => {
    expect(hazards(seen)).toEqual([]);
  });

  it('is what is wrong where all that was allocated is too small, of another kind, or the image itself', () => {
    for (const given of [allocation(MIB, 4 * MIB - 1), allocation(MIB, 8 * MIB, { type: 'LoaderData' })]) {
      expect(hazards({ ...stuck, firmware: { gaveUp: true, allocations: [given] } })).toHaveLength(1);
    }
    const images = [{ base: MIB, size: 3 * MIB, name: 'vmlinuz' }];
    const firmware = { gaveUp: true, images, allocations: [allocation(MIB, 8 * MIB)] };
    expect(hazards({ ...stuck, firmware })).toHaveLength(1);
  });
});

describe('ExitBootServices', () => {
  const refused = (times: number, bootServicesExited = false) =>
    hazards({
      firmware: { bootServicesExited, callsOf: (name: string) => (name === 'ExitBootServices' ? times : 9) },
    });

  it('that never succeeded is told with how often it was refused', () => {
    expect(refused(1)[0]).toMatchObject({ code: 'efi-exit-refused', start: 0n });
    expect(refused(1)[0]!.text).toMatch(/^ExitBootServices was refused once and never succeeded/);
    expect(refused(3)[0]!.text).toMatch(/^ExitBootServices was refused 3 times and/);
  });

  it('that succeeded at last, or was never called, is nothing to tell', () => {
    expect(refused(2, true)).toEqual([]);
    expect(refused(0)).toEqual([]);
  });
});

describe('code in memory that is data', () => {
  const images = [{ base: 0x10_0000, size: 0x1000, name: 'vmlinuz' }];
  const allocations = [
    allocation(0x20_0000, 0x30_0000, {
      call: 0,
      type: 'LoaderData',
      service: 'LoadImage',
      caller: 'the firmware',
    }),
    allocation(0x28_0000, 0x29_0000, { type: 'LoaderData' }),
  ];
  const textAt = (nxFault: number): string =>
    hazards({ firmware: { nxFault, images, allocations } })[0]!.text;

  it('is told with whose the memory is', () => {
    const [found] = hazards({ firmware: { nxFault: 0x10_0800, images, allocations } });
    expect(found).toMatchObject({ code: 'efi-not-executable', start: 0x10_0800n, end: 0x10_0801n });
    expect(found!.text).toContain(
      'the CPU goes on at 0x100800, in the image vmlinuz, which the firmware maps as data',
    );
    expect(textAt(0x10_0fff)).toContain('in the image vmlinuz');
    expect(textAt(0x10_1000)).toContain('in memory that nobody was given');
    expect(textAt(0x20_0000)).toContain('in LoaderData that the firmware got of LoadImage,');
    // The last one that was given it.
    expect(textAt(0x28_0000)).toContain('in LoaderData that stub+0x10 got of AllocatePages (call 7),');
    expect(textAt(0x29_0000)).toContain('got of LoadImage,');
    expect(textAt(0x30_0000)).toContain('in memory that nobody was given');
  });

  it('that can be written, too, is told range by range, the first three by name', () => {
    const runs = [1, 2, 3, 4, 5].map((index) => ({ start: index * 0x1000, end: index * 0x1000 + 0x800 }));
    const of = (count: number, enforcesNx = true) =>
      hazards({
        firmware: { parts: { enforcesNx }, memoryAttributes: { writableCode: () => runs.slice(0, count) } },
      });
    expect(of(2)[0]).toMatchObject({ code: 'efi-writable-code', start: 0x1000n, end: 0x1800n });
    expect(of(2)[0]!.text).toBe(
      '0x1000 bytes are writable and executable at once: 0x1000 to 0x1800 in memory that nobody was given, ' +
        '0x2000 to 0x2800 in memory that nobody was given',
    );
    expect(of(3)[0]!.text).not.toContain('more');
    expect(of(5)[0]!.text).toMatch(/^0x2800 bytes .*, and 2 more$/);
    expect(of(0)).toEqual([]);
    expect(of(2, false)).toEqual([]);
  });
});

describe('a kernel that was given less than it clears', () => {
  const CODE = { address: 0x100_0000, size: 0x1000 };
  const seen = (room: number, loaded: object = {}, describe: readonly object[] = []): Seen => ({
    firmware: {
      allocations: [allocation(CODE.address, CODE.address + room)],
      pages: { largestFree: () => ({ start: 0, size: 0 }), describe: () => describe },
    },
    loaded: {
      ...{ entry: 'efi-handover', protectedModeCode: CODE },
      ...{ bootParams: null, commandLine: null, initrd: null, ...loaded },
    },
  });

  it('is told with what of the loader lies there', () => {
    const at = (address: number, size: number) => ({ address, size });
    const [found] = hazards(
      seen(0x800, {
        ...{ bootParams: CODE.address + 0x400, commandLine: at(CODE.address + 0xf00, 0x200) },
        initrd: at(CODE.address + 0x1000, 0x5000),
      }),
    );
    expect(found).toMatchObject({ code: 'efi-handover-room', start: 0x100_0800n, end: 0x100_1000n });
    expect(found!.text).toBe(
      'the boot loader allocated 0x800 bytes for the kernel at 0x1000000, its bss reaches to 0x1001000, 0x800 bytes further, and is ' +
        'cleared: 0x800 bytes of boot_params at 0x1000800, 0x100 bytes of the command line at 0x1000f00 are lost',
    );
    expect(found!.advice).toBe('allocate init_size of the setup header, 0x9000 bytes');
  });

  it('is told with what the firmware has there, or that nothing is', () => {
    const map = [
      { type: 'Conventional', start: 0, end: CODE.address + 0x900 },
      { type: 'RuntimeServicesData', start: CODE.address + 0x900, end: CODE.address + 0xa00 },
      { type: 'AcpiNvs', start: CODE.address + 0x1000, end: CODE.address + 0x2000 },
    ];
    const [found] = hazards(seen(0x800, {}, map));
    expect(found!.text).toContain("and is cleared: RuntimeServicesData of the firmware's map lies there");
    expect(found).toMatchObject({ start: 0x100_0800n, end: 0x100_1000n });
    expect(hazards(seen(0x800))[0]!.text).toContain('nothing lies there in this boot');
  });

  it.each<[string, Seen]>([
    ['it has room enough', seen(0x1000)],
    ['it was entered otherwise', seen(0x800, { entry: 'efi' })],
    ['it has no code of its own', seen(0x800, { protectedModeCode: null })],
    ['nobody allocated it', { ...seen(0x800), firmware: {} }],
  ])('is nothing to tell where %s', (_why, boot) => {
    expect(hazards(boot)).toEqual([]);
  });
});

describe('a stub that calls address 0', () => {
  it('does so for want of random numbers', () => {
    const firmware = { calledNull: true };
    const poor = { hasTsc: false, hasRdrand: false };
    expect(hazards({ firmware, cpuid: poor })).toMatchObject([
      { code: 'efi-no-entropy', start: 0n, end: 1n },
    ]);
    expect(hazards({ firmware, cpuid: { ...poor, hasTsc: true } })).toEqual([]);
    expect(hazards({ firmware, cpuid: { ...poor, hasRdrand: true } })).toEqual([]);
    expect(hazards({ cpuid: poor })).toEqual([]);
  });
});
