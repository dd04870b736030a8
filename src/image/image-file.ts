// Gets a file's bytes off the disk, and says in one sentence why it can't.

import { readFileSync, statSync } from 'node:fs';
import { BootscopeError } from '../error.ts';

/** Larger files are no kernel images; the limit keeps a mistyped disk image from filling memory. */
export const MAX_IMAGE_FILE_LENGTH = 0x40000000;

function errorCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

/**
 * Reads a whole file.
 *
 * @param limit - the longest file to read, in bytes
 * @throws BootscopeError `image-not-found`, `image-is-directory`, `image-not-readable`, `image-too-large`
 */
export async function readImageFile(path: string, limit = MAX_IMAGE_FILE_LENGTH): Promise<Uint8Array> {
  try {
    // Before opening: the open of a named pipe waits for a writer.
    const status = statSync(path);
    if (status.isDirectory()) {
      throw new BootscopeError('image-is-directory', `${path} is a directory, not a kernel image`);
    }
    if (!status.isFile()) {
      throw new BootscopeError('image-not-readable', `${path} is not a regular file`);
    }
    if (status.size > limit) {
      throw new BootscopeError(
        'image-too-large',
        `${path} has ${status.size} bytes, at most ${limit} are read as a kernel image`,
      );
    }
    // At once: Node reads a large file in many pieces otherwise.
    return readFileSync(path);
  } catch (error) {
    throw error instanceof BootscopeError ? error : unreadable(path, error);
  }
}

function unreadable(path: string, error: unknown): BootscopeError {
  switch (errorCode(error)) {
    case 'ENOENT':
    case 'ENOTDIR':
      return new BootscopeError('image-not-found', `${path} does not exist`);
    case 'EACCES':
    case 'EPERM':
      return new BootscopeError('image-not-readable', `${path} cannot be read: permission denied`);
    default:
      return new BootscopeError(
        'image-not-readable',
        `${path} cannot be read: ${error instanceof Error ? error.message : String(error)}`,
        { cause: error },
      );
  }
}
