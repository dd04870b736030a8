// Reads any file a kernel comes in, whatever its format, into one typed description with its wrappings.

import { crc32 } from 'node:zlib';
import type { CodecName } from '../codecs/codec.ts';
import { detectCodec } from '../codecs/registry.ts';
import { BootscopeError } from '../error.ts';
import { readSetupHeader, type SetupHeader } from '../protocol/setup-header.ts';
import { type ArmZImage, readArmZImage } from './arm-zimage.ts';
import { ByteView } from './byte-view.ts';
import { type EfiZboot, readEfiZboot } from './efi-zboot.ts';
import { readElf } from './elf.ts';
import { type FileKind, identifyFile } from './identify.ts';
import { type ImageHeader, readImageHeader } from './image-header.ts';
import { type KernelImage, readKernelImage } from './kernel-image.ts';
import { findLinuxBanner, readKernelVersion } from './kernel-version.ts';
import { type PeFile, peSectionBytes, readPe } from './pe.ts';
import { readUImage, type UImage } from './uimage.ts';
import { gunzipStart, unpackStream } from './unpack.ts';
import { describeVmlinux, type Vmlinux } from './vmlinux.ts';

/** What every description has. */
interface Described {
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
}

/** The structure that `kernel_info_offset` points to (boot.rst, "The kernel_info"). */
export interface KernelInfo {
  readonly size: number;
  readonly totalSize: number;
  readonly setupTypeMax: number | null;
}

export interface X86BootFile extends Described {
  readonly kind: 'x86-boot-image';
  readonly header: SetupHeader;
  /** Null where `problem` says why the image cannot be used. */
  readonly image: KernelImage | null;
  /** Bytes of boot sector, setup and system (all that follows), as the kernel's build tool used to print. */
  readonly sizes: { readonly bootSector: number; readonly setup: number; readonly system: number };
  /**
   * The CRC-32 that builds append from protocol 2.08 (2.6.26) to 6.14, over the image before it; null where
   * the image has no payload, is older or is too short. It `differs` too where there is none.
   */
  readonly checksum: 'valid' | 'differs' | null;
  readonly kernelInfo: KernelInfo | null;
  readonly pe: PeFile | null;
}

export interface VmlinuxFile extends Described {
  readonly kind: 'vmlinux';
  readonly vmlinux: Vmlinux;
}

export interface ImageFile extends Described {
  readonly kind: 'arm64-image' | 'riscv-image';
  readonly header: ImageHeader;
}

export interface ArmZImageFile extends Described {
  readonly kind: 'arm-zimage';
  readonly header: ArmZImage;
}

export interface UImageFile extends Described {
  readonly kind: 'uimage';
  readonly header: UImage;
  /** What each part is, after decompression; null where the part lies outside the file. */
  readonly parts: readonly (KernelFile | null)[];
}

export interface EfiZbootFile extends Described {
  readonly kind: 'efi-zboot';
  readonly header: EfiZboot;
  readonly inner: KernelFile | null;
}

export interface EfiFile extends Described {
  readonly kind: 'efi-pe';
  readonly pe: PeFile;
}

export interface UkiFile extends Described {
  readonly kind: 'uki';
  readonly pe: PeFile;
  /** Text of `.cmdline`, `.osrel`, `.uname`, `.sbat`, …, by section name. */
  readonly texts: Readonly<Record<string, string>>;
  /** The kernel in `.linux`. */
  readonly inner: KernelFile | null;
}

export interface CompressedFile extends Described {
  readonly kind: 'compressed';
  readonly compression: CodecName;
  readonly inner: KernelFile | null;
}

/** A file of which there is no more to say than what it is. */
export interface OtherFile extends Described {
  readonly kind: 'fit' | 'xip-image' | 'elf' | 'other' | 'empty';
}

export type KernelFile =
  | X86BootFile
  | VmlinuxFile
  | ImageFile
  | ArmZImageFile
  | UImageFile
  | EfiZbootFile
  | EfiFile
  | UkiFile
  | CompressedFile
  | OtherFile;

