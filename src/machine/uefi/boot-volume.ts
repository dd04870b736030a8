// The disk that firmware boots from: its handles, with the protocols that a boot loader reads it by, and loading a program by its path.

import { SECTOR_SIZE } from '../../image/disk-image.ts';
import type { Esp } from '../../image/esp.ts';
import { REMOVABLE_PATH } from '../../image/esp.ts';
import { findNode } from '../../image/file-tree.ts';
import {
  ataNode,
  type DevicePathNode,
  decodeDevicePath,
  encodeDevicePath,
  filePathNode,
  filePathText,
  hardDriveNode,
  pciPath,
} from '../../protocol/efi-device-path.ts';
import { DiskDrive } from '../disk-drive.ts';
import { blockIo, diskIo } from './block-io.ts';
import { FirmwareFileSystem } from './file-system.ts';
import type { UefiFirmware } from './firmware.ts';

/** Of the IDE controller, as in QEMU's PC. */
const IDE = { device: 1, function: 1 } as const;
/** What stands for the partition of a folder, which has none. */
const FOLDER_PARTITION = { number: 1, start: 63, sectors: 1_032_129, id: 0xbe1afdfa } as const;

export interface BootVolume {
  readonly device: bigint;
  /** Of the volume; a file on it has one more node. */
  readonly path: readonly DevicePathNode[];
  readonly esp: Esp;
}

/** Makes the handles of a disk with an EFI system partition. */
export function installVolume(firmware: UefiFirmware, esp: Esp): BootVolume {
  const disk = [...pciPath(IDE.device, IDE.function), ataNode(0, 0)];
  const { partition } = esp;
  const drive = esp.disk === null ? null : new DiskDrive(esp.disk, { geometry: null });
  let path: readonly DevicePathNode[] = disk;
  const handle = firmware.newHandle();
  firmware.install(handle, 'DevicePath', firmware.bytes(encodeDevicePath(disk)));
  if (drive !== null) {
    const whole = { drive, start: 0, sectors: drive.sectors, isPartition: false };
    firmware.install(handle, 'BlockIo', blockIo(firmware, whole));
    firmware.install(handle, 'DiskIo', diskIo(firmware, whole));
  }
  let device = handle;
  if (partition !== null || drive === null) {
    const { number, start, sectors } = partition ?? FOLDER_PARTITION;
    const id = partition === null ? FOLDER_PARTITION.id : (partition.id ?? 0);
    path = [...disk, hardDriveNode(number, BigInt(start), BigInt(sectors), id)];
    device = firmware.newHandle();
    firmware.install(device, 'DevicePath', firmware.bytes(encodeDevicePath(path)));
    if (drive !== null) {
      const part = { drive, start, sectors, isPartition: true };
      firmware.install(device, 'BlockIo', blockIo(firmware, part));
      firmware.install(device, 'DiskIo', diskIo(firmware, part));
    }
  }
  const size = (partition?.sectors ?? drive?.sectors ?? FOLDER_PARTITION.sectors) * SECTOR_SIZE;
  const files = new FirmwareFileSystem(esp.root, 'ESP', size);
  firmware.install(device, 'SimpleFileSystem', files.makeInterface(firmware));
  return { device, path, esp };
}

/** The path of what is booted from it, from the volume's root on. */
export function bootFilePath(): readonly DevicePathNode[] {
  return [filePathNode(`\\${REMOVABLE_PATH}`)];
}

/** The file that a full device path names on the volume; null where it is not there, or not of this volume. */
export function readByPath({ path, esp }: BootVolume, wanted: Uint8Array): Uint8Array | null {
  const nodes = decodeDevicePath(wanted);
  if (nodes === null || nodes.length <= path.length) return null;
  const isSame = (node: DevicePathNode, index: number): boolean => {
    const other = nodes[index]!;
    return (
      node.type === other.type &&
      node.subtype === other.subtype &&
      node.data.every((byte, at) => byte === other.data[at])
    );
  };
  if (!path.every(isSame)) return null;
  const parts = nodes.slice(path.length).map(filePathText);
  if (parts.includes(null)) return null;
  const node = findNode(esp.root, parts.join('\\'));
  return node === null || node.isFolder ? null : node.read();
}
