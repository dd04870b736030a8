// An EFI system partition: a folder of the host, or the file system on a disk image.

import { BootscopeError } from '../error.ts';
import { fileStatus, folderNames, joinPath, readFile } from '../host/host.ts';
import { openDisk } from './disk-file.ts';
import { type DiskImage, SECTOR_SIZE } from './disk-image.ts';
import { openFat } from './fat.ts';
import type { FileNode } from './file-tree.ts';
import { unreadable } from './image-file.ts';
import { type Partition, readPartitionTable, whyOutside } from './partition-table.ts';

/** What UEFI firmware boots from. */
export interface Esp {
  readonly path: string;
  readonly root: FileNode;
  /** The disk that it is on; null for a folder, which shows its files alone. */
  readonly disk: DiskImage | null;
  /** Null where the file system takes the whole disk. */
  readonly partition: Partition | null;
  /** What is wrong with the disk: a sentence each. */
  readonly problems: readonly string[];
}

const ESP_TYPE = 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b';
const ESP_MBR_TYPE = 0xef;

/**
 * Opens what UEFI firmware boots from: a disk with an EFI system partition, a FAT file system, or a folder.
 *
 * @returns what goes into `esp` of a boot's options
 * @throws {@link BootscopeError} `image-not-found`, `image-not-readable`, `image-fat`, `image-esp` and those of `openDisk`
 * @example
 * ```ts
 * import { bootProgramOf, openBoot, openEsp, readEfiImage } from 'bootscope';
 *
 * const esp = openEsp('esp');
 * const program = await readEfiImage(esp.path, bootProgramOf(esp));
 * using session = await openBoot(program, { esp, entry: 'efi' });
 * await session.run();
 * console.log(session.phase, session.trace().stopped);
 * ```
 */
export function openEsp(path: string): Esp {
  let kind: ReturnType<typeof fileStatus>['kind'];
  try {
    ({ kind } = fileStatus(path));
  } catch (error) {
    throw unreadable(path, error);
  }
  if (kind === 'directory')
    return { path, root: hostFolder(path, ''), disk: null, partition: null, problems: [] };
  const disk = openDisk(path);
  const { kind: table, partitions, problems } = readPartitionTable(disk);
  const partition = partitions.find(({ type }) => type === ESP_TYPE || type === ESP_MBR_TYPE) ?? null;
  if (table !== 'none' && partition === null) {
    if (problems.length > 0) throw new BootscopeError('image-esp', problems.join('; '));
    const types = partitions.map(({ number, type }) => `${number} of type ${typeText(type)}`).join(', ');
    throw new BootscopeError(
      'image-esp',
      `${path} has no EFI system partition: ${types === '' ? 'its partition table is empty' : `its partitions are ${types}`}`,
    );
  }
  // What is cut off of a file system itself is told by its own numbers.
  const outside = partition === null ? null : whyOutside(disk, partition);
  if (outside !== null && partition!.start * SECTOR_SIZE >= disk.size)
    throw new BootscopeError('image-esp', outside);
  const { root } = openFat(disk, (partition?.start ?? 0) * SECTOR_SIZE);
  return { path, root, disk, partition, problems };
}

function typeText(type: number | string): string {
  return typeof type === 'number' ? `0x${type.toString(16)}` : type;
}

function hostFolder(path: string, name: string): FileNode {
  return {
    ...{ name, isFolder: true, size: 0 },
    list: () =>
      folderNames(path)
        .sort()
        .flatMap((each) => {
          const inside = joinPath(path, each);
          const { kind, size } = fileStatus(inside);
          if (kind === 'directory') return [hostFolder(inside, each)];
          if (kind === 'other') return [];
          return [{ name: each, isFolder: false, size, list: () => [], read: () => readFile(inside) }];
        }),
    read: () => new Uint8Array(0),
  };
}
