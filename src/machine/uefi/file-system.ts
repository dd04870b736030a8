// SimpleFileSystem and the files behind it (UEFI 2.10, 13.4 and 13.5): one flat, read-only directory, as OVMF shows the files that
// QEMU was started with.

import { EFI_GUIDS, GUID_SIZE, guidText } from '../../protocol/efi-guids.ts';
import { EFI_STATUS } from '../../protocol/efi-tables.ts';
import type { UefiFirmware } from './firmware.ts';
import { char16Bytes, readChar16, service } from './service.ts';

const { SUCCESS, BUFFER_TOO_SMALL, NOT_FOUND, WRITE_PROTECTED, UNSUPPORTED, DEVICE_ERROR } = EFI_STATUS;

const OPEN_MODE_READ = 1n;
const END_OF_FILE = 0xffff_ffff_ffff_ffffn;
const REVISION = 0x10000n;
/** EFI_FILE_INFO before the name. */
const FILE_INFO = 80;
const ATTRIBUTE_READ_ONLY = 1n;
const ATTRIBUTE_DIRECTORY = 0x10n;

export interface FirmwareFile {
  /** Without a leading backslash. */
  readonly path: string;
  readonly bytes: Uint8Array;
}

/** An open file: the directory itself has no file. */
interface OpenFile {
  readonly file: FirmwareFile | null;
  position: number;
}

/** What the interface's functions know of: open files by the address of their interface. */
export class FirmwareFileSystem {
  readonly #files: readonly FirmwareFile[];
  readonly #open = new Map<bigint, OpenFile>();

  constructor(files: readonly FirmwareFile[]) {
    this.#files = files;
  }

  /** The interface to install. */
  makeInterface(firmware: UefiFirmware): bigint {
    return firmware.interface([
      REVISION,
      service('SimpleFileSystem.OpenVolume', 'This:address *Root:address', (_, _this, pointer) => {
        firmware.memory.write64(Number(pointer), this.#openFile(firmware, null));
        return SUCCESS;
      }),
    ]);
  }

  #openFile(firmware: UefiFirmware, file: FirmwareFile | null): bigint {
    const address = firmware.interface([
      REVISION,
      service(
        'File.Open',
        'This:address *NewHandle:address FileName:char16 OpenMode:number Attributes:number',
        (_, _this, pointer, name, mode) => this.#openByName(firmware, pointer!, name!, mode!),
      ),
      service('File.Close', 'This:address', (_, self) => {
        this.#open.delete(self!);
        return SUCCESS;
      }),
      service('File.Delete', 'This:address', () => WRITE_PROTECTED),
      service('File.Read', 'This:address &BufferSize:number Buffer:address', (_, self, size, buffer) =>
        this.#read(firmware, self!, size!, buffer!),
      ),
      service('File.Write', 'This:address &BufferSize:number Buffer:address', () => WRITE_PROTECTED),
      service('File.GetPosition', 'This:address *Position:number', (_, self, pointer) => {
        firmware.memory.write64(Number(pointer), BigInt(this.#open.get(self!)?.position ?? 0));
        return SUCCESS;
      }),
      service('File.SetPosition', 'This:address Position:number', (_, self, position) => {
        const open = this.#open.get(self!);
        if (open === undefined) return UNSUPPORTED;
        open.position = position === END_OF_FILE ? (open.file?.bytes.length ?? 0) : Number(position);
        return SUCCESS;
      }),
      service(
        'File.GetInfo',
        'This:address InformationType:guid &BufferSize:number Buffer:address',
        (_, self, type, size, buffer) => this.#info(firmware, self!, type!, size!, buffer!),
      ),
      service(
        'File.SetInfo',
        'This:address InformationType:guid BufferSize:number Buffer:address',
        () => WRITE_PROTECTED,
      ),
      service('File.Flush', 'This:address', () => SUCCESS),
    ]);
    this.#open.set(address, { file, position: 0 });
    return address;
  }

  #openByName(firmware: UefiFirmware, pointer: bigint, name: bigint, mode: bigint): bigint {
    const path = readChar16(firmware.memory, Number(name))
      .replace(/^[\\/]+/, '')
      .replaceAll('/', '\\');
    if (mode !== OPEN_MODE_READ) return WRITE_PROTECTED;
    const file = this.#files.find((each) => each.path.toLowerCase() === path.toLowerCase());
    if (file === undefined && path !== '' && path !== '.') return NOT_FOUND;
    firmware.memory.write64(Number(pointer), this.#openFile(firmware, file ?? null));
    return SUCCESS;
  }

  #read(firmware: UefiFirmware, self: bigint, sizePointer: bigint, buffer: bigint): bigint {
    const { memory } = firmware;
    const open = this.#open.get(self);
    if (open === undefined) return UNSUPPORTED;
    const room = Number(memory.read64(Number(sizePointer)));
    if (open.file === null) return this.#readDirectory(firmware, open, room, sizePointer, buffer);
    if (open.position > open.file.bytes.length) return DEVICE_ERROR;
    const part = open.file.bytes.subarray(open.position, open.position + room);
    memory.copyIn(Number(buffer), part);
    memory.write64(Number(sizePointer), BigInt(part.length));
    open.position += part.length;
    return SUCCESS;
  }

  #readDirectory(
    firmware: UefiFirmware,
    open: OpenFile,
    room: number,
    sizePointer: bigint,
    buffer: bigint,
  ): bigint {
    const file = this.#files[open.position];
    const bytes = file === undefined ? new Uint8Array(0) : fileInfo(file);
    firmware.memory.write64(Number(sizePointer), BigInt(bytes.length));
    if (bytes.length > room) return BUFFER_TOO_SMALL;
    firmware.memory.copyIn(Number(buffer), bytes);
    if (file !== undefined) open.position++;
    return SUCCESS;
  }

  #info(firmware: UefiFirmware, self: bigint, type: bigint, sizePointer: bigint, buffer: bigint): bigint {
    const { memory } = firmware;
    const open = this.#open.get(self);
    if (open === undefined || guidText(memory.copyOut(Number(type), GUID_SIZE)) !== EFI_GUIDS.FileInfo)
      return UNSUPPORTED;
    const bytes = fileInfo(open.file);
    const room = memory.read64(Number(sizePointer));
    memory.write64(Number(sizePointer), BigInt(bytes.length));
    if (room < BigInt(bytes.length)) return BUFFER_TOO_SMALL;
    memory.copyIn(Number(buffer), bytes);
    return SUCCESS;
  }
}

/** EFI_FILE_INFO; times are left out. */
function fileInfo(file: FirmwareFile | null): Uint8Array {
  const name = char16Bytes(file?.path ?? '');
  const bytes = new Uint8Array(FILE_INFO + name.length);
  const view = new DataView(bytes.buffer);
  const size = BigInt(file?.bytes.length ?? 0);
  view.setBigUint64(0, BigInt(bytes.length), true);
  view.setBigUint64(8, size, true);
  view.setBigUint64(16, size, true);
  view.setBigUint64(72, file === null ? ATTRIBUTE_DIRECTORY : ATTRIBUTE_READ_ONLY, true);
  bytes.set(name, FILE_INFO);
  return bytes;
}
