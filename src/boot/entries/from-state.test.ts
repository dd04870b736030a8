// A state as another loader's dump tells it: by which entry it goes on, what of memory it is, and the CPU as it was.

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type KernelImage, readKernelImage } from '../../image/kernel-image.ts';
import type { LoaderState, StatePiece, StateRegisters } from '../../image/loader-state.ts';
import { makeBootImage, makeElfNotes, makeSegmentedElf, noise } from '../../image/test-images.ts';
import { BootParams } from '../../protocol/boot-params.ts';
import { DEFAULT_BOOT_OPTIONS } from '../options.ts';
import { openBoot } from '../session.ts';
import { entryOfState, optionsOfState } from './from-state.ts';

const MIB = 0x100000;
const GIB = 2 ** 30;
const PARAMS = 0x10000;
const CMDLINE = 0x20000;

function piece(address: number, bytes: Uint8Array): StatePiece {
  const read = (offset: number, length: number): Uint8Array => {
    if (offset < 0 || offset >= bytes.length)
      throw new Error(`${offset} is not in a piece of ${bytes.length}`);
    return bytes.subarray(offset, offset + length);
  };
  return { address, size: bytes.length, read };
}

function stateOf(
  registers: StateRegisters,
  pieces: readonly StatePiece[] = [],
  complete = false,
): LoaderState {
  return { path: 'dump', image: null, registers, gdtr: null, pieces, complete };
}

const image = await readKernelImage('made', makeBootImage({ protocol: 0x020f, code: noise(0x1000) }));
const vmlinux: KernelImage = {
  ...image,
  kind: 'vmlinux',
  bytes: makeSegmentedElf({
    segments: [
      { paddr: MIB, bytes: noise(0x100) },
      // XEN_ELFNOTE_PHYS32_ENTRY
      { type: 4, bytes: makeElfNotes(['Xen', 18, Uint8Array.of(0x40, 0x00, 0x10, 0, 0, 0, 0, 0)]) },
    ],
  }),
};

describe('the entry of a state', () => {
  it.each<[string, StateRegisters]>([
    ['real16', { rip: 0n, cr0: 0x10n }],
    ['real16', { rip: 0n, cr0: 0x10n, efer: 0n }],
    ['prot32', { rip: 0x100000n, cr0: 1n }],
    ['prot32', { rip: 0x100000n, cr0: 1n, efer: 0x100n }],
    ['long64', { rip: 0x100200n, cr0: 0x80000001n, efer: 0x500n }],
    ['long64', { rip: 0x100200n, efer: 0x400n }],
  ])('is %s by the registers %o', (entry, registers) => {
    expect(entryOfState(stateOf(registers), image, null)).toBe(entry);
  });

  it('is PVH where a vmlinux has its note there', () => {
    expect(entryOfState(stateOf({ rip: 0x100040n, cr0: 1n }), vmlinux, null)).toBe('pvh');
    expect(entryOfState(stateOf({ rip: 0x100000n, cr0: 1n }), vmlinux, null)).toBe('prot32');
    expect(entryOfState(stateOf({ rip: 0x100040n, cr0: 1n }), image, null)).toBe('prot32');
  });

  it('is the one that is asked for, of those that there are', () => {
    expect(entryOfState(stateOf({}), image, 'pvh')).toBe('pvh');
    expect(() => entryOfState(stateOf({}), image, 'efi')).toThrow(
      'a state is gone on from by real16, prot32, long64, pvh, not efi',
    );
  });

  it('is not guessed', () => {
    expect(() => entryOfState(stateOf({ cr0: 1n }), image, null)).toThrow('dump does not tell RIP');
    expect(() => entryOfState(stateOf({ rip: 0n }), image, null)).toThrow(
      'dump tells neither CR0 nor a long mode in EFER: name the entry',
    );
  });
});

