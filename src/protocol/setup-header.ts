// The setup header of boot.rst ("The Real-Mode Kernel Header") as one table, and its reader and writer.
// Whatever prints, reads or writes a header field takes its offset and meaning from here.
// Long, for it is one table: a row a field.

import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';

/** Who writes a field: `read` is the image's, `write` the boot loader's, `modify` both, `internal` neither. */
export type SetupHeaderFieldKind = 'read' | 'write' | 'modify' | 'internal';

/** One row of the table. */
export interface SetupHeaderFieldRow {
  readonly name: string;
  /** Offset in bytes from the start of the boot sector, and likewise from the start of boot_params. */
  readonly offset: number;
  /** Width in bytes; little endian. */
  readonly size: 1 | 2 | 4 | 8;
  /** The width in images whose protocol is older than `before`. */
  readonly narrower?: { readonly before: number; readonly size: 1 | 2 | 4 };
  /** The first protocol version that has the field, (major << 8) + minor; 0 for the old boot sector's own. */
  readonly since: number;
  readonly kind: SetupHeaderFieldKind;
  /** How people like to see the number. */
  readonly format: 'decimal' | 'hex';
  readonly meaning: string;
}

/** All fields up to protocol 2.15, in the order of their offsets. */
export const SETUP_HEADER_FIELDS = [
  {
    name: 'setup_sects',
    offset: 0x1f1,
    size: 1,
    since: 0,
    kind: 'read',
    format: 'decimal',
    meaning: '512-byte sectors of setup code behind the boot sector; 0 stands for 4',
  },
  {
    name: 'root_flags',
    offset: 0x1f2,
    size: 2,
    since: 0,
    kind: 'modify',
    format: 'decimal',
    meaning: 'not 0: the root file system is mounted read-only at first (deprecated)',
  },
  {
    name: 'syssize',
    offset: 0x1f4,
    size: 4,
    narrower: { before: 0x0204, size: 2 },
    since: 0,
    kind: 'read',
    format: 'hex',
    meaning: 'size of the protected-mode code in 16-byte paragraphs; only its low 16 bits before 2.04',
  },
  {
    name: 'ram_size',
    offset: 0x1f8,
    size: 2,
    since: 0,
    kind: 'internal',
    format: 'hex',
    meaning: 'RAM disk settings of old kernels (obsolete)',
  },
  {
    name: 'vid_mode',
    offset: 0x1fa,
    size: 2,
    since: 0,
    kind: 'modify',
    format: 'hex',
    meaning: 'video mode to set: 0xffff normal, 0xfffe extended, 0xfffd ask, else a mode number',
  },
  {
    name: 'root_dev',
    offset: 0x1fc,
    size: 2,
    since: 0,
    kind: 'modify',
    format: 'hex',
    meaning: 'default root device, major and minor number (deprecated)',
  },
  {
    name: 'boot_flag',
    offset: 0x1fe,
    size: 2,
    since: 0,
    kind: 'read',
    format: 'hex',
    meaning: 'boot sector signature, 0xaa55',
  },
  {
    name: 'jump',
    offset: 0x200,
    size: 2,
    since: 0x0200,
    kind: 'read',
    format: 'hex',
    meaning: 'short jump over the header; its target is the end of the header',
  },
  {
    name: 'header',
    offset: 0x202,
    size: 4,
    since: 0x0200,
    kind: 'read',
    format: 'hex',
    meaning: 'magic "HdrS"',
  },
  {
    name: 'version',
    offset: 0x206,
    size: 2,
    since: 0x0200,
    kind: 'read',
    format: 'hex',
    meaning: 'boot protocol version, major in the high byte',
  },
  {
    name: 'realmode_swtch',
    offset: 0x208,
    size: 4,
    since: 0x0200,
    kind: 'modify',
    format: 'hex',
    meaning: 'far pointer to a hook that runs just before protected mode; 0 for none',
  },
  {
    name: 'start_sys_seg',
    offset: 0x20c,
    size: 2,
    since: 0x0200,
    kind: 'read',
    format: 'hex',
    meaning: 'segment a low-loaded system is read to, 0x1000 (obsolete)',
  },
  {
    name: 'kernel_version',
    offset: 0x20e,
    size: 2,
    since: 0x0200,
    kind: 'read',
    format: 'hex',
    meaning: 'file offset of the version string minus 0x200; 0 for none',
  },
  {
    name: 'type_of_loader',
    offset: 0x210,
    size: 1,
    since: 0x0200,
    kind: 'write',
    format: 'hex',
    meaning: 'boot loader id in the high four bits, its version in the low four; 0xff for one without id',
  },
  {
    name: 'loadflags',
    offset: 0x211,
    size: 1,
    since: 0x0200,
    kind: 'modify',
    format: 'hex',
    meaning: 'how to load and what the loader filled in',
  },
  {
    name: 'setup_move_size',
    offset: 0x212,
    size: 2,
    since: 0x0200,
    kind: 'modify',
    format: 'hex',
    meaning: 'bytes to move to 0x90000 with setup, from the boot sector on (protocols 2.00 and 2.01)',
  },
  {
    name: 'code32_start',
    offset: 0x214,
    size: 4,
    since: 0x0200,
    kind: 'modify',
    format: 'hex',
    meaning: 'address setup jumps to in protected mode: where the protected-mode code was loaded',
  },
  {
    name: 'ramdisk_image',
    offset: 0x218,
    size: 4,
    since: 0x0200,
    kind: 'write',
    format: 'hex',
    meaning: 'physical address of the initrd; 0 for none',
  },
  {
    name: 'ramdisk_size',
    offset: 0x21c,
    size: 4,
    since: 0x0200,
    kind: 'write',
    format: 'decimal',
    meaning: 'bytes of the initrd',
  },
  {
    name: 'bootsect_kludge',
    offset: 0x220,
    size: 4,
    since: 0x0200,
    kind: 'internal',
    format: 'hex',
    meaning: 'far pointer by which an old boot sector calls setup to move its blocks up (obsolete)',
  },
  {
    name: 'heap_end_ptr',
    offset: 0x224,
    size: 2,
    since: 0x0201,
    kind: 'write',
    format: 'hex',
    meaning: "end of setup's heap and stack, from the boot sector on, minus 0x200",
  },
  {
    name: 'ext_loader_ver',
    offset: 0x226,
    size: 1,
    since: 0x0202,
    kind: 'write',
    format: 'hex',
    meaning: 'high bits of the boot loader version',
  },
  {
    name: 'ext_loader_type',
    offset: 0x227,
    size: 1,
    since: 0x0202,
    kind: 'write',
    format: 'hex',
    meaning: 'boot loader id minus 0x10, where type_of_loader says 0xE',
  },
  {
    name: 'cmd_line_ptr',
    offset: 0x228,
    size: 4,
    since: 0x0202,
    kind: 'write',
    format: 'hex',
    meaning: 'physical address of the command line, NUL-terminated',
  },
  {
    name: 'initrd_addr_max',
    offset: 0x22c,
    size: 4,
    since: 0x0203,
    kind: 'read',
    format: 'hex',
    meaning: 'highest address a byte of the initrd may have',
  },
  {
    name: 'kernel_alignment',
    offset: 0x230,
    size: 4,
    since: 0x0205,
    kind: 'modify',
    format: 'hex',
    meaning: 'alignment of the load address that a relocatable kernel wants',
  },
  {
    name: 'relocatable_kernel',
    offset: 0x234,
    size: 1,
    since: 0x0205,
    kind: 'read',
    format: 'decimal',
    meaning: 'not 0: the protected-mode code may be loaded at any aligned address',
  },
  {
    name: 'min_alignment',
    offset: 0x235,
    size: 1,
    since: 0x020a,
    kind: 'read',
    format: 'decimal',
    meaning: 'least alignment the kernel can live with, as a power of two',
  },
  {
    name: 'xloadflags',
    offset: 0x236,
    size: 2,
    since: 0x020c,
    kind: 'read',
    format: 'hex',
    meaning: 'what the kernel can do beyond the 32-bit protocol',
  },
  {
    name: 'cmdline_size',
    offset: 0x238,
    size: 4,
    since: 0x0206,
    kind: 'read',
    format: 'decimal',
    meaning: 'longest command line in bytes, without its NUL',
  },
  {
    name: 'hardware_subarch',
    offset: 0x23c,
    size: 4,
    since: 0x0207,
    kind: 'write',
    format: 'decimal',
    meaning: 'platform: 0 PC, 1 lguest, 2 Xen, 3 Moorestown, 4 CE4100',
  },
  {
    name: 'hardware_subarch_data',
    offset: 0x240,
    size: 8,
    since: 0x0207,
    kind: 'write',
    format: 'hex',
    meaning: 'pointer whose meaning depends on hardware_subarch',
  },
  {
    name: 'payload_offset',
    offset: 0x248,
    size: 4,
    since: 0x0208,
    kind: 'read',
    format: 'hex',
    meaning: 'offset of the compressed kernel in the protected-mode code',
  },
  {
    name: 'payload_length',
    offset: 0x24c,
    size: 4,
    since: 0x0208,
    kind: 'read',
    format: 'decimal',
    meaning: 'bytes of the compressed kernel',
  },
  {
    name: 'setup_data',
    offset: 0x250,
    size: 8,
    since: 0x0209,
    kind: 'write',
    format: 'hex',
    meaning: 'physical address of a linked list of further parameters; 0 for none',
  },
  {
    name: 'pref_address',
    offset: 0x258,
    size: 8,
    since: 0x020a,
    kind: 'read',
    format: 'hex',
    meaning: 'load address the kernel prefers; one that is not relocatable always runs there',
  },
  {
    name: 'init_size',
    offset: 0x260,
    size: 4,
    since: 0x020a,
    kind: 'read',
    format: 'hex',
    meaning: 'bytes of memory the kernel needs from its runtime start before it looks at the memory map',
  },
  {
    name: 'handover_offset',
    offset: 0x264,
    size: 4,
    since: 0x020b,
    kind: 'read',
    format: 'hex',
    meaning: 'offset of the EFI handover entry in the protected-mode code; 0 for none',
  },
  {
    name: 'kernel_info_offset',
    offset: 0x268,
    size: 4,
    since: 0x020f,
    kind: 'read',
    format: 'hex',
    meaning: 'offset of the kernel_info structure in the protected-mode code',
  },
] as const satisfies readonly SetupHeaderFieldRow[];

