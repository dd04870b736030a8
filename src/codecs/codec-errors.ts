// How codecs word what is wrong with a stream: which format, where, what was expected and found.

import { BootscopeError } from '../error.ts';
import type { CodecName } from './codec.ts';

/** A damaged stream. `what` ends the sentence `xz stream is damaged at offset 12: …`. */
export function corrupt(codec: CodecName, offset: number, what: string, cause?: unknown): BootscopeError {
  return new BootscopeError(
    'codec-corrupt',
    `the ${codec} stream is damaged at offset ${offset}: ${what}`,
    cause === undefined ? undefined : { cause },
  );
}

/** A stream that needs bytes past the input's end. */
export function truncated(codec: CodecName, needed: number, available: number, what: string): BootscopeError {
  return new BootscopeError(
    'codec-truncated',
    `the ${codec} stream is cut: ${what} needs ${needed} bytes, the input has ${available}`,
  );
}

/** A checksum that does not match; both values as numbers or ready-made strings. */
export function checksumMismatch(
  codec: CodecName,
  what: string,
  stored: number | bigint | string,
  computed: number | bigint | string,
): BootscopeError {
  const hex = (value: number | bigint | string) =>
    typeof value === 'string' ? value : `0x${value.toString(16)}`;
  return new BootscopeError(
    'codec-checksum',
    `the ${codec} stream is damaged: ${what} is ${hex(stored)} in the stream, ${hex(computed)} computed`,
  );
}

/** A stream that holds more than the output takes; `size` where it is known. */
export function outputLimit(codec: CodecName, limit: number, size?: number): BootscopeError {
  return new BootscopeError(
    'codec-output-limit',
    `the ${codec} stream holds ${size === undefined ? 'more' : `${size} bytes, more`} than the ${limit} bytes of output`,
  );
}
