// `bootscope extract IMAGE -o FILE`: writes the kernel's ELF file out of a boot image, as its build compressed it.

import type { Command } from 'commander';
import { BootscopeError } from '../error.ts';
import { extractVmlinux } from '../image/extract-vmlinux.ts';
import { identifyFile } from '../image/identify.ts';
import { readImageFile } from '../image/image-file.ts';
import { readKernelImage } from '../image/kernel-image.ts';
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
    .description("write the kernel's ELF file (vmlinux) that a boot image holds")
    .argument('<image>', 'a bzImage or zImage, also inside gzip or a Unified Kernel Image')
    .option('--with-relocs', 'keep the relocation lists that the build appends to the ELF file');
  addExamples(command, [
    [
      'bootscope extract vmlinuz -o vmlinux',
      "for gdb, objdump or readelf, byte for byte the build's stripped vmlinux",
    ],
    ['bootscope extract vmlinuz -o - | strings | head', 'through a pipe'],
  ]);
  addOutputOptions(command).action(extract);
}

async function extract(path: string, flags: ExtractFlags): Promise<void> {
  const file = await readImageFile(path);
  if (identifyFile(file).kind === 'vmlinux') {
    throw new BootscopeError(
      'cli-nothing-to-extract',
      `${path} is a vmlinux already, there is nothing to extract`,
    );
  }
  const image = await readKernelImage(path, file);
  const kernel = await extractVmlinux(image);
  const relocationLength = kernel.bytes.length - kernel.kernelLength;
  const bytes = flags.withRelocs === true ? kernel.bytes : kernel.bytes.subarray(0, kernel.kernelLength);
  await writeOutput(flags.output, bytes, flags.force === true);

  const what = kernel.elf === null ? 'flat binary' : `ELF${kernel.elf.bits} ${kernel.elf.machineName}`;
  const relocations =
    relocationLength === 0
      ? ''
      : `, ${flags.withRelocs === true ? 'with' : 'without'} ${relocationLength} bytes of relocation lists`;
  const target = flags.output === '-' ? 'standard output' : flags.output;
  printError(`${target}: ${bytes.length} bytes, ${what}${relocations}\n`);
  if (kernel.elf === null) {
    printError(`notice: ${path} holds no ELF file but a flat binary, as kernels before 2.6.26 do\n`);
  }
}
