// struct boot_params, "the zero page", as one table of fields (zero-page.rst and the kernel's uapi bootparam.h), with its
// reader and writer. The setup header lies in it at its own offsets and has its table in setup-header.ts.

import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import {
  E820_ENTRY_SIZE,
  E820_TABLE_ENTRIES,
  type E820Entry,
  readE820Entry,
  writeE820Entry,
} from './e820.ts';
import { type SetupHeaderField, setupHeaderRow } from './setup-header.ts';

/** sizeof(struct boot_params). */
export const BOOT_PARAMS_SIZE = 4096;

/** One row of the table. */
export interface BootParamsFieldRow {
  readonly name: string;
  /** From the start of boot_params. */
  readonly offset: number;
  /** Bytes; a number is little endian. */
  readonly size: number;
  readonly meaning: string;
}

/** Fields that hold a number, in the order of their offsets. Of screen_info the text mode and the frame buffer. */
export const BOOT_PARAMS_FIELDS = [
  { name: 'orig_x', offset: 0x000, size: 1, meaning: 'column of the cursor' },
  { name: 'orig_y', offset: 0x001, size: 1, meaning: 'row of the cursor' },
  { name: 'ext_mem_k', offset: 0x002, size: 2, meaning: 'KiB of RAM from 1 MiB on, as INT 15h AH=88h says' },
  { name: 'orig_video_page', offset: 0x004, size: 2, meaning: 'text page that is shown' },
  { name: 'orig_video_mode', offset: 0x006, size: 1, meaning: 'BIOS video mode; 7 is monochrome text' },
  { name: 'orig_video_cols', offset: 0x007, size: 1, meaning: 'columns of the text screen' },
  { name: 'flags', offset: 0x008, size: 1, meaning: 'VIDEO_FLAGS_NOCURSOR and the like' },
  { name: 'orig_video_ega_bx', offset: 0x00a, size: 2, meaning: 'BX of INT 10h AH=12h BL=10h' },
  { name: 'orig_video_lines', offset: 0x00e, size: 1, meaning: 'rows of the text screen' },
  { name: 'orig_video_isVGA', offset: 0x00f, size: 1, meaning: 'kind of screen: 1 VGA, 0x23 VESA, 0x70 EFI' },
  { name: 'orig_video_points', offset: 0x010, size: 2, meaning: 'scan lines of a character' },
  { name: 'lfb_width', offset: 0x012, size: 2, meaning: 'pixels of a line of the frame buffer' },
  { name: 'lfb_height', offset: 0x014, size: 2, meaning: 'lines of the frame buffer' },
  { name: 'lfb_depth', offset: 0x016, size: 2, meaning: 'bits of a pixel' },
  { name: 'lfb_base', offset: 0x018, size: 4, meaning: 'address of the frame buffer' },
  { name: 'lfb_size', offset: 0x01c, size: 4, meaning: 'size of the frame buffer, in 64 KiB for VESA' },
  { name: 'cl_magic', offset: 0x020, size: 2, meaning: '0xa33f where the old command line pointer is set' },
  { name: 'cl_offset', offset: 0x022, size: 2, meaning: 'old command line pointer, from the start of setup' },
  { name: 'lfb_linelength', offset: 0x024, size: 2, meaning: 'bytes of a line of the frame buffer' },
  { name: 'tboot_addr', offset: 0x058, size: 8, meaning: 'address of the tboot shared page' },
  { name: 'acpi_rsdp_addr', offset: 0x070, size: 8, meaning: 'address of the ACPI root pointer' },
  { name: 'ext_ramdisk_image', offset: 0x0c0, size: 4, meaning: 'upper half of ramdisk_image' },
  { name: 'ext_ramdisk_size', offset: 0x0c4, size: 4, meaning: 'upper half of ramdisk_size' },
  { name: 'ext_cmd_line_ptr', offset: 0x0c8, size: 4, meaning: 'upper half of cmd_line_ptr' },
  { name: 'cc_blob_address', offset: 0x13c, size: 4, meaning: 'address of the confidential computing blob' },
  { name: 'efi_loader_signature', offset: 0x1c0, size: 4, meaning: '`EL32` or `EL64` where EFI booted' },
  { name: 'efi_systab', offset: 0x1c4, size: 4, meaning: 'address of the EFI system table' },
  { name: 'efi_memdesc_size', offset: 0x1c8, size: 4, meaning: 'bytes of an EFI memory descriptor' },
  { name: 'efi_memdesc_version', offset: 0x1cc, size: 4, meaning: 'version of the EFI memory descriptors' },
  { name: 'efi_memmap', offset: 0x1d0, size: 4, meaning: 'address of the EFI memory map' },
  { name: 'efi_memmap_size', offset: 0x1d4, size: 4, meaning: 'bytes of the EFI memory map' },
  { name: 'efi_systab_hi', offset: 0x1d8, size: 4, meaning: 'upper half of efi_systab' },
  { name: 'efi_memmap_hi', offset: 0x1dc, size: 4, meaning: 'upper half of efi_memmap' },
  {
    name: 'alt_mem_k',
    offset: 0x1e0,
    size: 4,
    meaning: 'KiB of RAM from 1 MiB on, as INT 15h AX=E801h says',
  },
  { name: 'scratch', offset: 0x1e4, size: 4, meaning: "the stub's own: where its copy lies" },
  { name: 'e820_entries', offset: 0x1e8, size: 1, meaning: 'entries of e820_table' },
  { name: 'eddbuf_entries', offset: 0x1e9, size: 1, meaning: 'entries of eddbuf' },
  { name: 'edd_mbr_sig_buf_entries', offset: 0x1ea, size: 1, meaning: 'entries of edd_mbr_sig_buffer' },
  { name: 'kbd_status', offset: 0x1eb, size: 1, meaning: 'shift state, as INT 16h AH=02h says' },
  { name: 'secure_boot', offset: 0x1ec, size: 1, meaning: '1 unknown, 2 disabled, 3 enabled' },
  { name: 'sentinel', offset: 0x1ef, size: 1, meaning: 'not 0: the loader filled more than it was to' },
] as const satisfies readonly BootParamsFieldRow[];

