// Takes a kernel image apart into the pieces that its build put together, which cover every byte of it, and into what is
// compressed in it. The names are those of the kernel's Makefiles where those have one.

import type { CodecName } from '../codecs/codec.ts';
import { BootscopeError } from '../error.ts';
import { imageChecksum } from './describe-x86.ts';
import { extractVmlinux } from './extract-vmlinux.ts';
import { type FileKind, identifyFile } from './identify.ts';
import type { ImageChecksum } from './kernel-file.ts';
import { type KernelImage, readKernelImage } from './kernel-image.ts';
import { type PeFile, readPe } from './pe.ts';
import { findLastStream } from './stream-search.ts';
import { unwrapOnce } from './wrapping.ts';

/** What a piece is, for whoever puts the image together again. */
export type PartRole =
  | 'setup'
  | 'head'
  | 'payload'
  | 'stub'
  | 'checksum'
  | 'padding'
  | 'signature'
  | 'pe-headers'
  | 'pe-section'
  | 'code';

/** One piece of the file. */
export interface ImagePart {
  /** Relative to the folder; those of a kernel in a UKI are in `linux/`. */
  readonly file: string;
  readonly role: PartRole;
  /** In the file, bytes. */
  readonly offset: number;
  readonly length: number;
  readonly what: string;
  /** The step of the build that makes it. */
  readonly madeBy: string;
}

/** What is compressed in a piece. */
export interface UnpackedPart {
  readonly file: string;
  /** `kernel`: the ELF file or flat binary; `relocations`: the lists behind it. */
  readonly role: 'kernel' | 'relocations';
  /** The piece that holds it. */
  readonly from: string;
  readonly bytes: Uint8Array;
  readonly what: string;
  readonly madeBy: string;
}

/** An image taken apart. */
export interface ImageParts {
  readonly path: string;
  readonly kind: FileKind;
  /** The image itself, without the compressed files around it. */
  readonly bytes: Uint8Array;
  /** What it was taken out of, outermost first. */
  readonly wrappers: readonly string[];
  readonly kernelVersion: string | null;
  readonly codec: CodecName | null;
  /** In the order of their offsets, without gaps. */
  readonly parts: readonly ImagePart[];
  readonly unpacked: readonly UnpackedPart[];
  /** The kernel for the x86 boot protocol; null for other machines' images. */
  readonly image: KernelImage | null;
  /** Where `image` begins in `bytes`: 0, or the offset of a UKI's section. */
  readonly imageOffset: number;
}

/** What the build calls a payload, by its codec (arch/x86/boot/compressed/Makefile). */
const PAYLOAD_SUFFIXES: Readonly<Record<CodecName, string>> = {
  gzip: 'gz',
  bzip2: 'bz2',
  lzma: 'lzma',
  xz: 'xz',
  lzo: 'lzo',
  lz4: 'lz4',
  zstd: 'zst',
};

const MAX_WRAPPERS = 3;

/**
 * The pieces of an image, in their order, and what is compressed in them.
 *
 * @param path - how to name the file in messages
 * @throws {@link BootscopeError} `image-nothing-to-unpack` for a file that is not built of such pieces, and what reading it throws
 */
export async function takeApart(path: string, bytes: Uint8Array): Promise<ImageParts> {
  const wrappers: string[] = [];
  let inner = bytes;
  for (;;) {
    const { kind, what } = identifyFile(inner);
    if (kind === 'x86-boot-image') return { path, wrappers, ...(await takeApartX86(path, inner)) };
    if (kind === 'uki') return { path, wrappers, ...(await takeApartUki(path, inner)) };
    if (kind === 'arm-zimage' || kind === 's390-image' || kind === 'boot-wrapper') {
      return { path, wrappers, ...(await takeApartProgram(kind, inner)) };
    }
    const step = wrappers.length < MAX_WRAPPERS ? await unwrapOnce(path, inner, kind) : null;
    if (step === null) {
      throw new BootscopeError(
        'image-nothing-to-unpack',
        `${path} is ${what}, which is not made of parts that could be taken apart`,
      );
    }
    wrappers.push(step.wrapper);
    inner = step.bytes;
  }
}

type Inner = Omit<ImageParts, 'path' | 'wrappers'>;

/** Makes a list of pieces gapless: what nobody named is padding. */
function coverAll(parts: readonly ImagePart[], end: number, prefix: string): ImagePart[] {
  const covered: ImagePart[] = [];
  let at = 0;
  let gaps = 0;
  const padTo = (offset: number): void => {
    if (offset <= at) return;
    covered.push({
      file: `${prefix}padding${gaps === 0 ? '' : `-${gaps}`}.bin`,
      role: 'padding',
      offset: at,
      length: offset - at,
      what: 'padding',
      madeBy: 'alignment',
    });
    gaps++;
    at = offset;
  };
  for (const part of parts) {
    if (part.length === 0) continue;
    padTo(part.offset);
    covered.push(part);
    at = part.offset + part.length;
  }
  padTo(end);
  return covered;
}

