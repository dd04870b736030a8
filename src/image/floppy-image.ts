// A raw floppy image: a kernel that was written to it as it is, or a boot loader's, whose kernel nobody knows yet.

import { BootscopeError } from '../error.ts';
import { readSetupHeader, SETUP_HEADER_MAGIC } from '../protocol/setup-header.ts';
import { type KernelImage, readKernelImage } from './kernel-image.ts';

const SECTOR_SIZE = 512;
const MAGIC_OFFSET = 0x202;
const HEADER_OFFSET = 0x1f1;
const HEADER_END_BYTE = 0x201;
const BOOT_FLAG_OFFSET = 0x1fe;
const DEFAULT_SETUP_SECTORS = 4;
/** The protected-mode code of a kernel from before protocol 2.04 may be larger than its 16-bit syssize tells. */
const SYSSIZE_32_BITS = 0x0204;
const LARGEST_OLD_CODE = 0x800000;

/** Whether a boot sector, or boot_params, with a setup header begins at `start`. */
export function holdsSetupHeader(bytes: Uint8Array, start = 0): boolean {
  const at = start + MAGIC_OFFSET;
  if (at + 4 > bytes.length) return false;
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true) === SETUP_HEADER_MAGIC;
}

/**
 * @throws BootscopeError `image-floppy` for a file without a boot sector
 */
export async function readFloppyImage(path: string, bytes: Uint8Array): Promise<KernelImage> {
  if (holdsSetupHeader(bytes)) return readKernelImage(path, bytes);
  if (
    bytes.length < SECTOR_SIZE ||
    bytes[BOOT_FLAG_OFFSET] !== 0x55 ||
    bytes[BOOT_FLAG_OFFSET + 1] !== 0xaa
  ) {
    throw new BootscopeError(
      'image-floppy',
      `${path} has no boot sector: its ${bytes.length} bytes do not have 55 aa at offset ${BOOT_FLAG_OFFSET}`,
    );
  }
  const nothing = new Uint8Array(0);
  return {
    path,
    bytes,
    wrappers: [],
    kind: 'floppy',
    header: readSetupHeader(new Uint8Array(2 * SECTOR_SIZE)),
    setupSize: 0,
    setup: nothing,
    protectedModeCode: nothing,
    kernelVersion: null,
    payload: null,
  };
}

/**
 * The kernel that a boot loader has put into memory, when its protected-mode code is about to run.
 *
 * @param ram - physical memory from address 0
 * @param bootParams - what ESI points to
 * @param code - where the protected-mode code lies
 * @returns null where boot_params holds no setup header
 */
export async function readKernelInMemory(
  floppy: KernelImage,
  ram: Uint8Array,
  bootParams: number,
  code: number,
): Promise<KernelImage | null> {
  const page = ram.subarray(bootParams, bootParams + 2 * SECTOR_SIZE);
  if (!holdsSetupHeader(page)) return null;
  const header = readSetupHeader(page);
  const sectors = header.get('setup_sects') || DEFAULT_SETUP_SECTORS;
  const setup = new Uint8Array((sectors + 1) * SECTOR_SIZE);
  const headerEnd = MAGIC_OFFSET + page[HEADER_END_BYTE]!;
  setup.set(page.subarray(HEADER_OFFSET, headerEnd), HEADER_OFFSET);
  setup.set([0x55, 0xaa], BOOT_FLAG_OFFSET);
  const paragraphs = header.get('syssize');
  const size = header.protocol >= SYSSIZE_32_BITS ? paragraphs * 16 : LARGEST_OLD_CODE;
  const image = await readKernelImage(
    floppy.path,
    Buffer.concat([setup, ram.subarray(code, Math.min(code + size, ram.length))]),
  );
  return { ...image, bytes: floppy.bytes };
}
