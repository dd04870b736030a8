// The host that is a browser, in a page or in a worker: what it lacks (files, tools, native code) is not there.

import type * as Iced from 'iced-x86';
import * as pako from 'pako';
import type {
  Certificate,
  FileStatus,
  HashName,
  Inflated,
  InflateFault,
  OpenFile,
  ToolResult,
} from './host-types.ts';
import type * as node from './node.ts';
import { sha256 } from './sha256.ts';

export function hashHex(algorithm: HashName, ...pieces: readonly Uint8Array[]): string | null {
  return algorithm === 'sha256' ? sha256Hex(concatBytes(pieces)) : null;
}

export function sha256Hex(bytes: Uint8Array | string): string {
  return hexDigits(sha256(asBytes(bytes)));
}

export function sha256Base64(bytes: Uint8Array | string): string {
  return btoa(latin1Text(sha256(asBytes(bytes))));
}

function asBytes(bytes: Uint8Array | string): Uint8Array {
  return typeof bytes === 'string' ? new TextEncoder().encode(bytes) : bytes;
}

export function readCertificate(_der: Uint8Array): Certificate | null {
  return null;
}

/** A timer would wait 4 ms after a few in a row. */
export function monotonicTime(): number {
  return performance.now();
}

export function nextTurn(): Promise<void> {
  return new Promise((done) => {
    const { port1, port2 } = new MessageChannel();
    port1.addEventListener('message', () => {
      port1.close();
      done();
    });
    port1.start();
    port2.postMessage(null);
  });
}

export function processors(): number {
  return 1;
}

export function equalBytes(some: Uint8Array, others: Uint8Array): boolean {
  if (some.length !== others.length) return false;
  // By words as far as both lie the same way to them.
  const head = some.byteOffset % 4 === others.byteOffset % 4 ? (4 - (some.byteOffset % 4)) % 4 : some.length;
  const words = Math.max(0, Math.floor((some.length - head) / 4));
  const someWords = words === 0 ? [] : new Int32Array(some.buffer, some.byteOffset + head, words);
  const otherWords = words === 0 ? [] : new Int32Array(others.buffer, others.byteOffset + head, words);
  for (let i = 0; i < words; i++) if (someWords[i] !== otherWords[i]) return false;
  for (let i = 0; i < some.length; i++) {
    if (words > 0 && i === head) i += words * 4;
    if (some[i] !== others[i]) return false;
  }
  return true;
}

export function indexOfBytes(bytes: Uint8Array, wanted: Uint8Array, from = 0): number {
  const [first] = wanted;
  if (first === undefined) return Math.min(from, bytes.length);
  const last = bytes.length - wanted.length;
  for (let at = bytes.indexOf(first, from); at >= 0 && at <= last; at = bytes.indexOf(first, at + 1)) {
    let same = 1;
    while (same < wanted.length && bytes[at + same] === wanted[same]) same++;
    if (same === wanted.length) return at;
  }
  return -1;
}

export function indexOfText(bytes: Uint8Array, wanted: string, from = 0): number {
  return indexOfBytes(
    bytes,
    Uint8Array.from(wanted, (character) => character.charCodeAt(0)),
    from,
  );
}

export function concatBytes(pieces: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(pieces.reduce((length, piece) => length + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

export function hexDigits(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += (byte < 16 ? '0' : '') + byte.toString(16);
  return text;
}

/** TextDecoder's "latin1" is Windows-1252, which has other characters from 0x80 to 0x9f. */
export function latin1Text(bytes: Uint8Array): string {
  const PIECE = 8192;
  let text = '';
  for (let at = 0; at < bytes.length; at += PIECE) {
    text += String.fromCharCode(...bytes.subarray(at, at + PIECE));
  }
  return text;
}

export function bytesOfBase64(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

export function nativeZlib(): typeof import('node:zlib') | null {
  return null;
}

export function inflateRaw(bytes: Uint8Array, limit: number, partial: boolean): Inflated | InflateFault {
  const stream = new pako.ZStream();
  pako.zlibInflateInit2(stream, -15);
  stream.input = bytes;
  stream.avail_in = bytes.length;
  let output = new Uint8Array(Math.min(limit, Math.max(65536, bytes.length * 4)));
  stream.output = output;
  stream.avail_out = output.length;
  let status = pako.zlibInflate(stream, pako.Z_SYNC_FLUSH);
  while (stream.avail_out === 0 && status !== pako.Z_STREAM_END && output.length < limit) {
    const larger = new Uint8Array(Math.min(limit, output.length * 2));
    larger.set(output);
    output = larger;
    stream.output = output;
    stream.avail_out = output.length - stream.next_out;
    status = pako.zlibInflate(stream, pako.Z_SYNC_FLUSH);
  }
  pako.zlibInflateEnd(stream);
  const inflated = { content: output.subarray(0, stream.next_out), consumed: stream.next_in };
  if (status === pako.Z_STREAM_END) return inflated;
  if (status === pako.Z_DATA_ERROR) return { fault: 'damaged', reason: stream.msg, cause: null };
  if (stream.next_in < bytes.length) return { fault: 'limit', reason: 'it holds more', cause: null };
  return partial ? inflated : { fault: 'cut', reason: 'it does not end', cause: null };
}

export const platform: string = 'browser';
export const architecture: string = 'wasm';

export function environment(_name: string): string | undefined {
  return undefined;
}

/** There are no files: what is named beside another is named alone. */
export function resolveBeside(_path: string, relative: string): string {
  return relative;
}

export function fileStatus(path: string): FileStatus {
  throw noFile(path);
}

export function readFile(path: string): Uint8Array {
  throw noFile(path);
}

export function openFile(path: string): OpenFile {
  throw noFile(path);
}

export function folderNames(path: string): string[] {
  throw noFile(path);
}

export function joinPath(_folder: string, name: string): string {
  return name;
}

function noFile(path: string): Error {
  return Object.assign(new Error(`a page cannot read ${path}`), { code: 'ENOENT' });
}

export async function* standardInput(): AsyncGenerator<Uint8Array> {}

export function runTool(tool: string, _options: readonly string[], _input: Uint8Array): Promise<ToolResult> {
  return Promise.resolve({ output: null, why: `a page cannot run ${tool}` });
}

let iced: typeof Iced | null = null;

/** The disassembler, which a page brings along in its own way: the package loads its code as a file. */
export function provideIced(module: typeof Iced): void {
  iced = module;
}

export function loadIced(): typeof Iced {
  if (iced === null) throw new Error('no disassembler was provided');
  return iced;
}

export function loadKoffi(): typeof import('koffi') | null {
  return null;
}

export function ownPages(_array: Uint8Array): void {}

export function allocatePages(_length: number): Uint8Array<ArrayBuffer> | null {
  return null;
}

export function freePages(_array: Uint8Array<ArrayBuffer>): void {}

export function movePages(_from: Uint8Array, _to: Uint8Array): boolean {
  return false;
}

// What one host has the other has, too.
type Missing = Exclude<keyof typeof node, keyof typeof import('./browser.ts')>;
const complete: [Missing] extends [never] ? true : Missing = true;
void complete;
