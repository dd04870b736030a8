// What a kernel file is, whatever format it comes in: one type for each kind, with its wrappings. `describe-file.ts` reads them.

import type { CodecName } from '../codecs/codec.ts';
import type { SetupHeader } from '../protocol/setup-header.ts';
import type { AndroidBootImage } from './android-boot.ts';
import type { ArmZImage } from './arm-zimage.ts';
import type { EfiZboot } from './efi-zboot.ts';
import type { Fit } from './fit.ts';
import type { FileKind } from './identify.ts';
import type { ImageHeader } from './image-header.ts';
import type { InitrdPart } from './initrd.ts';
import type { KernelImage } from './kernel-image.ts';
import type { MultibootHeader } from './multiboot.ts';
import type { PeFile } from './pe.ts';
import type { PeSignature } from './pe-signature.ts';
import type { UImage } from './uimage.ts';
import type { Compression } from './unpack.ts';
import type { VbootPartition } from './vboot.ts';
import type { Vmlinux, XenNotes } from './vmlinux.ts';

/** What every description has. */
export interface Described {
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** A noun phrase: `an ARM64 kernel Image`. */
  readonly what: string;
  /** Whether `bootscope boot` takes the file. */
  readonly bootable: boolean;
  /** What to do instead; null for a bootable file. */
  readonly advice: string | null;
  /** As the file itself states it; null where it does not. */
  readonly kernelVersion: string | null;
  /** What is wrong with the file, one sentence that names it; null where nothing is. */
  readonly problem: string | null;
  /** What is not wrong with the file, but may go wrong with it; sentences. */
  readonly notices: readonly string[];
}

/** The structure that `kernel_info_offset` points to (boot.rst, "The kernel_info"). */
export interface KernelInfo {
  readonly size: number;
  readonly totalSize: number;
  readonly setupTypeMax: number | null;
}

/** An EFI program's headers and signatures. */
export interface EfiProgram {
  readonly pe: PeFile;
  readonly signatures: readonly PeSignature[];
  /** Text of the section `.sbat`; null where there is none. */
  readonly sbat: string | null;
}

/**
 * The CRC-32 that builds append from protocol 2.08 (2.6.26) to 6.14, over the image before it. `signed`: right for the image
 * before it was signed, which changed its PE header. `none`: where it would be are zeroes, as in builds from 6.15 on.
 */
export type ImageChecksum = 'valid' | 'signed' | 'none' | 'differs';

export interface X86BootFile extends Described {
  readonly kind: 'x86-boot-image';
  readonly header: SetupHeader;
  /** Null where `problem` says why the image cannot be used. */
  readonly image: KernelImage | null;
  /** Bytes of boot sector, setup and system (all that follows), as the kernel's build tool used to print. */
  readonly sizes: { readonly bootSector: number; readonly setup: number; readonly system: number };
  /** Null where the image has no payload, is older or is too short. */
  readonly checksum: ImageChecksum | null;
  readonly kernelInfo: KernelInfo | null;
  readonly efi: EfiProgram | null;
  /** Of the kernel in the payload; null where it is no ELF file or cannot be unpacked. */
  readonly xen: XenNotes | null;
}

export interface VmlinuxFile extends Described {
  readonly kind: 'vmlinux' | 'user-mode-linux';
  readonly vmlinux: Vmlinux;
}

export interface ImageFile extends Described {
  readonly kind: 'arm64-image' | 'riscv-image' | 'loongarch-image';
  readonly header: ImageHeader;
  readonly efi: EfiProgram | null;
}

/** A compressed kernel that was found in a boot program. */
export interface CarriedKernel {
  readonly codec: CodecName;
  /** Offset in the file. */
  readonly offset: number;
  /** Bytes of the stream; null for one that does not unpack, because the file is cut or damaged. */
  readonly length: number | null;
  /** Bytes unpacked; null for such a one. */
  readonly outputLength: number | null;
}

