// The host that is Node.

import { createHash, X509Certificate } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import type * as Iced from 'iced-x86';
import type {
  Certificate,
  FileStatus,
  HashName,
  Inflated,
  InflateFault,
  OpenFile,
  ToolResult,
} from './host-types.ts';
import { type Koffi, requireKoffi } from './koffi.ts';
import { withLateOptimizing } from './wasm-tiering.ts';

export { allocatePages, freePages, movePages, ownPages } from './movable-pages.ts';

/** The hash of pieces one behind the other, lower-case hex; null for an algorithm that this host does not have. */
export function hashHex(algorithm: HashName, ...pieces: readonly Uint8Array[]): string | null {
  const hash = createHash(algorithm);
  for (const piece of pieces) hash.update(piece);
  return hash.digest('hex');
}

/** SHA-256, lower-case hex. */
export function sha256Hex(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** The same in base64, as Content-Security-Policy has it. */
export function sha256Base64(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('base64');
}

/** An X.509 certificate in DER; null where this host cannot read it. */
export function readCertificate(der: Uint8Array): Certificate | null {
  try {
    return new X509Certificate(der);
  } catch {
    return null;
  }
}

/** Milliseconds since some moment. Node.js loads a module of its own for `performance`, which takes a start 2 ms. */
export function monotonicTime(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1000 + nanoseconds / 1e6;
}

/** Lets whatever else waits have its turn. */
export function nextTurn(): Promise<void> {
  return setImmediate();
}

/** How many threads run at once. */
export function processors(): number {
  return availableParallelism();
}

/** Whether they have the same bytes. */
export function equalBytes(some: Uint8Array, others: Uint8Array): boolean {
  return Buffer.compare(some, others) === 0;
}

/** Where `wanted` stands in `bytes` from `from` on; -1 where it does not. */
export function indexOfBytes(bytes: Uint8Array, wanted: Uint8Array, from = 0): number {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).indexOf(wanted, from);
}

/** The same for Latin-1 text. */
export function indexOfText(bytes: Uint8Array, wanted: string, from = 0): number {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).indexOf(wanted, from, 'latin1');
}

/** One behind the other, in memory of their own. */
export function concatBytes(pieces: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(pieces);
}

/** Two lower-case digits a byte. */
export function hexDigits(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex');
}

/** A character a byte. */
export function latin1Text(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
}

/** The bytes of base64 text. */
export function bytesOfBase64(text: string): Uint8Array {
  return Buffer.from(text, 'base64');
}

/** Node's zlib, loaded when it is first used; null where there is none. */
export function nativeZlib(): typeof import('node:zlib') | null {
  return process.getBuiltinModule('node:zlib');
}

/** Raw deflate of unknown length at the start of `bytes`; `partial`: that it ends in the middle is no fault. */
export function inflateRaw(bytes: Uint8Array, limit: number, partial: boolean): Inflated | InflateFault {
  const { inflateRawSync, constants } = process.getBuiltinModule('node:zlib');
  try {
    // `info` makes the result { buffer, engine }, which Node documents and its types leave out.
    const result: unknown = inflateRawSync(bytes, {
      info: true,
      maxOutputLength: limit,
      ...(partial ? { finishFlush: constants.Z_SYNC_FLUSH } : {}),
    });
    const { buffer, engine } = result as { buffer: Uint8Array; engine: { bytesWritten: number } };
    return { content: buffer, consumed: engine.bytesWritten };
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? cause.code : null;
    const fault = code === 'ERR_BUFFER_TOO_LARGE' ? 'limit' : code === 'Z_BUF_ERROR' ? 'cut' : 'damaged';
    return { fault, reason: cause instanceof Error ? cause.message : String(cause), cause };
  }
}

/** `linux`, `darwin`, `win32`, …; `browser`. */
export const platform: string = process.platform;
/** `x64`, `arm64`, …; `wasm` in a browser. */
export const architecture: string = process.arch;

/** A variable of the environment; undefined where it is not set. */
export function environment(name: string): string | undefined {
  return process.env[name];
}

/** The path of a file that is named relative to another one. */
export function resolveBeside(path: string, relative: string): string {
  return resolve(dirname(path), relative);
}

/** @throws an error with `code` `ENOENT`, `EACCES` … */
export function fileStatus(path: string): FileStatus {
  const status = statSync(fileName(path));
  return {
    kind: status.isDirectory() ? 'directory' : status.isFile() ? 'file' : 'other',
    size: status.size,
  };
}

/** At once: Node reads a large file in many pieces otherwise. @throws as `fileStatus` */
export function readFile(path: string): Uint8Array {
  return readFileSync(fileName(path));
}

/** Opens it for reading only; throws what Node throws. */
export function openFile(path: string): OpenFile {
  const file = openSync(fileName(path), 'r');
  return {
    size: fstatSync(file).size,
    read: (offset, target) => {
      let done = 0;
      while (done < target.length) {
        const count = readSync(file, target, done, target.length - done, offset + done);
        if (count === 0) break;
        done += count;
      }
      target.fill(0, done);
    },
    close: () => closeSync(file),
  };
}

/** What a folder holds, sorted. @throws as `fileStatus` */
export function folderNames(path: string): string[] {
  return readdirSync(path).sort();
}

/** The path of a file that is named relative to a folder. */
export function joinPath(folder: string, name: string): string {
  return isAbsolute(name) ? name : join(folder, name);
}

/** What comes in through standard input, piece by piece. */
export async function* standardInput(): AsyncGenerator<Uint8Array> {
  for await (const piece of process.stdin) yield typeof piece === 'string' ? Buffer.from(piece) : piece;
}

/** What Node puts where an argument's bytes are not UTF-8. */
const REPLACEMENT = '\ufffd';

/**
 * The bytes of the argument that Node decoded to `path`, where those are not UTF-8: Linux still has them. Elsewhere, and for a
 * name that really has the replacement character, `path` itself.
 */
function fileName(path: string): string | Buffer {
  if (!path.includes(REPLACEMENT) || existsSync(path)) return path;
  try {
    const raw = readFileSync('/proc/self/cmdline').toString('latin1').split('\0');
    const argument = raw
      .map((text) => Buffer.from(text, 'latin1'))
      .find((bytes) => bytes.toString() === path);
    return argument ?? path;
  } catch {
    return path;
  }
}

/** Runs a tool as a filter. */
export function runTool(tool: string, options: readonly string[], input: Uint8Array): Promise<ToolResult> {
  const { spawn } = process.getBuiltinModule('node:child_process');
  return new Promise((done) => {
    const child = spawn(tool, options, { stdio: ['pipe', 'pipe', 'pipe'] });
    const output: Uint8Array[] = [];
    let complaint = '';
    child.on('error', (error) => done({ output: null, why: error.message }));
    child.stdout.on('data', (piece: Uint8Array) => output.push(piece));
    child.stderr.on('data', (piece: Buffer) => {
      complaint += piece.toString();
    });
    child.on('close', (status) => {
      if (status === 0) done({ output: Buffer.concat(output), why: '' });
      else done({ output: null, why: complaint.trim() || `it ended with status ${status}` });
    });
    // That the tool ends before it has read all is said by its status.
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
  });
}

/**
 * CommonJS, and large: loaded only when somebody disassembles. Each instruction is decoded once, so that optimizing its code
 * takes longer than it saves.
 */
export function loadIced(): typeof Iced {
  return withLateOptimizing(() => createRequire(import.meta.url)('iced-x86') as typeof Iced);
}

/** What calls native code; null where there is none. */
export function loadKoffi(): Koffi | null {
  try {
    return requireKoffi();
  } catch {
    return null;
  }
}
