// Powering a machine up as a UEFI PC: tables, protocols and the first image in memory, and the CPU at the image's entry in the
// state that firmware leaves it in.

import type { Cpu } from '../../cpu/cpu.ts';
import { enterLongMode, type GeneralRegisters } from '../../cpu/enter-mode.ts';
import { BootscopeError } from '../../error.ts';
import { hex } from '../../hex.ts';
import type { Esp } from '../../image/esp.ts';
import { flatTree } from '../../image/file-tree.ts';
import { encodeDevicePath, filePathNode, pciPath, vendorMedia } from '../../protocol/efi-device-path.ts';
import { EFI_GUIDS } from '../../protocol/efi-guids.ts';
import type { EfiMemoryDescriptor } from '../../protocol/efi-memory-map.ts';
import {
  EFI_MEMORY_RO,
  EFI_MEMORY_RUNTIME,
  EFI_MEMORY_XP,
  EFI_PAGE,
  EFI_STATUS,
  efiStatusName,
} from '../../protocol/efi-tables.ts';
import {
  type EfiVariable,
  globalVariable,
  VARIABLE_BOOT_SERVICE,
  VARIABLE_NON_VOLATILE,
  VARIABLE_RUNTIME,
} from '../../protocol/efi-variables.ts';
import type { PhysicalMemory } from '../../x86/physical-memory.ts';
import type { Clock } from '../clock.ts';
import type { MachineEvent } from '../events.ts';
import type { Key } from '../keys.ts';
import { type BootChoice, bootFilePath, nameOfChoice } from './boot-manager.ts';
import { installVolume } from './boot-volume.ts';
import { acpiTables, smbiosTables } from './configuration-tables.ts';
import type { EfiFault } from './faults.ts';
import { FirmwareFileSystem } from './file-system.ts';
import { UefiFirmware } from './firmware.ts';
import { installLoadedImage, type LoadFailure, type PlacedImage, placeImage } from './load-image.ts';
import type { OptionalProtocol } from './optional-protocols.ts';
import { type AllocatorState, findBins, OVMF_STATE } from './page-allocator.ts';
import { firmwarePlaces } from './places.ts';
import {
  devicePathToText,
  dxeServices,
  type FrameBuffer,
  graphicsOutput,
  initrdLoader,
  memoryAttribute,
  type PciFunction,
  pciIo,
  randomNumbers,
  textInput,
  textOutput,
  unicodeCollation,
} from './protocol-services.ts';
import { char16Bytes } from './service.ts';
import { tcg, tcg2 } from './tcg-services.ts';
import { VariableStore } from './variables.ts';

/** What is told apart between two EFI machines, beside their memory. */
export interface UefiConfiguration {
  readonly protocols: readonly OptionalProtocol[];
  readonly frameBuffer: FrameBuffer | null;
  readonly pci: readonly PciFunction[];
}

export interface UefiImage {
  /** For people: the file's name. */
  readonly name: string;
  /** Null for a boot loader that is not run: what it does has been done in its place. */
  readonly bytes: Uint8Array | null;
  /** Of such a boot loader, in memory. */
  readonly size?: number;
  /** LoadOptions of its LoadedImage. */
  readonly loadOptions: string;
  readonly initrd: Uint8Array | null;
  /** Where it is from; missing for what QEMU's kernel loader would show. */
  readonly esp?: Esp;
  /** What the firmware boots of that: the image, and what follows where it gives up. */
  readonly choices?: readonly BootChoice[];
}

export interface UefiStart {
  readonly cpu: Cpu;
  readonly memory: PhysicalMemory;
  readonly clock: Clock;
  readonly random: (length: number) => Uint8Array;
  readonly map: readonly EfiMemoryDescriptor[];
  /** Where the map already holds the image, as LoaderCode. */
  readonly imageBase: number | null;
  readonly state?: Partial<AllocatorState>;
  readonly configuration: UefiConfiguration;
  readonly image: UefiImage;
  readonly faults: readonly EfiFault[];
  /** What the flash holds. */
  readonly variables?: readonly EfiVariable[];
  /** See `UefiParts`. */
  readonly enforcesNx?: boolean;
  readonly nextKey?: () => Key | null;
  readonly hasKey?: () => boolean;
  readonly onText: (text: string) => void;
  readonly stop: (reason: string) => void;
  readonly onEvent: (event: Extract<MachineEvent, { kind: 'efi' }>) => void;
}

const VIRTUAL_PAGE = 0x200000;
const GIB = 2 ** 30;
const PRESENT_WRITABLE = 3n;
const LARGE = 0x80n;

