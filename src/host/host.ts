// What differs between Node and a browser, and the rooms above it need: hashes, turns of the event loop, native work on bytes, files
// beside files, and the disassembler.

import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import { dirname, resolve } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import type * as Iced from 'iced-x86';

/** SHA-256, lower-case hex. */
export function sha256Hex(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** The same in base64, as Content-Security-Policy has it. */
export function sha256Base64(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('base64');
}

/** Lets whatever else waits have its turn. */
export function nextTurn(): Promise<void> {
  return setImmediate();
}

/** Whether they have the same bytes. */
export function equalBytes(some: Uint8Array, others: Uint8Array): boolean {
  return Buffer.compare(some, others) === 0;
}

/** Where `wanted` stands in `bytes` from `from` on; -1 where it does not. */
export function indexOfBytes(bytes: Uint8Array, wanted: Uint8Array, from = 0): number {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).indexOf(wanted, from);
}

/** The path of a file that is named relative to another one. */
export function resolveBeside(path: string, relative: string): string {
  return resolve(dirname(path), relative);
}

/** CommonJS, and large: loaded only when somebody disassembles. */
export function loadIced(): typeof Iced {
  return createRequire(import.meta.url)('iced-x86') as typeof Iced;
}
