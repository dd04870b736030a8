// Says what a file is, kernel or not, by its first bytes, and what to do with one that cannot be booted here.

import { SETUP_HEADER_MAGIC } from '../protocol/setup-header.ts';
import { ByteView } from './byte-view.ts';
import { EM_386, EM_X86_64, elfMachineName, isElf } from './elf.ts';
import { findPeSection, type PeFile, readPe } from './pe.ts';

/** What a file turned out to be. */
export type FileKind =
  /** zImage, bzImage or another speaker of the x86 boot protocol. */
  | 'x86-boot-image'
  | 'uki'
  | 'vmlinux'
  | 'elf'
  | 'arm64-image'
  | 'riscv-image'
  | 'arm-zimage'
  | 'efi-zboot'
  | 'efi-pe'
  | 'uimage'
  | 'fit'
  | 'xip-image'
  | 'compressed'
  | 'other'
  | 'empty';

export interface FileIdentity {
  readonly kind: FileKind;
  /** A noun phrase with its article: `a PNG picture`. */
  readonly what: string;
  /** What to do instead of booting it, an imperative clause; null where nothing helps. */
  readonly advice: string | null;
}

/** `[offset, magic as Latin-1, what it is, advice]`; the first that matches wins. */
type Magic = readonly [offset: number, magic: string, what: string, advice?: string];

const GIVE_AS_INITRD = 'give it to a kernel with --initrd';

const MAGICS: readonly Magic[] = [
  [0, '\x89PNG\r\n\x1a\n', 'a PNG picture'],
  [0, '\xff\xd8\xff', 'a JPEG picture'],
  [0, 'GIF8', 'a GIF picture'],
  [0, '%PDF-', 'a PDF document'],
  [0, '070701', 'a cpio archive (an initramfs)', GIVE_AS_INITRD],
  [0, '070702', 'a cpio archive (an initramfs)', GIVE_AS_INITRD],
  [0, '070707', 'a cpio archive (an initramfs)', GIVE_AS_INITRD],
  [0, '\xc7\x71', 'a cpio archive (an initramfs)', GIVE_AS_INITRD],
  [0, 'hsqs', 'a squashfs file system', 'take the kernel file out of it'],
  [0, 'sqsh', 'a squashfs file system', 'take the kernel file out of it'],
  [0, '\xeb\x3c\x90MSDOS', 'a FAT file system', 'take the kernel file out of it'],
  [0, '!<arch>\ndebian-binary', 'a Debian package', 'unpack it with dpkg-deb -x and boot its boot/vmlinuz-*'],
  [0, '!<arch>\n', 'an ar archive'],
  [0, '\xed\xab\xee\xdb', 'an RPM package', 'unpack it with rpm2cpio and boot its vmlinuz'],
  [0, 'PK\x03\x04', 'a ZIP archive', 'unpack it and boot the kernel in it'],
  [0, '7z\xbc\xaf\x27\x1c', 'a 7-Zip archive', 'unpack it and boot the kernel in it'],
  [257, 'ustar', 'a tar archive', 'unpack it and boot the kernel in it'],
  [
    0x8001,
    'CD001',
    'an ISO 9660 image',
    'take the kernel file (often boot/vmlinuz or casper/vmlinuz) out of it',
  ],
  [0, 'ANDROID!', 'an Android boot image', 'take the kernel out of it with unpack_bootimg'],
  [0, 'QFI\xfb', 'a qcow2 disk image', 'take the kernel file out of it'],
  [0, 'KDMV', 'a VMDK disk image', 'take the kernel file out of it'],
  [0, 'conectix', 'a VHD disk image', 'take the kernel file out of it'],
  [0, '\xca\xfe\xba\xbe', 'a Mach-O or Java class file'],
  [0, '\xcf\xfa\xed\xfe', 'a Mach-O program'],
  [
    0,
    'version https://git-lfs',
    'a Git LFS pointer and not the file it stands for',
    'fetch that with git lfs pull',
  ],
  [0, '#!', 'a script'],
  [512, 'EFI PART', 'a GPT disk image', 'take the kernel file out of its EFI or boot partition'],
  [0x438, '\x53\xef', 'an ext2/3/4 file system', 'take the kernel file out of it'],
];

