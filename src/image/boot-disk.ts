// A disk that a boot loader is on, whose kernel nobody knows before it has been loaded; or a floppy that a kernel was written to as it
// is. And the kernel that the loader has put into memory.

import { BootscopeError } from '../error.ts';
import { readSetupHeader } from '../protocol/setup-header.ts';
import type { PhysicalMemory } from '../x86/physical-memory.ts';
import { type KernelImage, readKernelImage } from './kernel-image.ts';
import { isLinuxVersion } from './kernel-version.ts';
import { holdsSetupHeader, imageFromBootParams, imageFromSetup } from './rebuild-image.ts';

const SECTOR_SIZE = 512;
const BOOT_FLAG_OFFSET = 0x1fe;

type BootDiskKind = Extract<KernelImage['kind'], 'floppy' | 'disk' | 'cdrom'>;

/** Whether it is a loader's disk, and no kernel (yet). */
export function isBootDisk({ kind }: KernelImage): boolean {
  return kind === 'floppy' || kind === 'disk' || kind === 'cdrom';
}

/**
 * A disk that is booted, in the place of a kernel's image: which kernel it is shows once the loader has loaded one.
 *
 * @param path - for people
 * @param bytes - of a floppy; larger disks are read as they are asked for
 */
export function bootDisk(
  path: string,
  kind: BootDiskKind,
  bytes: Uint8Array = new Uint8Array(0),
): KernelImage {
  const nothing = new Uint8Array(0);
  return {
    ...{ path, bytes, kind, wrappers: [] },
    header: readSetupHeader(new Uint8Array(2 * SECTOR_SIZE)),
    ...{ setupSize: 0, setup: nothing, protectedModeCode: nothing },
    ...{ kernelVersion: null, program: null, payload: null },
  };
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
  return bootDisk(path, 'floppy', bytes);
}

/**
 * The kernel that a boot loader has put into memory, when its protected-mode code is about to run.
 *
 * @param disk - what the loader came from
 * @param bootParams - what ESI points to
 * @param code - where the protected-mode code lies
 * @returns null where boot_params holds no setup header
 */
export async function readKernelInMemory(
  disk: KernelImage,
  memory: PhysicalMemory,
  bootParams: number,
  code: number,
): Promise<KernelImage | null> {
  const page = memory.viewUpTo(bootParams, 2 * SECTOR_SIZE);
  return kernelOf(disk, imageFromBootParams(page, memory.viewUpTo(code, memory.bytesFrom(code))));
}

/**
 * The same when its setup is about to run.
 *
 * @param setup - where the boot sector lies that setup follows
 */
export async function readSetupInMemory(
  disk: KernelImage,
  memory: PhysicalMemory,
  setup: number,
): Promise<KernelImage | null> {
  return kernelOf(disk, imageFromSetup(memory, setup));
}

/** Null where what was taken for a kernel is none. */
async function kernelOf(disk: KernelImage, bytes: Uint8Array | null): Promise<KernelImage | null> {
  if (bytes === null) return null;
  try {
    const image = await readKernelImage(disk.path, bytes);
    const { header, kernelVersion, program } = image;
    // What looks like a payload then lies behind the program: memory has no end as a file has.
    const isOther =
      header.get('payload_length') === 0 && kernelVersion !== null && !isLinuxVersion(kernelVersion);
    return { ...image, bytes: disk.bytes, program: program ?? (isOther ? kernelVersion : null) };
  } catch (error) {
    if (error instanceof BootscopeError) return null;
    throw error;
  }
}
