// Takes the kernel proper out of a boot image: decompresses the payload and finds where its ELF file ends.

import type { DecompressOptions } from '../codecs/codec.ts';
import { codecByName } from '../codecs/registry.ts';
import { BootscopeError } from '../error.ts';
import { hexDigits } from '../host/host.ts';
import { ByteView } from './byte-view.ts';
import { type ElfFile, elfFileLength, isElf, readElf } from './elf.ts';
import type { KernelImage } from './kernel-image.ts';
import type { Payload } from './payload.ts';

/** Tried in turn where the payload does not say how much it holds. */
const GUESSED_LENGTHS: readonly number[] = [0x2000000, 0x8000000, 0x40000000];

/** The kernel in an image, decompressed. */
export interface ExtractedKernel {
  /** All that the payload holds: the kernel and the relocation lists behind it. */
  readonly bytes: Uint8Array;
  /** The kernel's headers; null for the flat binary of a kernel from before 2.6.26. */
  readonly elf: ElfFile | null;
  /** Length of the ELF file, or of the whole flat binary, without relocation lists; bytes. */
  readonly kernelLength: number;
}

/**
 * Decompresses the payload of an image.
 *
 * @throws {@link BootscopeError} `image-no-payload` where there is none Bootscope can read, and the codecs' errors
 */
export async function extractVmlinux(
  image: KernelImage,
  options?: DecompressOptions,
): Promise<ExtractedKernel> {
  const { payload } = image;
  if (payload === null) throw noPayload(image);
  const bytes = await decompressPayload(image, payload, options);
  if (!isElf(bytes)) {
    const relocatable = image.header.get('relocatable_kernel') !== 0;
    return { bytes, elf: null, kernelLength: relocatable ? flatKernelLength(bytes) : bytes.length };
  }
  const elf = readElf(bytes);
  return { bytes, elf, kernelLength: elfFileLength(elf) };
}

/**
 * Length of a flat kernel without the relocation list that 2.6.20 to 2.6.25 append for i386: a 0 word, then
 * addresses in the kernel in ascending order, up to the end.
 */
function flatKernelLength(bytes: Uint8Array): number {
  if (bytes.length % 4 !== 0 || bytes.length < 8) return bytes.length;
  const view = new ByteView(bytes, 'relocation list');
  const highest = view.u32(bytes.length - 4);
  let previous = 0x100000000;
  for (let at = bytes.length - 4; at >= 0; at -= 4) {
    const word = view.u32(at);
    if (word === 0) return at;
    if (word >= previous || highest - word > bytes.length) break;
    previous = word;
  }
  return bytes.length;
}

async function decompressPayload(
  image: KernelImage,
  payload: Payload,
  options?: DecompressOptions,
): Promise<Uint8Array> {
  const codec = await codecByName(payload.codec);
  const input = image.protectedModeCode.subarray(payload.offset, payload.offset + payload.length);
  const lengths = payload.outputLength === null ? GUESSED_LENGTHS : [payload.outputLength];
  for (const [index, length] of lengths.entries()) {
    const output = new Uint8Array(length);
    try {
      const { bytesWritten } = await codec.decompress(input, output, options);
      return output.subarray(0, bytesWritten);
    } catch (error) {
      const tooSmall = error instanceof BootscopeError && error.code === 'codec-output-limit';
      if (!tooSmall || index === lengths.length - 1) throw error;
    }
  }
  throw noPayload(image);
}

function noPayload(image: KernelImage): BootscopeError {
  const offset = image.header.get('payload_offset');
  const length = image.header.get('payload_length');
  if (offset === 0 || length === 0) {
    return new BootscopeError(
      'image-no-payload',
      `${image.path} has no compressed kernel: its header names none (boot protocol ` +
        `${image.header.version ?? 'before 2.00'}), and no gzip, bzip2, lzma, xz, lzo, lz4 or zstd stream was ` +
        `found in its ${image.protectedModeCode.length} bytes of protected-mode code`,
    );
  }
  const start = hexDigits(image.protectedModeCode.subarray(offset, offset + 8));
  return new BootscopeError(
    'image-no-payload',
    `${image.path} has a payload of ${length} bytes at offset ${offset} of its protected-mode code that ` +
      `begins with ${start}, which is none of gzip, bzip2, lzma, xz, lzo, lz4 and zstd`,
  );
}
