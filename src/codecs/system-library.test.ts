// That the system's libraries do the work where they are, and that nothing depends on them.

import { afterEach, describe, expect, it, vi } from 'vitest';
import { BootscopeError } from '../error.ts';
import type { CodecName } from './codec.ts';
import { codecByName } from './registry.ts';
import { type SystemLibraryName, systemLibrary } from './system-library.ts';
import { CONTENTS, compress, hasTool, RECIPES } from './test-streams.ts';

// Whatever goes the portable way fails here.
const portable = vi.hoisted(() => () => {
  throw new Error('the portable library was loaded');
});
vi.mock('xz-decompress', portable);
vi.mock('zstddec', portable);
vi.mock('lz4js', portable);
vi.mock('pako', portable);
vi.mock('seek-bzip', portable);
vi.mock('./lzma-decoder.ts', () => ({ decodeLzma: portable }));
vi.mock('./lzo1x.ts', () => ({ decodeLzo1x: portable }));

const LIBRARIES: readonly (readonly [CodecName, SystemLibraryName | null])[] = [
  ['gzip', null],
  ['bzip2', 'bz2'],
  ['lzma', 'lzma'],
  ['xz', 'lzma'],
  ['lz4', 'lz4'],
  ['lzo', 'lzo2'],
  ['zstd', 'zstd'],
];

describe.each(LIBRARIES)('%s', async (name, libraryName) => {
  const library = libraryName === null ? null : await systemLibrary(libraryName);
  const recipe = RECIPES.find(({ codec }) => codec === name)!;
  const absent = libraryName !== null && library === null;

  it.skipIf(absent || !hasTool(recipe.tool))(
    `is decompressed by ${libraryName === null ? "Node's zlib" : `lib${libraryName}`} alone where that is installed`,
    async () => {
      const codec = await codecByName(name);
      for (const plain of [CONTENTS.get('code')!, CONTENTS.get('text')!]) {
        const stream = compress(recipe, plain);
        const output = new Uint8Array(plain.length);
        const result = await codec.decompress(stream, output);
        expect(result).toEqual({ bytesRead: stream.length, bytesWritten: plain.length });
        expect(Buffer.compare(output, plain)).toBe(0);
      }
    },
  );

  it.skipIf(!hasTool(recipe.tool))('goes the portable way when it is told to', async () => {
    const codec = await codecByName(name);
    const plain = CONTENTS.get('text')!;
    const decompressed = codec.decompress(compress(recipe, plain), new Uint8Array(plain.length), {
      portable: true,
    });
    await expect(decompressed).rejects.not.toBeInstanceOf(BootscopeError);
  });
});

describe('systemLibrary', () => {
  afterEach(() => {
    vi.unstubAllEnvs();
    vi.resetModules();
  });

  it('finds none where BOOTSCOPE_PORTABLE_CODECS is set', async () => {
    vi.stubEnv('BOOTSCOPE_PORTABLE_CODECS', '1');
    vi.resetModules();
    const fresh = await import('./system-library.ts');
    for (const name of ['lzma', 'zstd', 'lz4', 'bz2'] as const) {
      expect(await fresh.systemLibrary(name)).toBeNull();
    }
  });

  it('finds none where koffi cannot be loaded', async () => {
    vi.doMock('#host', async (original) => ({ ...(await original<object>()), loadKoffi: () => null }));
    vi.resetModules();
    const fresh = await import('./system-library.ts');
    expect(await fresh.systemLibrary('lzma')).toBeNull();
    vi.doUnmock('#host');
  });
});
