// Putting an EFI program into memory as firmware does: sections at their addresses, relocations applied, a LoadedImage beside it
// (UEFI 2.10, 7.4 and 9.1; PE Format, "The .reloc Section").

import { type PeFile, readPe } from '../../image/pe.ts';
import {
  type DevicePathNode,
  decodeDevicePath,
  encodeDevicePath,
  filePathText,
} from '../../protocol/efi-device-path.ts';
import {
  EFI_MEMORY_RO,
  EFI_MEMORY_TYPES,
  EFI_MEMORY_XP,
  EFI_PAGE,
  EFI_STATUS,
  type EfiMemoryType,
  LOADED_IMAGE,
  LOADED_IMAGE_REVISION,
  LOADED_IMAGE_SIZE,
} from '../../protocol/efi-tables.ts';
import { readByPath } from './boot-volume.ts';
import type { UefiFirmware } from './firmware.ts';
import type { ServiceResult } from './service.ts';

const { SUCCESS, INVALID_PARAMETER, LOAD_ERROR, NOT_FOUND, OUT_OF_RESOURCES, UNSUPPORTED } = EFI_STATUS;

/** IMAGE_SCN_MEM_EXECUTE and IMAGE_SCN_MEM_WRITE. */
const SECTION_EXECUTE = 0x2000_0000;
const SECTION_WRITE = 0x8000_0000;

const MACHINE_X64 = 0x8664;
const BOOT_SERVICE_DRIVER = 11;
const RUNTIME_DRIVER = 12;
const RELOCATION_HIGHLOW = 3;
const RELOCATION_DIR64 = 10;
const RELOCATION_NONE = 0;

/** Memory for the code of an image by its subsystem; its data has the type behind it. */
function codeTypeOf(subsystem: number): EfiMemoryType {
  if (subsystem === BOOT_SERVICE_DRIVER) return 'BootServicesCode';
  if (subsystem === RUNTIME_DRIVER) return 'RuntimeServicesCode';
  return 'LoaderCode';
}

export interface PlacedImage {
  readonly base: number;
  readonly entry: number;
  readonly size: number;
  /** Bytes from its base up to the last that is of the file: what follows begins as zeroes. */
  readonly fromFile: number;
  readonly codeType: EfiMemoryType;
}

/** Why a program was not loaded: the status that LoadImage answers, and a clause for people. */
export interface LoadFailure {
  readonly status: bigint;
  readonly reason: string;
}

/**
 * Loads the sections of a PE file at `base`, or where AllocatePages finds room, and relocates them.
 *
 * @param base - where the map that the machine began with already holds the image
 */
export function placeImage(
  firmware: UefiFirmware,
  bytes: Uint8Array,
  base: number | null,
): PlacedImage | LoadFailure {
  const pe = readPe(bytes);
  if (pe === null) return { status: LOAD_ERROR, reason: 'it is no PE file' };
  if (pe.machine !== MACHINE_X64) {
    return { status: UNSUPPORTED, reason: `it is for ${pe.machineName}, the firmware for x86-64` };
  }
  if (pe.entryPoint >= pe.sizeOfImage) {
    return {
      status: LOAD_ERROR,
      reason: `its entry 0x${pe.entryPoint.toString(16)} lies behind its 0x${pe.sizeOfImage.toString(16)} bytes`,
    };
  }
  const codeType = codeTypeOf(pe.subsystem);
  const pages = Math.ceil(pe.sizeOfImage / EFI_PAGE);
  const start = base ?? firmware.allocatePages({ kind: 'AnyPages' }, codeType, pages);
  if (start === null) return { status: OUT_OF_RESOURCES, reason: `there are no ${pages} pages for it` };
  protect(firmware, pe, start);
  const failure = copySections(firmware, bytes, pe, start) ?? relocate(firmware, bytes, pe, start);
  if (failure !== null) {
    if (base === null) firmware.freePages(start, pages);
    return failure;
  }
  const fromFile = Math.max(
    pe.sizeOfHeaders,
    ...pe.sections.map(
      ({ virtualAddress, virtualSize, fileSize }) =>
        virtualAddress + Math.min(virtualSize || fileSize, fileSize),
    ),
  );
  return { base: start, entry: start + pe.entryPoint, size: pe.sizeOfImage, fromFile, codeType };
}

/**
 * Maps an image as its sections say, where it says that it can bear that (NX_COMPAT); all of it for everything where it does not.
 */
