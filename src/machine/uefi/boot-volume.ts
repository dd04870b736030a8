// The disk that firmware boots from: its handles, with the protocols that a boot loader reads it by, and loading a program by its path.

import { SECTOR_SIZE } from '../../image/disk-image.ts';
import type { Esp } from '../../image/esp.ts';
import { findNode } from '../../image/file-tree.ts';
import {
  type DevicePathNode,
  decodeDevicePath,
  encodeDevicePath,
  filePathText,
  isSameNode,
} from '../../protocol/efi-device-path.ts';
import { DiskDrive } from '../disk-drive.ts';
import { blockIo, diskIo } from './block-io.ts';
import { FOLDER_PARTITION, volumePaths } from './boot-manager.ts';
import { FirmwareFileSystem } from './file-system.ts';
import type { UefiFirmware } from './firmware.ts';

export interface BootVolume {
  readonly device: bigint;
  /** Of the volume; a file on it has one more node. */
  readonly path: readonly DevicePathNode[];
  readonly esp: Esp;
}

/** Makes the handles of a disk with an EFI system partition. */
export function installVolume(firmware: UefiFirmware, esp: Esp): BootVolume {
  const { partition } = esp;
  const { disk, volume: path } = volumePaths(esp);
  const drive = esp.disk === null ? null : new DiskDrive(esp.disk, { geometry: null });
  const handle = firmware.newHandle();
  firmware.install(handle, 'DevicePath', firmware.bytes(encodeDevicePath(disk)));
  if (drive !== null) {
    const whole = { drive, start: 0, sectors: drive.sectors, isPartition: false };
    firmware.install(handle, 'BlockIo', blockIo(firmware, whole));
    firmware.install(handle, 'DiskIo', diskIo(firmware, whole));
  }
  let device = handle;
  if (path !== disk) {
    device = firmware.newHandle();
    firmware.install(device, 'DevicePath', firmware.bytes(encodeDevicePath(path)));
    if (drive !== null && partition !== null) {
      const { start, sectors } = partition;
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

/** The file that a full device path names on the volume; null where it is not there, or not of this volume. */
export function readByPath({ path, esp }: BootVolume, wanted: Uint8Array): Uint8Array | null {
  const nodes = decodeDevicePath(wanted);
  if (nodes === null || nodes.length <= path.length) return null;
  if (!path.every((node, index) => isSameNode(node, nodes[index]!))) return null;
  const parts = nodes.slice(path.length).map(filePathText);
  if (parts.includes(null)) return null;
  const node = findNode(esp.root, parts.join('\\'));
  return node === null || node.isFolder ? null : node.read();
}
