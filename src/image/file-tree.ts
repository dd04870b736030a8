// Files in folders, as a file system on a disk or a folder of the host shows them: by names whose case does not matter.

/** A file or a folder. */
export interface FileNode {
  readonly name: string;
  readonly isFolder: boolean;
  /** Bytes of a file; 0 for a folder. */
  readonly size: number;
  /** What is in a folder; nothing for a file. */
  list(): readonly FileNode[];
  /** All of a file. */
  read(): Uint8Array;
  /** Where a file's or folder's bytes lie on the disk, in their order; missing where nobody knows. */
  extents?(): readonly DiskRange[];
}

/** Bytes [start, end) of a disk. */
export interface DiskRange {
  readonly start: number;
  readonly end: number;
}

/** A file system as it lies on a disk. */
export interface FileSystem {
  /** As people call it: `FAT16`, `ext4`, `ISO 9660`. */
  readonly type: string;
  readonly root: FileNode;
  /** What is there beside files and folders, and what it is called. */
  readonly metadata: readonly (DiskRange & { readonly owner: string })[];
}

/** The node at a path with `\` between its parts; null where there is none. The root is the empty path. */
export function findNode(root: FileNode, path: string): FileNode | null {
  let node: FileNode | null = root;
  for (const part of path.split('\\')) {
    if (part === '' || part === '.') continue;
    const wanted = part.toLowerCase();
    node = node?.list().find(({ name }) => name.toLowerCase() === wanted) ?? null;
    if (node === null) return null;
  }
  return node;
}

/** One folder with these files. */
export function flatTree(files: readonly { readonly path: string; readonly bytes: Uint8Array }[]): FileNode {
  const nodes = files.map(({ path, bytes }) => fileOf(path, bytes));
  return { name: '', isFolder: true, size: 0, list: () => nodes, read: () => new Uint8Array(0) };
}

function fileOf(name: string, bytes: Uint8Array): FileNode {
  return { name, isFolder: false, size: bytes.length, list: () => [], read: () => bytes };
}
