// What is watched for once UEFI firmware has started an image: the stub's decompress_kernel, ExitBootServices, and the jump into the
// kernel, or, in stubs that leave decompressing to it, startup_64.

import type { Unhook } from '../../cpu/cpu.ts';
import { decompressKernel } from '../../decompressor/decompress-kernel.ts';
import { addressOf, findDecompressKernel } from '../../decompressor/find-decompress-kernel.ts';
import { BootscopeError } from '../../error.ts';
import { readEfiImage } from '../../image/efi-program.ts';
import { findPeSection, readPe } from '../../image/pe.ts';
import type { LoadedImageRecord, UefiFirmware } from '../../machine/uefi/firmware.ts';
import { placeLoaderProgram } from '../../trace/place-boot.ts';
import type { BootRun } from '../boot-run.ts';
import { codeOf } from '../efi-code.ts';
import type { LoadedImage } from '../entries/loaded-image.ts';
import { recordBootParams, recordImage } from '../record-placements.ts';
import { watchEfiChoice } from './efi-kaslr.ts';
import { watchNx } from './efi-nx.ts';
import { tellExtraction, tellPayloadRead } from './extract-kernel.ts';
import { onKernel } from './kernel.ts';
import { watchForKernelOfLoader, watchHandoverOfLoader } from './kernel-from-disk.ts';
import { FileSearch } from './loader-programs.ts';
import { watchStub } from './startup.ts';

/** The kernel's stub where it lies: `base` is what addresses of its PE header count from. */
type StubImage = Pick<LoadedImageRecord, 'base' | 'size' | 'entry'>;

/** The CPU stands at the first image's entry. */
export function watchEfi(boot: BootRun, loaded: LoadedImage): void {
  const firmware = boot.machine.uefi!;
  watchNx(boot, firmware);
  if (loaded.protectedModeCode !== null) {
    onKernelImage(boot, firmware, firmware.images[0]!);
    return;
  }
  const { name } = firmware.images[0]!;
  const isLoader = boot.image.kind === 'efi-program';
  boot.beginPhase('efi_program', boot.address, isLoader ? name : null);
  if (isLoader) watchLoader(boot, loaded, firmware);
  else watchKernelOfUki(boot, loaded, firmware, firmware.images[0]!);
}

/** GRUB with all of its modules has some megabytes. */
const LARGEST_EFI_PROGRAM = 2 ** 23;
/** ENTRY_64 of the handover protocol (boot.rst): the 64-bit entry lies so far behind the 32-bit one. */
const HANDOVER_64 = 0x200;

/**
 * The kernel of a UKI is started as an image of its own; or systemd-stub jumps into it without the firmware: where its section
 * lies, or in memory that it has put the kernel into, through its PE entry or the handover entry.
 */
function watchKernelOfUki(
  boot: BootRun,
  loaded: LoadedImage,
  firmware: UefiFirmware,
  uki: Pick<StubImage, 'base'>,
): void {
  let found = false;
  const begin = (image: StubImage, phase: 'efi_pe_entry' | 'efi_handover_entry'): void => {
    if (found || !holdsKernel(boot, image)) return;
    found = true;
    boot.found.loaded = { ...loaded, protectedModeCode: codeOf(boot.image, image.base) };
    recordImage(boot);
    onKernelImage(boot, firmware, image, phase);
  };
  firmware.onImageStarted = (image) => begin(image, 'efi_pe_entry');

  const kernel = readPe(boot.image.bytes);
  const section = findPeSection(readPe(boot.image.uki!)!, '.linux');
  if (kernel === null || section === undefined) return;
  const offset = boot.image.header.get('handover_offset');
  const watchAt = (base: number, size: number): void => {
    const entry = base + kernel.entryPoint;
    boot.watch(entry, () => begin({ base, size, entry }, 'efi_pe_entry'));
    if (offset === 0) return;
    const handover = codeOf(boot.image, base).address + offset + HANDOVER_64;
    boot.watch(handover, () => begin({ base, size, entry: handover }, 'efi_handover_entry'));
  };
  watchAt(uki.base + section.virtualAddress, section.virtualSize);
  firmware.onCodePages = (start, end) => {
    if (!found && end - start >= section.virtualSize) watchAt(start, end - start);
  };
}

/**
 * A boot loader starts an image: a kernel, a Unified Kernel Image, or one more loader; or it jumps to a kernel's handover entry, or
 * leaves boot services and goes by the 32-bit protocol.
 */
