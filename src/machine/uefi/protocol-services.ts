// The protocols that stand from the start, but for files and images: consoles, graphics, PCI, random numbers, the initrd, what the
// stub asks the memory's attributes of, and texts.

import { efiDevicePathText, encodeDevicePath, vendorMedia } from '../../protocol/efi-device-path.ts';
import { EFI_GUIDS, GUID_SIZE, guidBytes } from '../../protocol/efi-guids.ts';
import {
  DXE_SERVICES,
  DXE_SERVICES_SIGNATURE,
  EFI_MEMORY_RAM,
  EFI_MEMORY_RO,
  EFI_MEMORY_XP,
  EFI_PAGE,
  EFI_STATUS,
  GOP_MODE,
  GOP_MODE_INFO,
  GOP_MODE_INFO_SIZE,
  GOP_MODE_SIZE,
  GOP_PIXEL_BGRR,
  TABLE_HEADER_SIZE,
} from '../../protocol/efi-tables.ts';
import { nobodyPresses } from '../keys.ts';
import type { UefiFirmware } from './firmware.ts';
import { char16Bytes, readChar16, type Service, service } from './service.ts';

const { SUCCESS, INVALID_PARAMETER, UNSUPPORTED, BUFFER_TOO_SMALL, NOT_READY, NOT_FOUND } = EFI_STATUS;

/** Names of the services here and in file-system.ts, for faults. */
export const PROTOCOL_SERVICE_NAMES: readonly string[] = [
  'ConOut.OutputString',
  'ConIn.ReadKeyStroke',
  'GraphicsOutput.QueryMode',
  'GraphicsOutput.SetMode',
  'GraphicsOutput.Blt',
  'PciIo.Pci.Read',
  'PciIo.GetLocation',
  'PciIo.Attributes',
  'Rng.GetInfo',
  'Rng.GetRNG',
  'LoadFile2.LoadFile',
  'SimpleFileSystem.OpenVolume',
  'File.Open',
  'File.Read',
  'File.GetInfo',
  'MemoryAttribute.GetMemoryAttributes',
  'MemoryAttribute.SetMemoryAttributes',
  'MemoryAttribute.ClearMemoryAttributes',
  'DXE.GetMemorySpaceDescriptor',
  'DXE.SetMemorySpaceAttributes',
];

const COLUMNS = 80n;
const ROWS = 25n;
const CARRIAGE_RETURN = /\r/g;

/** SimpleTextOutput (12.4): what is printed is the guest's console. */
export function textOutput(firmware: UefiFirmware): bigint {
  const mode = firmware.bootData(24);
  firmware.memory.write32(mode, 1);
  firmware.memory.write8(mode + 20, 1);
  const ok = (): bigint => SUCCESS;
  return firmware.interface([
    service('ConOut.Reset', 'This:address ExtendedVerification:boolean', ok),
    service('ConOut.OutputString', 'This:address String:char16', (_, _this, text) => {
      firmware.parts.onText(readChar16(firmware.memory, Number(text)).replace(CARRIAGE_RETURN, ''));
      return SUCCESS;
    }),
    service('ConOut.TestString', 'This:address String:char16', ok),
    service(
      'ConOut.QueryMode',
      'This:address ModeNumber:number *Columns:number *Rows:number',
      (_, _this, number, columns, rows) => {
        if (number !== 0n) return UNSUPPORTED;
        firmware.memory.write64(Number(columns), COLUMNS);
        firmware.memory.write64(Number(rows), ROWS);
        return SUCCESS;
      },
    ),
    service('ConOut.SetMode', 'This:address ModeNumber:number', ok),
    service('ConOut.SetAttribute', 'This:address Attribute:number', ok),
    service('ConOut.ClearScreen', 'This:address', ok),
    service('ConOut.SetCursorPosition', 'This:address Column:number Row:number', ok),
    service('ConOut.EnableCursor', 'This:address Visible:boolean', ok),
    BigInt(mode),
  ]);
}

