// Describes an image for the x86 boot protocol: sizes, checksum, kernel_info, and what its payload holds.

import { crc32 } from '../codecs/checksums.ts';
import { BootscopeError } from '../error.ts';
import { readSetupHeader, type SetupHeader } from '../protocol/setup-header.ts';
import { ByteView } from './byte-view.ts';
import { extractVmlinux } from './extract-vmlinux.ts';
import type { Described, EfiProgram, ImageChecksum, KernelInfo, X86BootFile } from './kernel-file.ts';
import { type KernelImage, readKernelImage } from './kernel-image.ts';
import { readKernelVersion } from './kernel-version.ts';
import type { PeFile } from './pe.ts';
import { clearSignatureFields } from './pe-signature.ts';
import { readXenNotes } from './vmlinux.ts';

/** The protocol whose builds append the CRC first. */
const FIRST_WITH_CHECKSUM = 0x0208;

export async function describeX86(
  common: Described,
  bytes: Uint8Array,
  efi: EfiProgram | null,
): Promise<X86BootFile> {
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
  return {
    ...common,
    kind: 'x86-boot-image',
    what: whatItIs(header, image),
    bootable: problem === null,
    header,
    image,
    problem,
    kernelVersion: image?.program == null ? readKernelVersion(header, bytes.subarray(0, setupSize)) : null,
    sizes: { bootSector: 512, setup: setupSize - 512, system: Math.max(bytes.length - setupSize, 0) },
    checksum: image?.payload == null ? null : imageChecksum(header, image.bytes, setupSize, efi?.pe ?? null),
    kernelInfo: readKernelInfo(header, bytes.subarray(Math.min(setupSize, bytes.length))),
    efi,
    ...(image === null ? { xen: null } : await insideImage(image)),
  };
}

function whatItIs(header: SetupHeader, image: KernelImage | null): string {
  if (image?.program != null) return `a program for the x86 boot protocol, not Linux (${image.program})`;
  if (header.protocol === 0) {
    return image?.payload == null
      ? 'an x86 kernel from before the boot protocol, not compressed'
      : 'an x86 zImage from before boot protocol 2.00';
  }
  return `an x86 ${image?.kind ?? 'boot image'}`;
}

/** The notes of the ELF file in the payload, null where there is none; a payload that does not unpack is noticed. */
async function insideImage(image: KernelImage): Promise<Pick<X86BootFile, 'xen' | 'notices'>> {
  if (image.payload === null) return { xen: null, notices: [] };
  try {
    const { elf } = await extractVmlinux(image);
    return { xen: elf === null ? null : readXenNotes(elf), notices: [] };
  } catch (error) {
    if (!(error instanceof BootscopeError)) throw error;
    return { xen: null, notices: [`the payload does not unpack: ${error.message}`] };
  }
}

/**
 * boot.rst, "The Image Checksum": the CRC over all up to the end that syssize gives leaves no remainder.
 *
 * @returns null where the image is older or too short for one
 */
export function imageChecksum(
  header: SetupHeader,
  bytes: Uint8Array,
  setupSize: number,
  pe: PeFile | null,
): ImageChecksum | null {
  if (header.protocol < FIRST_WITH_CHECKSUM) return null;
  const end = setupSize + header.get('syssize') * 16;
  if (end > bytes.length || end < setupSize + 4) return null;
  const stored = new ByteView(bytes, 'checksum').u32(end - 4);
  if (buildCrc(bytes.subarray(0, end - 4)) === stored) return 'valid';
  if (pe !== null && buildCrc(asBuilt(bytes.subarray(0, end - 4), pe)) === stored) return 'signed';
  return stored === 0 ? 'none' : 'differs';
}

/** What the build appends: CRC-32 without its final inversion, so that the CRC over image and CRC leaves no remainder. */
export function buildCrc(content: Uint8Array): number {
  return ~crc32(content) >>> 0;
}

/** As the build left it. A copy. */
function asBuilt(bytes: Uint8Array, pe: PeFile): Uint8Array {
  const unsigned = Uint8Array.from(bytes);
  clearSignatureFields(unsigned, pe);
  return unsigned;
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
