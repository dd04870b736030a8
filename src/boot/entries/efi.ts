// Booted by UEFI firmware: the image's PE header names its entry, everything else the image asks the firmware for.

import { findDecompressKernel } from '../../decompressor/find-decompress-kernel.ts';
import { BootscopeError } from '../../error.ts';
import { hex } from '../../hex.ts';
import type { KernelImage } from '../../image/kernel-image.ts';
import { findPeSection, readPe } from '../../image/pe.ts';
import type { Machine, MachineOptions } from '../../machine/machine.ts';
import { bootChoices, nameOfChoice } from '../../machine/uefi/boot-manager.ts';
import { type OvmfMap, ovmfMemoryMap } from '../../machine/uefi/ovmf-map.ts';
import { qemuPc } from '../../machine/uefi/qemu-pc.ts';
import type { E820Entry } from '../../protocol/e820.ts';
import { type EfiMemoryDescriptor, e820TypeOf } from '../../protocol/efi-memory-map.ts';
import { codeName, codeOf } from '../efi-code.ts';
import { efiProtocolsOf, efiRandom } from '../efi-kaslr.ts';
import type { BootOptions } from '../options.ts';
import { watchEfi } from '../watch/efi.ts';
import { type Entry, speaksBootProtocol } from './entry.ts';
import type { LoadedImage } from './loaded-image.ts';
import { loadUefiFirmware, uefiFirmware } from './uefi-firmware.ts';

export const efi: Entry = {
  name: 'efi',
  summary: 'through its PE header, as UEFI firmware starts it',
  accepts: (image) => image.kind === 'efi-program' || speaksBootProtocol(image),
  drawsItself: true,
  prepare: loadUefiFirmware,
  machine: efiMachine,
  load: loadEfi,
  enter: (machine) => uefiFirmware().enterFirstImage(machine.uefi!),
  watch: watchEfi,
};

/** The PC for it: no BIOS, and E820 as the stub makes it of EFI's map. */
function efiMachine(image: KernelImage, options: BootOptions): Partial<MachineOptions> {
  const { map } = memoryMapFor(image, options);
  return { bios: false, memoryMap: map.map(e820EntryOf) };
}

export function e820EntryOf({ start, end, type }: EfiMemoryDescriptor): E820Entry {
  return { address: BigInt(start), size: BigInt(end - start), type: e820TypeOf(type) };
}

/**
 * The user's map, or what OVMF has at that amount of RAM. The image's place in it is a descriptor of LoaderCode of its size.
 */
export function memoryMapFor(image: KernelImage, options: BootOptions): OvmfMap {
  const program = efiProgramOf(image);
  const { sizeOfImage } = readPe(program)!;
  const given = userMap(options);
  if (given === null) {
    return ovmfMemoryMap(options.memory, { fileSize: program.length, imageSize: sizeOfImage });
  }
  const place = given.find(({ type, start, end }) => type === 'LoaderCode' && end - start === sizeOfImage);
  return { map: given, imageBase: place?.start ?? null };
}

/**
 * @returns null where the user gives none
 * @throws BootscopeError `efi-memory-map` for one that is not of this machine
 */
export function userMap(options: BootOptions): readonly EfiMemoryDescriptor[] | null {
  const given = options.efiMemoryMap;
  const last = given?.filter(({ type }) => type !== 'Mmio').at(-1);
  if (last !== undefined && last.end > options.memory) {
    throw new BootscopeError(
      'efi-memory-map',
      `the EFI memory map has memory up to ${hex(last.end)}, the guest has ${hex(options.memory)} bytes of RAM`,
    );
  }
  return given;
}

/**
 * @throws BootscopeError `boot-entry` for an image that is no EFI program
 */
function efiProgramOf(image: KernelImage): Uint8Array {
  const { path, uki } = image;
  const program = uki ?? image.bytes;
  if (readPe(program) === null) {
    throw new BootscopeError(
      'boot-entry',
      `${path}: this kernel has no PE header (CONFIG_EFI_STUB): firmware cannot start it, a boot loader can, by the entry real16`,
    );
  }
  return program;
}

function loadEfi(machine: Machine, image: KernelImage, options: BootOptions): LoadedImage {
  const program = efiProgramOf(image);
  const { map, imageBase } = memoryMapFor(image, options);
  const { esp, efiVariables } = options;
  const choices = esp === null ? [] : bootChoices(esp, efiVariables);
  const [choice] = choices;
  const name = choice === undefined ? codeName(image) : nameOfChoice(choice);
  machine.uefi = uefiFirmware().startFirmware({
    cpu: machine.cpu,
    memory: machine.memory,
    clock: machine.clock,
    random: efiRandom(machine, options.kaslr),
    map,
    imageBase,
    configuration: qemuPc(efiProtocolsOf(options)),
    image: {
      ...{ name, bytes: program, loadOptions: options.cmdline, initrd: options.initrd?.bytes ?? null },
      ...(esp === null ? {} : { esp, choices }),
    },
    variables: efiVariables,
    faults: options.efiFaults,
    enforcesNx: options.efiNx,
    nextKey: () => machine.nextKey(),
    hasKey: () => machine.hasKey,
    onText: (text) => machine.print(text),
    stop: (reason) => machine.halt(reason),
    onEvent: (event) => machine.tell(event),
  });
  const first = machine.uefi.images[0]!;
  const isKernel = image.kind !== 'efi-program' && findPeSection(readPe(program)!, '.linux') === undefined;
  const code = isKernel ? codeOf(image, first.base) : null;
  return {
    entry: 'efi',
    setup: null,
    heapEnd: null,
    protectedModeCode: code,
    startup32: code?.address ?? 0,
    commandLine: null,
    initrd: null,
    bootParams: null,
    ...(findDecompressKernel(image) === null ? {} : { allocatesKernel: true as const }),
    kernel: null,
    start: first.entry,
  };
}
