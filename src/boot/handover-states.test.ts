// `handover-rules.ts` on states that are made here, without an engine: by PVH and old protocols, with registers that nobody tells.
// Long, for it is tables: a row a state.

import { describe, expect, it } from 'vitest';
import { type KernelImage, readKernelImage } from '../image/kernel-image.ts';
import type { StateRegisters } from '../image/loader-state.ts';
import { makeBootImage, noise } from '../image/test-images.ts';
import { bootParamsOffset } from '../protocol/boot-params.ts';
import type { Hazard } from '../trace/boot-trace.ts';
import { PhysicalMemory } from '../x86/physical-memory.ts';
import { type HandoverEntry, HandoverView, handoverTexts, judgeHandover } from './handover-rules.ts';

const MIB = 0x100000;
const MEMORY = 4 * MIB;
const CODE = noise(0x2000);
const LOADED_HIGH = 0x01;
const CAN_USE_HEAP = 0x80;
const PARAMS = 0x10000;
const CMDLINE = 0x20000;
const GDT = 0x8000;
const TABLES = 0x30000;
const START_INFO = 0x5000;
const HVM_MAP = 0x6000;

/** A machine at the jump, to be changed. */
interface State {
  readonly image: KernelImage;
  readonly entry: HandoverEntry;
  readonly registers: Record<string, bigint | undefined>;
  gdtr: { base: bigint; limit: number } | null;
  readonly ram: Uint8Array;
  readonly view: DataView;
  /** Of boot_params, or of setup. */
  readonly params: number;
}

function imageOf(protocol: number, fields: Parameters<typeof makeBootImage>[0]['fields'] = {}) {
  return readKernelImage('made', makeBootImage({ protocol, code: CODE, fields }));
}

const NEW_FIELDS = {
  ...{ initrd_addr_max: 0x7fff_ffff, cmdline_size: 0x7ff, relocatable_kernel: 1, kernel_alignment: 0x1000 },
  ...{ pref_address: MIB, init_size: 0x8000, xloadflags: 3 },
} as const;
const modern = await imageOf(0x020f, NEW_FIELDS);

function stateOf(image: KernelImage, entry: HandoverEntry, registers: StateRegisters, params: number): State {
  const ram = new Uint8Array(MEMORY);
  return {
    image,
    entry,
    registers: { ...registers },
    gdtr: null,
    ram,
    view: new DataView(ram.buffer),
    params,
  };
}

const at = ({ params }: State, name: Parameters<typeof bootParamsOffset>[0]): number =>
  params + bootParamsOffset(name);

/** Setup at a segment, as boot.rst has a loader leave it. */
function real16(image: KernelImage = modern, segment = 0x9000): State {
  const registers = {
    ...{ cs: BigInt(segment + 0x20), rip: 0n, ds: BigInt(segment), es: BigInt(segment), ss: BigInt(segment) },
    ...{ rsp: 0xe000n, rflags: 2n, cr0: 0x10n },
  };
  const state = stateOf(image, 'real16', registers, segment * 16);
  state.ram.set(image.setup, state.params);
  state.ram.set(image.protectedModeCode, image.kind === 'zImage' ? 0x10000 : MIB);
  const { protocol } = image.header;
  if (protocol >= 0x0200) state.ram[at(state, 'type_of_loader')] = 0xff;
  if (protocol >= 0x0201) {
    state.ram[at(state, 'loadflags')]! |= CAN_USE_HEAP;
    state.view.setUint16(at(state, 'heap_end_ptr'), 0xde00, true);
  }
  return state;
}

function e820(state: State, ...entries: readonly (readonly [number, number, number])[]): void {
  state.ram[at(state, 'e820_entries')] = entries.length;
  for (const [index, [start, end, type]] of entries.entries()) {
    const entry = at(state, 'e820_table') + index * 20;
    state.view.setBigUint64(entry, BigInt(start), true);
    state.view.setBigUint64(entry + 8, BigInt(end - start), true);
    state.view.setUint32(entry + 16, type, true);
  }
}

const FLAT_CODE = 0x00cf_9a00_0000_ffffn;
const FLAT_DATA = 0x00cf_9200_0000_ffffn;
const LONG_CODE = 0x00af_9a00_0000_ffffn;

