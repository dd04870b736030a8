// Takes the kernel proper out of any file that carries one, whatever the machine: the ELF file in a bzImage or a boot program,
// the Image under gzip or in an EFI zboot program.

import { BootscopeError } from '../error.ts';
import { type ElfFile, isElf, readElf } from './elf.ts';
import { extractVmlinux } from './extract-vmlinux.ts';
import { type FileKind, identifyFile } from './identify.ts';
import { readKernelImage } from './kernel-image.ts';
import { findLastStream } from './stream-search.ts';
import { unwrapOnce } from './wrapping.ts';

export interface KernelProper {
  /** All that was compressed: the kernel, and in x86 the relocation lists behind it. */
  readonly bytes: Uint8Array;
  /** Length of the kernel without relocation lists; bytes. */
  readonly kernelLength: number;
  /** `ELF64 x86-64`, `ARM64 kernel Image`, `flat binary`. */
  readonly format: string;
  /** What it was taken out of, outermost first. */
  readonly wrappers: readonly string[];
}

/** Kinds that carry a compressed kernel in their own code. */
const BOOT_PROGRAMS: readonly FileKind[] = ['arm-zimage', 's390-image', 'boot-wrapper'];
/** Kinds that are the kernel proper. */
const KERNELS: readonly FileKind[] = [
  'vmlinux',
  'user-mode-linux',
  'multiboot',
  'arm64-image',
  'riscv-image',
  'loongarch-image',
  'xip-image',
];
const MAX_WRAPPERS = 5;
/** The format of x86 kernels from before 2.6.26. */
export const OLD_X86_KERNEL = 'flat x86 binary';

/**
 * @param path - how to name the file in messages
 * @throws BootscopeError `image-no-payload` for a file that carries no kernel, `image-nothing-to-extract` for one that is the
 *   kernel proper, and what unpacking throws
 */
export async function extractKernel(path: string, bytes: Uint8Array): Promise<KernelProper> {
  const wrappers: string[] = [];
  let inner = bytes;
  for (;;) {
    const identity = identifyFile(inner);
    const { kind } = identity;
    if (kind === 'x86-boot-image') {
      const kernel = await extractVmlinux(await readKernelImage(path, inner));
      const { bytes: content, elf, kernelLength } = kernel;
      const format = elf === null ? OLD_X86_KERNEL : formatOf(elf, null);
      return { bytes: content, kernelLength, format, wrappers };
    }
    if (BOOT_PROGRAMS.includes(kind))
      return { ...(await kernelOfProgram(path, inner, identity.what)), wrappers };
    if (KERNELS.includes(kind)) {
      if (wrappers.length === 0) {
        throw new BootscopeError(
          'image-nothing-to-extract',
          `${path} is already ${identity.what}: there is nothing to extract`,
        );
      }
      return { ...kernelIn(inner), wrappers };
    }
    const step = wrappers.length < MAX_WRAPPERS ? await unwrapOnce(path, inner, kind) : null;
    if (step === null) {
      const outside = wrappers.length === 0 ? path : `the content of ${path}`;
      throw new BootscopeError('image-no-payload', `${outside} is ${identity.what}, which carries no kernel`);
    }
    wrappers.push(step.wrapper);
    inner = step.bytes;
  }
}

async function kernelOfProgram(
  path: string,
  bytes: Uint8Array,
  what: string,
): Promise<Omit<KernelProper, 'wrappers'>> {
  const stream = await findLastStream(bytes);
  if (stream === null) {
    throw new BootscopeError(
      'image-no-payload',
      `${path} is ${what}, but no gzip, bzip2, lzma, xz, lzo, lz4 or zstd stream in its ${bytes.length} bytes unpacks to a kernel`,
    );
  }
  return kernelIn(stream.content);
}

/** Only x86 appends something to the kernel that it compresses. */
function kernelIn(bytes: Uint8Array): Omit<KernelProper, 'wrappers'> {
  const format = isElf(bytes) ? formatOf(readElf(bytes), null) : formatOf(null, identifyFile(bytes).kind);
  return { bytes, kernelLength: bytes.length, format };
}

function formatOf(elf: ElfFile | null, kind: FileKind | null): string {
  if (elf !== null) return `ELF${elf.bits} ${elf.machineName}`;
  if (kind === 'arm64-image') return 'ARM64 kernel Image';
  if (kind === 'riscv-image') return 'RISC-V kernel Image';
  return kind === 'loongarch-image' ? 'LoongArch kernel Image' : 'flat binary';
}
