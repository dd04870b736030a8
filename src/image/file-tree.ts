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