function protect(firmware: UefiFirmware, pe: PeFile, base: number): void {
  if (!firmware.parts.enforcesNx) return;
  const attributes = firmware.memoryAttributes;
  const access = EFI_MEMORY_RO | EFI_MEMORY_XP;
  if (!pe.nxCompatible) {
    attributes.change(base, base + pe.sizeOfImage, 0n, access);
    firmware.noticeOnce(
      'the image does not claim NX_COMPAT: the firmware maps all of it writable and executable, one that is strict refuses it',
    );
    return;
  }
  for (const { virtualAddress, virtualSize, fileSize, characteristics, name } of pe.sections) {
    const [start, size] = [base + virtualAddress, virtualSize || fileSize];
    if ((characteristics & SECTION_EXECUTE) === 0) continue;
    const writable = (characteristics & SECTION_WRITE) !== 0;
    attributes.change(start, start + size, writable ? 0n : EFI_MEMORY_RO, EFI_MEMORY_XP);
    if (writable) {
      firmware.noticeOnce(
        `section ${name} of an image that claims NX_COMPAT is writable and executable at once: a firmware that is strict refuses it`,
      );
    }
  }
}

function copySections(
  firmware: UefiFirmware,
  bytes: Uint8Array,
  pe: PeFile,
  base: number,
): LoadFailure | null {
  const { memory } = firmware;
  memory.fill(base, Math.ceil(pe.sizeOfImage / EFI_PAGE) * EFI_PAGE, 0);
  memory.copyIn(base, bytes.subarray(0, Math.min(pe.sizeOfHeaders, pe.sizeOfImage, bytes.length)));
  for (const section of pe.sections) {
    const size = Math.max(section.virtualSize, section.fileSize);
    if (section.virtualAddress + size > alignUp(pe.sizeOfImage, EFI_PAGE)) {
      return {
        status: LOAD_ERROR,
        reason:
          `section ${section.name} ends at 0x${(section.virtualAddress + size).toString(16)}, ` +
          `the image at 0x${pe.sizeOfImage.toString(16)} (SizeOfImage)`,
      };
    }
    const length =
      section.virtualSize === 0 ? section.fileSize : Math.min(section.virtualSize, section.fileSize);
    if (section.fileOffset + length > bytes.length) {
      return {
        status: LOAD_ERROR,
        reason: `section ${section.name} ends at ${section.fileOffset + length} in a file of ${bytes.length} bytes`,
      };
    }
    memory.copyIn(
      base + section.virtualAddress,
      bytes.subarray(section.fileOffset, section.fileOffset + length),
    );
  }
  return null;
}

function alignUp(value: number, to: number): number {
  return Math.ceil(value / to) * to;
}

/** Applies the base relocations for the distance from the address that the image is linked for. */
function relocate(firmware: UefiFirmware, bytes: Uint8Array, pe: PeFile, base: number): LoadFailure | null {
  const delta = BigInt(base) - pe.imageBase;
  const directory = pe.relocations;
  if (delta === 0n) return null;
  if (directory === null) {
    // A position-independent image has no relocations; one that says it was stripped of them cannot move.
    if (!pe.relocationsStripped) return null;
    return {
      status: LOAD_ERROR,
      reason: `it has no relocations and its base 0x${pe.imageBase.toString(16)} is not free`,
    };
  }
  const { memory } = firmware;
  const end = base + Math.min(directory.address + directory.size, pe.sizeOfImage);
  let block = base + directory.address;
  while (block + 8 <= end) {
    const page = memory.read32(block);
    const size = memory.read32(block + 4);
    if (size === 0) break;
    if (size < 8 || block + size > end) {
      return { status: LOAD_ERROR, reason: `a block of its relocations has 0x${size.toString(16)} bytes` };
    }
    for (let at = block + 8; at + 2 <= block + size; at += 2) {
      const word = memory.read16(at);
      const address = base + page + (word & 0xfff);
      const type = word >> 12;
      if (type === RELOCATION_NONE) continue;
      if (address + 8 > base + alignUp(pe.sizeOfImage, EFI_PAGE)) {
        return {
          status: LOAD_ERROR,
          reason: `a relocation at 0x${(page + (word & 0xfff)).toString(16)} is outside of it`,
        };
      }
      if (type === RELOCATION_DIR64)
        memory.write64(address, BigInt.asUintN(64, memory.read64(address) + delta));
      else if (type === RELOCATION_HIGHLOW) {
        memory.write32(address, Number(BigInt.asUintN(32, BigInt(memory.read32(address)) + delta)));
      } else return { status: UNSUPPORTED, reason: `its relocation type ${type} is unknown` };
    }
    block += size;
  }
  // Bytes of the file were relocated after they were copied: the whole image may be code.
  memory.copyIn(base, memory.copyOut(base, Math.min(bytes.length, pe.sizeOfImage)));
  return null;
}

export interface ImageDescription {
  readonly name: string;
  readonly parent: bigint;
  /** Handle of the device that it came from, and the rest of its path; 0 for neither. */
  readonly device: bigint;
  readonly filePath: Uint8Array | null;
  readonly fullPath: Uint8Array | null;
  readonly loadOptions: Uint8Array | null;
  readonly bytes?: Uint8Array;
}