/** Kinds that are no kernel, whatever is in them. */
const NOT_KERNELS: readonly FileKind[] = ['elf', 'other', 'empty'];

/** Whether the file is a kernel, or holds one; a compressed file that cannot be unpacked may. */
export function isKernelFile(file: KernelFile): boolean {
  if (file.kind === 'compressed') return file.inner === null || isKernelFile(file.inner);
  return !NOT_KERNELS.includes(file.kind);
}

const MAX_DEPTH = 5;

/**
 * Reads any kernel file. What is damaged is described as far as it goes, with `problem` set; a file
 * that is no kernel gives a description of what it is.
 *
 * @param path - how to name the file in messages
 */
export async function readKernelFile(path: string, bytes: Uint8Array): Promise<KernelFile> {
  return describe(path, bytes, 0);
}

async function describe(path: string, bytes: Uint8Array, depth: number): Promise<KernelFile> {
  const identity = identifyFile(bytes);
  const common: Described = {
    path,
    size: bytes.length,
    what: identity.what,
    bootable: false,
    advice: identity.advice,
    kernelVersion: null,
    problem: null,
  };
  switch (identity.kind) {
    case 'x86-boot-image':
      return describeX86(common, bytes);
    case 'vmlinux':
      return describeElf(common, bytes);
    case 'arm64-image':
    case 'riscv-image': {
      const header = readImageHeader(bytes);
      if (header === null) break;
      return { ...common, kind: identity.kind, header, kernelVersion: releaseOf(bytes) };
    }
    case 'arm-zimage': {
      const header = readArmZImage(bytes);
      if (header === null) break;
      const problem =
        header.length > bytes.length
          ? `${common.path}: its header says it has ${header.length} bytes, the file has ${bytes.length}`
          : null;
      const stream = header.payload?.codec === 'gzip' ? bytes.subarray(header.payload.offset) : null;
      const content = stream === null ? null : (await unpack(path, stream, 'gzip')).content;
      const kernelVersion = content === null ? null : releaseOf(content);
      return { ...common, kind: 'arm-zimage', header, problem, kernelVersion };
    }
    case 'uimage':
      return describeUImage(common, bytes, depth);
    case 'efi-zboot':
      return describeZboot(common, bytes, depth);
    case 'uki':
      return describeUki(common, bytes, depth);
    case 'efi-pe': {
      const pe = readPe(bytes);
      if (pe === null) break;
      return { ...common, kind: 'efi-pe', pe, kernelVersion: releaseOf(bytes) };
    }
    case 'compressed':
      return describeCompressed(common, bytes, depth);
    case 'xip-image':
      return { ...common, kind: 'xip-image', kernelVersion: releaseOf(bytes) };
    case 'fit':
    case 'elf':
    case 'other':
    case 'empty':
      return { ...common, kind: identity.kind };
  }
  return { ...common, kind: 'other' };
}

/** The release in a kernel's banner and what follows it. */
function releaseOf(bytes: Uint8Array): string | null {
  return findLinuxBanner(bytes)?.slice('Linux version '.length) ?? null;
}

async function describeX86(common: Described, bytes: Uint8Array): Promise<X86BootFile> {
  const header = readSetupHeader(bytes);
  let image: KernelImage | null = null;
  let problem: string | null = null;
  try {
    image = await readKernelImage(common.path, bytes);
  } catch (error) {
    if (!(error instanceof BootscopeError)) throw error;
    problem = error.message;
  }
  const sectors = header.get('setup_sects');
  const setupSize = ((sectors === 0 ? 4 : sectors) + 1) * 512;
  const noun =
    header.protocol === 0 ? 'zImage from before boot protocol 2.00' : (image?.kind ?? 'boot image');
  return {
    ...common,
    kind: 'x86-boot-image',
    what: `an x86 ${noun}`,
    bootable: problem === null,
    header,
    image,
    problem,
    kernelVersion: readKernelVersion(header, bytes.subarray(0, setupSize)),
    sizes: { bootSector: 512, setup: setupSize - 512, system: Math.max(bytes.length - setupSize, 0) },
    checksum: image?.payload == null ? null : checkImageCrc(header, image.bytes, setupSize),
    kernelInfo: readKernelInfo(header, bytes.subarray(Math.min(setupSize, bytes.length))),
    pe: readPe(bytes),
  };
}