// OVMF's CPU state at an image's entry.
const CR0 = 0x8001_0033n;
const CR4 = 0x668n;
const EFER = 0xd00n;
const CODE_SELECTOR = 0x38;
const DATA_SELECTOR = 0x30;
const FLAG_IF = 0x200;
const IDT_SIZE = 0x1000;
/** Null; flat data and 32-bit code, twice; 16-bit code; 64-bit data and code; one spare. */
const GDT = [
  0n,
  0x00cf_9200_0000_ffffn,
  0x00cf_9a00_0000_ffffn,
  0x00cf_9200_0000_ffffn,
  0x00cf_9a00_0000_ffffn,
  0x008f_9a00_0000_ffffn,
  0x00cf_9200_0000_ffffn,
  0x00af_9a00_0000_ffffn,
  0n,
] as const;

/**
 * Lays the firmware out with the image loaded; the CPU is not touched.
 *
 * @throws BootscopeError `efi-image` for a file that firmware would not load, `efi-memory-map` for a map without room
 */
export function startFirmware(start: UefiStart): UefiFirmware {
  const { cpu, memory, map, variables = [] } = start;
  const hasPlatformKey = globalVariable(variables, 'PK') !== undefined;
  const places = firmwarePlaces(map);
  const firmware = new UefiFirmware({
    cpu,
    memory,
    clock: start.clock,
    random: start.random,
    map,
    state: { ...OVMF_STATE, bins: findBins(map), ...start.state },
    places,
    faults: start.faults,
    enforcesNx: start.enforcesNx ?? false,
    variables: new VariableStore([
      global('Lang', new TextEncoder().encode('eng\0'), VARIABLE_NON_VOLATILE),
      global('PlatformLang', new TextEncoder().encode('en\0'), VARIABLE_NON_VOLATILE),
      ...variables,
      global('SecureBoot', Uint8Array.of(0)),
      global('SetupMode', Uint8Array.of(hasPlatformKey ? 0 : 1)),
    ]),
    ...(start.nextKey === undefined ? {} : { nextKey: start.nextKey }),
    ...(start.hasKey === undefined ? {} : { hasKey: start.hasKey }),
    onText: start.onText,
    stop: start.stop,
    onEvent: start.onEvent,
  });
  if (hasPlatformKey) {
    firmware.noticeOnce(
      'the variables hold a platform key (PK): signatures are not checked here, and programs are told that Secure Boot is off',
    );
  }
  installProtocols(firmware, start);
  installTables(firmware);
  loadFirst(firmware, start);
  writePageTables(memory, places.cr3, map);
  memory.fill(places.idt, IDT_SIZE, 0);
  return firmware;
}

/** Puts the CPU at the first instruction of the image that the firmware was started with. */
export function enterFirstImage(firmware: UefiFirmware): void {
  const { entry, handle } = firmware.images[0]!;
  enterImage(firmware, entry, { rcx: handle, rdx: BigInt(firmware.places.systemTable) });
}

/** Puts the CPU at an address in the state in which firmware calls an image. */
export function enterImage(firmware: UefiFirmware, entry: number, registers: GeneralRegisters): void {
  const { cpu, memory, places } = firmware;
  memory.write64(places.rsp, firmware.returnAddress);
  enterLongMode(cpu, {
    ...registers,
    rip: BigInt(entry),
    cr0: CR0,
    cr3: BigInt(places.cr3),
    cr4: CR4,
    efer: EFER,
    gdtAddress: places.gdt,
    gdt: { descriptors: GDT, code: CODE_SELECTOR, data: DATA_SELECTOR },
    rsp: BigInt(places.rsp),
    flags: FLAG_IF,
  });
  cpu.writeDescriptorTable('idtr', { base: BigInt(places.idt), limit: IDT_SIZE - 1 });
}

function global(name: string, data: Uint8Array, more = 0): EfiVariable {
  return {
    name,
    vendor: EFI_GUIDS.GlobalVariable,
    attributes: more | VARIABLE_BOOT_SERVICE | VARIABLE_RUNTIME,
    data,
  };
}

