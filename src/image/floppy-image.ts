// A raw floppy image: a kernel that was written to it as it is, or a boot loader's, whose kernel nobody knows yet.

import { BootscopeError } from '../error.ts';
import { readSetupHeader } from '../protocol/setup-header.ts';
import type { PhysicalMemory } from '../x86/physical-memory.ts';
import { type KernelImage, readKernelImage } from './kernel-image.ts';
import { holdsSetupHeader, imageFromBootParams } from './rebuild-image.ts';

const SECTOR_SIZE = 512;
const BOOT_FLAG_OFFSET = 0x1fe;

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
    program: null,
    payload: null,
  };
}

/**
 * The kernel that a boot loader has put into memory, when its protected-mode code is about to run.
 *
 * @param bootParams - what ESI points to
 * @param code - where the protected-mode code lies
 * @returns null where boot_params holds no setup header
 */
export async function readKernelInMemory(
  floppy: KernelImage,
  memory: PhysicalMemory,
  bootParams: number,
  code: number,
): Promise<KernelImage | null> {
  const page = memory.viewUpTo(bootParams, 2 * SECTOR_SIZE);
  const bytes = imageFromBootParams(page, memory.viewUpTo(code, memory.bytesFrom(code)));
  if (bytes === null) return null;
  return { ...(await readKernelImage(floppy.path, bytes)), bytes: floppy.bytes };
}