async function takeApartX86(path: string, bytes: Uint8Array): Promise<Inner> {
  const image = await readKernelImage(path, bytes);
  const pe = readPe(bytes);
  const checksum = imageChecksum(image.header, bytes, image.setupSize, pe);
  const { payload } = image;
  const unpacked = payload === null ? [] : await unpackedParts(image, payloadName(payload.codec));
  return {
    kind: 'x86-boot-image',
    bytes,
    kernelVersion: image.kernelVersion,
    codec: payload?.codec ?? null,
    parts: coverAll(x86Parts(image, checksum, pe), bytes.length, ''),
    unpacked,
    image,
    imageOffset: 0,
  };
}

function payloadName(codec: CodecName): string {
  return `vmlinux.bin.${PAYLOAD_SUFFIXES[codec]}`;
}

function x86Parts(image: KernelImage, checksum: ImageChecksum | null, pe: PeFile | null): ImagePart[] {
  const { setupSize, payload, bytes, header } = image;
  const wide = header.has('xloadflags') && (header.get('xloadflags') & 1) !== 0;
  const stated = header.protocol >= 0x0204 ? setupSize + header.get('syssize') * 16 : bytes.length;
  const hasChecksum = checksum === 'valid' || checksum === 'signed';
  const systemEnd = Math.min(stated > setupSize ? stated : bytes.length, bytes.length);
  const codeEnd = hasChecksum ? systemEnd - 4 : systemEnd;
  const parts: ImagePart[] = [
    {
      file: 'setup.bin',
      role: 'setup',
      offset: 0,
      length: setupSize,
      what: 'boot sector and setup, real-mode code with the setup header',
      madeBy: 'objcopy -O binary setup.elf (arch/x86/boot/Makefile), padded and filled in by the last step',
    },
  ];
  const end = payload === null ? setupSize : setupSize + payload.offset + payload.length;
  if (payload !== null) {
    parts.push(
      {
        file: 'head.bin',
        role: 'head',
        offset: setupSize,
        length: payload.offset,
        what: `startup_32 ${wide ? 'and startup_64 ' : ''}of the boot stub, before the payload`,
        madeBy: 'section .head.text of arch/x86/boot/compressed/vmlinux',
      },
      {
        file: payloadName(payload.codec),
        role: 'payload',
        offset: setupSize + payload.offset,
        length: payload.length,
        what: `the kernel, compressed with ${payload.codec}`,
        madeBy: `vmlinux.bin and vmlinux.relocs compressed (cmd_${payload.codec}), linked in by piggy.S of mkpiggy`,
      },
    );
  }
  parts.push({
    file: 'stub.bin',
    role: payload === null ? 'code' : 'stub',
    offset: end,
    length: Math.max(codeEnd - end, 0),
    what:
      payload === null
        ? 'protected-mode code'
        : 'the boot stub behind the payload: code, read-only data, data',
    madeBy:
      'sections .text to .data of arch/x86/boot/compressed/vmlinux (objcopy -O binary makes vmlinux.bin of them)',
  });
  if (hasChecksum) {
    parts.push({
      file: 'crc32.bin',
      role: 'checksum',
      offset: systemEnd - 4,
      length: 4,
      what: 'CRC-32 of all before it, as it was before a signature',
      madeBy: 'arch/x86/boot/tools/build',
    });
  }
  const certificates = pe?.certificates ?? null;
  if (certificates !== null && certificates.offset >= systemEnd) {
    parts.push({
      file: 'signature.p7',
      role: 'signature',
      offset: certificates.offset,
      length: Math.min(certificates.length, bytes.length - certificates.offset),
      what: 'signatures for EFI Secure Boot (a PE certificate table)',
      madeBy: 'sbsign or pesign, after the build',
    });
  }
  return parts;
}

async function unpackedParts(image: KernelImage, from: string): Promise<UnpackedPart[]> {
  const { bytes, elf, kernelLength } = await extractVmlinux(image);
  const parts: UnpackedPart[] = [
    {
      file: elf === null ? 'vmlinux.bin' : 'vmlinux',
      role: 'kernel',
      from,
      bytes: bytes.subarray(0, kernelLength),
      what: elf === null ? 'the kernel, a flat binary' : `the kernel, ELF${elf.bits} without symbols`,
      madeBy:
        elf === null
          ? 'objcopy -O binary vmlinux'
          : 'objcopy -R .comment -S vmlinux (the build calls it compressed/vmlinux.bin)',
    },
  ];
  if (kernelLength < bytes.length) {
    parts.push({
      file: 'vmlinux.relocs',
      role: 'relocations',
      from,
      bytes: bytes.subarray(kernelLength),
      what: 'places in the kernel that hold addresses, behind it in the payload',
      madeBy: 'arch/x86/tools/relocs vmlinux',
    });
  }
  return parts;
}

