// Reads any file a kernel comes in into its description (`kernel-file.ts`): as far as it goes, with what is wrong as `problem`.

import { BootscopeError } from '../error.ts';
import { readAndroidBoot } from './android-boot.ts';
import { readArmZImage } from './arm-zimage.ts';
import { ByteView } from './byte-view.ts';
import { describeX86 } from './describe-x86.ts';
import { isDeviceTree, isOverlay, readDeviceTree, textProperty, textsProperty } from './device-tree.ts';
import { readEfiZboot } from './efi-zboot.ts';
import { isElf, missingElfBytes, readElf } from './elf.ts';
import { readFit } from './fit.ts';
import { holdsXen, identifyFile, UNKNOWN_FILE } from './identify.ts';
import { readImageHeader } from './image-header.ts';
import { describeInitrd, type InitrdPart, readInitrd } from './initrd.ts';
import type {
  BootProgramFile,
  Described,
  EfiProgram,
  InitrdFile,
  KernelFile,
  OtherFile,
  VmlinuxFile,
} from './kernel-file.ts';
import { isKernelFile } from './kernel-file.ts';
import { findKernelVersion, findStatedVersion } from './kernel-version.ts';
import { readMultibootHeader } from './multiboot.ts';
import { findPeSection, missingSectionBytes, type PeFile, peSectionBytes, readPe } from './pe.ts';
import { readPeSignatures } from './pe-signature.ts';
import { findCandidates, findLastStream } from './stream-search.ts';
import { readUImage } from './uimage.ts';
import { runAreaSentence, sectionsInRunArea, ukiTexts } from './uki.ts';
import { detectCompression, pastSkippableFrames, unpackStream } from './unpack.ts';
import { readVboot } from './vboot.ts';
import { describeVmlinux } from './vmlinux.ts';
import { contentIsNoKernel, unwrapOnce } from './wrapping.ts';

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
    notices: [],
  };
  switch (identity.kind) {
    case 'x86-boot-image':
      return describeX86(common, bytes, readEfiProgram(bytes));
    case 'vmlinux':
    case 'user-mode-linux':
      return describeElf(common, identity.kind, bytes);
    case 'arm64-image':
    case 'riscv-image':
    case 'loongarch-image': {
      const header = readImageHeader(bytes);
      if (header === null) break;
      const problem = cutProgram(path, bytes, header.pe);
      const efi = readEfiProgram(bytes);
      const kernelVersion = findKernelVersion(bytes);
      return { ...common, kind: identity.kind, header, efi, problem, kernelVersion };
    }
    case 'arm-zimage':
    case 's390-image':
    case 'boot-wrapper':
      return describeBootProgram({ ...common, kind: identity.kind }, bytes, depth);
    case 'multiboot': {
      const header = readMultibootHeader(bytes);
      if (header === null) break;
      return { ...common, kind: 'multiboot', header };
    }
    case 'uimage':
      return describeUImage(common, bytes, depth);
    case 'efi-zboot': {
      const header = readEfiZboot(bytes);
      if (header === null) break;
      const efi = readEfiProgram(bytes);
      return {
        ...common,
        ...(await inside(path, bytes, 'efi-zboot', depth)),
        kind: 'efi-zboot',
        header,
        efi,
      };
    }
    case 'uki':
      return describeUki(common, bytes, depth);
    case 'efi-pe': {
      const efi = readEfiProgram(bytes);
      if (efi === null) break;
      const problem = cutProgram(path, bytes, efi.pe);
      const what = holdsXen(bytes) ? `the Xen hypervisor, ${common.what}` : common.what;
      return { ...common, kind: 'efi-pe', what, efi, problem, kernelVersion: findKernelVersion(bytes) };
    }
    case 'fit':
    case 'device-tree':
      return describeDeviceTree(common, bytes, depth);
    case 'vboot': {
      const partition = readVboot(bytes);
      if (partition === null) break;
      const found = await inside(path, bytes, 'vboot', depth);
      const notices = partition.image === null || partition.hasSetupCode ? [] : [NO_SETUP_CODE];
      const advice = partition.image === null ? NOTHING_FOR_X86 : found.advice;
      const { offset, length } = partition.body;
      const problem =
        offset + length > bytes.length
          ? `${path} is cut: its body has ${length} bytes at offset ${offset}, the file has ${bytes.length}`
          : found.problem;
      return { ...common, ...found, advice, kind: 'vboot', partition, notices, problem };
    }
    case 'android-boot': {
      const header = readAndroidBoot(bytes);
      if (header === null) break;
      return {
        ...common,
        ...(await inside(path, bytes, 'android-boot', depth)),
        kind: 'android-boot',
        header,
      };
    }
    case 'initrd':
      return describeInitrdFile(common, bytes);
    case 'compressed':
      return describeCompressed(common, bytes, depth);
    case 'xip-image':
      return { ...common, kind: 'xip-image', kernelVersion: findKernelVersion(bytes) };
    case 'elf':
      return { ...common, kind: 'elf', problem: cutElf(path, bytes) };
    case 'disk':
    case 'other':
    case 'empty':
      return { ...common, kind: identity.kind };
  }
  return withoutHeader(common);
}

