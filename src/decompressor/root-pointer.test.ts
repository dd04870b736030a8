import { describe, expect, it } from 'vitest';
import { BootscopeError } from '../error.ts';
import { PhysicalMemory } from '../x86/physical-memory.ts';
import { efiBits, getRsdpAddress, type RootPointerSearch } from './root-pointer.ts';

const BOOT_PARAMS = 0x1000;
const SYSTEM_TABLE = 0x20000;
const TABLES = 0x21000;
const ACPI_20 = '71e86888f1e4d311bc220080c73c8881';
const ACPI_10 = '302d9deb882dd3119a160090273fc14d';
const OTHER = '00112233445566778899aabbccddeeff';

class Memory {
  readonly ram = new Uint8Array(0x110000);
  readonly view = new DataView(this.ram.buffer);

  efi(bits: 32 | 64, systemTable = SYSTEM_TABLE): this {
    this.ram.set(Buffer.from(bits === 64 ? 'EL64' : 'EL32', 'latin1'), BOOT_PARAMS + 0x1c0);
    this.view.setUint32(BOOT_PARAMS + 0x1c4, systemTable, true);
    return this;
  }

  tables(bits: 32 | 64, entries: readonly (readonly [guid: string, address: number])[], at = TABLES): this {
    this.view.setUint32(SYSTEM_TABLE + (bits === 64 ? 104 : 64), entries.length, true);
    this.view.setUint32(SYSTEM_TABLE + (bits === 64 ? 112 : 68), at, true);
    this.entries(bits, entries, at);
    return this;
  }

  entries(bits: 32 | 64, entries: readonly (readonly [guid: string, address: number])[], at: number): this {
    for (const [index, [guid, address]] of entries.entries()) {
      const entry = at + index * (bits === 64 ? 24 : 20);
      this.ram.set(Buffer.from(guid, 'hex'), entry);
      if (bits === 64) this.view.setBigUint64(entry + 16, BigInt(address), true);
      else this.view.setUint32(entry + 16, address, true);
    }
    return this;
  }

  /** kexec's pointer to the configuration tables, behind another node of setup_data. */
  kexec(tables: number): this {
    this.view.setBigUint64(BOOT_PARAMS + 0x250, 0x30000n, true);
    this.view.setBigUint64(0x30000, 0x31000n, true);
    this.view.setUint32(0x30008, 1, true);
    this.view.setUint32(0x31008, 4, true);
    this.view.setBigUint64(0x31020, BigInt(tables), true);
    return this;
  }

  bios(at: number, revision = 0): this {
    this.ram.set(Buffer.from('RSD PTR ', 'latin1'), at);
    this.ram[at + 15] = revision;
    const sum = (length: number): number =>
      this.ram.subarray(at, at + length).reduce((all, byte) => all + byte, 0);
    this.ram[at + 8] = -sum(20) & 0xff;
    this.ram[at + 32] = -sum(36) & 0xff;
    return this;
  }
}

function look(
  memory: Memory,
  search: Partial<RootPointerSearch> = {},
  { bits = 64, commandLine = '' }: { readonly bits?: 32 | 64; readonly commandLine?: string } = {},
): { address: bigint; said: string[] } {
  const said: string[] = [];
  const { address } = getRsdpAddress(
    PhysicalMemory.of(memory.ram),
    BOOT_PARAMS,
    bits,
    { efi: null, kexec: false, option: false, ...search },
    commandLine,
    {
      debug: (text) => said.push(text),
      stop: ([text], detail) => {
        throw new BootscopeError('guest-error', `${text} ${detail}`);
      },
    },
  );
  return { address, said };
}