/** A file's name for a section, whose own may hold anything: no folders, nothing that leads out of one. */
function sectionFile(name: string): string {
  return `section${name.replace(/[^\w.-]/g, '_').replaceAll('..', '._')}`;
}

async function takeApartUki(path: string, bytes: Uint8Array): Promise<Inner> {
  const pe = readPe(bytes);
  if (pe === null) throw new BootscopeError('image-damaged', `${path} is damaged: it has no PE header`);
  const sections = pe.sections
    .filter(({ fileSize }) => fileSize > 0)
    .sort((a, b) => a.fileOffset - b.fileOffset);
  let parts: ImagePart[] = [
    {
      file: 'pe-headers.bin',
      role: 'pe-headers',
      offset: 0,
      length: Math.min(sections[0]?.fileOffset ?? bytes.length, bytes.length),
      what: 'headers of the EFI program',
      madeBy: "the link of systemd-stub, with the sections' entries that ukify or objcopy added",
    },
  ];
  let kernel: Inner | null = null;
  let imageOffset = 0;
  for (const { name, fileOffset, fileSize, virtualSize } of sections) {
    const length = Math.min(fileSize, bytes.length - fileOffset);
    if (length <= 0) continue;
    if (name === '.linux' && kernel === null) {
      const content = bytes.subarray(fileOffset, fileOffset + Math.min(virtualSize || length, length));
      kernel = await takeApartX86(`section .linux of ${path}`, content);
      imageOffset = fileOffset;
      parts = parts.concat(
        kernel.parts.map((part) => ({
          ...part,
          file: `linux/${part.file}`,
          offset: part.offset + fileOffset,
        })),
      );
      continue;
    }
    const file = sectionFile(name);
    parts.push({
      file: parts.some((part) => part.file === file) ? `${file}-${fileOffset.toString(16)}` : file,
      role: 'pe-section',
      offset: fileOffset,
      length,
      what: `section ${name}`,
      madeBy: /^\.(text|data|rodata|reloc|dyn|rela|sdmagic)/.test(name)
        ? 'the link of systemd-stub'
        : 'ukify or objcopy',
    });
  }
  const { certificates } = pe;
  if (certificates !== null && certificates.offset < bytes.length) {
    parts.push({
      file: 'signature.p7',
      role: 'signature',
      offset: certificates.offset,
      length: Math.min(certificates.length, bytes.length - certificates.offset),
      what: 'signatures for EFI Secure Boot (a PE certificate table)',
      madeBy: 'sbsign or pesign',
    });
  }
  return {
    kind: 'uki',
    bytes,
    kernelVersion: kernel?.kernelVersion ?? null,
    codec: kernel?.codec ?? null,
    parts: coverAll(parts, bytes.length, ''),
    unpacked: (kernel?.unpacked ?? []).map((part) => ({
      ...part,
      file: `linux/${part.file}`,
      from: `linux/${part.from}`,
    })),
    image: kernel?.image ?? null,
    imageOffset,
  };
}

async function takeApartProgram(kind: FileKind, bytes: Uint8Array): Promise<Inner> {
  const stream = await findLastStream(bytes);
  if (stream === null) {
    throw new BootscopeError('image-no-payload', 'no compressed kernel was found in this boot program');
  }
  const payload = `piggy.${PAYLOAD_SUFFIXES[stream.codec]}`;
  const end = stream.offset + stream.length;
  const part = (file: string, role: PartRole, offset: number, length: number, what: string): ImagePart => ({
    file,
    role,
    offset,
    length,
    what,
    madeBy: "the link of the kernel's boot program (arch/*/boot/compressed)",
  });
  const isElfKernel = identifyFile(stream.content).kind === 'vmlinux';
  return {
    kind,
    bytes,
    kernelVersion: null,
    codec: stream.codec,
    parts: coverAll(
      [
        part('head.bin', 'head', 0, stream.offset, 'the boot program before the payload'),
        part(payload, 'payload', stream.offset, stream.length, `the kernel, compressed with ${stream.codec}`),
        part('stub.bin', 'stub', end, bytes.length - end, 'the boot program behind the payload'),
      ],
      bytes.length,
      '',
    ),
    unpacked: [
      {
        file: isElfKernel ? 'vmlinux' : 'Image',
        role: 'kernel',
        from: payload,
        bytes: stream.content,
        what: 'the kernel',
        madeBy: 'objcopy of vmlinux',
      },
    ],
    image: null,
    imageOffset: 0,
  };
}
