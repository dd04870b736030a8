// The EFI handover protocol (boot.rst, "EFI Handover Protocol"): a boot loader that is an EFI program itself has put the
// protected-mode code into memory and made boot_params, and calls the stub while boot services are still there. GRUB's linuxefi
// and systemd-stub before 252 do so; what is done here in their place is what GRUB does.

import { BootscopeError } from '../../error.ts';
import { hex } from '../../hex.ts';
import type { KernelImage } from '../../image/kernel-image.ts';
import type { Machine, MachineOptions } from '../../machine/machine.ts';
import type { UefiFirmware } from '../../machine/uefi/firmware.ts';
import { type OvmfMap, ovmfMemoryMap } from '../../machine/uefi/ovmf-map.ts';
import { qemuPc } from '../../machine/uefi/qemu-pc.ts';
import { BOOT_PARAMS_SIZE, BootParams, bootParamsOffset } from '../../protocol/boot-params.ts';
import { EFI_MEMORY_XP, EFI_PAGE, type EfiMemoryType } from '../../protocol/efi-tables.ts';
import { codeName, codeOf } from '../efi-code.ts';
import { efiProtocolsOf, efiRandom } from '../efi-kaslr.ts';
import type { BootOptions } from '../options.ts';
import { watchHandover } from '../watch/efi.ts';
import { e820EntryOf, userMap } from './efi.ts';
import { type Entry, speaksBootProtocol } from './entry.ts';
import type { LoadedImage, Placed } from './loaded-image.ts';
import { commandLineBytes, LOADER_TYPE_UNDEFINED } from './placement.ts';
import { loadUefiFirmware, uefiFirmware } from './uefi-firmware.ts';

export const efiHandover: Entry = {
  name: 'efi-handover',
  summary: 'the EFI handover protocol: the 64-bit stub, called by a boot loader',
  accepts: speaksBootProtocol,
  drawsItself: true,
  prepare: loadUefiFirmware,
  machine: handoverMachine,
  load: loadHandover,
  enter: (machine, loaded) => {
    const firmware = machine.uefi!;
    uefiFirmware().enterImage(firmware, loaded.start, {
      rdi: firmware.images[0]!.handle,
      rsi: BigInt(firmware.places.systemTable),
      rdx: BigInt(loaded.bootParams!),
    });
  },
  watch: watchHandover,
};

/** The 64-bit entry lies so far behind the 32-bit one, to which handover_offset points. */
const ENTRY_64 = 0x200;
const XLF_EFI_HANDOVER_32 = 0x04;
const XLF_EFI_HANDOVER_64 = 0x08;
/** GRUB's limit for what the kernel is given. */
const MAXIMUM_ADDRESS = 0x3fff_ffff;
/** What the boot loader takes for itself; its size changes nothing but addresses. */
const LOADER_SIZE = 0x20000;
const FIRST_PROTOCOL = 0x020b;

/** The user's map, or what OVMF has where it has started a boot loader. */
export function handoverMap(options: BootOptions): OvmfMap {
  const given = userMap(options);
  return given === null
    ? ovmfMemoryMap(options.memory, { fileSize: LOADER_SIZE, imageSize: LOADER_SIZE })
    : { map: given, imageBase: null };
}

function handoverMachine(_image: KernelImage, options: BootOptions): Partial<MachineOptions> {
  return { bios: false, memoryMap: handoverMap(options).map.map(e820EntryOf) };
}

/** @throws BootscopeError `boot-entry` for a kernel without the 64-bit handover entry */
function checkHandover({ path, header }: KernelImage): void {
  const offset = header.protocol >= FIRST_PROTOCOL ? header.get('handover_offset') : 0;
  const flags = header.has('xloadflags') ? header.get('xloadflags') : 0;
  if (offset === 0) {
    throw new BootscopeError(
      'boot-entry',
      `${path}: this kernel has no EFI handover entry (handover_offset is 0, CONFIG_EFI_HANDOVER_PROTOCOL); the entry efi starts it ` +
        'through its PE header where it has one',
    );
  }
  if ((flags & XLF_EFI_HANDOVER_64) === 0) {
    const has32 = (flags & XLF_EFI_HANDOVER_32) !== 0;
    throw new BootscopeError(
      'boot-entry',
      `${path}: ${has32 ? 'this kernel has the 32-bit EFI handover entry alone' : 'this kernel does not say that it has a 64-bit EFI handover entry'} ` +
        `(xloadflags ${hex(flags)}), the firmware here is 64-bit`,
    );
  }
}

