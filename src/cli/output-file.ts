// Writes what a subcommand made to a file or to standard output; no file is overwritten unless that was asked for, and none is
// left half written: what is not finished has a name of its own.

import { closeSync, linkSync, lstatSync, openSync, renameSync, rmSync, type Stats, statSync } from 'node:fs';
import { BootscopeError, systemReason } from '../error.ts';
import { print, writeFully } from './standard-output.ts';

/** A file that gets its name when it is finished. */
export interface PendingFile {
  readonly fd: number;
  /** @throws BootscopeError `cli-output` where a file of the name has come meanwhile */
  finish(): void;
  /** Takes it away; also what the process does that ends before it is finished. */
  discard(): void;
}

/**
 * Opens a file to write to beside `path`; a device or a pipe of that name itself.
 *
 * @throws BootscopeError `cli-output` when the file exists and `force` is false, or cannot be written
 */
export function openOutput(path: string, force: boolean): PendingFile {
  checkOutput(path, force);
  const existing = statusOf(path);
  try {
    if (existing !== null && !existing.isFile()) {
      const fd = openSync(path, 'w');
      return { fd, finish: () => closeSync(fd), discard: () => closeSync(fd) };
    }
    return openBeside(path, force);
  } catch (error) {
    throw cannotBeWritten(path, error);
  }
}

function openBeside(path: string, force: boolean): PendingFile {
  const part = `${path}.${process.pid}.part`;
  const fd = openSync(part, 'wx');
  let open = true;
  const discard = (): void => {
    if (!open) return;
    open = false;
    closeSync(fd);
    rmSync(part, { force: true });
  };
  const end = (): never => process.exit(130);
  process.on('exit', discard).on('SIGINT', end).on('SIGTERM', end);
  const finish = (): void => {
    try {
      if (force) renameSync(part, path);
      else giveName(part, path);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw code === 'EEXIST' ? existsAlready(path) : cannotBeWritten(path, error);
    } finally {
      discard();
      process.off('exit', discard).off('SIGINT', end).off('SIGTERM', end);
    }
  };
  return { fd, finish, discard };
}

/** As rename, but never over a file that is there. */
function giveName(part: string, path: string): void {
  try {
    linkSync(part, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw error;
    // A file system without links.
    if (statusOf(path) !== null) throw existsAlready(path);
    renameSync(part, path);
  }
}

/**
 * Writes to the file `path`, or to standard output where it is `-`.
 *
 * @throws BootscopeError `cli-output` when the file exists and `force` is false, or cannot be written
 */
export async function writeOutput(path: string, content: Uint8Array | string, force: boolean): Promise<void> {
  if (path === '-') {
    print(content);
    return;
  }
  const file = openOutput(path, force);
  try {
    writeFully(file.fd, typeof content === 'string' ? Buffer.from(content) : content);
  } catch (error) {
    file.discard();
    throw cannotBeWritten(path, error);
  }
  file.finish();
}

/**
 * Says early, before long work, that `writeOutput` would refuse.
 *
 * @throws BootscopeError `cli-output`
 */
export function checkOutput(path: string, force: boolean): void {
  if (path === '-') return;
  const existing = statusOf(path);
  if (existing?.isDirectory()) {
    throw new BootscopeError('cli-output', `${path} is a directory; name a file in it`);
  }
  if (existing?.isFile() && !force) throw existsAlready(path);
  if (existing !== null) return;
  let part: PendingFile | null = null;
  try {
    part = openBeside(path, force);
  } catch (error) {
    throw cannotBeWritten(path, error);
  } finally {
    part?.discard();
  }
}

function statusOf(path: string): Stats | null {
  try {
    return statSync(path);
  } catch {
    // A link that leads nowhere is there all the same.
    try {
      return lstatSync(path);
    } catch {
      return null;
    }
  }
}

export function existsAlready(path: string): BootscopeError {
  return new BootscopeError('cli-output', `${path} exists already, --force overwrites it`);
}

/** @param path - `-` for standard output */
export function cannotBeWritten(path: string, error: unknown): BootscopeError {
  if (error instanceof BootscopeError) return error;
  const what = path === '-' ? 'standard output' : path;
  return new BootscopeError('cli-output', `${what} cannot be written: ${systemReason(error)}`, {
    cause: error,
  });
}
