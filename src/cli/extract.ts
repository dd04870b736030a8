// `bootscope extract IMAGE -o FILE`: writes the kernel proper out of a boot image, as its build compressed it.

import type { Command } from 'commander';
import { readImageFile } from '../image/image-file.ts';
import { extractKernel, OLD_X86_KERNEL } from '../image/kernel-proper.ts';
import { addExamples, addOutputOptions } from './common-options.ts';
import { writeOutput } from './output-file.ts';
import { printError } from './standard-output.ts';

interface ExtractFlags {
  readonly output: string;
  readonly withRelocs?: boolean;
  readonly force?: boolean;
}

/** Adds the subcommand `extract`. */
export function registerExtract(program: Command): void {
  const command = program
    .command('extract')
    .description('write the kernel proper (vmlinux, Image) that a boot image of any machine holds')
    .argument('<image>', 'a file that carries a compressed kernel, also inside gzip, a UKI, a FIT, …')
    .option('--with-relocs', 'keep the relocation lists that the build appends to the ELF file');
  addExamples(command, [
    [
      'bootscope extract vmlinuz -o vmlinux',
      "for gdb, objdump or readelf, byte for byte the build's stripped vmlinux",
    ],
    ['bootscope extract vmlinuz -o - | strings | head', 'through a pipe'],
  ]);
  addOutputOptions(command).action(async (path: string, flags: ExtractFlags) =>
    writeKernelProper(path, await readImageFile(path), flags),
  );
}

/** Writes the kernel in `image` where the flags say, and says on standard error what it is. */
export async function writeKernelProper(path: string, image: Uint8Array, flags: ExtractFlags): Promise<void> {
  const kernel = await extractKernel(path, image);
  const relocationLength = kernel.bytes.length - kernel.kernelLength;
  const bytes = flags.withRelocs === true ? kernel.bytes : kernel.bytes.subarray(0, kernel.kernelLength);
  await writeOutput(flags.output, bytes, flags.force === true);

  const relocations =
    relocationLength === 0
      ? ''
      : `, ${flags.withRelocs === true ? 'with' : 'without'} ${relocationLength} bytes of relocation lists`;
  const target = flags.output === '-' ? 'standard output' : flags.output;
  printError(`${target}: ${bytes.length} bytes, ${kernel.format}${relocations}\n`);
  if (kernel.format === OLD_X86_KERNEL) {
    printError(`notice: ${path} holds no ELF file but a flat binary, as kernels before 2.6.26 do\n`);
  }
}
