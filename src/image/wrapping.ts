// What a kernel file may be wrapped in: compressed files, Unified Kernel Images, and the containers of boot loaders and
// firmware. Each is opened by one step inwards.

import { BootscopeError } from '../error.ts';
import { concatBytes, hexDigits } from '../host/host.ts';
import { readAndroidBoot } from './android-boot.ts';
import { ByteView } from './byte-view.ts';
import { readDeviceTree } from './device-tree.ts';
import { readEfiZboot } from './efi-zboot.ts';
import { type FitImage, fitImageOf, readFit } from './fit.ts';
import { type FileKind, identifyFile } from './identify.ts';
import { findPeSection, peSectionBytes, readPe } from './pe.ts';
import { readUImage } from './uimage.ts';
import { detectCompression, gunzipStart, pastSkippableFrames, unpackStream } from './unpack.ts';
import { readVboot } from './vboot.ts';

/** What was inside. */
export interface Unwrapped {
  /** Names the wrapping: `gzip`, `UKI section .linux`, `FIT image kernel-1`. */
  readonly wrapper: string;
  readonly bytes: Uint8Array;
}

/** Kinds of files that `unwrapOnce` opens. */
export const WRAPPINGS: readonly FileKind[] = [
  'uki',
  'compressed',
  'efi-zboot',
  'uimage',
  'fit',
  'vboot',
  'android-boot',
];

/**
 * Takes the kernel file out of one wrapping.
 *
 * @param path - names the file in messages
 * @param kind - of `bytes`
 * @returns null where the wrapping holds no kernel
 * @throws BootscopeError `image-truncated`, `image-corrupt`, `image-too-large`, `image-device-tree`
 */
export async function unwrapOnce(path: string, bytes: Uint8Array, kind: FileKind): Promise<Unwrapped | null> {
  const view = new ByteView(bytes, path);
  const slice = (part: { readonly offset: number; readonly length: number }): Uint8Array => {
    if (view.has(part.offset, part.length)) return view.slice(part.offset, part.length);
    throw new BootscopeError(
      'image-truncated',
      `${path} is cut: its kernel has ${part.length} bytes at offset ${part.offset}, the file has ${bytes.length}`,
    );
  };
  switch (kind) {
    case 'uki': {
      const pe = readPe(bytes);
      const linux = pe === null ? undefined : findPeSection(pe, '.linux');
      if (linux === undefined) return null;
      return { wrapper: 'UKI section .linux', bytes: peSectionBytes(bytes, linux) };
    }
    case 'compressed': {
      const stream = bytes.subarray(pastSkippableFrames(bytes));
      const compression = detectCompression(stream.subarray(0, 64));
      if (compression === null) return null;
      return { wrapper: compression, bytes: (await unpackStream(path, stream, compression)).content };
    }
    case 'efi-zboot': {
      const header = readEfiZboot(bytes);
      if (header === null) return null;
      const payload = slice({ offset: header.payloadOffset, length: header.payloadLength });
      return { wrapper: 'EFI zboot image', bytes: await unpackAsNamed(path, payload, header.compression) };
    }
    case 'uimage': {
      const part = readUImage(bytes)?.parts[0];
      if (part === undefined) return null;
      return { wrapper: 'uImage', bytes: slice(part) };
    }
    case 'fit':
      return unwrapFit(path, bytes);
    case 'vboot': {
      const image = readVboot(bytes)?.image ?? null;
      return image === null ? null : { wrapper: 'ChromeOS kernel partition', bytes: image };
    }
    case 'android-boot': {
      const header = readAndroidBoot(bytes);
      return header === null ? null : { wrapper: 'Android boot image', bytes: slice(header.kernel) };
    }
    default:
      return null;
  }
}

/** The kernel of the default configuration; on x86 with the setup that U-Boot keeps as an image of its own. */
async function unwrapFit(path: string, bytes: Uint8Array): Promise<Unwrapped | null> {
  const fit = readFit(bytes, readDeviceTree(bytes));
  const kernel = fit === null ? null : fitImageOf(fit, 'kernel');
  if (fit === null || kernel === null) return null;
  const setup = fitImageOf(fit, 'setup') ?? fitImageOf(fit, 'x86_setup');
  const unpack = async (image: FitImage): Promise<Uint8Array> => {
    if (image.data === null) {
      throw new BootscopeError(
        'image-truncated',
        `${path} is cut: its image ${image.name} has ${image.length} bytes, the file does not have them all`,
      );
    }
    return image.compression === 'none'
      ? image.data
      : unpackAsNamed(`image ${image.name} of ${path}`, image.data, image.compression);
  };
  const parts = setup === null ? [kernel] : [setup, kernel];
  return {
    wrapper: `FIT image ${kernel.name}`,
    bytes: parts.length === 1 ? await unpack(kernel) : concatBytes(await Promise.all(parts.map(unpack))),
  };
}

/** By the stream's own magic; `named` is for the sentence where it has none. */
async function unpackAsNamed(path: string, bytes: Uint8Array, named: string): Promise<Uint8Array> {
  const compression = detectCompression(bytes.subarray(0, 64));
  if (compression !== null) return (await unpackStream(path, bytes, compression)).content;
  const start = hexDigits(bytes.subarray(0, 8));
  throw new BootscopeError(
    'image-corrupt',
    `${path}: the kernel in it should be compressed with ${named}, but begins with ${start}, which no known format does`,
  );
}

/**
 * What the first bytes of a gzip file's content are, where that is enough to say that it is no kernel; null where all of it
 * has to be unpacked to know.
 */
export function contentIsNoKernel(bytes: Uint8Array): ReturnType<typeof identifyFile> | null {
  if (detectCompression(bytes.subarray(0, 64)) !== 'gzip') return null;
  const identity = identifyFile(gunzipStart(bytes));
  const sure = (identity.kind === 'other' && identity.advice !== null) || identity.kind === 'initrd';
  return sure ? identity : null;
}