/** boot_params, a memory map, a command line and a GDT, by one of the two protocols behind setup. */
function flat(entry: 'prot32' | 'long64', image: KernelImage = modern): State {
  const long = entry === 'long64';
  const registers = {
    ...{ rip: BigInt(long ? MIB + 0x200 : MIB), rsi: BigInt(PARAMS), rflags: 2n, cr3: BigInt(TABLES) },
    ...{ cs: 0x10n, ds: 0x18n, es: 0x18n, ss: 0x18n, rbp: 0n, rdi: 0n, rbx: 0n },
    ...(long ? { cr0: 0x8000_0001n, cr4: 0x20n, efer: 0x500n } : { cr0: 1n, cr4: 0n, efer: 0n }),
  };
  const state = stateOf(image, entry, registers, PARAMS);
  const { view, ram } = state;
  ram.set(image.setup.subarray(0x1f1, image.header.end), PARAMS + 0x1f1);
  ram.set(image.protectedModeCode, MIB);
  ram[at(state, 'type_of_loader')] = 0xff;
  ram.set(new TextEncoder().encode('quiet'), CMDLINE);
  view.setUint32(at(state, 'cmd_line_ptr'), CMDLINE, true);
  e820(state, [0, 0x9fc00, 1], [0x9fc00, 0xa0000, 2], [MIB, MEMORY, 1]);
  view.setBigUint64(GDT + 0x10, long ? LONG_CODE : FLAT_CODE, true);
  view.setBigUint64(GDT + 0x18, FLAT_DATA, true);
  state.gdtr = { base: BigInt(GDT), limit: 0x1f };
  if (long) {
    view.setBigUint64(TABLES, BigInt(TABLES + 0x1000 + 3), true);
    view.setBigUint64(TABLES + 0x1000, BigInt(TABLES + 0x2000 + 3), true);
    // Two pages of 2 MiB.
    for (const page of [0, 1])
      view.setBigUint64(TABLES + 0x2000 + page * 8, BigInt(page * 2 * MIB + 0x83), true);
  }
  return state;
}

/** hvm_start_info with a command line and a map of two entries. */
function pvh(): State {
  const vmlinux = { ...modern, kind: 'vmlinux' } as const;
  const registers = {
    ...{ rip: BigInt(MIB), rbx: BigInt(START_INFO), rflags: 2n, cr0: 1n, cr4: 0n },
    ...{ cs: 0x8n, ds: 0x10n, es: 0x10n, ss: 0x10n },
  };
  const state = stateOf(vmlinux, 'pvh', registers, START_INFO);
  const { view, ram } = state;
  view.setUint32(START_INFO, 0x336e_c578, true);
  view.setUint32(START_INFO + 4, 1, true);
  view.setBigUint64(START_INFO + 0x18, BigInt(CMDLINE), true);
  view.setBigUint64(START_INFO + 0x28, BigInt(HVM_MAP), true);
  view.setUint32(START_INFO + 0x30, 2, true);
  for (const [index, [start, end, type]] of [[0, 0x9fc00, 1] as const, [MIB, MEMORY, 1] as const].entries()) {
    view.setBigUint64(HVM_MAP + index * 24, BigInt(start), true);
    view.setBigUint64(HVM_MAP + index * 24 + 8, BigInt(end - start), true);
    view.setUint32(HVM_MAP + index * 24 + 16, type, true);
  }
  ram.set(new TextEncoder().encode('console=ttyS0'), CMDLINE);
  return state;
}

function judge({ image, entry, registers, gdtr, ram }: State): readonly Hazard[] {
  return judgeHandover(image, { entry, registers, gdtr, memory: PhysicalMemory.of(ram) });
}

/** What is told of a state, as lines of code, range and text. */
function told(state: State): readonly string[] {
  return judge(state).map(
    ({ code, start, end, text }) => `${code} ${start.toString(16)}-${end.toString(16)} ${text}`,
  );
}

function changed(state: State, change: (state: State) => void): State {
  change(state);
  return state;
}

const old = {
  none: await readKernelImage('old', makeBootImage({ protocol: 0, code: CODE })),
  v200: await imageOf(0x0200, { loadflags: 0 }),
  v201: await imageOf(0x0201, { loadflags: 0 }),
  high200: await imageOf(0x0200, { loadflags: LOADED_HIGH }),
};