/** The name of a field, as in boot.rst. */
export type SetupHeaderField = (typeof SETUP_HEADER_FIELDS)[number]['name'];

/** One bit of a flags field. */
export interface SetupHeaderFlag {
  readonly field: SetupHeaderField;
  readonly mask: number;
  readonly name: string;
  readonly meaning: string;
}

/** The bits of loadflags and xloadflags (boot.rst and the kernel's uapi bootparam.h). */
export const SETUP_HEADER_FLAGS: readonly SetupHeaderFlag[] = [
  {
    field: 'loadflags',
    mask: 0x01,
    name: 'LOADED_HIGH',
    meaning: 'the protected-mode code goes to 0x100000, not to 0x10000',
  },
  { field: 'loadflags', mask: 0x02, name: 'KASLR_FLAG', meaning: 'set by the boot stub when KASLR is on' },
  { field: 'loadflags', mask: 0x20, name: 'QUIET_FLAG', meaning: 'the loader asks for no early messages' },
  {
    field: 'loadflags',
    mask: 0x40,
    name: 'KEEP_SEGMENTS',
    meaning: 'the 32-bit entry leaves the segment registers alone (obsolete)',
  },
  { field: 'loadflags', mask: 0x80, name: 'CAN_USE_HEAP', meaning: 'heap_end_ptr is valid' },
  { field: 'xloadflags', mask: 0x01, name: 'XLF_KERNEL_64', meaning: 'there is a 64-bit entry at +0x200' },
  {
    field: 'xloadflags',
    mask: 0x02,
    name: 'XLF_CAN_BE_LOADED_ABOVE_4G',
    meaning: 'kernel, boot_params, command line and initrd may lie above 4 GiB',
  },
  { field: 'xloadflags', mask: 0x04, name: 'XLF_EFI_HANDOVER_32', meaning: '32-bit EFI handover entry' },
  { field: 'xloadflags', mask: 0x08, name: 'XLF_EFI_HANDOVER_64', meaning: '64-bit EFI handover entry' },
  { field: 'xloadflags', mask: 0x10, name: 'XLF_EFI_KEXEC', meaning: 'kexec keeps EFI runtime services' },
  { field: 'xloadflags', mask: 0x20, name: 'XLF_5LEVEL', meaning: 'knows five-level page tables' },
  {
    field: 'xloadflags',
    mask: 0x40,
    name: 'XLF_5LEVEL_ENABLED',
    meaning: 'uses five-level page tables where the CPU has them',
  },
  {
    field: 'xloadflags',
    mask: 0x80,
    name: 'XLF_MEM_ENCRYPTION',
    meaning: 'takes an encrypted kernel image (AMD SME)',
  },
];

