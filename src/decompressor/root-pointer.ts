// Where extract_kernel finds the ACPI root pointer (RSDP), which it notes in boot_params from 5.0 on: in boot_params, in the
// tables of the EFI firmware, or where a PC's BIOS leaves it; and what the stub says while it looks.

import { hex } from '../hex.ts';
import { indexOfText } from '../host/host.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import type { PhysicalMemory } from '../x86/physical-memory.ts';
import { findOption, simpleStrtoull } from './command-line.ts';
import type { TouchedRange } from './identity-map.ts';
import { stubHasText } from './stub-text.ts';

/** EBDA segment in the BIOS data area; windows and signature after ACPI 6.5, 5.2.5.1. */
const EBDA_SEGMENT = 0x40e;
const EBDA_WINDOW = 1024;
const HIGH_WINDOW = 0xe0000;
const HIGH_WINDOW_SIZE = 0x20000;
const STEP = 16;
const SIGNATURE = 'RSD PTR ';

/** What a search of a BIOS's tables reads of. */
export const LOW_MEMORY: TouchedRange = { start: 0, end: 0x10_0000, written: false };

/** Offsets in boot_params (zero-page.rst): acpi_rsdp_addr, and of struct efi_info what is looked at. */
const ACPI_RSDP_ADDR = 0x070;
const EFI_SYSTAB = 0x1c4;
const EFI_SYSTAB_HI = 0x1d8;
const EFI_MEMMAP_HI = 0x1dc;
const SETUP_DATA = 0x250;
const SETUP_EFI = 4;

/** Tables of the UEFI specification (4.3 and 4.6) by the size of the firmware's pointers. */
const SYSTEM_TABLE = {
  32: { entries: 64, tables: 68, entrySize: 20 },
  64: { entries: 104, tables: 112, entrySize: 24 },
} as const;
/** GUIDs as their 16 bytes in memory. */
const ACPI_20_TABLE_GUID = '71e86888f1e4d311bc220080c73c8881';
const ACPI_TABLE_GUID = '302d9deb882dd3119a160090273fc14d';

/** What of a stub decides where it looks, read from its messages. */
export interface RootPointerSearch {
  /**
   * Whether it looks into EFI's tables (CONFIG_EFI), and which code does: that of acpi.c, to 5.17, or that of efi.c.
   */
  readonly efi: 'acpi.c' | 'efi.c' | null;
  /** Whether kexec's pointer to the tables is taken (64-bit, 5.3 on). */
  readonly kexec: boolean;
  /** Whether `acpi_rsdp=` on the command line comes first (to 5.3). */
  readonly option: boolean;
}

/** What the search needs of its stub: a way to print, and one to give up. */
export interface RootPointerVoice {
  /** debug_putstr. */
  debug(text: string): void;
  /** error(), with the first of `variants` that the stub has. */
  stop(variants: readonly string[], detail: string): never;
}

const NO_TABLES = ['EFI config tables not found.', 'EFI config table not found.'];
const NO_SYSTEM_TABLE = ['EFI system table not found.', 'EFI system table is not found.'];

/** @param option - whether the code reads `acpi_rsdp` on its way to the search */
export function findRootPointerSearch(
  image: KernelImage,
  bits: 32 | 64,
  option: boolean,
): RootPointerSearch | null {
  if (!stubHasText(image, 'RSD PTR ')) return null;
  const kexec = stubHasText(image, 'EFI system table not found in kexec boot_params.');
  // error() of efi.c has but one text for all that may be missing.
  const fromEfi = stubHasText(image, NO_TABLES[1]!);
  const inAcpi = [NO_TABLES[0]!, ...NO_SYSTEM_TABLE].some((text) => stubHasText(image, text));
  return {
    efi: fromEfi ? 'efi.c' : inAcpi ? 'acpi.c' : null,
    kexec: bits === 64 && (kexec || fromEfi),
    option,
  };
}

/** One search in guest memory. */
class RootPointerFinder {
  readonly #memory: PhysicalMemory;
  readonly #bootParams: number;
  readonly #bits: 32 | 64;
  readonly #voice: RootPointerVoice;
  /** What it has read of memory. */
  readonly searched: TouchedRange[] = [];

  constructor(memory: PhysicalMemory, bootParams: number, bits: 32 | 64, voice: RootPointerVoice) {
    this.#memory = memory;
    this.#bootParams = bootParams;
    this.#bits = bits;
    this.#voice = voice;
  }