/** boot.rst, "The Image Checksum": the CRC over all up to the end that syssize gives leaves no remainder. */
function checkImageCrc(
  header: SetupHeader,
  bytes: Uint8Array,
  setupSize: number,
): 'valid' | 'differs' | null {
  if (header.protocol < 0x0208) return null;
  const end = setupSize + header.get('syssize') * 16;
  if (end > bytes.length || end < setupSize + 4) return null;
  // Without the final inversion, the stored CRC is what was computed over the bytes before it.
  const computed = ~crc32(bytes.subarray(0, end - 4)) >>> 0;
  return computed === new ByteView(bytes, 'checksum').u32(end - 4) ? 'valid' : 'differs';
}

function readKernelInfo(header: SetupHeader, code: Uint8Array): KernelInfo | null {
  const offset = header.get('kernel_info_offset');
  const view = new ByteView(code, 'kernel_info');
  if (offset === 0 || !view.startsWith('LToP', offset) || !view.has(offset, 12)) return null;
  const size = view.u32(offset + 4);
  return {
    size,
    totalSize: view.u32(offset + 8),
    setupTypeMax: size >= 16 && view.has(offset + 12, 4) ? view.u32(offset + 12) : null,
  };
}

function describeElf(common: Described, bytes: Uint8Array): VmlinuxFile | OtherFile {
  try {
    const vmlinux = describeVmlinux(readElf(bytes));
    const kernelVersion = vmlinux.banner?.slice('Linux version '.length) ?? null;
    return { ...common, kind: 'vmlinux', vmlinux, kernelVersion };
  } catch (error) {
    if (!(error instanceof BootscopeError)) throw error;
    return { ...common, kind: 'elf', problem: error.message };
  }
}

