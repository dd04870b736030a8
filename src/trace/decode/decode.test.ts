import { describe, expect, it } from 'vitest';
import { BOOT_PARAMS_SIZE, BootParams } from '../../protocol/boot-params.ts';
import { PhysicalMemory } from '../../x86/physical-memory.ts';
import { decodeAcpi, findRsdp } from './acpi.ts';
import { bootParamsAtJump } from './boot-params.ts';
import { type DecodeContext, decodeStructure, type STRUCTURE_NAMES } from './decode.ts';
import { formatDecoded } from './decoded.ts';
import { describeSegment } from './descriptors.ts';

const SIZE = 0x11_0000;
const ADDRESS = 0x90000;

function machine() {
  const bytes = new Uint8Array(SIZE);
  const view = new DataView(bytes.buffer);
  const context: DecodeContext = {
    memory: { read: (address, length) => bytes.slice(address, address + length) },
    address: null,
    efiMap: () => null,
    bootParams: () => ADDRESS,
    gdtr: { base: 0x8000, limit: 0x27 },
    idtr: { base: 0x9000, limit: 0x1f },
    longMode: false,
    pageTables: () => null,
  };
  return { bytes, view, context };
}

const texts = (name: (typeof STRUCTURE_NAMES)[number], context: DecodeContext): string[] =>
  decodeStructure(name, context).map((field) => `${field.name} ${field.text}`);