function installProtocols(firmware: UefiFirmware, { configuration, image }: UefiStart): void {
  const console = firmware.newHandle();
  const output = textOutput(firmware);
  const input = textInput(firmware);
  firmware.install(console, 'SimpleTextOutput', output);
  firmware.install(console, 'SimpleTextInput', input);
  for (const field of ['consoleInHandle', 'consoleOutHandle', 'standardErrorHandle'] as const) {
    firmware.setSystemTable(field, console);
  }
  firmware.setSystemTable('conIn', input);
  firmware.setSystemTable('conOut', output);
  firmware.setSystemTable('stdErr', output);

  const drivers = firmware.newHandle();
  firmware.install(drivers, 'DevicePathToText', devicePathToText(firmware));
  const collation = unicodeCollation(firmware);
  firmware.install(drivers, 'UnicodeCollation', collation);
  firmware.install(drivers, 'UnicodeCollation2', collation);
  const has = (protocol: OptionalProtocol): boolean => configuration.protocols.includes(protocol);
  if (has('rng')) firmware.install(drivers, 'Rng', randomNumbers(firmware));
  if (has('tcg2')) firmware.install(drivers, 'Tcg2', tcg2(firmware));
  if (has('tcg')) firmware.install(drivers, 'Tcg', tcg(firmware));
  if (has('memory-attribute')) firmware.install(drivers, 'MemoryAttribute', memoryAttribute(firmware));
  for (const pci of configuration.pci) {
    const handle = firmware.newHandle();
    const path = encodeDevicePath(pciPath(pci.device, pci.function));
    firmware.install(handle, 'DevicePath', firmware.bytes(path));
    firmware.install(handle, 'PciIo', pciIo(firmware, pci));
  }
  if (configuration.frameBuffer !== null) {
    const handle = firmware.newHandle();
    firmware.install(handle, 'GraphicsOutput', graphicsOutput(firmware, configuration.frameBuffer));
    // OVMF marks the screen that ConOut prints on; there is nothing behind the mark.
    firmware.install(handle, 'ConsoleOut', 0n);
    // ConOut itself is a screen, too, which stands for all that it prints on.
    firmware.install(
      firmware.newHandle(),
      'GraphicsOutput',
      graphicsOutput(firmware, configuration.frameBuffer),
    );
  }
  if (image.initrd !== null) initrdLoader(firmware, image.initrd);
}

function installTables(firmware: UefiFirmware): void {
  const table = (name: keyof typeof EFI_GUIDS, address: bigint): void => {
    firmware.setConfigurationTable(EFI_GUIDS[name], address);
  };
  table('DxeServicesTable', dxeServices(firmware));
  table('SmbiosTable', smbiosTables(firmware));
  const acpi = acpiTables(firmware);
  table('Acpi10Table', acpi.version1);
  table('Acpi20Table', acpi.version2);
  table('MemoryAttributesTable', memoryAttributesTable(firmware));
}

/** EFI_MEMORY_ATTRIBUTES_TABLE (4.6): how the runtime's memory may be mapped. */
function memoryAttributesTable(firmware: UefiFirmware): bigint {
  const { memory } = firmware;
  const runtime = firmware.parts.map.filter(({ type }) => type.startsWith('RuntimeServices'));
  const size = 48;
  const address = firmware.bootData(16 + runtime.length * size);
  memory.write32(address, 1);
  memory.write32(address + 4, runtime.length);
  memory.write32(address + 8, size);
  for (const [index, { start, end, type }] of runtime.entries()) {
    const at = address + 16 + index * size;
    const code = type === 'RuntimeServicesCode';
    memory.write32(at, code ? 5 : 6);
    memory.write64(at + 8, BigInt(start));
    memory.write64(at + 24, BigInt((end - start) / EFI_PAGE));
    memory.write64(at + 32, EFI_MEMORY_RUNTIME | (code ? EFI_MEMORY_RO : EFI_MEMORY_XP));
  }
  return BigInt(address);
}

/** The image that the machine was started for, from the file system that QEMU's kernel loader shows. */
function loadFirst(firmware: UefiFirmware, { image, imageBase }: UefiStart): void {
  const placed =
    image.bytes === null
      ? placeLoader(firmware, image, imageBase)
      : placeImage(firmware, image.bytes, imageBase);
  if ('status' in placed) {
    throw new BootscopeError(
      'efi-image',
      `${image.name}: the firmware does not load this program (${efiStatusName(placed.status)}): ${placed.reason}`,
    );
  }
  if (image.esp !== undefined) {
    bootFromVolume(firmware, image, image.esp, placed);
    return;
  }
  const files = [{ path: 'kernel', bytes: image.bytes ?? new Uint8Array(0) }];
  if (image.initrd !== null) files.push({ path: 'initrd', bytes: image.initrd });
  const device = firmware.newHandle();
  const devicePath = [vendorMedia(EFI_GUIDS.QemuKernelLoaderFs)];
  firmware.install(device, 'DevicePath', firmware.bytes(encodeDevicePath(devicePath)));
  firmware.install(
    device,
    'SimpleFileSystem',
    new FirmwareFileSystem(flatTree(files)).makeInterface(firmware),
  );
  const parent = firmware.newHandle();
  firmware.install(parent, 'SimpleTextInputEx', 0n);
  const filePath = [filePathNode('kernel')];
  installLoadedImage(firmware, placed, {
    name: image.name,
    parent,
    device,
    filePath: encodeDevicePath(filePath),
    fullPath: encodeDevicePath([...devicePath, ...filePath]),
    loadOptions: char16Bytes(image.loadOptions),
  });
}

