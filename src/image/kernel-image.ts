// A bootable x86 Linux image as the rest of Bootscope sees it, whatever it was wrapped in.

import { detectCodec } from '../codecs/registry.ts';
import { BootscopeError } from '../error.ts';
import { readSetupHeader, type SetupHeader } from '../protocol/setup-header.ts';
import { cannotBootSentence, type FileIdentity, identifyFile, isX86BootImage } from './identify.ts';
import { readKernelVersion } from './kernel-version.ts';
import { findPayload, type Payload } from './payload.ts';
import { findPeSection, peSectionBytes, readPe } from './pe.ts';
import { gunzipStart, unpackStream } from './unpack.ts';

export interface KernelImage {
  /** As the user named it. */
  readonly path: string;
  /** The image proper, boot sector first, unwrapped. */
  readonly bytes: Uint8Array;
  /** What it was taken out of, outermost first: `gzip`, `xz`, `UKI section .linux`; empty for a plain image. */
  readonly wrappers: readonly string[];
  /** By LOADED_HIGH in loadflags; `floppy`: a boot loader's disk, whose kernel is known once it has been loaded. */
  readonly kind: 'bzImage' | 'zImage' | 'floppy';
  readonly header: SetupHeader;
  /** Bytes of boot sector and setup, (setup_sects + 1) * 512, with 0 sectors meaning 4. */
  readonly setupSize: number;
  /** Boot sector and setup. */
  readonly setup: Uint8Array;
  /** All that follows setup: ZO, the compressed kernel with its stub. */
  readonly protectedModeCode: Uint8Array;
  /** The string kernel_version points to. */
  readonly kernelVersion: string | null;
  readonly payload: Payload | null;
}

/** Wrappers inside wrappers end somewhere. */
const MAX_WRAPPERS = 4;

/** The build rounds the system up to paragraphs (and its checksum), without always writing the last bytes. */
const SYSTEM_SIZE_SLACK = 20;

/**
 * Reads a bootable x86 image, taking it out of a compressed file or a Unified Kernel Image first.
 *
 * Refused is only what cannot work: something that is no such image, or one that ends before its
 * header, setup code, stub or payload do. Bytes behind the image (signatures, padding) do no harm.
 *
 * @param path - how to name the file in messages
 * @throws BootscopeError `image-not-bootable` (the message says what the file is and what to do
 *   instead), `image-truncated`
 */
export async function readKernelImage(path: string, bytes: Uint8Array): Promise<KernelImage> {
  const unwrapped = await unwrap(path, bytes);
  return parseImage(path, unwrapped.bytes, unwrapped.wrappers);
}

async function unwrap(path: string, bytes: Uint8Array): Promise<{ bytes: Uint8Array; wrappers: string[] }> {
  const wrappers: string[] = [];
  let inner = bytes;
  for (;;) {
    if (wrappers.length > MAX_WRAPPERS) {
      throw new BootscopeError(
        'image-not-bootable',
        `${path} is wrapped more than ${MAX_WRAPPERS} times: ${wrappers.join(' in ')}`,
      );
    }
    const pe = readPe(inner);
    const linux = pe === null ? undefined : findPeSection(pe, '.linux');
    if (linux !== undefined) {
      inner = peSectionBytes(inner, linux);
      wrappers.push('UKI section .linux');
      continue;
    }
    if (isX86BootImage(inner)) return { bytes: inner, wrappers };
    const codec = detectCodec(inner.subarray(0, 64));
    if (codec === null) throw notBootable(path, wrappers, identifyFile(inner));
    if (codec === 'gzip') {
      // What is certainly no kernel is not unpacked whole only to say so.
      const identity = identifyFile(gunzipStart(inner));
      if (identity.kind === 'other' && identity.advice !== null) {
        throw notBootable(path, [...wrappers, codec], identity);
      }
    }
    inner = await unpackStream(path, inner, codec);
    wrappers.push(codec);
  }
}

function notBootable(path: string, wrappers: readonly string[], identity: FileIdentity): BootscopeError {
  const outside =
    wrappers.length === 0 ? path : `the content of ${path} (${[...wrappers].reverse().join(' in ')})`;
  return new BootscopeError('image-not-bootable', cannotBootSentence(outside, identity));
}

function parseImage(path: string, bytes: Uint8Array, wrappers: readonly string[]): KernelImage {
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
  return {
    path,
    bytes,
    wrappers,
    kind,
    header,
    setupSize,
    setup,
    protectedModeCode,
    kernelVersion: readKernelVersion(header, setup),
    payload: findPayload(header, protectedModeCode),
  };
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