async function describeUImage(common: Described, bytes: Uint8Array, depth: number): Promise<KernelFile> {
  const header = readUImage(bytes);
  if (header === null) return { ...common, kind: 'other' };
  const parts: (KernelFile | null)[] = [];
  for (const [index, part] of header.parts.slice(0, 16).entries()) {
    const inside = new ByteView(bytes, 'uImage').has(part.offset, part.length);
    parts.push(
      inside && depth < MAX_DEPTH
        ? await describe(
            `part ${index} of ${common.path}`,
            bytes.subarray(part.offset, part.offset + part.length),
            depth + 1,
          )
        : null,
    );
  }
  const { headerCrc, dataCrc } = header;
  let problem: string | null = null;
  if (headerCrc.stated !== headerCrc.computed) {
    problem = `${common.path}: its header CRC is ${hex(headerCrc.stated)}, the header gives ${hex(headerCrc.computed)}`;
  } else if (dataCrc.computed === null) {
    problem = `${common.path} is cut: its header says ${header.dataLength} bytes of data, the file has ${bytes.length - 64}`;
  } else if (dataCrc.stated !== dataCrc.computed) {
    problem = `${common.path}: its data CRC is ${hex(dataCrc.stated)}, the data gives ${hex(dataCrc.computed)}`;
  }
  const kernelVersion = parts.find((part) => part?.kernelVersion != null)?.kernelVersion ?? null;
  return { ...common, kind: 'uimage', header, parts, problem, kernelVersion };
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(8, '0')}`;
}

async function describeZboot(common: Described, bytes: Uint8Array, depth: number): Promise<KernelFile> {
  const header = readEfiZboot(bytes);
  if (header === null) return { ...common, kind: 'other' };
  let inner: KernelFile | null = null;
  let problem: string | null = null;
  const view = new ByteView(bytes, 'zboot payload');
  if (!view.has(header.payloadOffset, header.payloadLength)) {
    problem =
      `${common.path} is cut in its payload: ${header.payloadLength} bytes at offset ${header.payloadOffset}, ` +
      `the file has ${bytes.length}`;
  } else if (depth < MAX_DEPTH) {
    const payload = view.slice(header.payloadOffset, header.payloadLength);
    const codec = detectCodec(payload.subarray(0, 64));
    const unpacked = codec === null ? null : await unpack(common.path, payload, codec);
    problem = unpacked?.problem ?? null;
    if (unpacked?.content != null) {
      inner = await describe(`the kernel in ${common.path}`, unpacked.content, depth + 1);
    }
  }
  return {
    ...common,
    kind: 'efi-zboot',
    header,
    inner,
    problem,
    kernelVersion: inner?.kernelVersion ?? null,
  };
}

/** Sections of a Unified Kernel Image that hold text (systemd-stub(7)). */
const UKI_TEXTS = ['.cmdline', '.osrel', '.uname', '.sbat', '.pcrpkey', '.profile'];

async function describeUki(common: Described, bytes: Uint8Array, depth: number): Promise<KernelFile> {
  const pe = readPe(bytes);
  if (pe === null) return { ...common, kind: 'other' };
  const texts: Record<string, string> = {};
  let inner: KernelFile | null = null;
  let problem: string | null = null;
  for (const section of pe.sections) {
    if (section.name !== '.linux' && !UKI_TEXTS.includes(section.name)) continue;
    try {
      const content = peSectionBytes(bytes, section);
      if (section.name !== '.linux') {
        texts[section.name] = new ByteView(content, section.name).text(0, 0x4000).trimEnd();
      } else if (inner === null && depth < MAX_DEPTH) {
        inner = await describe(`section .linux of ${common.path}`, content, depth + 1);
      }
    } catch (error) {
      if (!(error instanceof BootscopeError)) throw error;
      problem = error.message;
    }
  }
  const bootable = inner?.bootable ?? false;
  return {
    ...common,
    kind: 'uki',
    pe,
    texts,
    inner,
    problem: problem ?? inner?.problem ?? null,
    bootable,
    advice: bootable ? null : (inner?.advice ?? null),
    kernelVersion: inner?.kernelVersion ?? texts['.uname'] ?? null,
  };
}

async function describeCompressed(common: Described, bytes: Uint8Array, depth: number): Promise<KernelFile> {
  const compression = detectCodec(bytes.subarray(0, 64));
  if (compression === null) return { ...common, kind: 'other' };
  const { content, problem } =
    depth < MAX_DEPTH ? await unpack(common.path, bytes, compression) : { content: null, problem: null };
  const inner = content === null ? null : await describe(`the content of ${common.path}`, content, depth + 1);
  const bootable = inner?.bootable ?? false;
  return {
    ...common,
    kind: 'compressed',
    compression,
    what: inner === null ? common.what : `${inner.what}, compressed with ${compression}`,
    inner,
    bootable,
    advice: bootable || inner === null ? null : inner.advice,
    kernelVersion: inner?.kernelVersion ?? null,
    problem,
  };
}

/** The content of a compressed file, or its start where that says enough; null and why for a damaged one. */
async function unpack(
  what: string,
  bytes: Uint8Array,
  codec: CodecName,
): Promise<{ readonly content: Uint8Array | null; readonly problem: string | null }> {
  if (codec === 'gzip') {
    const start = gunzipStart(bytes);
    const identity = identifyFile(start);
    if (identity.kind === 'other' && identity.advice !== null) return { content: start, problem: null };
  }
  try {
    return { content: await unpackStream(what, bytes, codec), problem: null };
  } catch (error) {
    if (!(error instanceof BootscopeError)) throw error;
    return { content: null, problem: error.message };
  }
}
