// Native decompressors of the host: shared libraries called through koffi, straight from and to JavaScript's memory.

import type { KoffiFunc, LibraryHandle } from 'koffi';
import { environment, loadKoffi, platform } from '../host/host.ts';

export type SystemLibraryName = 'lzma' | 'zstd' | 'lz4' | 'lzo2' | 'bz2';

type NativeParameter = Uint8Array | BigUint64Array | number | bigint | null;

/** A C function that takes typed arrays, addresses, numbers and null, and returns a number. */
export type NativeFunction = (...parameters: readonly NativeParameter[]) => number;

/** The same on a thread of libuv's pool, where it runs before this returns. Until then its arrays, and those in `used`, stay. */
export type BackgroundFunction = (
  parameters: readonly NativeParameter[],
  used?: readonly Uint8Array[],
) => Promise<number>;

export interface SystemLibrary {
  /** Binds a function by its C declaration. */
  bind(declaration: string): NativeFunction;
  bindInBackground(declaration: string): BackgroundFunction;
  /** The address of the array's first byte; valid while the array is referenced. */
  addressOf(array: Uint8Array): bigint;
}

/** The file names by the libraries' ABI version, so that what loads has the functions and structures expected. */
const FILES: Readonly<Partial<Record<string, Readonly<Record<SystemLibraryName, readonly string[]>>>>> = {
  linux: {
    lzma: ['liblzma.so.5'],
    zstd: ['libzstd.so.1'],
    lz4: ['liblz4.so.1'],
    lzo2: ['liblzo2.so.2'],
    bz2: ['libbz2.so.1.0', 'libbz2.so.1'],
  },
  darwin: {
    lzma: ['liblzma.5.dylib', '/usr/lib/liblzma.5.dylib', '/opt/homebrew/lib/liblzma.5.dylib'],
    zstd: ['libzstd.1.dylib', '/opt/homebrew/lib/libzstd.1.dylib'],
    lz4: ['liblz4.1.dylib', '/opt/homebrew/lib/liblz4.1.dylib'],
    lzo2: ['liblzo2.2.dylib', '/opt/homebrew/lib/liblzo2.2.dylib'],
    bz2: ['libbz2.1.0.dylib', '/usr/lib/libbz2.1.0.dylib'],
  },
};

const libraries = new Map<SystemLibraryName, Promise<SystemLibrary | null>>();

/**
 * Opens a library of the system; null where koffi or the library is missing, on a host whose pointers
 * are not 8 bytes, or where `BOOTSCOPE_PORTABLE_CODECS` is set. The caller then goes the portable way.
 */
export function systemLibrary(name: SystemLibraryName): Promise<SystemLibrary | null> {
  let library = libraries.get(name);
  if (library === undefined) {
    library = open(name);
    libraries.set(name, library);
  }
  return library;
}

async function open(name: SystemLibraryName): Promise<SystemLibrary | null> {
  const files = FILES[platform]?.[name];
  if (files === undefined || environment('BOOTSCOPE_PORTABLE_CODECS')) return null;
  const koffi = loadKoffi();
  if (koffi === null) return null;
  try {
    if (koffi.sizeof('void *') !== 8) return null;
    const handle = loadFirst(koffi.load, files);
    if (handle === null) return null;
    return {
      bind: (declaration) => handle.func(declaration) as unknown as NativeFunction,
      bindInBackground: (declaration) =>
        inBackground(handle.func(declaration) as KoffiFunc<(...parameters: NativeParameter[]) => number>),
      addressOf: (array) => koffi.address(array),
    };
  } catch {
    return null;
  }
}

/** What calls in flight use, out of the garbage collector's reach. */
const inUse = new Set<object>();

function inBackground(called: KoffiFunc<(...parameters: NativeParameter[]) => number>): BackgroundFunction {
  return (parameters, used) =>
    new Promise((resolve, reject) => {
      const held = { parameters, used };
      inUse.add(held);
      called.async(...parameters, (error: unknown, result: number) => {
        inUse.delete(held);
        if (error == null) resolve(result);
        else reject(error);
      });
    });
}

function loadFirst(load: (file: string) => LibraryHandle, files: readonly string[]): LibraryHandle | null {
  for (const file of files) {
    try {
      return load(file);
    } catch {
      // The next name may be there.
    }
  }
  return null;
}
