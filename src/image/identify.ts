// Says what a file is, kernel or not, by its first bytes, and what to do with one that cannot be booted here.

import { indexOfText } from '../host/host.ts';
import { SETUP_HEADER_MAGIC } from '../protocol/setup-header.ts';
import { readAndroidBoot } from './android-boot.ts';
import { ByteView } from './byte-view.ts';
import { childNode, isDeviceTree, readDeviceTree } from './device-tree.ts';
import {
  type ElfFile,
  EM_386,
  EM_X86_64,
  ET_CORE,
  ET_DYN,
  ET_REL,
  elfMachineName,
  isElf,
  PT_INTERP,
  readElf,
} from './elf.ts';
import { COMPRESSION_MAGICS, findMagic, isText, OTHER_MAGICS, PROGRAM_TEXTS } from './file-magics.ts';
import { firstArchive, isCpio } from './initrd.ts';
import { hasBanner } from './kernel-version.ts';
import { readMultibootHeader } from './multiboot.ts';
import { findPeSection, type PeFile, readPe } from './pe.ts';
import { findCandidates } from './stream-search.ts';
import { detectCompression, pastSkippableFrames } from './unpack.ts';

/** What a file turned out to be. */
export type FileKind =
  /** zImage, bzImage or another speaker of the x86 boot protocol. */
  | 'x86-boot-image'
  | 'uki'
  | 'vmlinux'
  /** A program that unpacks and starts the kernel it carries, ELF (`compressed/vmlinux`, MIPS and PowerPC's vmlinuz) or flat. */
  | 'boot-wrapper'
  | 'user-mode-linux'
  | 'multiboot'
  | 'elf'
  | 'arm64-image'
  | 'riscv-image'
  | 'loongarch-image'
  | 'arm-zimage'
  | 's390-image'
  | 'efi-zboot'
  | 'efi-pe'
  | 'uimage'
  | 'fit'
  | 'device-tree'
  | 'vboot'
  | 'android-boot'
  | 'xip-image'
  | 'initrd'
  /** A disk or its first sector, from which a PC's firmware would boot. */
  | 'disk'
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

/** A file that nothing is known of. */
export const UNKNOWN_FILE = 'no kernel image that Bootscope knows';
/** Where a PC's firmware loads a boot sector. */
const BOOT_SECTOR = 0x7c00;
const ON_OTHER_MACHINE = 'boot it on a machine or an emulator of that architecture';
/** OMAGIC, NMAGIC, ZMAGIC and QMAGIC of a.out for i386 (linux/a.out.h). */
const AOUT_MAGICS = ['\x07\x01\x64', '\x08\x01\x64', '\x0b\x01\x64', '\xcc\0\x64'];
const BOOT_THE_BZIMAGE = 'boot the bzImage (vmlinuz) that the same build made';
const BOOT_AS_DISK = 'boot from it as a disk, or take the kernel file out of it';

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

/** A damaged tree is looked through so far for the node that makes it a FIT image. */
const IMAGES_NODE_SEARCH = 0x1000;
/** The part of a boot wrapper that the compressed kernel has at least. */
const LEAST_PAYLOAD_SHARE = 0.3;
/** Sections of a compressed kernel in the links of x86, PowerPC, MIPS. */
const PAYLOAD_SECTIONS = ['.rodata..compressed', '.rodata.compressed', '.kernel:vmlinux.strip', '.image'];

/** Whether an ELF program carries a compressed kernel: by its section, or by the place a sound stream takes in it. */
function carriesKernel(elf: ElfFile): boolean {
  if (elf.type === ET_REL || elf.programHeaders.some(({ type }) => type === PT_INTERP)) return false;
  return elf.sections.some(({ name }) => PAYLOAD_SECTIONS.includes(name)) || holdsLateStream(elf.bytes);
}

/** Whether the last thing that looks like a compressed stream takes a good part of these bytes. */
function holdsLateStream(bytes: Uint8Array): boolean {
  const last = findCandidates(bytes).at(-1);
  return last !== undefined && bytes.length - last.offset > bytes.length * LEAST_PAYLOAD_SHARE;
}

/** A far jump as the first instruction, to code a little behind 0x7c00: the program knows where it was loaded. */
function isLoadedAt7c00(view: ByteView): boolean {
  if (!view.startsWith('\xea') || !view.has(0, 5)) return false;
  const target = view.u16(3) * 16 + view.u16(1);
  return target >= BOOT_SECTOR && target < BOOT_SECTOR + 0x1000;
}