/** Reads in vain after which each lets a timer tick pass. */
const PATIENT_READS = 16;
/** Seven minutes of ticks: loaders for EFI do far more between two reads than those for a BIOS. */
const MOST_READS = 8192;

/** SimpleTextInput (12.3): keys that were given beforehand. */
export function textInput(firmware: UefiFirmware): bigint {
  const wait = BigInt(firmware.bootData(16));
  const isReady = (): boolean => firmware.parts.hasKey?.() === true;
  firmware.events.create(wait, { type: 0, notify: 0n, context: 0n, group: null, isReady });
  let emptyReads = 0;
  return firmware.interface([
    service('ConIn.Reset', 'This:address ExtendedVerification:boolean', () => SUCCESS),
    service('ConIn.ReadKeyStroke', 'This:address Key:address', (_, _this, pointer) => {
      const key = firmware.parts.nextKey?.() ?? null;
      if (key !== null) {
        firmware.memory.write16(Number(pointer), key.scanCode);
        firmware.memory.write16(Number(pointer) + 2, key.character);
        emptyReads = 0;
        return SUCCESS;
      }
      // Whoever asks again and again waits for its time to be up.
      if (++emptyReads > MOST_READS) firmware.parts.stop(nobodyPresses(7));
      else if (emptyReads > PATIENT_READS) firmware.clock.advanceToNextTick();
      return NOT_READY;
    }),
    wait,
  ]);
}

/** A linear frame buffer. */
export interface FrameBuffer {
  readonly width: number;
  readonly height: number;
  readonly address: number;
  readonly size: number;
}

/** GraphicsOutput (12.9) with one mode, 32 bits a pixel. */
export function graphicsOutput(
  firmware: UefiFirmware,
  { width, height, address, size }: FrameBuffer,
): bigint {
  const { memory } = firmware;
  const mode = firmware.bootData(GOP_MODE_SIZE);
  const info = firmware.bootData(GOP_MODE_INFO_SIZE);
  memory.write32(info + GOP_MODE_INFO.horizontalResolution, width);
  memory.write32(info + GOP_MODE_INFO.verticalResolution, height);
  memory.write32(info + GOP_MODE_INFO.pixelFormat, GOP_PIXEL_BGRR);
  memory.write32(info + GOP_MODE_INFO.pixelsPerScanLine, width);
  memory.write32(mode + GOP_MODE.maxMode, 1);
  memory.write64(mode + GOP_MODE.info, BigInt(info));
  memory.write64(mode + GOP_MODE.infoSize, BigInt(GOP_MODE_INFO_SIZE));
  memory.write64(mode + GOP_MODE.frameBufferBase, BigInt(address));
  memory.write64(mode + GOP_MODE.frameBufferSize, BigInt(size));
  return firmware.interface([
    service(
      'GraphicsOutput.QueryMode',
      'This:address ModeNumber:number *SizeOfInfo:number *Info:address',
      (_, _this, number, sizePointer, infoPointer) => {
        if (number !== 0n) return INVALID_PARAMETER;
        const copy = firmware.allocatePool('BootServicesData', GOP_MODE_INFO_SIZE);
        if (copy === null) return EFI_STATUS.OUT_OF_RESOURCES;
        memory.copyIn(copy, memory.copyOut(info, GOP_MODE_INFO_SIZE));
        memory.write64(Number(sizePointer), BigInt(GOP_MODE_INFO_SIZE));
        memory.write64(Number(infoPointer), BigInt(copy));
        return SUCCESS;
      },
    ),
    service('GraphicsOutput.SetMode', 'This:address ModeNumber:number', (_, _this, number) =>
      number === 0n ? SUCCESS : UNSUPPORTED,
    ),
    service(
      'GraphicsOutput.Blt',
      'This:address BltBuffer:address BltOperation:number SourceX:number SourceY:number DestinationX:number DestinationY:number Width:number Height:number Delta:number',
      () => SUCCESS,
    ),
    BigInt(mode),
  ]);
}