type StartedChoice = Pick<BootChoice, 'option' | 'file' | 'loadOptions' | 'passedOver'> & {
  readonly name?: string;
};

/** The boot manager's part: the first program that can be booted is in memory, the others follow where it gives up. */
function bootFromVolume(firmware: UefiFirmware, image: UefiImage, esp: Esp, placed: PlacedImage): void {
  const volume = installVolume(firmware, esp);
  firmware.volume = volume;
  firmware.variables.remove('BootNext', EFI_GUIDS.GlobalVariable);
  // A program from elsewhere is said to lie in the disk's root.
  const [first = { option: null, file: `\\${image.name}`, loadOptions: null, passedOver: [] }, ...others] =
    image.choices ?? [];
  install(first, placed);
  if (first.option !== null) firmware.noticeOnce(`${first.name} starts ${first.file}`);
  firmware.nextImage = (why) => {
    for (let choice = others.shift(); choice !== undefined; choice = others.shift()) {
      const bytes = choice.node.read();
      const next = placeImage(firmware, bytes, null);
      if ('status' in next) {
        firmware.noticeOnce(`${choice.name} is passed over: ${next.reason}`);
        continue;
      }
      firmware.noticeOnce(`${why}: ${choice.name} is next`);
      install(choice, next, bytes);
      return firmware.images.at(-1)!;
    }
    return null;
  };

  function install(choice: StartedChoice, program: PlacedImage, bytes?: Uint8Array): void {
    for (const why of choice.passedOver) firmware.noticeOnce(why);
    firmware.variables.remove('BootCurrent', EFI_GUIDS.GlobalVariable);
    if (choice.option !== null) {
      const number = Uint8Array.of(choice.option & 0xff, choice.option >> 8);
      firmware.variables.put(global('BootCurrent', number));
    }
    const filePath = bootFilePath(choice);
    installLoadedImage(firmware, program, {
      ...{ name: nameOfChoice(choice), parent: firmware.newHandle(), device: volume.device },
      filePath: encodeDevicePath(filePath),
      fullPath: encodeDevicePath([...volume.path, ...filePath]),
      loadOptions: image.loadOptions === '' ? choice.loadOptions : char16Bytes(image.loadOptions),
      ...(bytes === undefined ? {} : { bytes }),
    });
  }
}

/** Memory for a boot loader that is not run. */
function placeLoader(
  firmware: UefiFirmware,
  { size = EFI_PAGE }: UefiImage,
  imageBase: number | null,
): PlacedImage | LoadFailure {
  const base =
    imageBase ?? firmware.allocatePages({ kind: 'AnyPages' }, 'LoaderCode', Math.ceil(size / EFI_PAGE));
  if (base === null)
    return { status: EFI_STATUS.OUT_OF_RESOURCES, reason: `there are no ${hex(size)} bytes for it` };
  return { base, entry: base, size, fromFile: size, codeType: 'LoaderCode' };
}

/** Maps all memory to itself in pages of 2 MiB. */
function writePageTables(memory: PhysicalMemory, cr3: number, map: readonly EfiMemoryDescriptor[]): void {
  const end = Math.max(4 * GIB, ...map.map((descriptor) => descriptor.end));
  const directories = Math.ceil(end / GIB);
  const pointers = cr3 + EFI_PAGE;
  const first = cr3 + 2 * EFI_PAGE;
  memory.fill(cr3, (2 + directories) * EFI_PAGE, 0);
  if (directories > 512) {
    throw new BootscopeError(
      'efi-memory-map',
      `the memory map reaches to ${hex(end)}, the firmware's page tables to 512 GiB`,
    );
  }
  memory.write64(cr3, BigInt(pointers) | PRESENT_WRITABLE);
  for (let index = 0; index < directories; index++) {
    const table = first + index * EFI_PAGE;
    memory.write64(pointers + index * 8, BigInt(table) | PRESENT_WRITABLE);
    for (let entry = 0; entry < 512; entry++) {
      const address = BigInt(index) * BigInt(GIB) + BigInt(entry * VIRTUAL_PAGE);
      memory.write64(table + entry * 8, address | PRESENT_WRITABLE | LARGE);
    }
  }
}