/** Makes the image's handle with its LoadedImage. */
export function installLoadedImage(
  firmware: UefiFirmware,
  placed: PlacedImage,
  about: ImageDescription,
): bigint {
  const { memory } = firmware;
  const handle = firmware.newHandle();
  const address = firmware.bootData(LOADED_IMAGE_SIZE);
  const dataType = EFI_MEMORY_TYPES.indexOf(placed.codeType) + 1;
  memory.write32(address + LOADED_IMAGE.revision, LOADED_IMAGE_REVISION);
  memory.write64(address + LOADED_IMAGE.parentHandle, about.parent);
  memory.write64(address + LOADED_IMAGE.systemTable, BigInt(firmware.places.systemTable));
  memory.write64(address + LOADED_IMAGE.deviceHandle, about.device);
  if (about.filePath !== null)
    memory.write64(address + LOADED_IMAGE.filePath, firmware.bytes(about.filePath));
  if (about.loadOptions !== null) {
    memory.write32(address + LOADED_IMAGE.loadOptionsSize, about.loadOptions.length);
    memory.write64(address + LOADED_IMAGE.loadOptions, firmware.bytes(about.loadOptions));
  }
  memory.write64(address + LOADED_IMAGE.imageBase, BigInt(placed.base));
  memory.write64(address + LOADED_IMAGE.imageSize, BigInt(placed.size));
  memory.write32(address + LOADED_IMAGE.imageCodeType, dataType - 1);
  memory.write32(address + LOADED_IMAGE.imageDataType, dataType);
  firmware.install(handle, 'LoadedImage', BigInt(address));
  if (about.fullPath !== null) {
    firmware.install(handle, 'LoadedImageDevicePath', firmware.bytes(about.fullPath));
  }
  const { base, size, fromFile, entry } = placed;
  const { name, bytes } = about;
  firmware.images.push({
    name,
    base,
    size,
    fromFile,
    entry,
    handle,
    ...(bytes === undefined ? {} : { bytes }),
  });
  return handle;
}

/** LoadImage from memory; from a device path alone where a SimpleFileSystem holds the file. */
export function loadImage(
  firmware: UefiFirmware,
  request: {
    readonly parent: bigint;
    readonly path: bigint;
    readonly buffer: bigint;
    readonly size: bigint;
    readonly pointer: bigint;
  },
): bigint {
  const { memory } = firmware;
  if (request.pointer === 0n || !firmware.handles.has(request.parent)) return INVALID_PARAMETER;
  const { volume } = firmware;
  const fromDisk =
    request.buffer === 0n && request.path !== 0n && volume !== null
      ? readByPath(volume, firmware.devicePathBytes(request.path) ?? new Uint8Array(0))
      : null;
  if (request.buffer === 0n && fromDisk === null) return NOT_FOUND;
  const bytes = fromDisk ?? memory.copyOut(Number(request.buffer), Number(request.size));
  const placed = placeImage(firmware, bytes, null);
  if ('status' in placed) {
    firmware.noticeOnce(`LoadImage refused an image of ${bytes.length} bytes: ${placed.reason}`);
    return placed.status;
  }
  const path = request.path === 0n ? null : firmware.devicePathBytes(request.path);
  const nodes = path === null ? null : decodeDevicePath(path);
  const fullPath = nodes === null ? null : encodeDevicePath(nodes);
  const name = nameOf(nodes) ?? `image${firmware.images.length}`;
  const handle = installLoadedImage(firmware, placed, {
    name,
    parent: request.parent,
    device: fromDisk === null ? 0n : volume!.device,
    filePath:
      fromDisk === null || nodes === null ? fullPath : encodeDevicePath(nodes.slice(volume!.path.length)),
    fullPath,
    loadOptions: null,
    bytes,
  });
  memory.write64(Number(request.pointer), handle);
  return SUCCESS;
}

/** The last part of a path to a file; null where it is none. */
function nameOf(nodes: readonly DevicePathNode[] | null): string | null {
  const last = nodes?.at(-1);
  const path = last === undefined ? null : filePathText(last);
  const name = path?.slice(path.lastIndexOf('\\') + 1);
  return name === undefined || name === '' ? null : name;
}

/** StartImage: the image's entry is called; the service returns when it does, or with Exit. */
export function startImage(firmware: UefiFirmware, handle: bigint): ServiceResult {
  const image = firmware.images.find((each) => each.handle === handle);
  if (image === undefined) return INVALID_PARAMETER;
  const result: ServiceResult = firmware.callGuest(
    BigInt(image.entry),
    [handle, BigInt(firmware.places.systemTable)],
    handle,
    (status) => status,
  );
  firmware.onImageStarted?.(image);
  return result;
}