/** A PCI function that the firmware shows. */
export interface PciFunction {
  readonly bus: number;
  readonly device: number;
  readonly function: number;
  /** Its configuration space from the start, as far as it is known. */
  readonly configuration: Uint8Array;
  /** Its option ROM; empty for none. */
  readonly rom: Uint8Array;
}

/** Offsets of what is no function in EFI_PCI_IO_PROTOCOL (14.4). */
const PCI_IO_MEMBERS = [
  'PollMem',
  'PollIo',
  'Mem.Read',
  'Mem.Write',
  'Io.Read',
  'Io.Write',
  'Pci.Read',
  'Pci.Write',
  'CopyMem',
  'Map',
  'Unmap',
  'AllocateBuffer',
  'FreeBuffer',
  'Flush',
  'GetLocation',
  'Attributes',
  'GetBarAttributes',
  'SetBarAttributes',
] as const;

/** PciIo (14.4): reading configuration space, where the function is, its ROM. */
export function pciIo(firmware: UefiFirmware, pci: PciFunction): bigint {
  const { memory } = firmware;
  const rows: Partial<Record<(typeof PCI_IO_MEMBERS)[number], Service>> = {
    'Pci.Read': service(
      'PciIo.Pci.Read',
      'This:address Width:number Offset:number Count:number Buffer:address',
      (_, _this, width, offset, count, buffer) => {
        const bytes = 1 << Number(width! & 3n);
        const length = bytes * Number(count);
        const part = new Uint8Array(length).fill(0xff);
        part.set(pci.configuration.subarray(Number(offset), Number(offset) + length));
        memory.copyIn(Number(buffer), part);
        return SUCCESS;
      },
    ),
    GetLocation: service(
      'PciIo.GetLocation',
      'This:address *Segment:number *Bus:number *Device:number *Function:number',
      (_, _this, ...pointers) => {
        const values = [0, pci.bus, pci.device, pci.function];
        for (const [index, value] of values.entries()) memory.write64(Number(pointers[index]), BigInt(value));
        return SUCCESS;
      },
    ),
    Attributes: service(
      'PciIo.Attributes',
      'This:address Operation:number Attributes:number Result:address',
      (_, _this, _operation, _attributes, pointer) => {
        if (pointer !== 0n) memory.write64(Number(pointer), 0n);
        return SUCCESS;
      },
    ),
  };
  const rom = pci.rom.length === 0 ? 0n : firmware.bytes(pci.rom);
  return firmware.interface([
    ...PCI_IO_MEMBERS.map((name) => rows[name] ?? service(`PciIo.${name}`, 'This:address', null)),
    BigInt(pci.rom.length),
    rom,
  ]);
}

/** More than anybody asks for at once. */
const MAXIMUM_RANDOM = 0x10_0000n;

/** RNG (37.5): the machine's entropy. */
export function randomNumbers(firmware: UefiFirmware): bigint {
  const algorithm = 'e43176d7-b6e8-4827-b784-7ffdc4b68561';
  return firmware.interface([
    service(
      'Rng.GetInfo',
      'This:address &RNGAlgorithmListSize:number RNGAlgorithmList:address',
      (_, _this, sizePointer, list) => {
        const room = firmware.memory.read64(Number(sizePointer));
        firmware.memory.write64(Number(sizePointer), BigInt(GUID_SIZE));
        if (room < BigInt(GUID_SIZE)) return BUFFER_TOO_SMALL;
        firmware.memory.copyIn(Number(list), guidBytes(algorithm));
        return SUCCESS;
      },
    ),
    service(
      'Rng.GetRNG',
      'This:address RNGAlgorithm:guid RNGValueLength:number RNGValue:address',
      (_, _this, _algorithm, length, buffer) => {
        if (length === 0n || buffer === 0n) return INVALID_PARAMETER;
        if (length! > MAXIMUM_RANDOM) return EFI_STATUS.DEVICE_ERROR;
        firmware.memory.copyIn(Number(buffer), firmware.parts.random(Number(length)));
        return SUCCESS;
      },
    ),
  ]);
}