function loadHandover(machine: Machine, image: KernelImage, options: BootOptions): LoadedImage {
  checkHandover(image);
  const { map, imageBase } = handoverMap(options);
  const firmware = uefiFirmware().startFirmware({
    cpu: machine.cpu,
    memory: machine.memory,
    clock: machine.clock,
    random: efiRandom(machine, options.kaslr),
    ...{ map, imageBase },
    configuration: qemuPc(efiProtocolsOf(options)),
    image: { name: 'boot loader', bytes: null, size: LOADER_SIZE, loadOptions: '', initrd: null },
    faults: options.efiFaults,
    enforcesNx: options.efiNx,
    onText: (text) => machine.print(text),
    stop: (reason) => machine.halt(reason),
    onEvent: (event) => machine.tell(event),
  });
  machine.uefi = firmware;
  const { header, protectedModeCode, setup } = image;
  const place = new LoaderPages(firmware, image.path);
  const cmdline = commandLineBytes(image, options.cmdline);
  const initrdBytes = options.initrd?.bytes ?? null;
  const placeCode = (): number => {
    const needed = options.handoverRoom === 'file' ? 0 : header.get('init_size');
    return place.code(header.get('pref_address'), Math.max(needed, protectedModeCode.length));
  };
  const placeData = () => ({
    commandLine: place.data('the command line', cmdline, MAXIMUM_ADDRESS),
    initrd:
      initrdBytes === null ? null : place.data('the initrd', initrdBytes, header.get('initrd_addr_max')),
    bootParams: place.data('boot_params', new Uint8Array(BOOT_PARAMS_SIZE), MAXIMUM_ADDRESS).address,
  });
  // A loader that goes by the file's size has read the other files before it: memory is given out from the top down.
  const early = options.handoverRoom === 'file' ? placeData() : null;
  const code = placeCode();
  const { commandLine, initrd, bootParams } = early ?? placeData();
  machine.memory.copyIn(code, protectedModeCode);
  // Addresses in it count from where the file's first byte would lie, as in an image that firmware has loaded.
  const base = code - (codeOf(image, 0).address ?? 0);
  const { end } = firmware.allocations.find(({ start }) => start === code)!;
  firmware.otherCode.push({ name: codeName(image), base, size: end - base });
  // A loader that knows of firmware that keeps data from running says that this is code.
  if (options.efiNx) firmware.memoryAttributes.change(code, end, 0n, EFI_MEMORY_XP);

  const page = new Uint8Array(BOOT_PARAMS_SIZE);
  const start = bootParamsOffset('hdr');
  page.set(setup.subarray(start, 0x202 + setup[0x201]!), start);
  const params = new BootParams(page);
  params.set('type_of_loader', LOADER_TYPE_UNDEFINED);
  params.set('code32_start', code);
  params.set('cmd_line_ptr', commandLine.address);
  if (initrd !== null) {
    params.set('ramdisk_image', initrd.address);
    params.set('ramdisk_size', initrd.size);
  }
  machine.memory.copyIn(bootParams, page);
  return {
    entry: 'efi-handover',
    setup: null,
    heapEnd: null,
    protectedModeCode: { address: code, size: protectedModeCode.length },
    startup32: code,
    ...{ commandLine, initrd, bootParams },
    allocatesKernel: true,
    kernel: null,
    start: code + header.get('handover_offset') + ENTRY_64,
  };
}

/** Pages that the boot loader asks the firmware for. */
class LoaderPages {
  readonly #firmware: UefiFirmware;
  readonly #path: string;

  constructor(firmware: UefiFirmware, path: string) {
    this.#firmware = firmware;
    this.#path = path;
  }

  /** At the address that the header prefers, else as high as may be. */
  code(preferred: number, size: number): number {
    const pages = Math.ceil(size / EFI_PAGE);
    const fixed = { kind: 'Address', address: preferred } as const;
    const there =
      preferred > 0 ? this.#firmware.allocatePages(fixed, 'LoaderCode', pages, 'the boot loader') : null;
    return there ?? this.#pages('the kernel', 'LoaderCode', size, MAXIMUM_ADDRESS);
  }

  data(what: string, bytes: Uint8Array, maximum: number): Placed {
    const address = this.#pages(what, 'LoaderData', bytes.length, maximum);
    this.#firmware.memory.copyIn(address, bytes);
    return { address, size: bytes.length };
  }

  /** @throws BootscopeError `efi-memory-map` where there is no room */
  #pages(what: string, type: EfiMemoryType, size: number, address: number): number {
    const request = { kind: 'MaxAddress', address } as const;
    const found = this.#firmware.allocatePages(request, type, Math.ceil(size / EFI_PAGE), 'the boot loader');
    if (found !== null) return found;
    const { size: free } = this.#firmware.pages.largestFree();
    throw new BootscopeError(
      'efi-memory-map',
      `${this.#path}: the boot loader has no room for ${what}: ${hex(size)} bytes up to ${hex(address)}, the largest free piece of ` +
        `memory has ${hex(free)} bytes`,
    );
  }
}