function identifyElf(bytes: Uint8Array, view: ByteView): FileIdentity {
  let elf: ElfFile;
  try {
    elf = readElf(bytes);
  } catch {
    const machine = view.has(18, 2) ? view.u16(18) : 0;
    return { kind: 'elf', what: `a damaged ELF file for ${elfMachineName(machine)}`, advice: null };
  }
  const { bits, type } = elf;
  const name = elf.machineName;
  const isX86 = elf.machine === EM_386 || elf.machine === EM_X86_64;
  const interpreted = elf.programHeaders.some((header) => header.type === PT_INTERP);
  const banner = type !== ET_REL && type !== ET_CORE && hasBanner(bytes);
  if (banner && (interpreted || elf.sections.some((section) => section.name === '.uml.setup.init'))) {
    return {
      kind: 'user-mode-linux',
      what: `User-mode Linux, a kernel for ${name} that is a program of another Linux`,
      advice: 'run it as a program',
    };
  }
  if (banner) {
    return {
      kind: 'vmlinux',
      what: `a vmlinux, the bare ELF${bits} kernel for ${name}`,
      advice: isX86 ? null : ON_OTHER_MACHINE,
    };
  }
  const multiboot = type === ET_REL || interpreted ? null : readMultibootHeader(bytes);
  if (multiboot !== null)
    return identifyMultiboot(bytes, `an ELF${bits} kernel for ${name}`, multiboot.version);
  if (carriesKernel(elf)) {
    return isX86
      ? {
          kind: 'boot-wrapper',
          what: `compressed/vmlinux, the ELF${bits} link of a boot stub and its payload for ${name}`,
          advice: BOOT_THE_BZIMAGE,
        }
      : {
          kind: 'boot-wrapper',
          what: `a vmlinuz for ${name}, an ELF${bits} program that unpacks the kernel it carries`,
          advice: ON_OTHER_MACHINE,
        };
  }
  const nouns: Readonly<Record<number, string>> = {
    [ET_REL]: 'object file or module',
    [ET_DYN]: 'program or library',
    [ET_CORE]: 'core dump',
  };
  return { kind: 'elf', what: `an ELF${bits} ${nouns[type] ?? 'program'} for ${name}`, advice: null };
}

/** Whether the format string of Xen's own banner is in these bytes. */
export function holdsXen(bytes: Uint8Array): boolean {
  return indexOfText(bytes, 'Xen version %d.%d%s') >= 0;
}

function identifyMultiboot(bytes: Uint8Array, noun: string, version: 1 | 2): FileIdentity {
  return {
    kind: 'multiboot',
    what: holdsXen(bytes)
      ? `the Xen hypervisor, ${noun} with a Multiboot ${version} header`
      : `a Multiboot ${version} kernel, ${noun}`,
    advice: "start it with a Multiboot loader such as GRUB; Linux's boot protocol does not start it",
  };
}

/** Kernel images that have a magic of their own, by it. */
function identifyKernel(bytes: Uint8Array, view: ByteView): FileIdentity | null {
  const onOtherMachine = (kind: FileKind, what: string): FileIdentity => ({
    kind,
    what,
    advice: ON_OTHER_MACHINE,
  });
  const pe = readPe(bytes);
  if (pe !== null && findPeSection(pe, '.linux') !== undefined) return identifyPe(view, pe);
  if (isX86BootImage(bytes)) {
    const what =
      view.has(0x202, 4) && view.u32(0x202) === SETUP_HEADER_MAGIC
        ? 'an image for the x86 boot protocol'
        : 'an x86 kernel image from before the boot protocol';
    return { kind: 'x86-boot-image', what, advice: null };
  }
  if (view.startsWith('ARM\x64', 0x38)) return onOtherMachine('arm64-image', 'an ARM64 kernel Image');
  if (view.startsWith('RSC\x05', 0x38) || view.startsWith('RISCV\0\0\0', 0x30)) {
    return onOtherMachine('riscv-image', 'a RISC-V kernel Image');
  }
  // Before PE: a zImage with an EFI stub is both.
  if (view.startsWith('\x18\x28\x6f\x01', 0x24) || view.startsWith('\x01\x6f\x28\x18', 0x24)) {
    return onOtherMachine(
      'arm-zimage',
      pe === null ? 'an ARM zImage' : 'an ARM zImage that is an EFI program, too',
    );
  }
  if (pe !== null) {
    if (view.startsWith('\xcd\x23\x82\x81', 0x38) && !view.startsWith('zimg', 4)) {
      return onOtherMachine('loongarch-image', 'a LoongArch kernel Image');
    }
    return identifyPe(view, pe);
  }
  if (view.startsWith('S390EP', 0x10008)) return onOtherMachine('s390-image', 'an s390 kernel image');
  if (view.startsWith('\x27\x05\x19\x56')) {
    return {
      kind: 'uimage',
      what: 'a U-Boot uImage',
      advice: 'boot it with U-Boot, or take the kernel out with dumpimage',
    };
  }
  if (isDeviceTree(bytes)) return identifyDeviceTree(bytes);
  if (view.startsWith('CHROMEOS') && view.has(0, 112)) {
    return { kind: 'vboot', what: 'a ChromeOS kernel partition', advice: null };
  }
  if (readAndroidBoot(bytes) !== null) {
    return { kind: 'android-boot', what: 'an Android boot image', advice: null };
  }
  return null;
}