/** LoadFile2 (13.2) on the vendor media path under which the kernel looks for its initrd. */
export function initrdLoader(firmware: UefiFirmware, bytes: Uint8Array): bigint {
  const handle = firmware.newHandle();
  firmware.install(
    handle,
    'DevicePath',
    firmware.bytes(encodeDevicePath([vendorMedia(EFI_GUIDS.LinuxInitrdMedia)])),
  );
  const load = service(
    'LoadFile2.LoadFile',
    'This:address FilePath:device-path BootPolicy:boolean &BufferSize:number Buffer:address',
    (_, _this, _path, policy, sizePointer, buffer) => {
      if ((policy! & 0xffn) !== 0n) return UNSUPPORTED;
      if (bytes.length === 0) return NOT_FOUND;
      const room = firmware.memory.read64(Number(sizePointer));
      firmware.memory.write64(Number(sizePointer), BigInt(bytes.length));
      if (buffer === 0n || room < BigInt(bytes.length)) return BUFFER_TOO_SMALL;
      firmware.memory.copyIn(Number(buffer), bytes);
      return SUCCESS;
    },
  );
  firmware.install(handle, 'LoadFile2', firmware.interface([load]));
  return handle;
}

/** DevicePathToText (10.5). */
export function devicePathToText(firmware: UefiFirmware): bigint {
  const convert = (name: string): Service =>
    service(
      `DevicePathToText.${name}`,
      'Path:device-path DisplayOnly:boolean AllowShortcuts:boolean',
      (_, path) => {
        const text = path === 0n ? null : efiDevicePathText(firmware.devicePathBytes(path!));
        if (text === null) return 0n;
        const bytes = char16Bytes(text);
        const address = firmware.allocatePool('BootServicesData', bytes.length);
        if (address === null) return 0n;
        firmware.memory.copyIn(address, bytes);
        return BigInt(address);
      },
      'value',
    );
  return firmware.interface([convert('ConvertDeviceNodeToText'), convert('ConvertDevicePathToText')]);
}

/** UnicodeCollation (14.3 of older editions): comparing file names without regard to case. */
export function unicodeCollation(firmware: UefiFirmware): bigint {
  const { memory } = firmware;
  const languages = firmware.bytes(Uint8Array.from('en\0', (character) => character.charCodeAt(0)));
  const text = (address: bigint | undefined): string => readChar16(memory, Number(address));
  const rewrite = (address: bigint, change: (text: string) => string): bigint => {
    memory.copyIn(Number(address), char16Bytes(change(text(address))));
    return SUCCESS;
  };
  return firmware.interface([
    service(
      'UnicodeCollation.StriColl',
      'This:address Str1:char16 Str2:char16',
      (_, _this, a, b) => {
        const [left, right] = [text(a).toLowerCase(), text(b).toLowerCase()];
        return left === right ? 0n : left < right ? BigInt.asUintN(64, -1n) : 1n;
      },
      'value',
    ),
    service(
      'UnicodeCollation.MetaiMatch',
      'This:address String:char16 Pattern:char16',
      (_, _this, string, pattern) => {
        const escaped = text(pattern).replace(/[.+^${}()|\\]/g, '\\$&');
        const expression = escaped.replaceAll('*', '.*').replaceAll('?', '.');
        return new RegExp(`^${expression}$`, 'i').test(text(string)) ? 1n : 0n;
      },
      'value',
    ),
    service('UnicodeCollation.StrLwr', 'This:address Str:char16', (_, _this, string) =>
      rewrite(string!, (each) => each.toLowerCase()),
    ),
    service('UnicodeCollation.StrUpr', 'This:address Str:char16', (_, _this, string) =>
      rewrite(string!, (each) => each.toUpperCase()),
    ),
    service('UnicodeCollation.FatToStr', 'This:address FatSize:number Fat:address String:address', null),
    service('UnicodeCollation.StrToFat', 'This:address String:char16 FatSize:number Fat:address', null),
    languages,
  ]);
}