describe('decodeStructure', () => {
  it('reads every number of boot_params and of the setup header by its name, and the E820 map', () => {
    const { bytes, context } = machine();
    const parameters = new BootParams(bytes, ADDRESS);
    parameters.set('alt_mem_k', 0x1234);
    parameters.set('code32_start', 0x100000);
    parameters.memoryMap = [{ address: 0n, size: 0x9fc00n, type: 1 }];
    const fields = decodeStructure('boot_params', context);
    const value = (name: string) => fields.find((field) => field.name === name)?.value;
    expect(value('hdr.code32_start')).toBe('0x100000');
    expect(value('alt_mem_k')).toBe(0x1234);
    expect(value('e820_entries')).toBe(1);
    expect(fields.at(-1)).toMatchObject({ name: 'e820_table[0]', address: ADDRESS + 0x2d0 });
    expect(fields.every(({ address, size }) => address + size <= ADDRESS + BOOT_PARAMS_SIZE)).toBe(true);
  });

  it('names the types of E820 entries as the kernel does', () => {
    const { bytes, context } = machine();
    new BootParams(bytes, ADDRESS).memoryMap = [
      { address: 0n, size: 0x9fc00n, type: 1 },
      { address: 0xf0000n, size: 0x10000n, type: 2 },
      { address: 0x100000n, size: 1n, type: 42 },
    ];
    expect(texts('e820', context)).toEqual([
      'e820_table[0] 0x0..0x9fc00 usable',
      'e820_table[1] 0xf0000..0x100000 reserved',
      'e820_table[2] 0x100000..0x100001 type 42',
    ]);
  });

  it('tells the segments of a GDT, a 16-byte TSS of long mode as one', () => {
    const { view, context } = machine();
    view.setBigUint64(0x8008, 0x00af_9b00_0000_ffffn, true);
    view.setBigUint64(0x8010, 0x00cf_9300_0000_ffffn, true);
    view.setBigUint64(0x8018, 0x1280_8934_5678_0067n, true);
    view.setUint32(0x8020, 0xffff_8000, true);
    const long = decodeStructure('gdt', { ...context, longMode: true });
    expect(long.map(({ text }) => text.replace(/^\S+ +/, ''))).toEqual([
      'null',
      'code64 rx, base 0x0, limit 0xffffffff, DPL 0',
      'data32 rw, base 0x0, limit 0xffffffff, DPL 0',
      'TSS (available), base 0xffff800012345678, limit 0x67000fff, DPL 0'.replace('0x67000fff', '0x67fff'),
    ]);
    expect(long.map(({ size }) => size)).toEqual([8, 8, 8, 16]);
    expect(decodeStructure('gdt', context)).toHaveLength(5);
  });

  it('takes LDTs and call gates of long mode for 16 bytes, too, and all others for 8', () => {
    const { view, context } = machine();
    const types = { 1: 8, 2: 16, 5: 8, 9: 16, 11: 16, 12: 16, 14: 8 };
    for (const [type, size] of Object.entries(types)) {
      view.setBigUint64(0x8008, (0x80n << 40n) | (BigInt(type) << 40n), true);
      view.setUint32(0x8010, 0x1, true);
      const [, found] = decodeStructure('gdt', { ...context, longMode: true });
      expect([type, found!.size]).toEqual([type, size]);
      expect(found!.text.includes('base 0x100000000')).toBe(size === 16);
      expect(decodeStructure('gdt', context)[1]!.size).toBe(8);
    }
    // One that the table's limit cuts off.
    view.setBigUint64(0x8020, 0x8900_0000_0067n, true);
    const cut = decodeStructure('gdt', { ...context, longMode: true, gdtr: { base: 0x8018, limit: 0xf } });
    expect(cut.map(({ size }) => size)).toEqual([8, 8]);
  });

  it('reads tables where they are said to be', () => {
    const { view, context } = machine();
    view.setBigUint64(0xa008, 0x00cf_9300_0000_ffffn, true);
    view.setBigUint64(0xb000, 0x1234_8e00_0010_5678n, true);
    const gdt = decodeStructure('gdt', { ...context, address: 0xa000 });
    expect(gdt[1]).toMatchObject({ address: 0xa008, value: '0xcf93000000ffff' });
    expect(texts('idt', { ...context, address: 0xb000 })[0]).toContain('0x10:0x12345678');
  });

  it('tells the gates of an IDT in both widths', () => {
    const { view, context } = machine();
    view.setBigUint64(0x9000, 0x1234_8e00_0010_5678n, true);
    expect(texts('idt', context)[0]).toBe('[0x0] 0x10:0x12345678, interrupt gate, DPL 0');
    view.setUint32(0x9008, 0xffff_ffff, true);
    const long = texts('idt', { ...context, longMode: true });
    expect(long).toEqual(['[0x0] 0x10:0xffffffff12345678, interrupt gate, DPL 0', '[0x1] empty']);
  });

  it('follows the list of setup_data and does not run in circles', () => {
    const { bytes, view, context } = machine();
    new BootParams(bytes, ADDRESS).set('setup_data', 0xa000);
    view.setBigUint64(0xa000, 0xb000n, true);
    view.setUint32(0xa008, 9, true);
    view.setUint32(0xa00c, 2, true);
    bytes.set([0xab, 0xcd], 0xa010);
    expect(texts('setup_data', context)).toEqual(
      ['setup_data[0] SETUP_RNG_SEED, 2 bytes: ab cd', 'setup_data[1] SETUP_NONE, 0 bytes:'].map((text) =>
        text.replace(/:$/, ': '),
      ),
    );
    view.setBigUint64(0xb000, 0xa000n, true);
    expect(() => decodeStructure('setup_data', context)).toThrow('goes in a circle');
  });

  it('reads the memory map of EFI that boot_params names, and says when it names none', () => {
    const { bytes, view, context } = machine();
    expect(() => decodeStructure('efi-memory-map', context)).toThrow('names no memory map of EFI');
    const parameters = new BootParams(bytes, ADDRESS);
    parameters.set('efi_memmap', 0xc000);
    parameters.set('efi_memmap_size', 96);
    parameters.set('efi_memdesc_size', 48);
    view.setUint32(0xc030, 7, true);
    view.setBigUint64(0xc038, 0x100000n, true);
    view.setBigUint64(0xc048, 16n, true);
    view.setBigUint64(0xc050, 0xfn, true);
    expect(texts('efi-memory-map', context)[1]).toBe('[1] 0x100000..0x110000 Conventional, attributes 0xf');
    const places = decodeStructure('efi-memory-map', context).map(({ address, size }) => [address, size]);
    expect(places).toEqual([
      [0xc000, 48],
      [0xc030, 48],
    ]);
    parameters.set('efi_memdesc_size', 39);
    expect(() => decodeStructure('efi-memory-map', context)).toThrow(
      'efi_memmap_size is 96, efi_memdesc_size 39',
    );
    parameters.set('efi_memdesc_size', 48);
    parameters.set('efi_memmap_size', 0);
    expect(() => decodeStructure('efi-memory-map', context)).toThrow(
      'efi_memmap_size is 0, efi_memdesc_size 48',
    );
  });

  it('has the memory map that firmware has now, unless another is asked for', () => {
    const { context } = machine();
    const entry = { start: 0x1000, end: 0x3000, type: 'LoaderData', attributes: 0xfn } as const;
    const now = { ...context, efiMap: () => [entry as never] };
    expect(decodeStructure('efi-memory-map', now)).toEqual([
      ...[
        {
          name: '[0]',
          address: 0x1000,
          size: 0,
          value: '0x1000',
          text: '0x1000..0x3000 LoaderData, attributes 0xf',
        },
      ],
    ]);
    expect(() => decodeStructure('efi-memory-map', { ...now, address: ADDRESS })).toThrow(
      'names no memory map',
    );
  });

  it('shows interrupt vectors as segment and offset', () => {
    const { view, context } = machine();
    view.setUint32(0x10 * 4, 0xf000_c080, true);
    expect(texts('ivt', context)[0x10]).toBe('[0x10] f000:c080  video; BIOS ROM');
    expect(texts('ivt', context)).toHaveLength(256);
    view.setUint32(0x60 * 4, 0x1234_0001, true);
    expect(texts('ivt', context)[0x60]).toBe('[0x60] 1234:0001');
    expect(texts('ivt', context)[0x61]).toBe('[0x61] 0000:0000  empty');
  });

  it('reads the BIOS data area by the names of its fields', () => {
    const { view, context } = machine();
    view.setUint16(0x413, 639, true);
    expect(texts('bda', context)).toContain(
      'base_memory 639  KiB of conventional memory, what INT 12h returns',
    );
    // Of another length than a number has.
    const buffer = decodeStructure('bda', context).find(({ name }) => name === 'keyboard_buffer');
    expect(buffer).toMatchObject({ address: 0x41e, size: 32, value: Array(32).fill('00').join(' ') });
  });

  it('says that paging is off', () => {
    const { context } = machine();
    const off = ['paging off: every linear address is its own'];
    expect(texts('page-tables', context)).toEqual(off);
    expect(texts('page-tables', { ...context, pageTables: () => ({ mode: 'off' }) as never })).toEqual(off);
  });

  it('tells the page tables and what they map', () => {
    const range = { start: 0n, end: 0x20_0000n, physical: 0x40_0000n, pageSize: 0x20_0000 };
    const walk = {
      ...{ mode: '4-level', root: 0x1000n, identity: false, truncated: false },
      tables: [
        { address: 0x1000n, size: 4096, level: 4 },
        { address: 0x2000n, size: 4096, level: 9 },
      ],
      ranges: [
        { ...range, writable: true, user: false, executable: true },
        { ...range, writable: false, user: true, executable: false },
      ],
    };
    const context = { ...machine().context, pageTables: () => walk as never };
    expect(decodeStructure('page-tables', context)).toEqual([
      { name: 'paging', address: 0x1000, size: 0, value: '4-level', text: '4-level, root 0x1000' },
      { name: 'table', address: 0x1000, size: 4096, value: 4, text: 'PML4' },
      { name: 'table', address: 0x2000, size: 4096, value: 9, text: 'level 9' },
      {
        ...{ name: 'mapped', address: 0x40_0000, size: 0x20_0000, value: '0x0' },
        text: '0x0..0x200000 writable, supervisor, executable, pages of 0x200000',
      },
      {
        ...{ name: 'mapped', address: 0x40_0000, size: 0x20_0000, value: '0x0' },
        text: '0x0..0x200000 read-only, user, no-execute, pages of 0x200000',
      },
    ]);
    Object.assign(walk, { identity: true, truncated: true });
    expect(texts('page-tables', context)[0]).toBe(
      'paging 4-level, root 0x1000, every mapped address is its own, only the first of them',
    );
  });
});