/** Its parts that are no number, in the order of their offsets. */
export const BOOT_PARAMS_PARTS = [
  { name: 'screen_info', offset: 0x000, size: 0x40, meaning: 'the screen as setup or the loader left it' },
  { name: 'apm_bios_info', offset: 0x040, size: 0x14, meaning: 'APM BIOS' },
  { name: 'ist_info', offset: 0x060, size: 0x10, meaning: 'Intel SpeedStep BIOS' },
  { name: 'hd0_info', offset: 0x080, size: 0x10, meaning: 'first hard disk (obsolete)' },
  { name: 'hd1_info', offset: 0x090, size: 0x10, meaning: 'second hard disk (obsolete)' },
  { name: 'sys_desc_table', offset: 0x0a0, size: 0x10, meaning: 'system description table (obsolete)' },
  { name: 'olpc_ofw_header', offset: 0x0b0, size: 0x10, meaning: "OLPC's Open Firmware" },
  { name: 'edid_info', offset: 0x140, size: 0x80, meaning: "the display's EDID" },
  { name: 'efi_info', offset: 0x1c0, size: 0x20, meaning: 'system table and memory map of EFI' },
  { name: 'hdr', offset: 0x1f1, size: 0x7b, meaning: 'the setup header' },
  { name: 'edd_mbr_sig_buffer', offset: 0x290, size: 0x40, meaning: 'MBR signatures of the disks' },
  {
    name: 'e820_table',
    offset: 0x2d0,
    size: E820_TABLE_ENTRIES * E820_ENTRY_SIZE,
    meaning: 'the memory map, 20 bytes an entry',
  },
  { name: 'eddbuf', offset: 0xd00, size: 0x1ec, meaning: "the disks' EDD data" },
] as const satisfies readonly BootParamsFieldRow[];

/** Name of a number in boot_params, those of the setup header included. */
export type BootParamsField = (typeof BOOT_PARAMS_FIELDS)[number]['name'] | SetupHeaderField;
export type BootParamsPart = (typeof BOOT_PARAMS_PARTS)[number]['name'];

const ROWS: ReadonlyMap<string, BootParamsFieldRow> = new Map(
  [...BOOT_PARAMS_FIELDS, ...BOOT_PARAMS_PARTS].map((row): [string, BootParamsFieldRow] => [row.name, row]),
);

/** The table's row of a field or part. Fields of the setup header have the width of the newest protocol. */
export function bootParamsRow(name: BootParamsField | BootParamsPart): BootParamsFieldRow {
  return ROWS.get(name) ?? setupHeaderRow(name as SetupHeaderField);
}