/** `HdrS`, little endian. */
export const SETUP_HEADER_MAGIC = 0x53726448;

const ROWS: ReadonlyMap<string, SetupHeaderFieldRow> = new Map(
  SETUP_HEADER_FIELDS.map((row): [string, SetupHeaderFieldRow] => [row.name, row]),
);

/** The table's row of a field. */
export function setupHeaderRow(name: SetupHeaderField): SetupHeaderFieldRow {
  const row = ROWS.get(name);
  if (row === undefined)
    throw new BootscopeError('image-field-unknown', `the setup header has no field ${name}`);
  return row;
}

/** A setup header as it lies in an image. */
export interface SetupHeader {
  /** Boot protocol version, `0x020f`; 0 where there is no HdrS. */
  readonly protocol: number;
  /** The same for people, `2.15`; null where there is no HdrS. */
  readonly version: string | null;
  /** Offset behind the last byte of the header: 0x202 + the byte at 0x201; 0x200 without HdrS. */
  readonly end: number;
  /** Whether this image's protocol has the field (and its header reaches that far). */
  has(name: SetupHeaderField): boolean;
  /**
   * The field's value; 0 where the protocol has no such field.
   * @throws BootscopeError `image-number-range` for an 8-byte value that a number cannot hold
   */
  get(name: SetupHeaderField): number;
  /** The field's value as a bigint, for the 8-byte fields; 0n where the protocol has no such field. */
  getBig(name: SetupHeaderField): bigint;
}