/** A boot program of another machine, or the link of x86's, with the kernel that it unpacks. */
export interface BootProgramFile extends Described {
  readonly kind: 'arm-zimage' | 's390-image' | 'boot-wrapper';
  /** The words of an ARM zImage; null for others. */
  readonly header: ArmZImage | null;
  readonly efi: EfiProgram | null;
  readonly payload: CarriedKernel | null;
  readonly inner: KernelFile | null;
}

export interface MultibootFile extends Described {
  readonly kind: 'multiboot';
  readonly header: MultibootHeader;
}

export interface UImageFile extends Described {
  readonly kind: 'uimage';
  readonly header: UImage;
  /** What each part is, after decompression; null where the part lies outside the file. */
  readonly parts: readonly (KernelFile | null)[];
}

export interface FitFile extends Described {
  readonly kind: 'fit';
  readonly fit: Fit;
  /** The kernel of the default configuration. */
  readonly inner: KernelFile | null;
}

export interface DeviceTreeFile extends Described {
  readonly kind: 'device-tree';
  readonly model: string | null;
  readonly compatible: readonly string[];
}

export interface VbootFile extends Described {
  readonly kind: 'vboot';
  readonly partition: VbootPartition;
  readonly inner: KernelFile | null;
}

export interface AndroidBootFile extends Described {
  readonly kind: 'android-boot';
  readonly header: AndroidBootImage;
  readonly inner: KernelFile | null;
}

export interface InitrdFile extends Described {
  readonly kind: 'initrd';
  readonly parts: readonly InitrdPart[];
}

export interface EfiZbootFile extends Described {
  readonly kind: 'efi-zboot';
  readonly header: EfiZboot;
  readonly efi: EfiProgram | null;
  readonly inner: KernelFile | null;
}

export interface EfiFile extends Described {
  readonly kind: 'efi-pe';
  readonly efi: EfiProgram;
}

export interface UkiFile extends Described {
  readonly kind: 'uki';
  readonly efi: EfiProgram;
  /** Text of `.cmdline`, `.osrel`, `.uname`, `.sbat`, …, by section name. */
  readonly texts: Readonly<Record<string, string>>;
  /** What each section but those of systemd-stub's own code holds, in a few words. */
  readonly summaries: Readonly<Record<string, string>>;
  /** The initial RAM disk in `.initrd`; null for a UKI without one. */
  readonly initrd: KernelFile | null;
  /** The kernel in `.linux`. */
  readonly inner: KernelFile | null;
}

export interface CompressedFile extends Described {
  readonly kind: 'compressed';
  readonly compression: Compression;
  readonly inner: KernelFile | null;
}

/** A file of which there is no more to say than what it is. */
export interface OtherFile extends Described {
  readonly kind: 'xip-image' | 'elf' | 'disk' | 'other' | 'empty';
}

/** What a file is, whatever the machine: as much of it as its format says. */
export type KernelFile =
  | X86BootFile
  | VmlinuxFile
  | ImageFile
  | BootProgramFile
  | MultibootFile
  | UImageFile
  | FitFile
  | DeviceTreeFile
  | VbootFile
  | AndroidBootFile
  | InitrdFile
  | EfiZbootFile
  | EfiFile
  | UkiFile
  | CompressedFile
  | OtherFile;

/** Kinds that are no kernel, whatever is in them. */
const NOT_KERNELS: readonly FileKind[] = ['elf', 'initrd', 'disk', 'device-tree', 'other', 'empty'];

/** Types of uImages that a boot loader gives to a kernel, or runs itself. */
const UIMAGES_WITHOUT_KERNEL = ['RAM disk', 'firmware', 'script', 'file system', 'flat device tree'];

/** Whether the file is a kernel, or holds one; a compressed file that cannot be unpacked may. */
export function isKernelFile(file: KernelFile): boolean {
  if (file.kind === 'compressed') return file.inner === null || isKernelFile(file.inner);
  if (file.kind === 'uimage')
    return file.kernelVersion !== null || !UIMAGES_WITHOUT_KERNEL.includes(file.header.type);
  return !NOT_KERNELS.includes(file.kind);
}