describe('a state that a loader may leave', () => {
  it.each<[string, () => State]>([
    ['setup at 0x90000', () => real16()],
    ['setup elsewhere', () => real16(modern, 0x1000)],
    ['a zImage', () => real16(old.v201)],
    ['a zImage from before the heap', () => real16(old.v200)],
    ['a bzImage of protocol 2.00', () => real16(old.high200)],
    ['a kernel from before the protocol', () => real16(old.none)],
    ['the 32-bit entry', () => flat('prot32')],
    ['the 64-bit entry', () => flat('long64')],
    ['PVH', () => pvh()],
  ])('is not found fault with: %s', (_name, state) => {
    expect(told(state())).toEqual([]);
  });

  const right: readonly [string, State][] = [
    ...['cr0', 'cr3', 'cr4', 'efer'].map((name): [string, State] => [
      `${name.toUpperCase()} that nobody tells, with page tables that map nothing`,
      changed(flat('long64'), (state) => {
        state.registers[name] = undefined;
        state.ram.fill(0, TABLES, TABLES + 0x3000);
      }),
    ]),
    [
      'registers that nobody tells, in real mode',
      changed(real16(), ({ registers }) => {
        for (const name of ['ds', 'es', 'ss', 'rsp', 'rflags', 'cr0']) registers[name] = undefined;
      }),
    ],
    [
      'registers that nobody tells, at the 64-bit entry',
      changed(flat('long64'), (state) => {
        for (const name of ['cs', 'ds', 'es', 'ss', 'rbp', 'rflags', 'cr0', 'efer', 'cr3'])
          state.registers[name] = undefined;
        state.gdtr = null;
      }),
    ],
    [
      'a GDTR that nobody tells',
      changed(flat('prot32'), (state) => {
        state.gdtr = null;
      }),
    ],
    [
      'rubbish in the upper half of RSI at the 32-bit entry',
      changed(flat('prot32'), ({ registers }) => {
        registers.rsi = registers.rsi! | 0xdead_0000_0000n;
      }),
    ],
    [
      'the upper halves of RBP, RDI and RBX',
      changed(flat('prot32'), ({ registers }) => {
        for (const name of ['rbp', 'rdi', 'rbx']) registers[name] = 0xffff_0000_0000n;
      }),
    ],
    [
      'those registers at the 64-bit entry',
      changed(flat('long64'), ({ registers }) => {
        registers.rbp = 1n;
      }),
    ],
    [
      'accessed descriptors',
      changed(flat('prot32'), ({ view }) => {
        view.setBigUint64(GDT + 0x10, FLAT_CODE | (1n << 40n), true);
        view.setBigUint64(GDT + 0x18, FLAT_DATA | (1n << 40n), true);
      }),
    ],
    [
      'any limit of data at the 64-bit entry',
      changed(flat('long64'), ({ view }) => {
        view.setBigUint64(GDT + 0x18, 0x0000_9200_0000_0000n, true);
      }),
    ],
    [
      'an initrd above 4 GiB',
      changed(flat('long64'), (state) => {
        state.view.setUint32(at(state, 'ext_ramdisk_image'), 1, true);
        state.view.setUint32(at(state, 'ramdisk_size'), 0x1000, true);
      }),
    ],
    [
      'entries of the map that touch',
      changed(flat('prot32'), (state) => {
        e820(state, [0, 0x9f000, 1], [0x9f000, 0xa0000, 2], [0xf0000, MIB, 2], [MIB, MEMORY, 1]);
      }),
    ],
    [
      'entries in any order',
      changed(flat('prot32'), (state) => {
        e820(state, [MIB, MEMORY, 1], [0x9f000, MIB, 2], [0, 0x9f000, 1]);
      }),
    ],
    [
      'entries of one type that overlap',
      changed(flat('prot32'), (state) => {
        e820(state, [0, MEMORY, 1], [MIB, MEMORY, 1]);
      }),
    ],
    [
      'entries without RAM that overlap',
      changed(flat('prot32'), (state) => {
        e820(state, [0, MEMORY, 1], [0xf000_0000, 0xf100_0000, 2], [0xf000_0000, 0xf000_1000, 3]);
      }),
    ],
    [
      'empty entries',
      changed(flat('prot32'), (state) => {
        e820(state, [0x6000, 0x6000, 3], [0, MEMORY, 1], [0x5000, 0x5000, 2]);
      }),
    ],
    [
      'no command line',
      changed(flat('prot32'), (state) => {
        state.view.setUint32(at(state, 'cmd_line_ptr'), 0, true);
      }),
    ],
    [
      'a command line of as many characters as the kernel takes',
      changed(flat('long64'), ({ ram }) => {
        ram.fill(0x61, CMDLINE, CMDLINE + 0x7ff);
      }),
    ],
    [
      'a command line above 1 MiB behind setup',
      changed(flat('prot32'), (state) => {
        state.view.setUint32(at(state, 'cmd_line_ptr'), 2 * MIB, true);
      }),
    ],
    [
      'a heap to the last byte of conventional memory',
      changed(real16(modern, 0x9800), (state) => {
        state.view.setUint16(at(state, 'heap_end_ptr'), 0x7e00, true);
      }),
    ],
    [
      'a heap to the end of the segment',
      changed(real16(modern, 0x1000), (state) => {
        state.view.setUint16(at(state, 'heap_end_ptr'), 0xfe00, true);
      }),
    ],
    [
      'a heap that is nowhere, where it is not to be used',
      changed(real16(old.v200), (state) => {
        state.view.setUint16(at(state, 'heap_end_ptr'), 0, true);
      }),
    ],
    [
      'the BIOS’s boot flag gone',
      changed(flat('prot32'), (state) => {
        state.view.setUint16(at(state, 'boot_flag'), 0, true);
      }),
    ],
    [
      'boot_params that nobody points to',
      changed(flat('prot32'), ({ registers }) => {
        registers.rsi = undefined;
      }),
    ],
    [
      'a root pointer that is one',
      changed(pvh(), ({ view, ram }) => {
        view.setBigUint64(START_INFO + 0x20, 0xf5000n, true);
        ram.set(new TextEncoder().encode('RSD PTR '), 0xf5000);
        // Its checksum.
        ram[0xf5008] = -ram.subarray(0xf5000, 0xf5008).reduce((sum, byte) => sum + byte, 0) & 0xff;
      }),
    ],
    [
      'a root pointer that no dump has',
      changed(pvh(), ({ view }) => {
        view.setBigUint64(START_INFO + 0x20, 0xf5000n, true);
      }),
    ],
    [
      'no command line by PVH',
      changed(pvh(), ({ view }) => {
        view.setBigUint64(START_INFO + 0x18, 0n, true);
      }),
    ],
    [
      'any selectors by PVH, by any GDT',
      changed(pvh(), (state) => {
        state.gdtr = { base: 0n, limit: 7 };
      }),
    ],
  ];
  it.each(right)('is not found fault with, either: %s', (_name, state) => {
    expect(told(state)).toEqual([]);
  });
});