describe('the machine of a state', () => {
  const RAM = [
    { address: 0n, size: 0x9fc00n, type: 1 },
    { address: BigInt(MIB), size: BigInt(31 * MIB), type: 1 },
  ];

  function params(map = RAM, cmdline = CMDLINE): Uint8Array {
    const bytes = new Uint8Array(0x1000);
    const page = new BootParams(bytes);
    page.memoryMap = map;
    page.commandLine = cmdline;
    return bytes;
  }
  const text = (line: string): Uint8Array => new TextEncoder().encode(`${line}\0rest`);
  const flat: StateRegisters = { rip: BigInt(MIB), rsi: BigInt(PARAMS), cr0: 1n };
  const options = (state: LoaderState, given = {}, entry: 'prot32' | 'real16' | 'pvh' = 'prot32') =>
    optionsOfState(state, image, { ...DEFAULT_BOOT_OPTIONS, memory: 16 * MIB, ...given }, entry);

  it('has the command line and the map of boot_params, and the RAM of the map', () => {
    const state = stateOf(flat, [piece(PARAMS, params()), piece(CMDLINE, text('quiet'))]);
    expect(options(state)).toMatchObject({
      entry: 'prot32',
      cmdline: 'quiet',
      memory: 32 * MIB,
      memoryMap: RAM,
    });
  });

  it('is read from pieces that lie next to each other, and not behind a gap', () => {
    const bytes = params();
    const pieces = (gap: number) => [
      piece(0x8000, new Uint8Array(0x100)),
      piece(PARAMS - 0x80, new Uint8Array([...new Uint8Array(0x80), ...bytes.subarray(0, 0x300)])),
      piece(PARAMS + 0x300 + gap, bytes.subarray(0x300 + gap)),
      piece(CMDLINE, text('quiet')),
    ];
    expect(options(stateOf(flat, pieces(0))).cmdline).toBe('quiet');
    expect(options(stateOf(flat, pieces(8)))).toMatchObject({
      cmdline: '',
      memoryMap: null,
      memory: 16 * MIB,
    });
  });

  it('has no command line where there is none, or where it does not end', () => {
    expect(options(stateOf(flat, [piece(PARAMS, params(RAM, 0)), piece(0, text('quiet'))])).cmdline).toBe('');
    const open = new Uint8Array(0x100).fill(0x61);
    expect(options(stateOf(flat, [piece(PARAMS, params()), piece(CMDLINE, open)])).cmdline).toBe('');
  });

  it('has none of the entries that cannot be, and the map that the options give instead', () => {
    const wrong = [
      { address: BigInt(MIB), size: 0xffff_ffff_ffff_ff00n, type: 1 },
      { address: 0x5000n, size: 0n, type: 1 },
      { address: 2n ** 52n - 0x1000n, size: 0x1000n, type: 2 },
    ];
    expect(options(stateOf(flat, [piece(PARAMS, params([...RAM, ...wrong]))])).memoryMap).toEqual([
      ...RAM,
      wrong[2],
    ]);
    expect(options(stateOf(flat, [piece(PARAMS, params(wrong.slice(0, 2)))])).memoryMap).toBeNull();
    const memoryMap = [{ address: 0n, size: 0x1000n, type: 1 }];
    expect(options(stateOf(flat, [piece(PARAMS, params())]), { memoryMap }).memoryMap).toBe(memoryMap);
  });

  it('has as much RAM as was dumped, where that is all of it, and else at least', () => {
    const at = (address: number, size: number): StatePiece => ({
      address,
      size,
      read: () => new Uint8Array(0),
    });
    const memory = (pieces: readonly StatePiece[], complete: boolean): number =>
      options(stateOf({ rip: 0n, rsi: 0n }, pieces, complete)).memory;
    expect(memory([at(0, 0xa0000), at(MIB, 7 * MIB)], true)).toBe(8 * MIB);
    expect(memory([at(0, 8 * MIB + 1)], true)).toBe(8 * MIB + 0x1000);
    // A device's memory further up is none.
    expect(memory([at(0, 8 * MIB), at(0xfd00_0000, 16 * MIB)], true)).toBe(8 * MIB);
    expect(memory([at(0, 3 * GIB), at(4 * GIB, 2 * GIB)], true)).toBe(5 * GIB);
    expect(memory([at(0, 8 * MIB)], false)).toBe(16 * MIB);
    expect(memory([at(0, 24 * MIB)], false)).toBe(24 * MIB);
  });

  it('is told by hvm_start_info by PVH', () => {
    const info = new Uint8Array(0x1000);
    const view = new DataView(info.buffer);
    view.setUint32(0, 0x336e_c578, true);
    view.setUint32(4, 1, true);
    view.setBigUint64(0x18, BigInt(CMDLINE), true);
    view.setBigUint64(0x28, 0x5100n, true);
    view.setUint32(0x30, 1, true);
    view.setBigUint64(0x100 + 8, BigInt(24 * MIB), true);
    view.setUint32(0x100 + 16, 1, true);
    const low = new Uint8Array(MIB);
    low.set(info, 0x5000);
    low.set(text('console=hvc0'), CMDLINE);
    const state = stateOf({ rip: BigInt(MIB), rbx: 0x5000n }, [piece(0, low)]);
    const seen = optionsOfState(state, vmlinux, { ...DEFAULT_BOOT_OPTIONS, memory: 16 * MIB }, 'pvh');
    expect(seen).toMatchObject({
      ...{ entry: 'pvh', cmdline: 'console=hvc0', memory: 24 * MIB },
      memoryMap: [{ address: 0n, size: BigInt(24 * MIB), type: 1 }],
    });
    low.fill(0, 0x5018, 0x5020);
    expect(optionsOfState(state, vmlinux, DEFAULT_BOOT_OPTIONS, 'pvh').cmdline).toBe('');
  });
});

