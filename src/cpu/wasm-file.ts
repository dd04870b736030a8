// The WASM engine as a file on this machine: finding it, loading and compiling it once in a process.

import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { BootscopeError } from '../error.ts';
import { bytesOfBase64 } from '../host/host.ts';
import { withLateOptimizing } from '../host/wasm-tiering.ts';
import { type WasmModule, webAssembly } from '../host/web-assembly.ts';
import type { Transport } from './transport.ts';
import { type EmscriptenFactory, openWasm, type WasmEngine } from './wasm.ts';

const PACKAGE = '@alexaltea/unicorn-js/x86';

/**
 * The file of the WASM engine: what `BOOTSCOPE_UNICORN_JS` names, else the installed package; null where
 * there is neither.
 */
export function findWasmEngine(): string | null {
  const asked = process.env.BOOTSCOPE_UNICORN_JS;
  if (asked) return resolve(asked);
  try {
    return createRequire(import.meta.url).resolve(PACKAGE);
  } catch {
    return null;
  }
}

/** The version in the package.json that belongs to the file; null where there is none. */
export function wasmEngineVersion(file: string): string | null {
  for (let folder = dirname(file); folder !== dirname(folder); folder = dirname(folder)) {
    const description = join(folder, 'package.json');
    if (!existsSync(description)) continue;
    const { version } = JSON.parse(readFileSync(description, 'utf8')) as { version?: unknown };
    return typeof version === 'string' ? version : null;
  }
  return null;
}

const loadedFiles = new Map<string, WasmEngine>();

/** The WASM code that stands in the script as base64: a literal that begins with the magic bytes 00 61 73 6d. */
function embeddedWasm(script: string): Uint8Array | null {
  const start = script.indexOf('AGFzbQEAAAA');
  if (start < 0) return null;
  const ends = ['"', "'", '`'].map((quote) => script.indexOf(quote, start)).filter((end) => end >= 0);
  return ends.length === 0 ? null : bytesOfBase64(script.slice(start, Math.min(...ends)));
}

/**
 * Compiles so that V8 optimizes late. By its own measure it finds Unicorn's translator of guest code (one function of 150 KB)
 * worth optimizing in every boot, which takes longer than the whole boot. The interpreter, which a long run spends its time
 * in, still gets there within a second.
 */
function compile(bytes: Uint8Array): WasmModule {
  return withLateOptimizing(() => new webAssembly.Module(bytes));
}

/** What a script exports; CommonJS, as the published package is, loads in half the time through require. */
async function evaluate(file: string): Promise<unknown> {
  try {
    return createRequire(import.meta.url)(file) as unknown;
  } catch (cause) {
    const code = (cause as { readonly code?: unknown }).code;
    if (code !== 'ERR_REQUIRE_ESM' && !(cause instanceof SyntaxError)) throw cause;
    const namespace: { readonly default?: unknown } = await import(pathToFileURL(file).href);
    return namespace.default;
  }
}

async function load(file: string): Promise<WasmEngine> {
  const known = loadedFiles.get(file);
  if (known !== undefined) return known;
  if (!existsSync(file)) {
    throw new BootscopeError('cpu-no-engine', `BOOTSCOPE_UNICORN_JS names ${file}, which does not exist.`);
  }
  let exported: unknown;
  try {
    const bytes = embeddedWasm(readFileSync(file, 'latin1'));
    const module = bytes === null ? null : compile(bytes);
    exported = await evaluate(file);
    // Node 22 can require an ES module, and then gives its namespace.
    if (typeof exported === 'object' && exported !== null && 'default' in exported)
      exported = exported.default;
    if (typeof exported === 'function') {
      const loaded: WasmEngine = { name: file, factory: exported as EmscriptenFactory, module };
      loadedFiles.set(file, loaded);
      return loaded;
    }
  } catch (cause) {
    throw new BootscopeError(
      'cpu-no-engine',
      `${file} cannot be loaded as a Unicorn.js module: ${String(cause)}`,
      {
        cause,
      },
    );
  }
  throw new BootscopeError(
    'cpu-no-engine',
    `${file} exports ${exported === undefined ? 'nothing' : `a value of type ${typeof exported}`}, not the factory function of a Unicorn.js module.`,
  );
}

/**
 * Opens a module instance of its own; the file is read and compiled once in a process.
 *
 * @throws BootscopeError `cpu-no-engine`: no file, or not a usable Unicorn.js; the message says what is missing.
 */
export async function wasmTransport(): Promise<Transport> {
  const file = findWasmEngine();
  if (file === null) {
    throw new BootscopeError(
      'cpu-no-engine',
      `The package ${PACKAGE.slice(0, PACKAGE.lastIndexOf('/'))} is not installed: npm install it, or name a build of Unicorn.js in BOOTSCOPE_UNICORN_JS.`,
    );
  }
  // Emscripten adds process-wide handlers that turn any unhandled rejection into a crash; they go.
  const events = ['uncaughtException', 'unhandledRejection'] as const;
  const before = events.map((event) => process.listeners(event as 'uncaughtException'));
  try {
    return await openWasm(await load(file));
  } finally {
    events.forEach((event, index) => {
      for (const listener of process.listeners(event as 'uncaughtException')) {
        if (!before[index]?.includes(listener)) process.removeListener(event, listener);
      }
    });
  }
}