describe('a state that a kernel cannot go on from', () => {
  const end = (MIB + CODE.length).toString(16);
  const wrong: readonly [string, State, readonly string[]][] = [
    [
      'a vmlinux that is told of no loader',
      changed(flat('prot32', { ...modern, kind: 'vmlinux' }), (state) => {
        state.ram[at(state, 'type_of_loader')] = 0;
      }),
      ['handover-loader-type 10210-10211 type_of_loader is 0: the kernel then does not look for an initrd'],
    ],
    [
      'a vmlinux with half an initrd',
      changed(flat('prot32', { ...modern, kind: 'vmlinux' }), (state) => {
        state.view.setUint32(at(state, 'ramdisk_size'), 0x1000, true);
      }),
      ['handover-initrd 10218-1021c ramdisk_size is 0x1000'],
    ],
    [
      'a byte of the code',
      changed(real16(), ({ ram }) => {
        ram[MIB + 0x123] = 0x55 ^ ram[MIB + 0x123]!;
      }),
      [`handover-code 100123-${end} the protected-mode code should lie at 0x100000`],
    ],
    [
      'the last byte of a zImage',
      changed(real16(old.v201), ({ ram }) => {
        ram[0x10000 + CODE.length - 1]! ^= 1;
      }),
      [`handover-code 11fff-12000 the protected-mode code should lie at 0x10000`],
    ],
    [
      'a byte of setup behind the header',
      changed(real16(), ({ ram }) => {
        ram[0x90300]! ^= 0x40;
      }),
      ["handover-code 90300-90a00 setup's code should lie at 0x9026c"],
    ],
    [
      'no header at all',
      changed(flat('prot32'), ({ ram }) => {
        ram.fill(0, PARAMS + 0x1f1, PARAMS + 0x280);
        ram[PARAMS + 0x210] = 0xff;
        ram[PARAMS + 0x211] = 1;
      }),
      [
        'handover-header 10202-10206 boot_params at 0x10000 has no setup header: 0x0 stands where HdrS should',
      ],
    ],
    [
      'a narrow field',
      changed(flat('long64'), (state) => {
        state.ram[at(state, 'relocatable_kernel')] = 0;
      }),
      ['handover-header 10234-10235 relocatable_kernel is 0x0 where the kernel looks, the image has 0x1'],
    ],
    [
      'boot_params without RAM',
      changed(flat('prot32'), ({ registers }) => {
        registers.rsi = 0x4000_0000n;
      }),
      [
        'handover-boot-params 100000-100001 boot_params should lie at 0x40000000, where RSI points, but there is no RAM',
      ],
    ],
    [
      'setup takes 0 for no loader',
      changed(real16(), (state) => {
        state.ram[at(state, 'type_of_loader')] = 0;
      }),
      ['handover-loader-type 90210-90211 type_of_loader is 0: setup takes that for no loader at all'],
    ],
    [
      'a heap that ends in setup',
      changed(real16(), (state) => {
        state.view.setUint16(at(state, 'heap_end_ptr'), 0x800, true);
      }),
      [
        "handover-heap-end 90224-90226 heap_end_ptr 0x800 ends the heap at 0xa00 of setup's segment, where setup's own code",
      ],
    ],
    [
      'a heap behind the segment',
      changed(real16(modern, 0x1000), (state) => {
        state.view.setUint16(at(state, 'heap_end_ptr'), 0xfe01, true);
      }),
      [
        "handover-heap-end 10224-10226 heap_end_ptr 0xfe01 ends the heap at 0x10001 of setup's segment, behind the end of setup's segment",
      ],
    ],
    [
      'a heap behind conventional memory',
      changed(real16(modern, 0x9800), (state) => {
        state.view.setUint16(at(state, 'heap_end_ptr'), 0x9000, true);
      }),
      [
        "handover-heap-end 98224-98226 heap_end_ptr 0x9000 ends the heap at 0x9200 of setup's segment, at 0xa1200, behind the end of conventional memory",
      ],
    ],
    [
      'a command line that setup cannot reach',
      changed(real16(), (state) => {
        state.view.setUint32(at(state, 'cmd_line_ptr'), 0xa0000, true);
      }),
      ['handover-command-line 90228-9022c cmd_line_ptr is 0xa0000, setup looks below 0xa0000'],
    ],
    [
      'a command line that does not end',
      changed(flat('long64'), ({ ram }) => {
        ram.fill(0x61, CMDLINE, CMDLINE + 0x800);
      }),
      ['handover-command-line 10228-1022c the command line at 0x20000 has no NUL within the 2047 characters'],
    ],
    [
      'a command line without RAM',
      changed(flat('prot32'), (state) => {
        state.view.setUint32(at(state, 'cmd_line_ptr'), 0x5000_0000, true);
      }),
      ['handover-command-line 10228-1022c cmd_line_ptr 0x50000000 points to where there is no RAM'],
    ],
    [
      'an initrd without an address',
      changed(flat('prot32'), (state) => {
        state.view.setUint32(at(state, 'ramdisk_size'), 0x1234, true);
      }),
      ['handover-initrd 10218-1021c ramdisk_size is 0x1234, but ramdisk_image is 0'],
    ],
    [
      'an initrd without a size',
      changed(real16(), (state) => {
        state.view.setUint32(at(state, 'ramdisk_image'), 0x200000, true);
      }),
      ['handover-initrd 9021c-90220 ramdisk_image is 0x200000, but ramdisk_size is 0'],
    ],
    [
      'more entries than there is room for',
      changed(flat('prot32'), (state) => {
        state.ram[at(state, 'e820_entries')] = 129;
      }),
      ['handover-memory-map 102d0-102e4 e820_entries is 129, the table has room for 128'],
    ],
    [
      'RAM that is reserved, by one byte',
      changed(flat('prot32'), (state) => {
        e820(state, [0, 0x9f001, 1], [0x9f000, 0xa0000, 2], [MIB, MEMORY, 1]);
      }),
      [
        "handover-memory-map 102e4-102f8 the memory map's entries 0x0..0x9f001 of type 1 and 0x9f000..0xa0000 of type 2 overlap",
      ],
    ],
    [
      'what is reserved within RAM that comes later',
      changed(flat('prot32'), (state) => {
        e820(state, [0x9f000, 0xa0000, 2], [0, MEMORY, 1]);
      }),
      [
        "handover-memory-map 102e4-102f8 the memory map's entries 0x9f000..0xa0000 of type 2 and 0x0..0x400000 of type 1 overlap",
      ],
    ],
    [
      'no RAM in the map',
      changed(flat('long64'), (state) => {
        e820(state, [0, 0, 1], [0x9f000, 0xa0000, 2]);
      }),
      ['handover-memory-map 102d0-102e4 none of the 2 entries of the memory map is RAM'],
    ],
    [
      'protection in real mode',
      changed(real16(), ({ registers }) => {
        registers.cr0 = 0x11n;
      }),
      ['handover-registers 90200-90201 CR0 is 0x11: protection (bit 0) is the wrong way round'],
    ],
    [
      'paging at the 32-bit entry',
      changed(flat('prot32'), ({ registers }) => {
        registers.cr0 = 0x8000_0001n;
      }),
      ['handover-registers 100000-100001 CR0 is 0x80000001: paging (bit 31) is on'],
    ],
    [
      'no long mode at the 64-bit entry',
      changed(flat('long64'), ({ registers }) => {
        registers.efer = 0x100n;
        registers.cr4 = undefined;
      }),
      ['handover-registers 100200-100201 EFER is 0x100: long mode (bit 10) is not active'],
    ],
    [
      'no paging at the 64-bit entry',
      changed(flat('long64'), ({ registers }) => {
        registers.cr0 = 1n;
      }),
      ['handover-registers 100200-100201 CR0 is 0x1: paging (bit 31) is off'],
    ],
    [
      'another segment',
      changed(real16(), ({ registers }) => {
        registers.es = 0x9020n;
      }),
      ["handover-segments 90200-90201 ES is 0x9020, and setup's segment is 0x9000"],
    ],
    [
      'an IP that is not 0',
      changed(real16(), ({ registers }) => {
        registers.cs = 0x9010n;
        registers.rip = 0x100n;
      }),
      ['handover-segments 90200-90201 IP is 0x100'],
    ],
    [
      'a data descriptor that cannot be written, told once',
      changed(flat('prot32'), ({ view }) => {
        view.setBigUint64(GDT + 0x18, 0x00cf_9000_0000_ffffn, true);
      }),
      [
        'handover-segments 8018-8020 DS is 0x18, and its descriptor 0xcf90000000ffff is not present, or not writable',
      ],
    ],
    [
      'a data descriptor that is code',
      changed(flat('long64'), ({ view }) => {
        view.setBigUint64(GDT + 0x18, FLAT_CODE, true);
      }),
      ['handover-segments 8018-8020 DS is 0x18, and its descriptor 0xcf9a000000ffff is code'],
    ],
    [
      'a code descriptor that is not there',
      changed(flat('prot32'), ({ view }) => {
        view.setBigUint64(GDT + 0x10, 0x00cf_1a00_0000_ffffn, true);
      }),
      [
        'handover-segments 8010-8018 CS is 0x10, and its descriptor 0xcf1a000000ffff is not present, or not readable',
      ],
    ],
    [
      'a segment with a base',
      changed(flat('prot32'), ({ view }) => {
        view.setBigUint64(GDT + 0x18, 0x12cf_9234_5678_ffffn, true);
      }),
      [
        'handover-segments 8018-8020 DS is 0x18, and its descriptor 0x12cf92345678ffff begins at 0x12345678 and not at 0',
      ],
    ],
    [
      'a segment of 1 MiB',
      changed(flat('prot32'), ({ view }) => {
        view.setBigUint64(GDT + 0x18, 0x004f_9200_0000_ffffn, true);
      }),
      [
        'handover-segments 8018-8020 DS is 0x18, and its descriptor 0x4f92000000ffff does not reach over 4 GiB',
      ],
    ],
    [
      'a segment that ends early',
      changed(flat('prot32'), ({ view }) => {
        view.setBigUint64(GDT + 0x10, 0x00ce_9a00_0000_ffffn, true);
      }),
      [
        'handover-segments 8010-8018 CS is 0x10, and its descriptor 0xce9a000000ffff does not reach over 4 GiB',
      ],
    ],
    [
      '16-bit code',
      changed(flat('prot32'), ({ view }) => {
        view.setBigUint64(GDT + 0x10, 0x008f_9a00_0000_ffffn, true);
      }),
      ['handover-segments 8010-8018 CS is 0x10, and its descriptor 0x8f9a000000ffff is of 16 bits'],
    ],
    [
      '32-bit code at the 64-bit entry',
      changed(flat('long64'), ({ view }) => {
        view.setBigUint64(GDT + 0x10, FLAT_CODE, true);
      }),
      ['handover-segments 8010-8018 CS is 0x10, and its descriptor 0xcf9a000000ffff is not of 64-bit code'],
    ],
    [
      'a GDT outside RAM, told once a descriptor',
      changed(flat('long64'), (state) => {
        state.gdtr = { base: 0x4000_0000n, limit: 0x1f };
      }),
      [
        'handover-segments 40000010-40000018 CS is 0x10, and the GDT is not in RAM (0x40000000)',
        'handover-segments 40000018-40000020 DS is 0x18, and the GDT is not in RAM (0x40000000)',
      ],
    ],
    [
      'boot_params that are not mapped',
      changed(flat('long64'), ({ view }) => {
        view.setBigUint64(TABLES + 0x2000, 0n, true);
      }),
      [
        'handover-page-tables 100000-102000 the page tables at 0x30000 do not map the kernel as loaded, 0x100000..0x102000',
        'handover-page-tables 100000-108000 the page tables at 0x30000 do not map what the kernel runs in (init_size)',
        'handover-page-tables 10000-11000 the page tables at 0x30000 do not map boot_params, 0x10000..0x11000',
        'handover-page-tables 20000-20006 the page tables at 0x30000 do not map the command line, 0x20000..0x20006',
      ],
    ],
    [
      'no hvm_start_info',
      changed(pvh(), ({ view }) => {
        view.setUint32(START_INFO, 0x1234, true);
      }),
      [
        "handover-start-info 5000-5038 EBX is 0x5000, where 0x1234 stands and not hvm_start_info's magic 0x336ec578",
      ],
    ],
    [
      'hvm_start_info without RAM',
      changed(pvh(), ({ registers }) => {
        registers.rbx = 0x4000_0000n;
      }),
      ['handover-start-info 40000000-40000038 EBX is 0x40000000, where no RAM stands'],
    ],
    [
      'no memory map by PVH',
      changed(pvh(), ({ view }) => {
        view.setUint32(START_INFO + 0x30, 0, true);
      }),
      [
        'handover-memory-map 100000-100001 the memory map has no entries',
        'handover-start-info 5000-5038 hvm_start_info has no memory map',
      ],
    ],
    [
      'a memory map that contradicts itself by PVH',
      changed(pvh(), ({ view }) => {
        view.setUint32(HVM_MAP + 16, 2, true);
        view.setBigUint64(HVM_MAP + 8, BigInt(2 * MIB), true);
      }),
      [
        "handover-memory-map 100000-100001 the memory map's entries 0x0..0x200000 of type 2 and 0x100000..0x400000 of type 1 overlap",
      ],
    ],
    [
      'a root pointer that is none',
      changed(pvh(), ({ view, ram }) => {
        view.setBigUint64(START_INFO + 0x20, 0xf5000n, true);
        ram[0xf5003] = 1;
      }),
      ['handover-start-info 5000-5038 rsdp_paddr is 0xf5000, where no ACPI root pointer stands'],
    ],
    [
      'a root pointer without RAM',
      changed(pvh(), ({ view }) => {
        view.setBigUint64(START_INFO + 0x20, 0x7fff_0000n, true);
      }),
      ['handover-start-info 5000-5038 rsdp_paddr is 0x7fff0000, where no ACPI root pointer stands'],
    ],
    [
      'a command line that does not end by PVH',
      changed(pvh(), ({ ram }) => {
        ram.fill(0x61, CMDLINE, CMDLINE + 0x900);
      }),
      ['handover-command-line 20000-20801 the command line at 0x20000 has no NUL within the 2047 characters'],
    ],
    [
      'bits in CR4 by PVH',
      changed(pvh(), ({ registers }) => {
        registers.cr4 = 0x20n;
      }),
      ['handover-registers 100000-100001 CR4 is 0x20'],
    ],
  ];
  it.each(wrong)('is told of with its place: %s', (_name, state, lines) => {
    const found = told(state);
    expect(found.map((line, index) => line.slice(0, lines[index]?.length ?? 0))).toEqual(lines);
  });

  it('is told of for a register at a time', () => {
    const state = changed(flat('prot32'), ({ registers }) => {
      Object.assign(registers, { rbp: 1n, rdi: 2n, rbx: 3n });
    });
    expect(judge(state).map(({ text }) => text)).toEqual(['EBP is 0x1', 'EDI is 0x2', 'EBX is 0x3']);
  });
});