describe('decodeAcpi', () => {
  const checksummed = (bytes: Uint8Array, at: number, length: number, place: number): void => {
    bytes[place] = 0;
    bytes[place] = -bytes.subarray(at, at + length).reduce((sum, byte) => sum + byte, 0);
  };

  it('finds the root pointer and the header of each table, and checks their sums', () => {
    const { bytes, view, context } = machine();
    const put = (at: number, text: string) => bytes.set(new TextEncoder().encode(text), at);
    put(0xf0040, 'RSD PTR ');
    view.setUint32(0xf0050, 0xd000, true);
    checksummed(bytes, 0xf0040, 20, 0xf0048);
    put(0xd000, 'RSDT');
    view.setUint32(0xd004, 40, true);
    view.setUint32(0xd024, 0xe000, true);
    checksummed(bytes, 0xd000, 40, 0xd009);
    put(0xe000, 'APIC');
    view.setUint32(0xe004, 44, true);
    put(0xe00a, 'BOCHS ');
    const fields = decodeStructure('acpi', context);
    expect(fields.map(({ name, address }) => [name, address])).toEqual([
      ['RSDP', 0xf0040],
      ['RSDT', 0xd000],
      ['APIC', 0xe000],
    ]);
    expect(fields[1]!.text).toMatch(/checksum ok$/);
    expect(fields[2]!.text).toMatch(/OEM "BOCHS".*checksum wrong$/);
  });

  it('finds the root pointer in the EBDA, where it comes before that of the ROM', () => {
    const { bytes, view, context } = machine();
    const putRoot = (at: number) => {
      bytes.set(new TextEncoder().encode('RSD PTR '), at);
      checksummed(bytes, at, 20, at + 8);
    };
    putRoot(0xf0040);
    for (const [segment, at, found] of [
      [0x9fc0, 0x9fc10, 0x9fc10],
      [0x9fc0, 0x9fc08, 0xf0040],
      [0x8000, 0x80000, 0x80000],
      [0x7000, 0x70000, 0xf0040],
      [0xa000, 0xa0000, 0xf0040],
    ] as const) {
      bytes.fill(0, 0x70000, 0xe0000);
      view.setUint16(0x40e, segment, true);
      putRoot(at);
      expect([segment, at, findRsdp(context.memory)]).toEqual([segment, at, found]);
    }
    // The last place of the ROM that holds one.
    bytes.fill(0, 0x70000, 0x100000);
    putRoot(0xfffe0);
    expect(findRsdp(context.memory)).toBe(0xfffe0);
  });

  it('follows the extended pointer of revision 2, and to the DSDT from the FADT', () => {
    const { bytes, view, context } = machine();
    const put = (at: number, text: string, length: number) => {
      bytes.set(new TextEncoder().encode(text), at);
      view.setUint32(at + 4, length, true);
    };
    bytes.set(new TextEncoder().encode('RSD PTR '), 0xa0);
    bytes[0xaf] = 2;
    view.setUint32(0xb0, 0xd000, true);
    view.setBigUint64(0xb8, 0xc000n, true);
    put(0xc000, 'XSDT', 36 + 16);
    view.setBigUint64(0xc024, 0xe000n, true);
    view.setBigUint64(0xc02c, 0xf000n, true);
    put(0xe000, 'FACP', 116);
    view.setUint32(0xe028, 0x4000, true);
    put(0x4000, 'DSDT', 40);
    put(0xf000, 'HPET', 35);
    const fields = decodeStructure('acpi', { ...context, address: 0xa0 });
    expect(fields.map(({ name, address, size }) => [name, address, size])).toEqual([
      ['RSDP', 0xa0, 36],
      ['XSDT', 0xc000, 52],
      ['FACP', 0xe000, 116],
      ['DSDT', 0x4000, 40],
      ['HPET', 0xf000, 36],
    ]);
    expect(fields[0]).toMatchObject({ value: '0xc000' });
    expect(fields[0]!.text).toContain('revision 2, OEM "", RSDT 0xd000, XSDT 0xc000');
    expect(fields.at(-1)!.text).toContain("a length of 35 is no table's");
    view.setUint32(0xf004, 0x10_0001, true);
    expect(decodeStructure('acpi', { ...context, address: 0xa0 }).at(-1)!.text).toContain('of 1048577 is no');
    // Without an XSDT the RSDT counts, and without a DSDT there is none to tell of.
    view.setBigUint64(0xb8, 0n, true);
    view.setUint32(0xe028, 0, true);
    put(0xd000, 'RSDT', 40);
    view.setUint32(0xd024, 0xe000, true);
    const names = decodeStructure('acpi', { ...context, address: 0xa0 }).map(({ name }) => name);
    expect(names).toEqual(['RSDP', 'RSDT', 'FACP']);
  });

  it('says that there are no tables where no root pointer stands', () => {
    expect(() => decodeAcpi(machine().context.memory, null)).toThrow('no ACPI root pointer stands');
  });
});