describe('the ACPI root pointer that the stub notes', () => {
  it('is the one in the EBDA, then the one below 1 MiB', () => {
    const memory = new Memory().bios(0xf0010);
    expect(look(memory).address).toBe(0xf0010n);
    memory.view.setUint16(0x40e, 0x9fc0, true);
    expect(look(memory.bios(0x9fc20)).address).toBe(0x9fc20n);
  });

  it('needs a checksum, from revision 2 on one over all 36 bytes', () => {
    const memory = new Memory().bios(0xe0000).bios(0xe0040, 2);
    memory.ram[0xe0009] = 1;
    expect(look(memory).address).toBe(0xe0040n);
    memory.ram[0xe0040 + 35] = 1;
    expect(look(memory).address).toBe(0n);
  });

  it('lies at every sixteenth byte of the first KiB of the EBDA and of the last 128 KiB below 1 MiB', () => {
    const find = (...places: readonly number[]): bigint => {
      const memory = new Memory();
      memory.view.setUint16(0x40e, 0x9000, true);
      for (const place of places) memory.bios(place);
      return look(memory).address;
    };
    expect([find(0x90000), find(0x903f0), find(0x90400), find(0x90008, 0xe0000)]).toEqual([
      0x90000n,
      0x903f0n,
      0n,
      0xe0000n,
    ]);
    expect([find(0xdfff0), find(0xe0008, 0xf0018, 0xf0030), find(0xfffd0), find(0x100000)]).toEqual([
      0n,
      0xf0030n,
      0xfffd0n,
      0n,
    ]);
    // An EBDA below the BIOS's own data is none.
    const low = new Memory().bios(0x400);
    low.view.setUint16(0x40e, 0x40, true);
    expect(look(low).address).toBe(0n);
  });

  it('notes what was read for it, neighbours as one', () => {
    const memory = new Memory().efi(64);
    memory.tables(64, [[ACPI_20, 0x6000]]);
    const search = { efi: 'acpi.c', kexec: false, option: false } as const;
    const { searched } = getRsdpAddress(PhysicalMemory.of(memory.ram), BOOT_PARAMS, 64, search, '', {
      debug: () => {},
      stop: () => {
        throw new BootscopeError('guest-error', '');
      },
    });
    expect(searched.every(({ start, end }) => end > start)).toBe(true);
    const at = (address: number) => searched.some(({ start, end }) => address >= start && address + 8 <= end);
    // The addresses of the tables and of ACPI's, each of two words; nothing behind.
    expect([at(SYSTEM_TABLE + 112), at(TABLES + 16), at(TABLES + 24)]).toEqual([true, true, false]);
    expect(searched.filter(({ written }) => written)).toEqual([]);
  });

  it('is taken from boot_params without a word, where a loader has put it there', () => {
    const memory = new Memory().bios(0xf0010);
    memory.view.setBigUint64(BOOT_PARAMS + 0x70, 0x7fe0014n, true);
    expect(look(memory, { efi: 'acpi.c' })).toEqual({ address: 0x7fe0014n, said: [] });
  });

  it('is looked for at a BIOS once the signature of EFI is missed, in the words of each generation', () => {
    const memory = new Memory().bios(0xf0010);
    expect(look(memory, { efi: 'acpi.c' })).toEqual({
      address: 0xf0010n,
      said: ['Wrong EFI loader signature.\n'],
    });
    expect(look(memory, { efi: 'efi.c' })).toEqual({
      address: 0xf0010n,
      said: ['No EFI environment detected.\n'],
    });
  });

  it.each(['acpi.c', 'efi.c'] as const)(
    'is ACPI 2.0’s in the tables of EFI, else that of ACPI 1.0 (%s)',
    (efi) => {
      const memory = new Memory().efi(64);
      memory.tables(64, [
        [OTHER, 1],
        [ACPI_10, 0x5000],
        [ACPI_20, 0x6000],
      ]);
      expect(look(memory, { efi })).toEqual({ address: 0x6000n, said: [] });
      memory.tables(64, [
        [ACPI_10, 0x5000],
        [OTHER, 1],
      ]);
      expect(look(memory, { efi })).toEqual({ address: 0x5000n, said: [] });
    },
  );

  it('is found in the tables of 32-bit firmware', () => {
    const memory = new Memory().efi(32).tables(32, [
      [OTHER, 1],
      [ACPI_20, 0x6000],
    ]);
    expect(look(memory, { efi: 'acpi.c' }).address).toBe(0x6000n);
    expect(look(memory, { efi: 'efi.c' }, { bits: 32 }).address).toBe(0x6000n);
  });

  it('is left to the BIOS where a 32-bit stub cannot reach the tables', () => {
    const memory = new Memory()
      .efi(64)
      .tables(64, [[ACPI_20, 2 ** 32]])
      .bios(0xf0010);
    expect(look(memory, { efi: 'acpi.c' }, { bits: 32 })).toEqual({
      address: 0xf0010n,
      said: ['Error getting RSDP address: EFI config table located above 4GB.\n'],
    });
    memory.view.setUint32(BOOT_PARAMS + 0x1d8, 1, true);
    expect(look(memory, { efi: 'acpi.c' }, { bits: 32 })).toEqual({
      address: 0xf0010n,
      said: ['Error getting RSDP address: EFI system table located above 4GB.\n'],
    });
    expect(look(memory, { efi: 'efi.c' }, { bits: 32 })).toEqual({
      address: 0xf0010n,
      said: ['EFI system table is located above 4GB and cannot be accessed.\n'],
    });
  });

  it('comes from the tables that kexec passes on', () => {
    const memory = new Memory().efi(64).tables(64, [[ACPI_20, 0x6000]]);
    memory.kexec(0x22000).entries(64, [[ACPI_20, 0x7000]], 0x22000);
    expect(look(memory, { efi: 'acpi.c', kexec: true }).address).toBe(0x7000n);
    expect(look(memory, { efi: 'acpi.c', kexec: false }).address).toBe(0x6000n);
    expect(look(memory, { efi: 'efi.c', kexec: true }).address).toBe(0x7000n);
    memory.kexec(0);
    expect(look(memory, { efi: 'acpi.c', kexec: true })).toEqual({
      address: 0x6000n,
      said: ['Wrong kexec SETUP_EFI data.\n'],
    });
    expect(look(memory, { efi: 'efi.c', kexec: true })).toEqual({
      address: 0x6000n,
      said: ['kexec EFI environment missing valid configuration table.\n'],
    });
  });

  it('may lie above 4 GiB, and so may the tables, where they are not found', () => {
    const memory = new Memory().efi(64).tables(64, [[ACPI_20, 0x1_2345_6780]]);
    expect(look(memory, { efi: 'efi.c' }).address).toBe(0x1_2345_6780n);
    memory.view.setUint32(SYSTEM_TABLE + 116, 1, true);
    expect(look(memory.bios(0xf0010), { efi: 'acpi.c' }).address).toBe(0xf0010n);
    memory.view.setUint32(BOOT_PARAMS + 0x1d8, 1, true);
    expect(() => look(memory, { efi: 'acpi.c' })).toThrow(/0x100020000 names none/);
  });

  it('is not checked beyond its 36 bytes', () => {
    const memory = new Memory().bios(0xe0040, 2);
    memory.ram[0xe0040 + 36] = 0x55;
    expect(look(memory).address).toBe(0xe0040n);
  });

  it('stops the guest where EFI has no tables', () => {
    expect(() => look(new Memory().efi(64, 0), { efi: 'acpi.c' })).toThrow(
      /system table not found.*efi_systab is 0/,
    );
    expect(() => look(new Memory().efi(64, 0), { efi: 'efi.c' })).toThrow(/efi_systab is 0/);
    expect(() => look(new Memory().efi(64), { efi: 'acpi.c' })).toThrow(/0x20000 names none/);
  });

  it('is the one of acpi_rsdp= only for stubs that read it first', () => {
    const memory = new Memory().bios(0xf0010);
    const commandLine = 'quiet acpi_rsdp=0x1234';
    expect(look(memory, { option: true }, { commandLine }).address).toBe(0x1234n);
    expect(look(memory, { option: false }, { commandLine }).address).toBe(0xf0010n);
    expect(look(memory, { option: true }, { commandLine: 'acpi_rsdp=0x12zz' }).address).toBe(0xf0010n);
  });
});

describe('the bits of the firmware', () => {
  it('are told by the loader’s signature, and by nothing else', () => {
    expect(efiBits(PhysicalMemory.of(new Memory().efi(64).ram), BOOT_PARAMS)).toBe(64);
    expect(efiBits(PhysicalMemory.of(new Memory().efi(32).ram), BOOT_PARAMS)).toBe(32);
    const neither = new Memory().efi(64);
    neither.ram[BOOT_PARAMS + 0x1c3] = 0x35;
    expect(efiBits(PhysicalMemory.of(neither.ram), BOOT_PARAMS)).toBeNull();
  });
});