describe('what a state says', () => {
  const viewOf = ({ image, ...state }: State): HandoverView =>
    new HandoverView(image, { ...state, memory: PhysicalMemory.of(state.ram) });

  it('of where things lie in real mode', () => {
    const state = real16(modern, 0x9000);
    state.view.setUint32(at(state, 'cmd_line_ptr'), 0x98000, true);
    state.ram.set(new TextEncoder().encode('quiet'), 0x98000);
    const seen = viewOf(state);
    expect(seen).toMatchObject({
      start: 0x90200,
      bootParams: 0x90000,
      code: MIB,
      memoryMap: null,
      initrd: null,
    });
    expect(seen.commandLine).toMatchObject({ address: 0x98000, ends: true });
    state.view.setUint32(at(state, 'ramdisk_image'), 0x200000, true);
    state.view.setUint32(at(state, 'ramdisk_size'), 0x1000, true);
    expect(viewOf(state).initrd).toEqual({ address: 0x200000, size: 0x1000 });
    expect(viewOf(real16(old.v201)).code).toBe(0x10000);
  });

  it('of where things lie behind setup', () => {
    const state = flat('long64');
    expect(viewOf(state)).toMatchObject({ start: MIB + 0x200, bootParams: PARAMS, code: MIB });
    expect(viewOf(flat('prot32'))).toMatchObject({ start: MIB, code: MIB });
    expect(viewOf(state).memoryMap).toHaveLength(3);
    expect(viewOf(state).has('rsi')).toBe(true);
    expect(viewOf(state).has('fs')).toBe(false);
  });

  it('of where things lie by PVH', () => {
    const state = pvh();
    const modules = 0x7000;
    state.view.setUint32(START_INFO + 0xc, 1, true);
    state.view.setBigUint64(START_INFO + 0x10, BigInt(modules), true);
    state.view.setBigUint64(modules, 0x200000n, true);
    state.view.setBigUint64(modules + 8, 0x3000n, true);
    const seen = viewOf(state);
    expect(seen).toMatchObject({ start: MIB, bootParams: null, params: null, code: null });
    expect(seen.initrd).toEqual({ address: 0x200000, size: 0x3000 });
    expect(seen.memoryMap).toHaveLength(2);
    expect(new TextDecoder().decode(seen.commandLine!.text)).toBe('console=ttyS0');
    state.view.setUint32(START_INFO, 0, true);
    expect(viewOf(state)).toMatchObject({ initrd: null, memoryMap: null, commandLine: null });
  });
});