function identifyDeviceTree(bytes: Uint8Array): FileIdentity {
  let isFit = false;
  try {
    isFit = childNode(readDeviceTree(bytes).root, 'images') !== undefined;
  } catch {
    // What is damaged is said where it is read. BEGIN_NODE with that name is near the start.
    isFit = indexOfText(bytes.subarray(0, IMAGES_NODE_SEARCH), '\0\0\0\x01images\0\0') >= 0;
  }
  return isFit
    ? {
        kind: 'fit',
        what: 'a U-Boot FIT image',
        advice: 'boot it with U-Boot, or take the kernel out with dumpimage',
      }
    : { kind: 'device-tree', what: 'a flattened device tree', advice: 'give it to a kernel of its machine' };
}

/**
 * Says what a file is. Reads only what it needs, so that the start of a file does (64 KiB and up;
 * a vmlinux is told from another ELF file by its banner, which lies deep inside).
 */
export function identifyFile(bytes: Uint8Array): FileIdentity {
  const view = new ByteView(bytes, 'file');
  if (bytes.length === 0) return { kind: 'empty', what: 'an empty file', advice: null };
  if (isElf(bytes)) return identifyElf(bytes, view);
  const kernel = identifyKernel(bytes, view);
  if (kernel !== null) return kernel;

  const frame = pastSkippableFrames(bytes);
  const compression = findMagic(
    frame === 0 ? view : new ByteView(bytes.subarray(frame), 'file'),
    COMPRESSION_MAGICS,
  );
  if (compression !== undefined) return compressed(compression[2], compression[3] ?? '');
  if (isCpio(view, firstArchive(bytes))) {
    return {
      kind: 'initrd',
      what: 'a cpio archive (an initramfs)',
      advice: 'give it to a kernel as its initial RAM disk',
    };
  }
  const other = findMagic(view, OTHER_MAGICS);
  if (other !== undefined) return { kind: 'other', what: other[2], advice: other[3] ?? null };
  if (isText(bytes)) return { kind: 'other', what: 'a text file', advice: null };
  // The only magic of this format is that nothing in its header is impossible.
  if (detectCompression(bytes.subarray(0, 64)) === 'lzma')
    return compressed('an lzma', 'xz --format=lzma -dc');
  if (hasBanner(bytes)) {
    if (AOUT_MAGICS.some((magic) => view.startsWith(magic))) {
      return { kind: 'xip-image', what: 'a vmlinux for i386 in the a.out format', advice: BOOT_THE_BZIMAGE };
    }
    return {
      kind: 'xip-image',
      what: 'a raw kernel without any header (an xipImage, or the Image inside another format)',
      advice: ON_OTHER_MACHINE,
    };
  }
  if (view.has(0x1fe, 2) && view.u16(0x1fe) === 0xaa55) {
    const fat = view.startsWith('FAT', 0x36) || view.startsWith('FAT32', 0x52);
    return {
      kind: 'disk',
      what: fat
        ? 'a disk with a FAT file system and a boot sector, without a Linux setup header'
        : 'a boot sector or disk image without a Linux setup header',
      advice: BOOT_AS_DISK,
    };
  }
  if (view.startsWith('MZ')) return { kind: 'other', what: 'a DOS program', advice: null };
  const program = PROGRAM_TEXTS.find(([text]) => indexOfText(bytes, text) >= 0);
  if (program !== undefined) return { kind: 'other', what: program[1], advice: null };
  if (isLoadedAt7c00(view)) {
    return {
      kind: 'other',
      what: 'a boot program that begins at 0x7c00, as PXE network cards and boot loaders start it',
      advice: 'start it by PXE, or chain-load it',
    };
  }
  const multiboot = readMultibootHeader(bytes);
  if (multiboot !== null) return identifyMultiboot(bytes, 'a flat binary', multiboot.version);
  if (bytes.every((byte) => byte === 0))
    return { kind: 'other', what: 'a file of nothing but zeroes', advice: null };
  if (holdsLateStream(bytes)) {
    return {
      kind: 'boot-wrapper',
      what: 'a flat binary that unpacks the kernel it carries',
      advice: 'boot the image that the same build made of it',
    };
  }
  return { kind: 'other', what: UNKNOWN_FILE, advice: null };
}

function compressed(what: string, tool: string): FileIdentity {
  return {
    kind: 'compressed',
    what: `${what} file`,
    advice: `unpack it with ${tool} and boot what is in it`,
  };
}

/** One sentence for a file that cannot be booted: what it is and what to do instead. */
export function cannotBootSentence(path: string, identity: FileIdentity): string {
  const instead =
    identity.advice ?? 'give a bzImage or zImage, the file a distribution installs as /boot/vmlinuz-*';
  return `${path} is ${identity.what}, which cannot be booted here: ${instead}`;
}