const COMPRESSIONS: readonly Magic[] = [
  [0, '\x1f\x8b', 'a gzip', 'gzip -dc'],
  [0, 'BZh', 'a bzip2', 'bzip2 -dc'],
  [0, '\xfd7zXZ\x00', 'an xz', 'xz -dc'],
  [0, '\x89LZO\x00\r\n\x1a\n', 'an lzop', 'lzop -dc'],
  [0, '\x02\x21\x4c\x18', 'a legacy lz4', 'lz4 -dc'],
  [0, '\x04\x22\x4d\x18', 'an lz4', 'lz4 -dc'],
  [0, '\x28\xb5\x2f\xfd', 'a zstd', 'zstd -dc'],
  [0, '\x5d\x00\x00', 'an lzma', 'xz --format=lzma -dc'],
];

/** Where a Linux kernel's banner begins; `Linux version 6.1.0 (builder@host) …`. */
const BANNER = 'Linux version ';

const ON_OTHER_MACHINE = 'boot it on a machine or an emulator of that architecture';

/** Whether text of a kernel's own is in these bytes. */
function hasBanner(bytes: Uint8Array): boolean {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).includes(BANNER, 0, 'latin1');
}

/** What people call a text file: no control characters, and few bytes that are not ASCII or all of it UTF-8. */
function isText(bytes: Uint8Array): boolean {
  const sample = bytes.subarray(0, 4096);
  let high = 0;
  for (const byte of sample) {
    if (byte < 0x20 && ![0x09, 0x0a, 0x0c, 0x0d, 0x1b].includes(byte)) return false;
    if (byte === 0x7f) return false;
    if (byte >= 0x80) high++;
  }
  if (high * 10 <= sample.length) return sample.length > 0;
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(sample, { stream: true });
    return true;
  } catch {
    return false;
  }
}

/** The boot sector of a kernel from before protocol 2.00 begins by moving itself from 0x7c0 to 0x9000. */
function isOldBootSector(view: ByteView): boolean {
  if (!view.has(0, 0x400) || view.u16(0x1fe) !== 0xaa55) return false;
  const move = '\xb8\xc0\x07\x8e\xd8\xb8\x00\x90\x8e\xc0';
  for (let at = 0; at < 16; at++) if (view.startsWith(move, at)) return true;
  return false;
}

/** Whether the bytes are an image that the x86 boot protocol loads: HdrS, or the older boot sector. */
export function isX86BootImage(bytes: Uint8Array): boolean {
  const view = new ByteView(bytes, 'boot sector');
  if (view.has(0x202, 6) && view.u32(0x202) === SETUP_HEADER_MAGIC) return true;
  return isOldBootSector(view);
}

function identifyPe(view: ByteView, pe: PeFile): FileIdentity {
  if (findPeSection(pe, '.linux') !== undefined) {
    return { kind: 'uki', what: `a Unified Kernel Image for ${pe.machineName}`, advice: null };
  }
  if (view.startsWith('zimg', 4)) {
    return {
      kind: 'efi-zboot',
      what: `an EFI zboot kernel image for ${pe.machineName}`,
      advice: ON_OTHER_MACHINE,
    };
  }
  const efi = pe.subsystem >= 10 && pe.subsystem <= 13;
  return {
    kind: 'efi-pe',
    what: efi ? `an ${pe.subsystemName} for ${pe.machineName}` : `a Windows program for ${pe.machineName}`,
    advice: efi ? 'start it from EFI firmware; Bootscope boots kernels by the x86 boot protocol' : null,
  };
}