function watchLoader(boot: BootRun, loaded: LoadedImage, firmware: UefiFirmware): void {
  const unhooks = [
    watchUnloadedPrograms(boot, firmware),
    watchForKernelOfLoader(boot),
    watchHandoverOfLoader(boot, loaded, (found) => {
      firmware.onImageStarted = null;
      watchHandover(boot, found);
    }),
  ];
  firmware.onImageStarted = (image) => {
    const { bytes } = image;
    if (bytes === undefined) return;
    boot.defer(async () => {
      const kernel = await readEfiImage(boot.image.path, bytes);
      if (kernel.kind === 'efi-program') {
        boot.beginPhase('efi_program', image.entry, image.name);
        return;
      }
      for (const unhook of unhooks) unhook();
      firmware.onImageStarted = null;
      boot.changeImage(kernel);
      if (kernel.uki !== undefined) {
        watchKernelOfUki(boot, loaded, firmware, image);
        return;
      }
      boot.found.loaded = { ...loaded, protectedModeCode: codeOf(kernel, image.base) };
      recordImage(boot);
      onKernelImage(boot, firmware, image);
    });
  };
}

/** A loader such as shim puts the next one into memory by itself, from a file that it has read. */
function watchUnloadedPrograms(boot: BootRun, firmware: UefiFirmware): Unhook {
  const loader = boot.image;
  const search = new FileSearch(boot.machine.memory, LARGEST_EFI_PROGRAM);
  return boot.hookNewCode((address) => {
    if (boot.busy || boot.image !== loader) return;
    const code = [...firmware.images, ...firmware.otherCode];
    if (code.some(({ base, size }) => address >= base && address < base + size)) return;
    const found = search.find(address, [...firmware.files.values()]);
    if (found === null) return;
    const { start, end, isModule } = found;
    const name = found.name.replace(/^.*\\/, '');
    // Its modules are copied out of it.
    const isPart = isModule || firmware.otherCode.some((each) => each.name === name);
    boot.defer(() => {
      firmware.otherCode.push({ name, base: start, size: end - start });
      placeLoaderProgram(
        boot.record.placements,
        found,
        name,
        'its bytes are those of the file that was read',
      );
      if (!isPart) boot.beginPhase('efi_program', address, name);
    });
  });
}

/** The CPU stands at the stub's handover entry, boot_params in RDX. */
export function watchHandover(boot: BootRun, loaded: LoadedImage): void {
  const firmware = boot.machine.uefi!;
  watchNx(boot, firmware);
  const { address, size } = loaded.protectedModeCode!;
  const base = address - (codeOf(boot.image, 0).address ?? 0);
  const room = firmware.allocations.find(({ start }) => start === address);
  const end = room?.end ?? address + size;
  onKernelImage(boot, firmware, { base, size: end - base, entry: loaded.start }, 'efi_handover_entry');
}

function holdsKernel({ image, machine }: BootRun, { base, size }: StubImage): boolean {
  const { address, size: length } = codeOf(image, base);
  if (address + length > base + size + 0x1000) return false;
  const code = image.protectedModeCode;
  const there = machine.memory.copyOut(address, Math.min(code.length, 0x1000));
  return there.every((byte, index) => byte === code[index]);
}

/** A kernel was loaded as an image, and the CPU comes to its entry. */
function onKernelImage(
  boot: BootRun,
  firmware: UefiFirmware,
  image: StubImage,
  phase: 'efi_pe_entry' | 'efi_handover_entry' = 'efi_pe_entry',
): void {
  boot.beginPhase(phase, image.entry);
  watchForNull(boot, firmware);
  boot.found.zo = codeOf(boot.image, image.base).address;
  const trap = watchDecompressKernel(boot, firmware, image);
  firmware.onExitBootServices = () => {
    boot.machine.timeStamps = null;
    boot.whenAtZero = null;
    boot.beginPhase('exit_boot_services');
    watchForKernel(boot, firmware, image, trap);
  };
}

