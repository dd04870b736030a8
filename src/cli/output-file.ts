// Writes what a subcommand made to a file or to standard output; no file is overwritten unless that was asked for.

import { access, constants, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { BootscopeError } from '../error.ts';
import { print } from './standard-output.ts';

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
  try {
    const file = await open(path, force ? 'w' : 'wx');
    try {
      await file.writeFile(content);
    } finally {
      await file.close();
    }
  } catch (error) {
    const exists = error instanceof Error && 'code' in error && error.code === 'EEXIST';
    throw exists ? existsAlready(path) : cannotBeWritten(path, error);
  }
}

/** Says early, before long work, that `writeOutput` would refuse. */
export async function checkOutput(path: string, force: boolean): Promise<void> {
  if (path === '-') return;
  const exists = await access(path).then(
    () => true,
    () => false,
  );
  if (exists && !force) throw existsAlready(path);
  await access(exists ? path : dirname(path), constants.W_OK).catch((error: unknown) => {
    throw cannotBeWritten(path, error);
  });
}

function existsAlready(path: string): BootscopeError {
  return new BootscopeError('cli-output', `${path} exists already, --force overwrites it`);
}

function cannotBeWritten(path: string, error: unknown): BootscopeError {
  const reason = error instanceof Error ? error.message : String(error);
  return new BootscopeError('cli-output', `${path} cannot be written: ${reason}`, { cause: error });
}