/** `2.15` for 0x020f; minor versions have two digits, as in boot.rst. */
export function formatProtocol(protocol: number): string {
  return `${protocol >> 8}.${String(protocol & 0xff).padStart(2, '0')}`;
}

/** Protocol and end of the header that starts (with its boot sector) at `base`. */
function locateHeader(view: DataView, base: number): { protocol: number; end: number } {
  const available = view.byteLength - base;
  if (available < 0x208 || view.getUint32(base + 0x202, true) !== SETUP_HEADER_MAGIC) {
    return { protocol: 0, end: Math.min(0x200, Math.max(available, 0)) };
  }
  const protocol = view.getUint16(base + 0x206, true);
  // Only a forward short jump says where the header ends (boot.rst, "jump").
  const displacement = view.getUint8(base + 0x201);
  const end =
    view.getUint8(base + 0x200) === 0xeb && displacement >= 0x06 && displacement < 0x80
      ? 0x202 + displacement
      : 0x202 + 0x7f;
  return { protocol, end: Math.min(end, available) };
}

function widthOf(row: SetupHeaderFieldRow, protocol: number): 1 | 2 | 4 | 8 {
  return row.narrower !== undefined && protocol < row.narrower.before ? row.narrower.size : row.size;
}

function fieldExists(row: SetupHeaderFieldRow, protocol: number, end: number): boolean {
  return protocol >= row.since && row.offset + widthOf(row, protocol) <= end;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * Reads the setup header of an image (or of boot_params, which has it at the same offsets).
 * Never throws: without HdrS the protocol is 0 and only the old boot sector's fields are there.
 *
 * @param bytes - the image, boot sector first; the first 0x281 bytes are enough
 */
export function readSetupHeader(bytes: Uint8Array): SetupHeader {
  // A snapshot; `slice` of a Buffer would not be one.
  const copy = Uint8Array.from(bytes.subarray(0, 0x300));
  const view = viewOf(copy);
  const { protocol, end } = locateHeader(view, 0);
  const getBig = (name: SetupHeaderField): bigint => {
    const row = setupHeaderRow(name);
    if (!fieldExists(row, protocol, end)) return 0n;
    switch (widthOf(row, protocol)) {
      case 1:
        return BigInt(view.getUint8(row.offset));
      case 2:
        return BigInt(view.getUint16(row.offset, true));
      case 4:
        return BigInt(view.getUint32(row.offset, true));
      case 8:
        return view.getBigUint64(row.offset, true);
    }
  };
  return {
    protocol,
    version: protocol === 0 ? null : formatProtocol(protocol),
    end,
    has: (name) => fieldExists(setupHeaderRow(name), protocol, end),
    get: (name) => {
      const value = getBig(name);
      if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
        throw new BootscopeError(
          'image-number-range',
          `${name} is ${hex(value)}, larger than any address or size Bootscope works with`,
        );
      }
      return Number(value);
    },
    getBig,
  };
}

