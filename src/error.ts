// The one error class of the project: a stable code to match on, and one sentence with the numbers in it.

import type { ErrorCode } from './error-codes.ts';

/** What an error's sentence is about, as values: sizes in bytes, addresses, names. */
export type ErrorData = Readonly<Record<string, string | number | bigint | boolean | null>>;

/**
 * An input, option or environment that Bootscope cannot work with. Thrown where the fact is known;
 * only the command line turns it into text and exit status 2.
 */
export class BootscopeError extends Error {
  /** Stable, kebab-case, prefixed by the room: `image-truncated`, `codec-checksum`, `cpu-no-engine`. */
  readonly code: ErrorCode;
  /** The numbers and names of the sentence; empty where it has none that a program would use. */
  readonly data: ErrorData;

  constructor(code: ErrorCode, message: string, options: ErrorOptions & { readonly data?: ErrorData } = {}) {
    const { data = {}, ...rest } = options;
    super(message, rest);
    this.name = 'BootscopeError';
    this.code = code;
    this.data = data;
  }
}

const SYSTEM_REASONS: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  EROFS: 'the file system is read-only',
  ENOENT: 'there is no such folder',
  ENOTDIR: 'there is no such folder',
  EEXIST: 'there is a file of that name',
  EISDIR: 'it is a directory',
  ENOSPC: 'the disk is full',
  EDQUOT: 'the disk quota is used up',
  EFBIG: 'the file gets too large',
  EIO: 'the device reports an error',
  EMFILE: 'too many files are open',
  ENFILE: 'too many files are open',
  ENAMETOOLONG: 'the name is too long',
  ETXTBSY: 'it is being run',
  EBUSY: 'it is in use',
};

/** Why the operating system refuses something, in a few words, of an error that Node.js throws. */
export function systemReason(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return SYSTEM_REASONS[code ?? ''] ?? (error instanceof Error ? message : String(error));
}