  #u32(address: number): number {
    const last = this.searched.at(-1);
    if (last?.end === address) this.searched[this.searched.length - 1] = { ...last, end: address + 4 };
    else this.searched.push({ start: address, end: address + 4, written: false });
    return this.#memory.contains(address, 4) ? this.#memory.read32(address) : 0;
  }

  #u64(address: number): number {
    return this.#u32(address) + this.#u32(address + 4) * 2 ** 32;
  }

  #param(offset: number): number {
    return this.#u32(this.#bootParams + offset);
  }

  /** Of the firmware, as the boot loader's signature in efi_info tells. */
  get #firmwareBits(): 32 | 64 | null {
    return efiBits(this.#memory, this.#bootParams);
  }

  get #above4GiB(): boolean {
    return this.#bits === 32 && (this.#param(EFI_SYSTAB_HI) !== 0 || this.#param(EFI_MEMMAP_HI) !== 0);
  }

  get #systemTable(): number {
    return this.#param(EFI_SYSTAB) + (this.#bits === 64 ? this.#param(EFI_SYSTAB_HI) * 2 ** 32 : 0);
  }

  /** The address of kexec's struct efi_setup_data; null without one. */
  #kexecData(): number | null {
    const seen = new Set<number>();
    for (let at = this.#u64(this.#bootParams + SETUP_DATA); at !== 0 && !seen.has(at); at = this.#u64(at)) {
      if (this.#u32(at + 8) === SETUP_EFI) return at + 16;
      seen.add(at);
    }
    return null;
  }

  /** Of all configuration tables ACPI 2.0's is taken before that of ACPI 1.0. */
  #search(tables: number, count: number, bits: 32 | 64, tooHigh: string): number {
    const { entrySize } = SYSTEM_TABLE[bits];
    let old = 0;
    for (let index = 0; index < count; index++) {
      const at = tables + index * entrySize;
      if (!this.#memory.contains(at, entrySize)) break;
      const guid = [...this.#memory.view(at, 16)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
      const table = bits === 64 ? this.#u64(at + 16) : this.#u32(at + 16);
      if (this.#bits === 32 && table >= 2 ** 32) {
        this.#voice.debug(tooHigh);
        return 0;
      }
      if (guid === ACPI_20_TABLE_GUID) return table;
      if (guid === ACPI_TABLE_GUID) old = table;
    }
    return old;
  }

  /** kexec_get_rsdp_addr, 5.3 to 5.17. */
  kexec(): number {
    const data = this.#kexecData();
    if (data === null) return 0;
    const tables = this.#u64(data + 16);
    if (tables === 0) {
      this.#voice.debug('Wrong kexec SETUP_EFI data.\n');
      return 0;
    }
    if (this.#firmwareBits !== 64) {
      this.#voice.debug('Wrong kexec EFI loader signature.\n');
      return 0;
    }
    const system = this.#systemTable;
    if (system === 0) {
      this.#voice.stop(['EFI system table not found in kexec boot_params.'], 'efi_systab is 0');
    }
    return this.#search(tables, this.#u32(system + SYSTEM_TABLE[64].entries), 64, '');
  }

  /** efi_get_rsdp_addr of acpi.c, to 5.17. */
  fromAcpi(): number {
    const bits = this.#firmwareBits;
    if (bits === null) {
      this.#voice.debug('Wrong EFI loader signature.\n');
      return 0;
    }
    if (this.#above4GiB) {
      this.#voice.debug('Error getting RSDP address: EFI system table located above 4GB.\n');
      return 0;
    }
    const system = this.#systemTable;
    if (system === 0) this.#voice.stop(NO_SYSTEM_TABLE, 'efi_systab is 0');
    const tables = this.#tables(system, bits);
    if (tables === 0) this.#voice.stop(NO_TABLES, `the system table at ${hex(system)} names none`);
    return this.#search(
      tables,
      this.#u32(system + SYSTEM_TABLE[bits].entries),
      bits,
      'Error getting RSDP address: EFI config table located above 4GB.\n',
    );
  }

  /** efi_get_rsdp_addr by means of efi.c, 5.18 on. */
  fromEfi(): number {
    const bits = this.#firmwareBits;
    if (bits === null) this.#voice.debug('No EFI environment detected.\n');
    if (this.#above4GiB) {
      this.#voice.debug('EFI system table is located above 4GB and cannot be accessed.\n');
    }
    if (bits === null || this.#above4GiB) return 0;
    const system = this.#systemTable;
    if (system === 0) {
      this.#voice.debug('EFI system table not found.');
      this.#voice.stop(NO_TABLES, 'efi_systab is 0');
    }
    let tables = this.#tables(system, bits);
    const data = bits === 64 && this.#bits === 64 ? this.#kexecData() : null;
    if (data !== null) {
      const passed = this.#u64(data + 16);
      if (passed === 0) this.#voice.debug('kexec EFI environment missing valid configuration table.\n');
      else tables = passed;
    }
    if (tables === 0) this.#voice.stop(NO_TABLES, `the system table at ${hex(system)} names none`);
    const found = this.#search(
      tables,
      this.#u32(system + SYSTEM_TABLE[bits].entries),
      bits,
      'Error: EFI config table entry located above 4GB.\n',
    );
    if (found === 0) this.#voice.debug('Error getting RSDP address.\n');
    return found;
  }

  #tables(system: number, bits: 32 | 64): number {
    const at = system + SYSTEM_TABLE[bits].tables;
    return bits === 64 ? this.#u64(at) : this.#u32(at);
  }

  /** bios_get_rsdp_addr. */
  fromBios(): number {
    this.searched.push(LOW_MEMORY);
    const ebda = this.#memory.read16(EBDA_SEGMENT) << 4;
    return (ebda > 0x400 ? this.#scan(ebda, EBDA_WINDOW) : 0) || this.#scan(HIGH_WINDOW, HIGH_WINDOW_SIZE);
  }

  #scan(start: number, length: number): number {
    const window = this.#memory.viewUpTo(start, length);
    for (
      let offset = indexOfText(window, SIGNATURE);
      offset >= 0;
      offset = indexOfText(window, SIGNATURE, offset + 1)
    ) {
      const at = start + offset;
      if (offset % STEP !== 0 || !this.#memory.contains(at, 36) || this.#checksum(at, 20) !== 0) continue;
      if (this.#memory.read8(at + 15) >= 2 && this.#checksum(at, 36) !== 0) continue;
      return at;
    }
    return 0;
  }

  #checksum(start: number, length: number): number {
    return this.#memory.view(start, length).reduce((sum, byte) => (sum + byte) & 0xff, 0);
  }
}

