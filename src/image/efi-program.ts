// An EFI program that is no Linux kernel, such as a boot loader: what firmware makes of it is known once it has run.

import { BootscopeError } from '../error.ts';
import { readSetupHeader } from '../protocol/setup-header.ts';
import { type KernelImage, readKernelImage } from './kernel-image.ts';
import { readPe } from './pe.ts';

const EFI_APPLICATION = 10;
const EFI_RUNTIME_DRIVER = 12;
/** A setup header's place in a file, which this has none of. */
const NO_HEADER = 1024;

/**
 * Reads what UEFI firmware is to start: a kernel or a Unified Kernel Image as such, any other EFI program as it is.
 *
 * @param path - for people
 * @throws {@link BootscopeError} as `readKernelImage` for a file that is no EFI program
 */
export async function readEfiImage(path: string, bytes: Uint8Array): Promise<KernelImage> {
  try {
    return await readKernelImage(path, bytes);
  } catch (error) {
    const pe = readPe(bytes);
    const isProgram = pe !== null && pe.subsystem >= EFI_APPLICATION && pe.subsystem <= EFI_RUNTIME_DRIVER;
    if (!isProgram || !(error instanceof BootscopeError) || error.code !== 'image-not-bootable') throw error;
  }
  const nothing = new Uint8Array(0);
  return {
    ...{ path, bytes, wrappers: [], kind: 'efi-program' },
    header: readSetupHeader(new Uint8Array(NO_HEADER)),
    ...{ setupSize: 0, setup: nothing, protectedModeCode: nothing, payload: null, program: null },
    kernelVersion: null,
  };
}
