// SimpleFileSystem and the files behind it (UEFI 2.10, 13.4 and 13.5), which cannot be changed.

import { hex } from '../../hex.ts';
import { type FileNode, findNode } from '../../image/file-tree.ts';
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
/** EFI_FILE_SYSTEM_INFO before the label. */
const VOLUME_INFO = 36;
const ATTRIBUTE_READ_ONLY = 1n;
const ATTRIBUTE_DIRECTORY = 0x10n;

/** An open file or folder, and where it is: the names of the folders that it is in. */
interface OpenFile {
  readonly path: readonly string[];
  readonly node: FileNode;
  /** In bytes; of a folder, in entries. */
  position: number;
}

/** What the interface's functions know of: open files by the address of their interface. */
export class FirmwareFileSystem {
  readonly #root: FileNode;
  readonly #label: string;
  readonly #size: number;
  readonly #contents = new Map<FileNode, Uint8Array>();
  readonly #open = new Map<bigint, OpenFile>();

  /** @param size - of the volume, in bytes */
  constructor(root: FileNode, label = '', size = 0) {
    this.#root = root;
    this.#label = label;
    this.#size = size;
  }

  /** The interface to install. */
  makeInterface(firmware: UefiFirmware): bigint {
    return firmware.interface([
      REVISION,
      service('SimpleFileSystem.OpenVolume', 'This:address *Root:address', (_, _this, pointer) => {
        firmware.memory.write64(Number(pointer), this.#openFile(firmware, [], this.#root));
        return SUCCESS;
      }),
    ]);
  }

  #content(node: FileNode): Uint8Array {
    let bytes = this.#contents.get(node);
    if (bytes === undefined) {
      bytes = node.read();
      this.#contents.set(node, bytes);
    }
    return bytes;
  }

  #openFile(firmware: UefiFirmware, path: readonly string[], node: FileNode): bigint {
    const address = firmware.interface([
      REVISION,
      service(
        'File.Open',
        'This:address *NewHandle:address FileName:char16 OpenMode:number Attributes:number',
        (_, self, pointer, name, mode) => this.#openByName(firmware, self!, pointer!, name!, mode!),
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
        open.position = position === END_OF_FILE ? open.node.size : Number(position);
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
    this.#open.set(address, { path, node, position: 0 });
    return address;
  }

  #openByName(firmware: UefiFirmware, self: bigint, pointer: bigint, name: bigint, mode: bigint): bigint {
    const text = readChar16(firmware.memory, Number(name)).replaceAll('/', '\\');
    if (mode !== OPEN_MODE_READ) return WRITE_PROTECTED;
    const open = this.#open.get(self);
    if (open === undefined) return UNSUPPORTED;
    const path = text.startsWith('\\') ? [] : [...open.path];
    for (const part of text.split('\\')) {
      if (part === '..') path.pop();
      else if (part !== '' && part !== '.') path.push(part);
    }
    const node = findNode(this.#root, path.join('\\'));
    if (node === null) return NOT_FOUND;
    firmware.memory.write64(Number(pointer), this.#openFile(firmware, path, node));
    return SUCCESS;
  }

  #read(firmware: UefiFirmware, self: bigint, sizePointer: bigint, buffer: bigint): bigint {
    const { memory } = firmware;
    const open = this.#open.get(self);
    if (open === undefined) return UNSUPPORTED;
    const room = Number(memory.read64(Number(sizePointer)));
    if (open.node.isFolder) return this.#readDirectory(firmware, open, room, sizePointer, buffer);
    if (open.position > open.node.size) return DEVICE_ERROR;
    const part = this.#content(open.node).subarray(open.position, open.position + room);
    memory.copyIn(Number(buffer), part);
    memory.write64(Number(sizePointer), BigInt(part.length));
    const name = `\\${open.path.join('\\')}`;
    firmware.remark(`${name} from ${hex(open.position)} on`);
    firmware.files.set(open.node, { name, file: open.node });
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
    const file = open.node.list()[open.position];
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
    const kind = guidText(memory.copyOut(Number(type), GUID_SIZE));
    if (open === undefined) return UNSUPPORTED;
    let bytes: Uint8Array;
    if (kind === EFI_GUIDS.FileInfo) bytes = fileInfo(open.node);
    else if (kind === EFI_GUIDS.FileSystemInfo) bytes = this.#volumeInfo();
    else if (kind === EFI_GUIDS.FileSystemVolumeLabel) bytes = char16Bytes(this.#label);
    else return UNSUPPORTED;
    const room = memory.read64(Number(sizePointer));
    memory.write64(Number(sizePointer), BigInt(bytes.length));
    if (room < BigInt(bytes.length)) return BUFFER_TOO_SMALL;
    memory.copyIn(Number(buffer), bytes);
    return SUCCESS;
  }

  /** EFI_FILE_SYSTEM_INFO. */
  #volumeInfo(): Uint8Array {
    const label = char16Bytes(this.#label);
    const bytes = new Uint8Array(VOLUME_INFO + label.length);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(0, BigInt(bytes.length), true);
    view.setUint8(8, 1); // read-only
    view.setBigUint64(16, BigInt(this.#size), true);
    view.setUint32(32, 512, true);
    bytes.set(label, VOLUME_INFO);
    return bytes;
  }
}

/** EFI_FILE_INFO; times are left out. */
function fileInfo(node: FileNode): Uint8Array {
  const name = char16Bytes(node.name);
  const bytes = new Uint8Array(FILE_INFO + name.length);
  const view = new DataView(bytes.buffer);
  const size = BigInt(node.size);
  view.setBigUint64(0, BigInt(bytes.length), true);
  view.setBigUint64(8, size, true);
  view.setBigUint64(16, size, true);
  view.setBigUint64(72, node.isFolder ? ATTRIBUTE_DIRECTORY : ATTRIBUTE_READ_ONLY, true);
  bytes.set(name, FILE_INFO);
  return bytes;
}