/** Whose firmware's pointers have so many bits: by the loader's signature in efi_info of boot_params; null without EFI. */
export function efiBits(memory: PhysicalMemory, bootParams: number): 32 | 64 | null {
  const EFI_LOADER_SIGNATURE = 0x1c0;
  const at = bootParams + EFI_LOADER_SIGNATURE;
  const signature = String.fromCharCode(...memory.viewUpTo(at, 4));
  return signature === 'EL64' ? 64 : signature === 'EL32' ? 32 : null;
}

/**
 * get_rsdp_addr.
 *
 * @returns what acpi_rsdp_addr of boot_params becomes: an address, 0 where there is none; and what was read for it
 */
export function getRsdpAddress(
  memory: PhysicalMemory,
  bootParams: number,
  bits: 32 | 64,
  search: RootPointerSearch,
  commandLine: string | null,
  voice: RootPointerVoice,
): { readonly address: bigint; readonly searched: readonly TouchedRange[] } {
  const finder = new RootPointerFinder(memory, bootParams, bits, voice);
  // Nineteen characters hold an address in hexadecimal with 0x.
  const option = search.option ? findOption(commandLine, 'acpi_rsdp', 19) : null;
  const given = option === null ? null : simpleStrtoull(option, 0, 16);
  if (given !== null && given.value !== 0n && given.end === option!.length) {
    return { address: given.value, searched: [] };
  }
  const passed = memory.read64(bootParams + ACPI_RSDP_ADDR);
  if (passed !== 0n) return { address: passed, searched: [] };
  let found = search.efi === 'acpi.c' && search.kexec ? finder.kexec() : 0;
  if (search.efi === 'acpi.c') found ||= finder.fromAcpi();
  if (search.efi === 'efi.c') found ||= finder.fromEfi();
  return { address: BigInt(found || finder.fromBios()), searched: finder.searched };
}