/** Its first bytes say what it is, and the rest of its header is not there. */
function withoutHeader(common: Described): OtherFile {
  const { path, what, size } = common;
  const problem = `${path} is cut or damaged: ${what} has a header that its ${size} bytes do not hold whole`;
  return { ...common, kind: 'other', problem };
}

const NO_SETUP_CODE =
  'the partition keeps the setup header alone, without the setup code: only the 32-bit and 64-bit entries can be used';
const NOTHING_FOR_X86 = 'its body holds no kernel for the x86 boot protocol';

function readEfiProgram(bytes: Uint8Array): EfiProgram | null {
  const pe = readPe(bytes);
  if (pe === null) return null;
  return { pe, signatures: readPeSignatures(bytes, pe), sbat: ukiTexts(bytes, pe)['.sbat'] ?? null };
}

/** A file that ends before what its own tables say is in it. */
function cutProgram(path: string, bytes: Uint8Array, pe: PeFile | null): string | null {
  const [missing] = pe === null ? [] : missingSectionBytes(pe, bytes.length);
  return missing === undefined ? null : `${path} is cut: ${missing}`;
}

/** What all containers say of the kernel in them. */
type Inside = Pick<Described, 'problem' | 'bootable' | 'advice' | 'kernelVersion'> & {
  readonly inner: KernelFile | null;
};

/** Takes the kernel out of a container and describes it; what is wrong with either is the container's problem. */
async function inside(
  path: string,
  bytes: Uint8Array,
  kind: 'uki' | 'efi-zboot' | 'fit' | 'vboot' | 'android-boot',
  depth: number,
): Promise<Inside> {
  const nothing: Inside = { inner: null, problem: null, bootable: false, advice: null, kernelVersion: null };
  if (depth >= MAX_DEPTH) return nothing;
  try {
    const step = await unwrapOnce(path, bytes, kind);
    if (step === null) return nothing;
    const inner = await describe(`the kernel in ${path}`, step.bytes, depth + 1);
    const { problem, bootable, advice, kernelVersion } = inner;
    return { inner, problem, bootable, advice: bootable ? null : advice, kernelVersion };
  } catch (error) {
    if (!(error instanceof BootscopeError)) throw error;
    return { ...nothing, problem: error.message };
  }
}

function describeElf(
  common: Described,
  kind: 'vmlinux' | 'user-mode-linux',
  bytes: Uint8Array,
): VmlinuxFile | OtherFile {
  try {
    const elf = readElf(bytes);
    const vmlinux = describeVmlinux(elf);
    const kernelVersion = vmlinux.banner?.slice('Linux version '.length) ?? null;
    const [missing] = missingElfBytes(elf);
    const problem = missing === undefined ? null : `${common.path} is cut: ${missing}`;
    return { ...common, kind, vmlinux, kernelVersion, problem };
  } catch (error) {
    if (!(error instanceof BootscopeError)) throw error;
    return { ...common, kind: 'elf', problem: error.message };
  }
}

async function describeBootProgram(
  common: Described & { readonly kind: BootProgramFile['kind'] },
  bytes: Uint8Array,
  depth: number,
): Promise<KernelFile> {
  const { path } = common;
  const header = common.kind === 'arm-zimage' ? readArmZImage(bytes) : null;
  const efi = readEfiProgram(bytes);
  const stream = await findLastStream(bytes);
  let inner: KernelFile | null = null;
  if (stream !== null && depth < MAX_DEPTH) {
    inner = await describe(`the kernel in ${path}`, stream.content, depth + 1);
  }
  const ownVersion = findStatedVersion(bytes);
  // A program that only carries compressed data is no boot program.
  const carriesKernel = inner !== null && (isKernelFile(inner) || inner.kernelVersion !== null);
  if (common.kind === 'boot-wrapper' && !carriesKernel && ownVersion === null) {
    return isElf(bytes)
      ? {
          ...common,
          kind: 'elf',
          what: common.what.replace(/^.*?(ELF\d\d).*/, 'an $1 program'),
          advice: null,
        }
      : { ...common, kind: 'other', what: UNKNOWN_FILE, advice: null };
  }
  const cut =
    header !== null && header.length > bytes.length
      ? `${path}: its header says it has ${header.length} bytes, the file has ${bytes.length}`
      : cutElf(path, bytes);
  const unreadable = stream === null ? findCandidates(bytes).at(-1) : undefined;
  const payload =
    stream !== null
      ? {
          codec: stream.codec,
          offset: stream.offset,
          length: stream.length,
          outputLength: stream.content.length,
        }
      : unreadable !== undefined
        ? { ...unreadable, length: null, outputLength: null }
        : null;
  const kernelVersion = inner?.kernelVersion ?? ownVersion;
  const notices = header === null ? [] : await appendedTree(path, bytes, header.length, depth);
  return { ...common, header, efi, payload, inner, problem: cut, kernelVersion, notices };
}