describe('what a loader is told to do', () => {
  const lines = (image: KernelImage, entry: HandoverEntry): readonly string[] =>
    handoverTexts(image, entry, 'fields').map((text) => text.split(':')[0]!);

  it('is what the protocol of the image knows', () => {
    expect(lines(old.none, 'real16')).not.toContain('the setup header');
    expect(lines(old.v200, 'real16')).toContain('the setup header');
    expect(lines(old.v200, 'real16')).not.toContain('heap_end_ptr');
    expect(lines(old.v200, 'real16')).not.toContain('loadflags');
    expect(lines(old.v201, 'real16')).toContain('heap_end_ptr');
    expect(handoverTexts(old.v201, 'real16', 'fields')).toContain('loadflags: with CAN_USE_HEAP');
    expect(handoverTexts(modern, 'real16', 'fields')).toContain(
      'loadflags: with LOADED_HIGH and CAN_USE_HEAP',
    );
    expect(handoverTexts(modern, 'prot32', 'fields')).toContain('loadflags: with LOADED_HIGH');
  });

  it('names the fields of the entry', () => {
    expect(lines(modern, 'pvh')).toEqual(['cmdline_paddr', 'memmap_paddr']);
    expect(lines(modern, 'long64')).toEqual([
      ...['boot_params', 'the setup header', 'type_of_loader', 'loadflags', 'cmd_line_ptr'],
      ...['ramdisk_image and ramdisk_size', 'e820_table'],
    ]);
    expect(handoverTexts(modern, 'long64', 'fields')).toContain(
      'cmd_line_ptr: 0, or where at most 2047 characters and a NUL lie',
    );
  });

  it('says what state the CPU is to be in', () => {
    expect(handoverTexts(modern, 'pvh', 'cpu')).toEqual([
      'EBX = hvm_start_info',
      '32-bit protected mode, paging off, interrupts off, CR4 = 0',
      'CS read/execute, DS, ES and SS read/write, flat; TR a 32-bit TSS',
    ]);
    expect(handoverTexts(modern, 'prot32', 'cpu')[0]).toBe(
      '32-bit protected mode, paging off, interrupts off, ESI = boot_params',
    );
    expect(handoverTexts(modern, 'real16', 'cpu')[0]).toMatch(/^real mode/);
    expect(handoverTexts(modern, 'long64', 'cpu')).toHaveLength(3);
  });
});