function identifyElf(bytes: Uint8Array, view: ByteView): FileIdentity {
  const bits = view.has(4, 1) && view.u8(4) === 2 ? 64 : 32;
  const machine = view.has(18, 2) ? (view.u8(5) === 2 ? (view.u8(18) << 8) | view.u8(19) : view.u16(18)) : 0;
  const name = elfMachineName(machine);
  if (hasBanner(bytes)) {
    return {
      kind: 'vmlinux',
      what: `a vmlinux, the bare ELF${bits} kernel for ${name}`,
      advice:
        machine === EM_386 || machine === EM_X86_64
          ? 'boot the bzImage (vmlinuz) that the same build made'
          : ON_OTHER_MACHINE,
    };
  }
  const type = view.has(16, 2) ? view.u16(16) : 0;
  const noun =
    type === 1
      ? 'object file or module'
      : type === 3
        ? 'program or library'
        : type === 4
          ? 'core dump'
          : 'program';
  return { kind: 'elf', what: `an ELF${bits} ${noun} for ${name}`, advice: null };
}

/**
 * Says what a file is. Reads only what it needs, so that the start of a file does (64 KiB and up;
 * a vmlinux is told from another ELF file by its banner, which lies deep inside).
 */
export function identifyFile(bytes: Uint8Array): FileIdentity {
  const view = new ByteView(bytes, 'file');
  if (bytes.length === 0) return { kind: 'empty', what: 'an empty file', advice: null };
  if (isElf(bytes)) return identifyElf(bytes, view);

  const pe = readPe(bytes);
  if (pe !== null && findPeSection(pe, '.linux') !== undefined) return identifyPe(view, pe);
  if (isX86BootImage(bytes)) {
    return { kind: 'x86-boot-image', what: 'an image for the x86 boot protocol', advice: null };
  }
  if (view.startsWith('ARM\x64', 0x38)) {
    return { kind: 'arm64-image', what: 'an ARM64 kernel Image', advice: ON_OTHER_MACHINE };
  }
  if (view.startsWith('RSC\x05', 0x38) || view.startsWith('RISCV\0\0\0', 0x30)) {
    return { kind: 'riscv-image', what: 'a RISC-V kernel Image', advice: ON_OTHER_MACHINE };
  }
  if (pe !== null) return identifyPe(view, pe);
  if (view.startsWith('\x18\x28\x6f\x01', 0x24) || view.startsWith('\x01\x6f\x28\x18', 0x24)) {
    return { kind: 'arm-zimage', what: 'an ARM zImage', advice: ON_OTHER_MACHINE };
  }
  if (view.startsWith('\x27\x05\x19\x56')) {
    return {
      kind: 'uimage',
      what: 'a U-Boot uImage',
      advice: 'boot it with U-Boot, or take the kernel out with dumpimage',
    };
  }
  if (view.startsWith('\xd0\x0d\xfe\xed')) {
    return {
      kind: 'fit',
      what: 'a flattened device tree or U-Boot FIT image',
      advice: 'take the kernel out with dumpimage',
    };
  }
  for (const [offset, magic, what, tool] of COMPRESSIONS) {
    if (!view.startsWith(magic, offset)) continue;
    return {
      kind: 'compressed',
      what: `${what} file`,
      advice: `unpack it with ${tool} and boot what is in it`,
    };
  }
  for (const [offset, magic, what, advice] of MAGICS) {
    if (view.startsWith(magic, offset)) return { kind: 'other', what, advice: advice ?? null };
  }
  if (isText(bytes)) return { kind: 'other', what: 'a text file', advice: null };
  if (hasBanner(bytes)) {
    return {
      kind: 'xip-image',
      what: 'a raw kernel without any header (an xipImage, or the Image inside another format)',
      advice: ON_OTHER_MACHINE,
    };
  }
  if (view.has(0x1fe, 2) && view.u16(0x1fe) === 0xaa55) {
    return {
      kind: 'other',
      what: 'a boot sector or disk image without a Linux setup header',
      advice: 'take the kernel file out of it',
    };
  }
  if (bytes.every((byte) => byte === 0))
    return { kind: 'other', what: 'a file of nothing but zeroes', advice: null };
  return { kind: 'other', what: 'no kernel image that Bootscope knows', advice: null };
}

/** One sentence for a file that cannot be booted: what it is and what to do instead. */
export function cannotBootSentence(path: string, identity: FileIdentity): string {
  const instead =
    identity.advice ?? 'give a bzImage or zImage, the file a distribution installs as /boot/vmlinuz-*';
  return `${path} is ${identity.what}, which cannot be booted here: ${instead}`;
}