describe('a session from a state', () => {
  const path = new URL('../../../images/demo/demo-gzip.bzImage', import.meta.url).pathname;
  const demo = readKernelImage(path, readFileSync(path));
  const low = (): Uint8Array => new Uint8Array(MIB).fill(0x5a, 0x600, 0x9fc00).fill(0xa5, 0, 0x500);

  it('stands in real mode with its registers, its memory, and the BIOS of the machine', async () => {
    const kernel = await demo;
    const ram = low();
    ram.set(kernel.setup, 0x90000);
    // A vector that the loader's BIOS had, and its ROM.
    ram.fill(0xee, 0xf0000);
    const registers: StateRegisters = {
      ...{
        rip: 0n,
        cs: 0x9020n,
        ds: 0x9000n,
        es: 0x1234n,
        fs: 0x2345n,
        gs: 0x3456n,
        ss: 0x9000n,
        rsp: 0xdff0n,
      },
      ...{ rax: 0x1111n, rbp: 0x2222n, rflags: 0x46n, cr0: 0x10n },
    };
    using session = await openBoot(kernel, {
      state: stateOf(registers, [
        piece(0, ram),
        piece(MIB, kernel.protectedModeCode),
        piece(0xfd00_0000, Uint8Array.of(1, 2, 3)),
      ]),
      memory: 32 * MIB,
    });
    expect(session.registers).toMatchObject({ ...registers, cr0: expect.anything() });
    expect(session.stop).toMatchObject({ phase: 'setup', address: 0x90200n, mode: 'real16' });
    expect(session.memory.u8(0x600)).toBe(0x5a);
    expect(session.memory.read(0x90000, 0x400)).toEqual(Uint8Array.from(kernel.setup.subarray(0, 0x400)));
    // What a vector points to, and the ROM, are our machine's.
    expect(session.memory.u8(0)).not.toBe(0xa5);
    expect(session.memory.u8(0xf1234)).not.toBe(0xee);
    const stack = session.layout().filter(({ kind }) => kind === 'stack' || kind === 'heap');
    expect(Math.max(...stack.map(({ end }) => Number(end)))).toBeGreaterThanOrEqual(0x9dff0);
  });

  it('stands in the other modes with what is told of its registers', async () => {
    const kernel = await demo;
    for (const entry of ['prot32', 'long64'] as const) {
      using own = await openBoot(kernel, { entry, memory: 32 * MIB });
      const { registers: are } = own;
      const { base, limit } = own.machine.cpu.readDescriptorTable('gdtr');
      const registers: StateRegisters = {
        ...{
          rip: are.rip,
          rsi: are.rsi,
          rsp: 0x7ff0n,
          rbp: 0x77n,
          rflags: 2n,
          cs: 0x10n,
          ds: 0x18n,
          ss: 0x18n,
        },
        ...(entry === 'long64'
          ? { cr3: are.cr3, efer: are.efer, cr0: are.cr0, cr4: are.cr4 }
          : { cr0: are.cr0 }),
      };
      const memory = [piece(0, own.memory.read(0, MIB)), piece(MIB, own.memory.read(MIB, 0x10000))];
      const state = { ...stateOf(registers, memory), gdtr: { base, limit } };
      using session = await openBoot(kernel, { state, memory: 32 * MIB });
      expect(session.registers).toMatchObject({ ...registers, cr0: are.cr0, rip: are.rip });
      expect(session.machine.cpu.readDescriptorTable('gdtr')).toEqual({ base, limit });
      expect(session.stop.mode).toBe(entry);
      // Where the descriptors lay that brought the CPU there, the state's own bytes are again.
      expect(session.memory.read(0x500, 0x40)).toEqual(own.memory.read(0x500, 0x40));
      await session.run();
      expect(session.trace().kernel).not.toBeNull();
    }
  });

  it('is refused without RAM at the first instruction, or without what the entry goes by', async () => {
    const kernel = await demo;
    const open = (registers: StateRegisters) =>
      openBoot(kernel, { state: stateOf(registers), memory: 32 * MIB });
    await expect(open({ rip: 0x4000_0000n, rsi: 0n, cr0: 1n })).rejects.toThrow(
      'dump: the first instruction at 0x40000000 does not lie in RAM',
    );
    await expect(open({ rip: 0n, cr0: 0n, cs: 0n })).rejects.toThrow(
      'dump does not tell ss, rsp, which real16 goes by',
    );
    await expect(open({ rip: 0n, efer: 0x500n })).rejects.toThrow(
      'dump does not tell rsi, cr3, which long64 goes by',
    );
  });
});
