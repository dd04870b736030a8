// Gets a file's bytes off the disk, and says in one sentence why it can't.

import { BootscopeError, systemReason } from '../error.ts';
import { concatBytes, fileStatus, readFile, standardInput } from '../host/host.ts';

/** Larger files are no kernel images; the limit keeps a mistyped disk image from filling memory. */
export const MAX_IMAGE_FILE_LENGTH = 0x40000000;

function errorCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

export interface ReadFileOptions {
  /** What the file is to be, for messages: `kernel image`, `initrd`. */
  readonly what?: string;
  /** The longest file to read, in bytes. */
  readonly limit?: number;
}

function anA(what: string): string {
  return `${/^[aeiou]/.test(what) ? 'an' : 'a'} ${what}`;
}

/**
 * Reads a whole file, or standard input where it is named `-`.
 *
 * @throws BootscopeError `image-not-found`, `image-is-directory`, `image-not-readable`, `image-too-large`
 */
export async function readImageFile(
  path: string,
  { what = 'kernel image', limit = MAX_IMAGE_FILE_LENGTH }: ReadFileOptions = {},
): Promise<Uint8Array> {
  try {
    if (path === STANDARD_INPUT) return await readStandardInput(what, limit);
    // Before opening: the open of a named pipe waits for a writer.
    const status = fileStatus(path);
    if (status.kind === 'directory') {
      throw new BootscopeError(
        'image-is-directory',
        `${path} is a directory, not a file that holds ${anA(what)}`,
      );
    }
    if (status.kind === 'other') {
      throw new BootscopeError('image-not-readable', `${path} is not a regular file`);
    }
    if (status.size > limit) {
      throw new BootscopeError(
        'image-too-large',
        `${path} has ${status.size} bytes, at most ${limit} are read as ${anA(what)}`,
        { data: { path, size: status.size, limit } },
      );
    }
    return readFile(path);
  } catch (error) {
    throw error instanceof BootscopeError ? error : unreadable(path, error);
  }
}

const STANDARD_INPUT = '-';

async function readStandardInput(what: string, limit: number): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  for await (const bytes of standardInput()) {
    length += bytes.length;
    if (length > limit) {
      throw new BootscopeError(
        'image-too-large',
        `standard input has more than ${limit} bytes, at most as many are read as ${anA(what)}`,
      );
    }
    pieces.push(bytes);
  }
  return concatBytes(pieces);
}

export function unreadable(path: string, error: unknown): BootscopeError {
  switch (errorCode(error)) {
    case 'ENOENT':
    case 'ENOTDIR':
      return new BootscopeError(
        'image-not-found',
        `${path === '' ? 'a file without a name' : path} does not exist`,
      );
    case 'EACCES':
    case 'EPERM':
      return new BootscopeError('image-not-readable', `${path} cannot be read: permission denied`);
    default:
      return new BootscopeError('image-not-readable', `${path} cannot be read: ${systemReason(error)}`, {
        cause: error,
      });
  }
}
