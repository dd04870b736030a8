// Standard output and standard error, written synchronously: Node's streams take longer to load than some boots take, and
// are not served while the guest runs.

import { fstatSync, statSync, writeSync } from 'node:fs';
import { devNull } from 'node:os';
import { isatty } from 'node:tty';
import { BootscopeError, systemReason } from '../error.ts';
import { withoutControls } from './control-characters.ts';

export const STDOUT = 1;
const STDERR = 2;
const MILLISECONDS_BETWEEN_TRIES = 1;

/**
 * Writes all bytes to an open file, waiting for the reader of a full pipe.
 *
 * @returns false where the reader of a pipe has gone, as `head` does
 * @throws the system's error, such as ENOSPC
 */
export function writeFully(fd: number, bytes: Uint8Array): boolean {
  let done = 0;
  while (done < bytes.length) {
    try {
      done += writeSync(fd, bytes, done);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EPIPE') return false;
      if (code !== 'EAGAIN') throw error;
      // A non-blocking pipe whose reader is slower than we are.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, MILLISECONDS_BETWEEN_TRIES);
    }
  }
  return true;
}

/**
 * Writes to standard output; ends the command quietly where its reader has gone.
 *
 * @throws BootscopeError `cli-output` where the rest cannot be written, as on a full disk
 */
export function print(content: string | Uint8Array): void {
  const bytes = typeof content === 'string' ? Buffer.from(content) : content;
  let read: boolean;
  try {
    read = writeFully(STDOUT, bytes);
  } catch (error) {
    throw new BootscopeError('cli-output', `standard output cannot be written: ${systemReason(error)}`, {
      cause: error,
    });
  }
  if (!read) process.exit(0);
}

/** Writes to standard error, whether somebody reads it or not: names in it may come from any file. */
export function printError(text: string): void {
  writeFully(STDERR, Buffer.from(withoutControls(text)));
}

/** Writes text of the command's own over the line of the terminal that standard error is; none takes the line away. */
export function printStatus(text = ''): void {
  writeFully(STDERR, Buffer.from(`\r\x1b[K${text}`));
}

/** Whether standard output or standard error is a terminal. */
export function isTerminal(stream: 'stdout' | 'stderr'): boolean {
  const fd = stream === 'stdout' ? STDOUT : STDERR;
  // The module that knows terminals takes several milliseconds to load: it is asked about devices alone, and not about the one
  // that throws everything away.
  const status = fstatSync(fd);
  return status.isCharacterDevice() && status.rdev !== statSync(devNull).rdev && isatty(fd);
}
