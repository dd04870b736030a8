// A bootable x86 Linux image as the rest of Bootscope sees it, whatever it was wrapped in.

import { BootscopeError } from '../error.ts';
import type { ErrorCode } from '../error-codes.ts';
import { indexOfText } from '../host/host.ts';
import { readSetupHeader, type SetupHeader } from '../protocol/setup-header.ts';
import { isElf } from './elf.ts';
import { cannotBootSentence, type FileIdentity, type FileKind, identifyFile } from './identify.ts';
import { findLinuxBanner, isLinuxVersion, readKernelVersion } from './kernel-version.ts';
import { findPayload, type Payload } from './payload.ts';
import { isX86Vmlinux } from './vmlinux.ts';
import { contentIsNoKernel, unwrapOnce } from './wrapping.ts';

/** A kernel image that is ready to be booted. */
export interface KernelImage {
  /** As the user named it. */
  readonly path: string;
  /** The image proper, boot sector first, unwrapped. */
  readonly bytes: Uint8Array;
  /** The Unified Kernel Image that it was taken out of. */
  readonly uki?: Uint8Array;
  /** What it was taken out of, outermost first: `gzip`, `xz`, `UKI section .linux`; empty for a plain image. */
  readonly wrappers: readonly string[];
  /**
   * By LOADED_HIGH in loadflags; `floppy`, `disk`, `cdrom`: a boot loader's, whose kernel is known once it has been loaded;
   * `vmlinux`: the kernel's own ELF file, without setup, header and stub.
   */
  readonly kind: 'bzImage' | 'zImage' | 'floppy' | 'disk' | 'cdrom' | 'vmlinux' | 'efi-program';
  readonly header: SetupHeader;
  /** Bytes of boot sector and setup, (setup_sects + 1) * 512, with 0 sectors meaning 4. */
  readonly setupSize: number;
  /** Boot sector and setup. */
  readonly setup: Uint8Array;
  /** All that follows setup: ZO, the compressed kernel with its stub. */
  readonly protectedModeCode: Uint8Array;
  /** The string kernel_version points to. */
  readonly kernelVersion: string | null;
  /** What speaks the boot protocol here without being Linux, `MEMDISK 6.03 2014-10-06`; null for a kernel. */
  readonly program: string | null;
  readonly payload: Payload | null;
}

/** Wrappers inside wrappers end somewhere. */
const MAX_WRAPPERS = 4;

/** The build rounds the system up to paragraphs (and its checksum), without always writing the last bytes. */
const SYSTEM_SIZE_SLACK = 20;

/**
 * Reads a bootable x86 image or a vmlinux, taking it out of what it is wrapped in first: a compressed file, a Unified Kernel Image,
 * a FIT or uImage, a ChromeOS or Android boot partition.
 *
 * Refused is only what cannot work: something that is no such image, or one that ends before its
 * header, setup code, stub or payload do. Bytes behind the image (signatures, padding) do no harm.
 *
 * @param source - the file's path, or its bytes
 * @param content - its bytes, where they are at hand; the path is then only its name in messages
 * @throws BootscopeError `image-not-bootable`, `image-initrd`, `image-disk` (the message says what the file is and what to do
 *   instead), `image-truncated`, and those of `readImageFile`
 */
export async function readKernelImage(
  source: string | Uint8Array,
  content?: Uint8Array,
): Promise<KernelImage> {
  const path = typeof source === 'string' ? source : 'the image';
  const bytes = content ?? (typeof source === 'string' ? await readFile(source) : source);
  const unwrapped = await unwrap(path, bytes);
  if (isElf(unwrapped.bytes)) return vmlinuxImage(path, unwrapped.bytes, unwrapped.wrappers);
  const { uki } = unwrapped;
  const image = await parseImage(path, unwrapped.bytes, unwrapped.wrappers);
  return uki === undefined ? image : { ...image, uki };
}

/** Loaded only where a file is read: a browser has none. */
async function readFile(path: string): Promise<Uint8Array> {
  return (await import('./image-file.ts')).readImageFile(path);
}

interface Unwrapped {
  readonly bytes: Uint8Array;
  readonly wrappers: readonly string[];
  readonly uki?: Uint8Array;
}

async function unwrap(path: string, bytes: Uint8Array): Promise<Unwrapped> {
  const wrappers: string[] = [];
  let uki: { uki?: Uint8Array } = {};
  let inner = bytes;
  for (;;) {
    if (wrappers.length > MAX_WRAPPERS) {
      throw new BootscopeError(
        'image-not-bootable',
        `${path} is wrapped more than ${MAX_WRAPPERS} times: ${wrappers.join(' in ')}`,
      );
    }
    const identity = identifyFile(inner);
    if (identity.kind === 'x86-boot-image') return { bytes: inner, wrappers, ...uki };
    if (identity.kind === 'uki') uki = { uki: inner };
    if (['vmlinux', 'elf'].includes(identity.kind) && isX86Vmlinux(inner)) return { bytes: inner, wrappers };
    // What is certainly no kernel is not unpacked whole only to say so.
    const content = contentIsNoKernel(inner);
    if (content !== null) throw notBootable(path, [...wrappers, 'gzip'], content);
    const step = await unwrapOnce(path, inner, identity.kind);
    if (step === null) throw notBootable(path, wrappers, identity);
    inner = step.bytes;
    wrappers.push(step.wrapper);
  }
}