/** Offset of a field or part from the start of boot_params. */
export function bootParamsOffset(name: BootParamsField | BootParamsPart): number {
  return bootParamsRow(name).offset;
}

/**
 * boot_params in memory, read and written as the kernel does: what lies there is taken as it is, whatever protocol the header
 * states. `writeSetupHeaderField` is for loaders, which must not write what the protocol lacks.
 */
export class BootParams {
  readonly #view: DataView;

  /**
   * @param bytes - memory that holds boot_params
   * @param offset - where in it
   * @throws BootscopeError `protocol-boot-params` where not all of it is in `bytes`
   */
  constructor(bytes: Uint8Array, offset = 0) {
    if (offset < 0 || offset + BOOT_PARAMS_SIZE > bytes.length) {
      throw new BootscopeError(
        'protocol-boot-params',
        `boot_params at ${hex(offset)} has ${BOOT_PARAMS_SIZE} bytes and does not lie in memory, which ends at ${hex(bytes.length)}`,
      );
    }
    this.#view = new DataView(bytes.buffer, bytes.byteOffset + offset, BOOT_PARAMS_SIZE);
  }

  get bytes(): Uint8Array {
    return new Uint8Array(this.#view.buffer, this.#view.byteOffset, BOOT_PARAMS_SIZE);
  }

  /** The number in a field; of 8 bytes as near as a double comes. */
  get(name: BootParamsField): number {
    const { offset, size } = bootParamsRow(name);
    switch (size) {
      case 1:
        return this.#view.getUint8(offset);
      case 2:
        return this.#view.getUint16(offset, true);
      case 4:
        return this.#view.getUint32(offset, true);
      default:
        return Number(this.#view.getBigUint64(offset, true));
    }
  }

  /** Writes a field; bits that it has no room for are dropped. */
  set(name: BootParamsField, value: number | bigint): void {
    const { offset, size } = bootParamsRow(name);
    if (size === 8) this.#view.setBigUint64(offset, BigInt(value), true);
    else if (size === 4) this.#view.setUint32(offset, Number(value), true);
    else if (size === 2) this.#view.setUint16(offset, Number(value), true);
    else this.#view.setUint8(offset, Number(value));
  }

  /** cmd_line_ptr with its upper half; 0 for none. */
  get commandLine(): number {
    return this.get('cmd_line_ptr') + this.get('ext_cmd_line_ptr') * 2 ** 32;
  }

  set commandLine(address: number) {
    this.set('cmd_line_ptr', address % 2 ** 32);
    this.set('ext_cmd_line_ptr', Math.floor(address / 2 ** 32));
  }

  /** ramdisk_image and ramdisk_size with their upper halves; null for none. */
  get initrd(): { readonly address: number; readonly size: number } | null {
    const address = this.get('ramdisk_image') + this.get('ext_ramdisk_image') * 2 ** 32;
    const size = this.get('ramdisk_size') + this.get('ext_ramdisk_size') * 2 ** 32;
    return address === 0 || size === 0 ? null : { address, size };
  }

  set initrd(placed: { readonly address: number; readonly size: number } | null) {
    const { address, size } = placed ?? { address: 0, size: 0 };
    this.set('ramdisk_image', address % 2 ** 32);
    this.set('ext_ramdisk_image', Math.floor(address / 2 ** 32));
    this.set('ramdisk_size', size % 2 ** 32);
    this.set('ext_ramdisk_size', Math.floor(size / 2 ** 32));
  }

  /** The memory map in the table's order, at most 128 entries. */
  get memoryMap(): readonly E820Entry[] {
    const table = bootParamsOffset('e820_table');
    const entries = Math.min(this.get('e820_entries'), E820_TABLE_ENTRIES);
    return Array.from({ length: entries }, (_, index) =>
      readE820Entry(this.#view, table + index * E820_ENTRY_SIZE),
    );
  }

  set memoryMap(map: readonly E820Entry[]) {
    const table = bootParamsOffset('e820_table');
    const entries = map.slice(0, E820_TABLE_ENTRIES);
    this.set('e820_entries', entries.length);
    entries.forEach((entry, index) => {
      writeE820Entry(this.#view, table + index * E820_ENTRY_SIZE, entry);
    });
  }
}