/** A device tree that somebody has put behind a zImage, for a boot loader that has none (CONFIG_ARM_APPENDED_DTB). */
async function appendedTree(
  path: string,
  bytes: Uint8Array,
  length: number,
  depth: number,
): Promise<readonly string[]> {
  const behind = bytes.subarray(length);
  if (!isDeviceTree(behind) || depth >= MAX_DEPTH) return [];
  const tree = await describe(`what lies behind ${path}`, behind, depth + 1);
  return [`${tree.what} lies behind the zImage, at offset ${length}`];
}

function cutElf(path: string, bytes: Uint8Array): string | null {
  try {
    const [missing] = missingElfBytes(readElf(bytes));
    return missing === undefined ? null : `${path} is cut: ${missing}`;
  } catch (error) {
    if (error instanceof BootscopeError) return null;
    throw error;
  }
}

async function describeUImage(common: Described, bytes: Uint8Array, depth: number): Promise<KernelFile> {
  const header = readUImage(bytes);
  if (header === null) return withoutHeader(common);
  const parts: (KernelFile | null)[] = [];
  for (const [index, part] of header.parts.slice(0, 16).entries()) {
    const isInside = new ByteView(bytes, 'uImage').has(part.offset, part.length);
    parts.push(
      isInside && depth < MAX_DEPTH
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
    problem = `${common.path}: its header CRC is ${crc(headerCrc.stated)}, the header gives ${crc(headerCrc.computed)}`;
  } else if (dataCrc.computed === null) {
    problem = `${common.path} is cut: its header says ${header.dataLength} bytes of data, the file has ${bytes.length - 64}`;
  } else if (dataCrc.stated !== dataCrc.computed) {
    problem = `${common.path}: its data CRC is ${crc(dataCrc.stated)}, the data gives ${crc(dataCrc.computed)}`;
  }
  const kernelVersion = parts.find((part) => part?.kernelVersion != null)?.kernelVersion ?? null;
  const bootable = parts[0]?.bootable ?? false;
  const what = header.type === 'kernel' ? common.what : `${common.what} of type ${header.type}`;
  const advice = bootable ? null : common.advice;
  return { ...common, kind: 'uimage', what, header, parts, problem, kernelVersion, bootable, advice };
}

function crc(value: number): string {
  return `0x${value.toString(16).padStart(8, '0')}`;
}

const OVERLAY = {
  what: 'a device tree overlay, changes to a device tree',
  advice: 'apply it with fdtoverlay, or have the boot loader do so',
} as const;

async function describeDeviceTree(common: Described, bytes: Uint8Array, depth: number): Promise<KernelFile> {
  try {
    const tree = readDeviceTree(bytes);
    const problem =
      tree.totalSize > bytes.length
        ? `${common.path} is cut: its header says it has ${tree.totalSize} bytes, the file has ${bytes.length}`
        : null;
    const fit = readFit(bytes, tree);
    if (fit === null) {
      const model = textProperty(tree.root, 'model');
      const compatible = textsProperty(tree.root, 'compatible');
      if (isOverlay(tree.root)) {
        return { ...common, ...OVERLAY, kind: 'device-tree', model, compatible, problem };
      }
      const what = model === null ? common.what : `${common.what} for ${model}`;
      return { ...common, kind: 'device-tree', what, model, compatible, problem };
    }
    const found = await inside(common.path, bytes, 'fit', depth);
    const wrong = fit.images
      .flatMap(({ name, hashes }) => hashes.map((hash) => ({ name, ...hash })))
      .find(({ valid }) => valid === false);
    const damaged =
      wrong === undefined
        ? null
        : `${common.path}: image ${wrong.name} does not have the ${wrong.algorithm} that its hash node says`;
    const advice = found.bootable ? null : common.advice;
    return { ...common, ...found, kind: 'fit', fit, advice, problem: problem ?? damaged ?? found.problem };
  } catch (error) {
    if (!(error instanceof BootscopeError)) throw error;
    return { ...common, kind: 'device-tree', model: null, compatible: [], problem: error.message };
  }
}

async function describeInitrdFile(common: Described, bytes: Uint8Array): Promise<InitrdFile> {
  const parts = readInitrd(bytes) ?? [];
  const endless = parts.find(({ isCut }) => isCut);
  const problem =
    endless === undefined
      ? await archiveProblem(common.path, bytes, parts.at(-1))
      : `${common.path} is cut: the cpio archive at offset ${endless.offset} does not end in its ${bytes.length} bytes`;
  return { ...common, kind: 'initrd', parts, what: describeInitrd(parts), problem };
}

/** Why a compressed archive behind others cannot be unpacked; null where it can. */
async function archiveProblem(
  path: string,
  bytes: Uint8Array,
  part: InitrdPart | undefined,
): Promise<string | null> {
  if (part === undefined || part.compression === null) return null;
  try {
    await unpackStream(
      `the archive at offset ${part.offset} of ${path}`,
      bytes.subarray(part.offset),
      part.compression,
    );
    return null;
  } catch (error) {
    if (!(error instanceof BootscopeError)) throw error;
    return error.message;
  }
}

async function describeUki(common: Described, bytes: Uint8Array, depth: number): Promise<KernelFile> {
  const efi = readEfiProgram(bytes);
  if (efi === null) return { ...common, kind: 'other' };
  const { pe } = efi;
  const texts = ukiTexts(bytes, pe);
  const found = await inside(common.path, bytes, 'uki', depth);
  const section = findPeSection(pe, '.initrd');
  let initrd: KernelFile | null = null;
  let problem = cutProgram(common.path, bytes, pe) ?? found.problem;
  try {
    const content = section === undefined ? null : peSectionBytes(bytes, section);
    if (content !== null && depth < MAX_DEPTH) {
      initrd = await describe(`section .initrd of ${common.path}`, content, depth + 1);
    }
  } catch (error) {
    if (!(error instanceof BootscopeError)) throw error;
    problem ??= error.message;
  }
  const initSize = found.inner?.kind === 'x86-boot-image' ? found.inner.header.get('init_size') : 0;
  return {
    ...common,
    ...found,
    kind: 'uki',
    efi,
    texts,
    summaries: summarise(bytes, pe, texts, found.inner, initrd),
    initrd,
    problem,
    notices: sectionsInRunArea(pe, initSize).map(runAreaSentence),
    kernelVersion: found.kernelVersion ?? texts['.uname'] ?? null,
  };
}

/** Sections of systemd-stub's own program. */
const STUB_SECTIONS = [
  '.text',
  '.data',
  '.rodata',
  '.reloc',
  '.dynamic',
  '.dynsym',
  '.rela',
  '.bss',
  '.sdmagic',
];
const LONGEST_SUMMARY = 60;

function summarise(
  bytes: Uint8Array,
  pe: PeFile,
  texts: Readonly<Record<string, string>>,
  inner: KernelFile | null,
  initrd: KernelFile | null,
): Record<string, string> {
  const summaries: Record<string, string> = {};
  for (const section of pe.sections) {
    const { name } = section;
    if (STUB_SECTIONS.includes(name) || name in summaries) continue;
    const text = texts[name];
    if (name === '.linux') {
      summaries[name] = [inner?.what, inner?.kernelVersion?.split(' ')[0]].filter(Boolean).join(', ');
    } else if (name === '.initrd' && initrd !== null) summaries[name] = initrd.what;
    else if (text !== undefined) {
      const line = text.replace(/\s+/g, ' ');
      summaries[name] = line.length > LONGEST_SUMMARY ? `${line.slice(0, LONGEST_SUMMARY)}…` : line;
    } else if (new ByteView(bytes, name).has(section.fileOffset, section.fileSize)) {
      summaries[name] = identifyFile(peSectionBytes(bytes, section)).what;
    }
  }
  return summaries;
}

async function describeCompressed(common: Described, bytes: Uint8Array, depth: number): Promise<KernelFile> {
  const start = pastSkippableFrames(bytes);
  const compression = detectCompression(bytes.subarray(start, start + 64));
  if (compression === null) return { ...common, kind: 'other' };
  let inner: KernelFile | null = null;
  let problem: string | null = null;
  const certain = contentIsNoKernel(bytes);
  try {
    if (certain?.kind === 'other') {
      inner = { ...common, path: `the content of ${common.path}`, ...certain, kind: 'other' };
    } else if (depth < MAX_DEPTH) {
      const step = await unwrapOnce(common.path, bytes, 'compressed');
      inner = step === null ? null : await describe(`the content of ${common.path}`, step.bytes, depth + 1);
    }
  } catch (error) {
    if (!(error instanceof BootscopeError)) throw error;
    problem = error.message;
  }
  const bootable = inner?.bootable ?? false;
  if (inner?.kind === 'initrd') {
    const parts = [{ ...inner.parts[0]!, offset: 0, compression }];
    return { ...common, kind: 'initrd', parts, what: describeInitrd(parts), advice: inner.advice };
  }
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