/** Kinds for which there is another way than to boot them as a kernel; by the code, callers can name it. */
const REFUSAL_CODES: Partial<Record<FileKind, ErrorCode>> = { initrd: 'image-initrd', disk: 'image-disk' };

/** There is nothing of the boot protocol in it but the kernel. */
function vmlinuxImage(path: string, bytes: Uint8Array, wrappers: readonly string[]): KernelImage {
  const nothing = new Uint8Array(0);
  return {
    ...{ path, bytes, wrappers, kind: 'vmlinux' },
    header: readSetupHeader(new Uint8Array(1024)),
    ...{ setupSize: 0, setup: nothing, protectedModeCode: nothing, payload: null, program: null },
    kernelVersion: findLinuxBanner(bytes)?.replace(/^Linux version /, '') ?? null,
  };
}

function notBootable(path: string, wrappers: readonly string[], identity: FileIdentity): BootscopeError {
  const outside =
    wrappers.length === 0 ? path : `the content of ${path} (${[...wrappers].reverse().join(' in ')})`;
  return new BootscopeError(
    REFUSAL_CODES[identity.kind] ?? 'image-not-bootable',
    cannotBootSentence(outside, identity),
  );
}

async function parseImage(
  path: string,
  bytes: Uint8Array,
  wrappers: readonly string[],
): Promise<KernelImage> {
  const header = readSetupHeader(bytes);
  const sectors = header.get('setup_sects');
  const setupSize = ((sectors === 0 ? 4 : sectors) + 1) * 512;
  if (setupSize > bytes.length) {
    throw new BootscopeError(
      'image-truncated',
      `${path} is cut in its setup code: setup_sects ${sectors} needs ${setupSize} bytes, the file has ${bytes.length}`,
    );
  }
  const setup = bytes.subarray(0, setupSize);
  const protectedModeCode = bytes.subarray(setupSize);
  // An image that is all real-mode code says so by a syssize of 0 (GRUB's lnxboot.img).
  if (protectedModeCode.length === 0 && header.get('syssize') !== 0) {
    throw new BootscopeError(
      'image-truncated',
      `${path} ends after its setup code: all of its ${bytes.length} bytes are boot sector and setup ` +
        `(setup_sects ${sectors}), no protected-mode code follows`,
    );
  }
  const kind = header.has('loadflags') && (header.get('loadflags') & 0x01) !== 0 ? 'bzImage' : 'zImage';
  checkSystemSize(path, header, kind, protectedModeCode.length);
  const kernelVersion = readKernelVersion(header, setup);
  const payload = await findPayload(header, protectedModeCode);
  return {
    path,
    bytes,
    wrappers,
    kind,
    header,
    setupSize,
    setup,
    protectedModeCode,
    kernelVersion,
    program: programName(header, kernelVersion, payload, bytes),
    payload,
  };
}

/** Names that programs do not put into `kernel_version`, but have in their code. */
const PROGRAMS = ['GRUB4DOS', 'iPXE', 'gPXE', 'Etherboot'] as const;

/**
 * A kernel has a payload, or a version such as kernels have; whatever else has a setup header only speaks the protocol.
 * Kernels from before it have neither.
 */
function programName(
  header: SetupHeader,
  version: string | null,
  payload: Payload | null,
  bytes: Uint8Array,
): string | null {
  if (header.protocol === 0 || payload !== null || header.get('payload_length') !== 0) return null;
  if (version !== null && isLinuxVersion(version)) return null;
  const name = PROGRAMS.find((program) => indexOfText(bytes, program) >= 0);
  if (name !== undefined) return version === null ? name : `${name} ${version}`;
  return version ?? 'unnamed program';
}

/** Refuses an image that ends before what its header says is in it. */
function checkSystemSize(
  path: string,
  header: SetupHeader,
  kind: 'bzImage' | 'zImage',
  available: number,
): void {
  const offset = header.get('payload_offset');
  const end = offset + header.get('payload_length');
  const hasPayload = offset !== 0 && end > offset;
  if (hasPayload && available < end) {
    const part = available < offset ? 'boot stub, before its payload' : 'payload';
    throw new BootscopeError(
      'image-truncated',
      `${path} is cut in its ${part}: payload_offset ${offset} and payload_length ${end - offset} need ` +
        `${end} bytes of protected-mode code, the file has ${available}`,
    );
  }
  // Before 2.04 the field has 16 bits, which is enough for a zImage but not for a bzImage.
  if (header.protocol < 0x0204 && kind === 'bzImage') return;
  const stated = header.get('syssize') * 16;
  if (stated > available + SYSTEM_SIZE_SLACK) {
    throw new BootscopeError(
      'image-truncated',
      `${path} is cut in its boot stub: syssize ${header.get('syssize')} needs ${stated} bytes of ` +
        `protected-mode code, the file has ${available}`,
    );
  }
}
