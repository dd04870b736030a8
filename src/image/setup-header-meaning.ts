// Explains the values in a setup header: flag bits by name, boot loader ids, sizes in bytes.

import { hex } from '../hex.ts';
import {
  SETUP_HEADER_FLAGS,
  type SetupHeader,
  type SetupHeaderField,
  type SetupHeaderFlag,
  setupHeaderRow,
} from '../protocol/setup-header.ts';
import { formatSize } from '../size.ts';

/** Assigned boot loader ids (boot.rst, "type_of_loader"), extended ones from 0x10 on. */
const BOOT_LOADERS: ReadonlyMap<number, string> = new Map([
  [0x0, 'LILO'],
  [0x1, 'Loadlin'],
  [0x2, 'bootsect-loader'],
  [0x3, 'Syslinux'],
  [0x4, 'Etherboot, gPXE or iPXE'],
  [0x5, 'ELILO'],
  [0x7, 'GRUB'],
  [0x8, 'U-Boot'],
  [0x9, 'Xen'],
  [0xa, 'Gujin'],
  [0xb, 'QEMU'],
  [0xc, 'Arcturus Networks uCbootloader'],
  [0xd, 'kexec-tools'],
  [0x11, 'Minimal Linux Bootloader'],
  [0x12, 'OVMF'],
  [0x13, 'barebox'],
]);

const VIDEO_MODES: ReadonlyMap<number, string> = new Map([
  [0xffff, 'normal'],
  [0xfffe, 'extended'],
  [0xfffd, 'ask'],
]);

const SUBARCHITECTURES = ['PC', 'lguest', 'Xen', 'Moorestown', 'CE4100'] as const;

/** The flags set in loadflags or xloadflags; bits without a name come as `bit N`. */
export function setupHeaderFlags(header: SetupHeader, field: 'loadflags' | 'xloadflags'): SetupHeaderFlag[] {
  let rest = header.get(field);
  const flags: SetupHeaderFlag[] = [];
  for (const flag of SETUP_HEADER_FLAGS) {
    if (flag.field !== field || (rest & flag.mask) === 0) continue;
    flags.push(flag);
    rest &= ~flag.mask;
  }
  for (let bit = 0; bit < 16; bit++) {
    const mask = 1 << bit;
    if ((rest & mask) !== 0)
      flags.push({ field, mask, name: `bit ${bit}`, meaning: 'not known to boot.rst' });
  }
  return flags;
}

/** The field's value as people write it: decimal, or hex with `0x`. */
export function formatSetupHeaderValue(header: SetupHeader, name: SetupHeaderField): string {
  const value = header.getBig(name);
  return setupHeaderRow(name).format === 'decimal' ? value.toString() : `${hex(value)}`;
}

/**
 * What a value says beyond its number, `LOADED_HIGH | CAN_USE_HEAP`, `2.15`, `19968 bytes`; null where the
 * number says it all.
 */
export function explainSetupHeaderField(header: SetupHeader, name: SetupHeaderField): string | null {
  if (!header.has(name)) return null;
  const big = header.getBig(name);
  const value = big <= 0xffff_ffffn ? Number(big) : -1;
  switch (name) {
    case 'setup_sects':
      return `${(value === 0 ? 4 : value) * 512} bytes`;
    case 'syssize':
      return `${value * 16} bytes`;
    case 'vid_mode':
      return VIDEO_MODES.get(value) ?? null;
    case 'root_dev':
      return value === 0 ? null : `major ${value >> 8}, minor ${value & 0xff}`;
    case 'boot_flag':
      return value === 0xaa55 ? null : 'not the boot sector signature 0xaa55';
    case 'jump':
      return (value & 0xff) === 0xeb ? `to ${hex(header.end)}` : 'not a short jump';
    case 'header':
      return '"HdrS"';
    case 'version':
      return header.version;
    case 'realmode_swtch':
    case 'bootsect_kludge':
      return value === 0 ? null : `${hex4(value >>> 16)}:${hex4(value & 0xffff)}`;
    case 'kernel_version':
      return value === 0 ? 'none' : `at 0x${(value + 0x200).toString(16)} in the image`;
    case 'type_of_loader':
      return explainLoader(header, value);
    case 'loadflags':
    case 'xloadflags':
      return (
        setupHeaderFlags(header, name)
          .map((flag) => flag.name)
          .join(' | ') || null
      );
    case 'relocatable_kernel':
      return value === 0 ? 'no' : 'yes';
    case 'min_alignment':
      return value === 0 || value > 52 ? null : `0x${(2 ** value).toString(16)} bytes`;
    case 'hardware_subarch':
      return SUBARCHITECTURES[value] ?? null;
    case 'kernel_alignment':
    case 'init_size':
      return value < 1024 ? null : formatSize(value);
    case 'handover_offset':
      return value === 0 ? 'none' : null;
    default:
      return null;
  }
}

function explainLoader(header: SetupHeader, value: number): string | null {
  if (value === 0) return null;
  if (value === 0xff) return 'a loader without an id';
  const id = value >> 4 === 0xe ? 0x10 + header.get('ext_loader_type') : value >> 4;
  return `${BOOT_LOADERS.get(id) ?? `loader ${hex(id)}`}, version ${value & 0xf}`;
}

function hex4(value: number): string {
  return value.toString(16).padStart(4, '0');
}
