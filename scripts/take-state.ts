// Boots an image in QEMU up to where a loader hands over to the kernel, and writes what its machine held there into a folder that
// `bootscope boot --from-state` and `lint --from-state` read: an ELF core of QEMU's own making, and which image it was.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { readElf } from '../src/image/elf.ts';
import { readImageFile } from '../src/image/image-file.ts';
import { readKernelImage } from '../src/image/kernel-image.ts';
import { readXenNotes } from '../src/image/vmlinux.ts';
import { QemuMachine } from './reference/qemu-machine.ts';

export interface TakeStateOptions {
  readonly entry: 'real16' | 'prot32' | 'pvh';
  readonly at?: bigint;
  readonly cmdline: string;
  readonly initrd?: string;
  readonly machine: string;
  readonly memory: number;
  readonly cpu: string;
  readonly timeout: number;
}

/** Where QEMU's option ROM enters setup: at 0x10000, or at 0x90000 below protocol 2.02 and for a zImage. */
const SETUP_ENTRIES = [0x10200n, 0x90200n];
const CODE_32 = 0x100000n;

async function placesOf(image: string, { entry, at }: TakeStateOptions): Promise<readonly bigint[]> {
  if (at !== undefined) return [at];
  if (entry === 'real16') return SETUP_ENTRIES;
  const read = await readKernelImage(image, await readImageFile(image));
  if (entry === 'prot32') return [BigInt(read.header.get('code32_start')) || CODE_32];
  const note = read.kind === 'vmlinux' ? readXenNotes(readElf(read.bytes)).pvhEntry : null;
  if (note === null) throw new Error(`${image} is no vmlinux with a PVH entry`);
  return [note];
}

/** @returns where it stopped */
export async function takeState(image: string, folder: string, options: TakeStateOptions): Promise<bigint> {
  const { cmdline, initrd, machine, memory, cpu, timeout } = options;
  const places = await placesOf(image, options);
  mkdirSync(folder, { recursive: true });
  const qemu = await QemuMachine.start(
    {
      ...{ start: 'kernel', image, cmdline, initrd: initrd ?? null, memoryMegabytes: memory, cpu },
      ...{ timeout: timeout * 1000, extra: ['-M', machine] },
    },
    true,
  );
  try {
    const stopped = await qemu.runTo(places);
    await qemu.dumpMemory(join(resolve(folder), 'memory.elf'));
    writeFileSync(join(folder, 'state.json'), `${JSON.stringify({ image: resolve(image) }, null, 2)}\n`);
    return stopped;
  } finally {
    await qemu.close();
  }
}

function addressOf(text: string): bigint {
  if (!/^0x[0-9a-f]+$/i.test(text)) throw new InvalidArgumentError('it is an address such as 0x100000.');
  return BigInt(text);
}

function numberOf(text: string): number {
  if (!/^[1-9]\d*$/.test(text)) throw new InvalidArgumentError('it is a number from 1 on.');
  return Number(text);
}

if (process.argv[1]?.endsWith('take-state.ts')) {
  const program = new Command('take-state')
    .description('boots IMAGE in QEMU up to the jump into the kernel and writes the state there into FOLDER')
    .argument('<image>', 'bzImage, zImage, or a vmlinux for pvh')
    .argument('<folder>', 'where memory.elf and state.json go')
    .addOption(
      new Option('--entry <point>', "which jump: QEMU's option ROM to setup, setup to startup_32, or PVH's")
        .choices(['real16', 'prot32', 'pvh'])
        .default('real16'),
    )
    .option('--at <address>', 'stop at this linear address instead', addressOf)
    .option('--cmdline <text>', 'kernel command line', '')
    .option('--initrd <file>', 'initial RAM disk')
    .option('--machine <model>', "QEMU's machine", 'pc')
    .option('--memory <megabytes>', 'guest RAM; the core has as much', numberOf, 512)
    .option('--cpu <model>', "QEMU's processor", 'qemu64')
    .option('--timeout <seconds>', 'end QEMU after so long', numberOf, 120)
    .action(async (image: string, folder: string, options: TakeStateOptions) => {
      const stopped = await takeState(image, folder, options);
      process.stdout.write(`${folder}: the state at 0x${stopped.toString(16)}\n`);
    });
  program.parseAsync().catch((error: Error) => {
    process.stderr.write(`take-state: ${error.message}\n`);
    process.exitCode = 1;
  });
}