describe('describeSegment', () => {
  it('tells code from data, its width, and what is not present', () => {
    expect(describeSegment(0x0000_9b00_0000_ffffn)).toBe('code16 rx, base 0x0, limit 0xffff, DPL 0');
    expect(describeSegment(0x00cf_1300_0000_ffffn)).toMatch(/^data32 rw, .*not present$/);
    expect(describeSegment(0x00cf_fa12_3456_0000n)).toBe('code32 rx, base 0x123456, limit 0xf0000fff, DPL 3');
  });
});

describe('formatDecoded', () => {
  it('puts a field on a line, with its address', () => {
    const field = { size: 1, value: 1 };
    expect(
      formatDecoded([
        { ...field, name: 'a', address: 0x10, text: '1' },
        { ...field, name: 'long', address: 0x1000, text: '2' },
      ]),
    ).toBe('  0x10  a     1\n0x1000  long  2\n');
  });
});

describe('bootParamsAtJump', () => {
  it('keeps what is not 0 by its name, and the memory map; nothing where the address is no RAM', () => {
    const { bytes } = machine();
    const memory = PhysicalMemory.of(bytes);
    const parameters = new BootParams(bytes, ADDRESS);
    parameters.set('code32_start', 0x100000);
    parameters.memoryMap = [{ address: 0n, size: 0x9fc00n, type: 1 }];
    expect(bootParamsAtJump(memory, BigInt(ADDRESS))).toEqual({
      address: BigInt(ADDRESS),
      fields: { e820_entries: 1, 'hdr.code32_start': '0x100000' },
      memoryMap: [{ start: 0n, end: 0x9fc00n, type: 'usable' }],
    });
    expect(bootParamsAtJump(memory, 0xffff_ffff_0000n)).toBeNull();
  });
});
