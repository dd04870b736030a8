// Boots disks with boot loaders in QEMU and writes what lies in memory at the kernel's first instruction: boot_params, command line,
// initrd, segments. Nothing of src/ decides a value here: QEMU with SeaBIOS is a witness of its own.

import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { Command } from 'commander';
import { ovmfArguments } from './reference/efi-recorder.ts';
import { readImageFields } from './reference/image-fields.ts';
import { decompressPayload, readElf } from './reference/payload-elf.ts';
import { QemuMachine } from './reference/qemu-machine.ts';

interface Options {
  readonly kernel: string;
  readonly efi?: true;
  readonly vars?: string;
  readonly name?: string;
  readonly memory: number;
  readonly timeout: number;
  readonly output?: string;
}

const BOOT_PARAMS_SIZE = 4096;
const CMD_LINE_PTR = 0x228;
const RAMDISK = 0x218;
const LONGEST_COMMAND_LINE = 2048;
/** Where OVMF may have the kernel put, from where it is linked for on. */
const SLOT = 0x20_0000n;
const SLOTS = 64;
/** Bytes that the kernel is known by. */
const ENTRY_CODE = 16;
const hex = (value: bigint | number): string => `0x${value.toString(16)}`;
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** What is not zero, by offset. */
function piecesOf(page: Buffer): Readonly<Record<string, string>> {
  const pieces: Record<string, string> = {};
  for (let at = 0; at < page.length; ) {
    let end = at;
    while (end < page.length && page.subarray(end, end + 8).some((byte) => byte !== 0)) end++;
    if (end === at) at++;
    else {
      pieces[hex(at)] = page.subarray(at, end).toString('hex');
      at = end;
    }
  }
  return pieces;
}

function kindOf(path: string): 'floppy' | 'disk' | 'cdrom' {
  if (basename(path).includes('floppy')) return 'floppy';
  return readFileSync(path).toString('latin1', 0x8001, 0x8006) === 'CD001' ? 'cdrom' : 'disk';
}

async function collect(path: string, options: Options): Promise<unknown> {
  const file = readFileSync(options.kernel);
  const image = readImageFields(file);
  const { bytes } = decompressPayload(image);
  const elf = readElf(bytes)!;
  const first = elf.segments.find(({ paddr, filesz }) => elf.entry >= paddr && elf.entry < paddr + filesz)!;
  const entryOffset = first.offset + Number(elf.entry - first.paddr);
  const entryCode = bytes.subarray(entryOffset, entryOffset + ENTRY_CODE);
  const machine = await QemuMachine.start(
    {
      start: options.efi ? 'esp' : kindOf(path),
      image: path,
      cmdline: '',
      initrd: null,
      memoryMegabytes: options.memory,
      cpu: 'qemu64',
      timeout: options.timeout * 1000,
      extra: [],
    },
    true,
    options.efi ? (folder) => ovmfArguments(folder, options.vars) : undefined,
  );
  try {
    const read = (address: number | bigint, length: number): Promise<Buffer> =>
      machine.readPhysical(BigInt(address), length);
    // Nothing else runs there, so that the breakpoint costs no time before.
    const slots = options.efi ? SLOTS : 1;
    const entries = Array.from({ length: slots }, (_, slot) => elf.entry + BigInt(slot) * SLOT);
    let at = await machine.runTo(entries);
    // Something else may lie in one of the places, as the compressed kernel does.
    while (!(await read(at, ENTRY_CODE)).equals(entryCode)) {
      await machine.step();
      at = await machine.runTo(entries);
    }
    const moved = at - elf.entry;
    const kernel = await machine.registers();
    const bootParams = kernel.values.rsi;
    const page = await read(bootParams, BOOT_PARAMS_SIZE);
    const commandLine = await read(page.readUInt32LE(CMD_LINE_PTR), LONGEST_COMMAND_LINE);
    const [initrd, initrdSize] = [page.readUInt32LE(RAMDISK), page.readUInt32LE(RAMDISK + 4)];
    const segments = [];
    for (const { paddr, filesz } of elf.segments) {
      segments.push({
        paddr: hex(paddr + moved),
        filesz: hex(filesz),
        sha256: sha256(await read(paddr + moved, Number(filesz))),
      });
    }
    return {
      kernel: { name: basename(options.kernel), sha256: sha256(file) },
      entry: hex(kernel.values.rip),
      bootParams: hex(bootParams),
      page: piecesOf(page),
      commandLine: {
        address: hex(page.readUInt32LE(CMD_LINE_PTR)),
        text: commandLine.toString('latin1', 0, commandLine.indexOf(0)),
      },
      initrd: { address: hex(initrd), size: initrdSize, sha256: sha256(await read(initrd, initrdSize)) },
      segments,
    };
  } finally {
    await machine.close();
  }
}

const command = new Command('collect-loader-reference')
  .argument('<image...>', 'disks that scripts/loader-images has made')
  .option('--kernel <file>', 'the kernel on them', 'images/demo/demo-zstd.bzImage')
  .option('--efi', 'boot them by OVMF, from their EFI system partition')
  .option('--vars <file>', "OVMF's flash with boot entries, as virt-fw-vars --set-json makes it of JSON")
  .option('--name <text>', 'what the reference of the only disk is called; by default as its file')
  .option('--memory <megabytes>', 'RAM of the machine', Number, 512)
  .option('--timeout <seconds>', 'for each', Number, 300)
  .option('-o, --output <file>', 'where the JSON goes; by default to standard output')
  .action(async (paths: readonly string[], options: Options) => {
    const loaders: Record<string, unknown> = {};
    for (const path of paths) {
      const name = options.name ?? basename(path, '.img');
      process.stderr.write(`collect-loader-reference: ${name}\n`);
      loaders[name] = await collect(path, options);
    }
    const text = `${JSON.stringify(loaders, null, 2)}\n`;
    if (options.output === undefined) process.stdout.write(text);
    else writeFileSync(options.output, text);
  });
await command.parseAsync();
