// One image, many ways in: whatever entry and loader, the same kernel with the same bytes, where it must be.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import {
  type BootOptions,
  type BootTrace,
  boot,
  DEFAULT_BOOT_OPTIONS,
  type EntryPoint,
  type KernelImage,
  readKernelImage,
} from '../src/index.ts';
import { leftOut } from './witnesses.ts';

const IMAGES = fileURLToPath(new URL('../images', import.meta.url));
const MIB = 1 << 20;
/** Far from where any of these kernels wants to be, and aligned for each. */
const ELSEWHERE = 0x6000000;
const INITRD = { path: 'initrd', bytes: new Uint8Array(3 * MIB + 5).fill(0x5a) };
/** The guest's own decompressors are slow on the CPU; these payloads are small, and those that are not demos are CI's. */
const EMULATED = leftOut === null ? /demo|x64-(gzip|lz4|zstd|nokaslr)$|i386-(gzip|lz4)$/ : /demo/;
/** Another load address changes nothing that depends on the codec. */
const LOADED_ELSEWHERE = /demo|x64-(lz4|norelocatable|physical-start)$|i386-(lz4|norelocatable|pae)$|cloud/;

function images(folder: string, pattern: RegExp): string[] {
  const path = join(IMAGES, folder);
  if (!existsSync(path)) return [];
  return readdirSync(path, { recursive: true })
    .map((name) => join(path, String(name)))
    .filter((name) => pattern.test(name))
    .toSorted();
}

function nameOf(path: string): string {
  return basename(path) === 'bzImage' ? basename(dirname(path)) : basename(path);
}

async function bootImage(image: KernelImage, options: Partial<BootOptions>): Promise<BootTrace> {
  const finished = await boot(image, {
    ...DEFAULT_BOOT_OPTIONS,
    ...{ memory: 256 * MIB, cmdline: 'nokaslr', pageTables: false, events: false },
    ...options,
  });
  finished.close();
  expect(finished.trace.stopped).toBeNull();
  return finished.trace;
}

/** What of a kernel does not depend on the loader. */
function kernelOf({ kernel }: BootTrace) {
  const { bootParams: _, ...same } = kernel!;
  return same;
}

function suite(path: string): void {
  const load = (): Promise<KernelImage> => readKernelImage(nameOf(path), readFileSync(path));
  const name = nameOf(path);
  let through16: BootTrace | null = null;
  const reference = async (image: KernelImage): Promise<BootTrace> => {
    through16 ??= await bootImage(image, {});
    return through16;
  };
  const isX64 = (image: KernelImage): boolean => (image.header.get('xloadflags') & 1) !== 0;
  const entriesOf = (image: KernelImage): readonly EntryPoint[] => {
    if (image.kind === 'zImage') return ['boot-sector'];
    return isX64(image) ? ['prot32', 'long64'] : ['prot32'];
  };

  it(`${name} is the same kernel through every entry`, async () => {
    const image = await load();
    const first = await reference(image);
    for (const entry of entriesOf(image)) {
      const trace = await bootImage(image, { entry });
      expect(kernelOf(trace), entry).toEqual(kernelOf(first));
      const stub = trace.phases.find(({ name: phase }) => phase === 'extract_kernel');
      expect(stub?.address).toBe(first.phases.find(({ name: phase }) => phase === 'extract_kernel')?.address);
    }
  });

  it(`${name} is the same kernel with an initrd, which is still whole at the jump`, async () => {
    const image = await load();
    const entry = image.kind === 'zImage' ? 'real16' : 'prot32';
    const options = { ...DEFAULT_BOOT_OPTIONS, memory: 256 * MIB, cmdline: 'nokaslr', entry } as const;
    const finished = await boot(image, { ...options, pageTables: false, initrd: INITRD });
    try {
      expect(kernelOf(finished.trace)).toEqual(kernelOf(await reference(image)));
      const region = finished.trace.phases.at(-1)!.regions.find(({ kind }) => kind === 'initrd')!;
      expect(Number(region.end - region.start)).toBe(INITRD.bytes.length);
      const there = finished.machine.ram.subarray(Number(region.start), Number(region.end));
      expect(Buffer.compare(there, INITRD.bytes)).toBe(0);
    } finally {
      finished.close();
    }
  });

  if (EMULATED.test(name))
    it(`${name} is the same kernel when it decompresses itself`, async () => {
      const image = await load();
      for (const entry of ['real16', ...entriesOf(image)] as const) {
        const trace = await bootImage(image, { entry, decompress: 'emulated' });
        expect(kernelOf(trace), entry).toEqual(kernelOf(await reference(image)));
      }
    });

  if (LOADED_ELSEWHERE.test(name) && !name.endsWith('zImage'))
    it(`${name} follows its loader to another address if it is relocatable`, async () => {
      const image = await load();
      const first = kernelOf(await reference(image));
      const relocatable = image.header.get('relocatable_kernel') !== 0;
      const alignment = image.header.get('kernel_alignment');
      for (const loadAddress of [ELSEWHERE, ELSEWHERE + 0x1000]) {
        const base = Math.ceil(loadAddress / alignment) * alignment;
        const moved = relocatable ? BigInt(base) - first.physicalBase : 0n;
        for (const entry of entriesOf(image)) {
          const there = kernelOf(await bootImage(image, { entry, loadAddress }));
          expect(there.entry, entry).toBe(first.entry + moved);
          expect(there.physicalBase).toBe(first.physicalBase + moved);
          expect(there.segments.map(({ paddr }) => paddr - moved)).toEqual(
            first.segments.map(({ paddr }) => paddr),
          );
          // A 64-bit kernel without KASLR keeps its virtual addresses, a 32-bit one is relocated by as much.
          if (!isX64(image) && moved !== 0n) continue;
          expect(there.virtualBase).toBe(first.virtualBase);
          expect(there.segments.map(({ sha256 }) => sha256)).toEqual(
            first.segments.map(({ sha256 }) => sha256),
          );
        }
      }
    });
}

describe('a demo image', () => {
  for (const path of images('demo', /Image$/)) suite(path);
});

const built = images('cache/built', /\/bzImage$/);
if (built.length === 0) it.skip('built kernels (left out: scripts/build-kernels has built none)');
if (built.length > 0) {
  describe('a kernel of scripts/build-kernels', () => {
    for (const path of built) suite(path);
  });
}

const debian = images('cache/debian', /\/vmlinuz[^/]*$/);
if (debian.length === 0) it.skip('Debian’s kernels (left out: scripts/setup has fetched none)');
if (debian.length > 0) {
  describe('a kernel of Debian', () => {
    for (const path of debian) suite(path);
  });
}