/** @returns whether the stub decompresses by itself */
function watchDecompressKernel(boot: BootRun, firmware: UefiFirmware, image: StubImage): boolean {
  const found = findDecompressKernel(boot.image);
  if (found === null) return false;
  const virtual = watchEfiChoice(boot, firmware);
  const pe = readPe(boot.image.bytes)!;
  const at = image.base + (addressOf(pe, found.offset + boot.image.setupSize) ?? 0);
  boot.watch(at, () => {
    boot.beginPhase('decompress_kernel');
    if (virtual !== null) boot.deferChange(() => boot.cpu.writeRegister('rsi', BigInt(virtual)));
    if (boot.decompress === 'hooked') boot.deferChange(() => decompress(boot, firmware, at));
    // Millions of instructions follow that nobody looks at.
    else boot.dropHooks();
  });
  return true;
}

/** Does the function in TypeScript, as its SysV arguments say, and returns from it. */
async function decompress(boot: BootRun, firmware: UefiFirmware, address: number): Promise<void> {
  const { cpu, machine, image } = boot;
  const output = Number(cpu.readRegister('rdi'));
  const allocated = firmware.allocations.findLast(
    ({ start, freedIn }) => start === output && freedIn === null,
  );
  tellPayloadRead(boot);
  const extraction = await decompressKernel({
    image,
    address,
    inputAddress: boot.found.zo! + image.payload!.offset,
    output,
    virtual: Number(cpu.readRegister('rsi')),
    room: allocated === undefined ? null : allocated.end - allocated.start,
    memory: machine.memory,
    ahead: boot.ahead,
  });
  boot.found.extraction = extraction;
  tellExtraction(boot, extraction);
  const rsp = cpu.readRegister('rsp');
  cpu.writeRegister('rip', machine.memory.read64(Number(rsp)));
  cpu.writeRegister('rsp', rsp + 8n);
  cpu.writeRegister('rax', extraction.returnValue);
}

/** Boot services are gone: what comes is the kernel, or the stub's own way to it. */
function watchForKernel(
  boot: BootRun,
  firmware: UefiFirmware,
  image: StubImage,
  decompressed: boolean,
): void {
  const reached = async (entry: number): Promise<void> => {
    const bootParams = Number(boot.cpu.readRegister('rsi'));
    boot.found.bootParams = bootParams;
    recordBootParams(boot, bootParams);
    await onKernel(boot, entry);
  };
  if (!decompressed) {
    boot.found.zo = movedTo(boot, firmware) ?? boot.found.zo;
    watchStub(boot, boot.found.zo!);
    return;
  }
  const entry = boot.found.extraction === null ? null : Number(boot.found.extraction.entry);
  if (entry !== null) {
    boot.watch(entry, () => reached(entry));
    return;
  }
  const onBlock = (address: number): void => {
    if (boot.busy || firmware.isTrap(address + 1) || isTrampoline(firmware, address)) return;
    boot.defer(() => reached(address));
  };
  if (image.base > 0) boot.hookBlocks(0, image.base - 1, onBlock);
  boot.hookBlocks(image.base + image.size, null, onBlock);
}

/**
 * A stub that finds neither RDRAND nor a time stamp counter reads the i8254 through port functions that only extract_kernel fills in:
 * it calls address 0.
 */
function watchForNull(boot: BootRun, firmware: UefiFirmware): void {
  const { cpuid } = boot.machine;
  boot.whenAtZero = () => {
    firmware.calledNull = true;
    const why =
      cpuid.hasTsc || cpuid.hasRdrand
        ? ''
        : ': KASLR asks the i8254 for want of RDRAND and a time stamp counter, by functions that are not set up yet';
    throw new BootscopeError('guest-error', `the EFI stub called address 0${why}`);
  };
}

/** Where efi_relocate_kernel has put the protected-mode code: stubs before 6.6 move themselves where they lie badly. */
function movedTo({ image, machine, found }: BootRun, firmware: UefiFirmware): number | null {
  const code = image.protectedModeCode;
  const head = code.subarray(0, 0x1000);
  const copy = firmware.allocations.findLast(({ start, end, freedIn }) => {
    if (freedIn !== null || start === found.zo || end - start < code.length) return false;
    const there = machine.memory.copyOut(start, head.length);
    return head.every((byte, index) => byte === there[index]);
  });
  return copy?.start ?? null;
}

/** With five levels of page tables the stub goes through a page of its own that it has allocated below 4 GiB. */
function isTrampoline(firmware: UefiFirmware, address: number): boolean {
  return firmware.allocations.some(
    ({ start, end, type, freedIn }) =>
      type === 'LoaderData' && freedIn === null && address >= start && address < end,
  );
}