/** MemoryAttribute (37.8): the firmware's tables map everything for everything; what is asked for is remembered. */
export function memoryAttribute(firmware: UefiFirmware): bigint {
  const attributes = firmware.memoryAttributes;
  return firmware.interface([
    service(
      'MemoryAttribute.GetMemoryAttributes',
      'This:address BaseAddress:address Length:number *Attributes:address',
      (_, _this, base, _length, pointer) => {
        firmware.memory.write64(Number(pointer), attributes.get(Number(base)));
        return SUCCESS;
      },
    ),
    service(
      'MemoryAttribute.SetMemoryAttributes',
      'This:address BaseAddress:address Length:number Attributes:address',
      (_, _this, base, length, value) => {
        attributes.change(Number(base), Number(base! + length!), value!, 0n);
        return SUCCESS;
      },
    ),
    service(
      'MemoryAttribute.ClearMemoryAttributes',
      'This:address BaseAddress:address Length:number Attributes:address',
      (_, _this, base, length, value) => {
        attributes.change(Number(base), Number(base! + length!), 0n, value!);
        return SUCCESS;
      },
    ),
  ]);
}

/** EFI_MEMORY_WB, what memory is cached as; and how it may be accessed (UEFI 2.10, 7.2.3): RP, XP, RO. */
const EFI_MEMORY_WB = 8n;
const EFI_ACCESS_ATTRIBUTES = 0x2000n | EFI_MEMORY_XP | EFI_MEMORY_RO;

function pageOf(address: number): number {
  return address - (address % EFI_PAGE);
}

/** EFI_GCD_MEMORY_SPACE_DESCRIPTOR (PI specification, volume 2, 7.2.4). */
const GCD_SIZE = 64;
const GCD_SYSTEM_MEMORY = 2;

/** The DXE services table with what the stub uses of it. @returns its address */
export function dxeServices(firmware: UefiFirmware): bigint {
  const { memory } = firmware;
  const rows: Partial<Record<(typeof DXE_SERVICES)[number], Service>> = {
    GetMemorySpaceDescriptor: service(
      'DXE.GetMemorySpaceDescriptor',
      'BaseAddress:address Descriptor:address',
      (_, base, pointer) => {
        const space = firmware.memorySpaceAt(Number(base));
        if (space === null) return NOT_FOUND;
        const { memoryAttributes: attributes } = firmware;
        // One space is one descriptor, unless its pages are mapped in different ways.
        const start = firmware.parts.enforcesNx ? pageOf(Number(base)) : space.start;
        const end = firmware.parts.enforcesNx ? attributes.endOfRun(start, space.end) : space.end;
        const at = Number(pointer);
        memory.fill(at, GCD_SIZE, 0);
        memory.write64(at, BigInt(start));
        memory.write64(at + 8, BigInt(end - start));
        memory.write64(at + 16, EFI_MEMORY_RAM | EFI_MEMORY_XP);
        memory.write64(at + 24, EFI_MEMORY_WB | attributes.get(start));
        memory.write32(at + 32, GCD_SYSTEM_MEMORY);
        return SUCCESS;
      },
    ),
    SetMemorySpaceAttributes: service(
      'DXE.SetMemorySpaceAttributes',
      'BaseAddress:address Length:number Attributes:address',
      (_, base, length, value) => {
        const set = value! & EFI_ACCESS_ATTRIBUTES;
        const clear = EFI_ACCESS_ATTRIBUTES & ~set;
        firmware.memoryAttributes.change(Number(base), Number(base! + length!), set, clear);
        return SUCCESS;
      },
    ),
  };
  const size = TABLE_HEADER_SIZE + DXE_SERVICES.length * 8;
  const address = firmware.bootData(size);
  for (const [index, name] of DXE_SERVICES.entries()) {
    const row = rows[name] ?? service(`DXE.${name}`, '', null);
    memory.write64(address + TABLE_HEADER_SIZE + index * 8, firmware.trap(row));
  }
  firmware.header(address, DXE_SERVICES_SIGNATURE, size);
  return BigInt(address);
}
