// A boot loader for the EFI handover protocol, as GRUB's linuxefi is one: a PE file that does nothing, and from outside, through gdb,
// what such a loader does: it has the firmware allocate memory, puts kernel and boot_params there, and jumps to the stub's entry.

import { injectAllocatePages } from './efi-recorder.ts';
import type { ImageFields } from './image-fields.ts';
import type { QemuMachine } from './qemu-machine.ts';
import type { QemuRegisters } from './qemu-registers.ts';

/** Bytes of the loader, in the file and in memory. */
const LOADER_SIZE = 0x20000;
const PAGE = 0x1000;
const PE_HEADER = 0x80;
const OPTIONAL_HEADER = 0xf0;

/** A PE file of one section of code, which waits at its entry for ever. */
export function loaderImage(): Buffer {
  const file = Buffer.alloc(LOADER_SIZE);
  file.write('MZ', 0, 'latin1');
  file.writeUInt32LE(PE_HEADER, 0x3c);
  file.write('PE\0\0', PE_HEADER, 'latin1');
  const coff = PE_HEADER + 4;
  file.writeUInt16LE(0x8664, coff);
  file.writeUInt16LE(1, coff + 2);
  file.writeUInt16LE(OPTIONAL_HEADER, coff + 16);
  file.writeUInt16LE(0x0206, coff + 18);
  const optional = coff + 20;
  file.writeUInt16LE(0x20b, optional);
  file.writeUInt32LE(LOADER_SIZE - PAGE, optional + 4);
  // Entry, base of code, alignments, sizes of image and headers, the subsystem of an EFI application.
  file.writeUInt32LE(PAGE, optional + 16);
  file.writeUInt32LE(PAGE, optional + 20);
  file.writeUInt32LE(PAGE, optional + 32);
  file.writeUInt32LE(PAGE, optional + 36);
  file.writeUInt32LE(LOADER_SIZE, optional + 56);
  file.writeUInt32LE(PAGE, optional + 60);
  file.writeUInt16LE(10, optional + 68);
  file.writeUInt32LE(16, optional + 108);
  const section = optional + OPTIONAL_HEADER;
  file.write('.text', section, 'latin1');
  for (const [index, value] of [LOADER_SIZE - PAGE, PAGE, LOADER_SIZE - PAGE, PAGE].entries()) {
    file.writeUInt32LE(value, section + 8 + index * 4);
  }
  file.writeUInt32LE(0x6000_0020, section + 36);
  file.set([0xeb, 0xfe], PAGE);
  return file;
}

export interface Handover {
  /** Where protected-mode code, command line and boot_params were put. */
  readonly code: bigint;
  readonly commandLine: bigint;
  readonly bootParams: bigint;
}

/** GRUB's limit for what the kernel is given. */
const MAXIMUM_ADDRESS = 0x3fff_ffffn;
const HEADER = 0x1f1;

/** Does what the loader does, and lets the CPU stand at the stub's 64-bit handover entry. */
export async function handOver(
  machine: QemuMachine,
  at: QemuRegisters,
  kernel: Buffer,
  image: ImageFields,
  cmdline: string,
): Promise<Handover> {
  const handoverOffset = kernel.readUInt32LE(0x264);
  if (handoverOffset === 0) throw new Error('the kernel has no handover entry (handover_offset is 0)');
  const allocate = async (type: 'LoaderCode' | 'LoaderData', size: number): Promise<bigint> => {
    const address = await injectAllocatePages(machine, at, 'MaxAddress', type, size, MAXIMUM_ADDRESS);
    if (address === null) throw new Error(`OVMF has no ${size} bytes for the boot loader`);
    return address;
  };
  const initSize = Math.max(kernel.readUInt32LE(0x260), image.protectedModeCode.length);
  const preferred = kernel.readBigUInt64LE(0x258);
  const code =
    (await injectAllocatePages(machine, at, 'Address', 'LoaderCode', initSize, preferred)) ??
    (await allocate('LoaderCode', initSize));
  const text = Buffer.from(`${cmdline}\0`, 'latin1');
  const commandLine = await allocate('LoaderData', text.length);
  const bootParams = await allocate('LoaderData', PAGE);
  const page = Buffer.alloc(PAGE);
  kernel.copy(page, HEADER, HEADER, 0x202 + kernel[0x201]!);
  page[0x210] = 0xff;
  page.writeUInt32LE(Number(code), 0x214);
  page.writeUInt32LE(Number(commandLine), 0x228);
  await machine.writePhysical(code, image.protectedModeCode);
  await machine.writePhysical(commandLine, text);
  await machine.writePhysical(bootParams, page);
  await machine.writeRegisters({
    rip: code + BigInt(handoverOffset) + 0x200n,
    rdi: at.values.rcx,
    rsi: at.values.rdx,
    rdx: bootParams,
  });
  return { code, commandLine, bootParams };
}