/**
 * Writes one field of a setup header in memory, after checking that the image's protocol has it: below
 * 2.03, for one, there is code at 0x22c, which a loader must leave alone.
 *
 * @param target - memory that holds the header
 * @param headerBase - offset in `target` of the boot sector (0x90000), or of boot_params
 * @param value - an unsigned number that fits the field
 * @throws BootscopeError `image-field-missing` for a field this protocol lacks, `image-number-range`
 */
export function writeSetupHeaderField(
  target: Uint8Array,
  headerBase: number,
  name: SetupHeaderField,
  value: number | bigint,
): void {
  const row = setupHeaderRow(name);
  if (!Number.isSafeInteger(headerBase) || headerBase < 0 || headerBase > target.length) {
    throw new BootscopeError(
      'image-number-range',
      `no setup header can be at ${headerBase}, memory has ${target.length} bytes`,
    );
  }
  const view = viewOf(target);
  const { protocol, end } = locateHeader(view, headerBase);
  if (!fieldExists(row, protocol, end)) {
    const has = protocol === 0 ? 'no setup header' : `boot protocol ${formatProtocol(protocol)}`;
    throw new BootscopeError(
      'image-field-missing',
      `${name} at ${hex(row.offset)} cannot be written: it needs boot protocol ` +
        `${formatProtocol(row.since)}, the image has ${has} and its header ends at ${hex(end)}`,
    );
  }
  const width = widthOf(row, protocol);
  if (typeof value === 'number' && !Number.isSafeInteger(value)) {
    throw new BootscopeError('image-number-range', `${name} cannot hold ${value}, it takes a whole number`);
  }
  const big = BigInt(value);
  if (big < 0n || big >= 1n << BigInt(width * 8)) {
    throw new BootscopeError('image-number-range', `${name} has ${width} bytes and cannot hold ${big}`);
  }
  const offset = headerBase + row.offset;
  if (width === 8) view.setBigUint64(offset, big, true);
  else if (width === 4) view.setUint32(offset, Number(big), true);
  else if (width === 2) view.setUint16(offset, Number(big), true);
  else view.setUint8(offset, Number(big));
}
