// A kernel's own ELF file, taken out of its bzImage, is the same kernel at the jump as the one that the bzImage decompresses.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import {
  type BootOptions,
  type BootTrace,
  boot,
  extractVmlinux,
  formatLayout,
  type KernelImage,
  openBoot,
  readKernelImage,
} from '../src/index.ts';

const IMAGES = fileURLToPath(new URL('../images', import.meta.url));
const DEBIAN = join(IMAGES, 'cache/debian');

function read(path: string): Promise<KernelImage> {
  return readKernelImage(basename(path), readFileSync(path));
}

async function vmlinuxOf(path: string): Promise<KernelImage> {
  const { bytes, kernelLength } = await extractVmlinux(await read(path));
  return readKernelImage('vmlinux', bytes.subarray(0, kernelLength));
}

async function traceOf(image: KernelImage, options: Partial<BootOptions> = {}): Promise<BootTrace> {
  const { trace, close } = await boot(image, { cmdline: 'nokaslr', events: false, ...options });
  close();
  return trace;
}

const debianKernels = existsSync(DEBIAN) ? readdirSync(DEBIAN).map((name) => join(DEBIAN, name)) : [];
const demos = ['demo-gzip', 'demo-i386', 'demo-lz4'].map((name) => join(IMAGES, `demo/${name}.bzImage`));

describe('a vmlinux', () => {
  for (const path of [...demos, ...debianKernels]) {
    it(`of ${basename(path)} is entered where its bzImage enters it, with the same segments`, async () => {
      const [direct, unpacked] = [await traceOf(await vmlinuxOf(path)), await traceOf(await read(path))];
      const [ours, theirs] = [direct.kernel!, unpacked.kernel!];
      expect(direct.machine).toMatchObject({
        entry: path.includes('i386') ? 'prot32' : 'long64',
        decompress: 'none',
      });
      expect([ours.entry, ours.entryMode]).toEqual([theirs.entry, theirs.entryMode]);
      expect([ours.physicalBase, ours.virtualBase]).toEqual([theirs.physicalBase, theirs.virtualBase]);
      expect(ours.segments).toEqual(theirs.segments);
      expect(ours.segments.every(({ sha256 }) => sha256 !== null)).toBe(true);
      expect(direct.phases.map(({ name, instructions }) => [name, instructions])).toEqual([['kernel', 0]]);
    });
  }
  if (debianKernels.length === 0)
    it.skip('of Debian (left out: npm run setup has not fetched its kernels)', () => {});

  it('has its segments, boot_params, command line and initrd in the layout, and no hazards', async () => {
    const initrd = { path: 'initrd', bytes: new TextEncoder().encode('070701'.padEnd(5000, '0')) };
    const trace = await traceOf(await vmlinuxOf(demos[0]!), { cmdline: 'quiet', initrd });
    const names = trace.phases[0]!.regions.map(({ name }) => name);
    expect(names).toEqual(
      expect.arrayContaining(['kernel segment 0 (r-x)', 'boot_params', 'command line', 'initrd']),
    );
    expect(names.filter((name) => name.startsWith('ZO') || name.startsWith('setup'))).toEqual([]);
    expect(trace.hazards).toEqual([]);
    expect(formatLayout(trace, { color: false, width: 100, all: false })).toContain('kernel segment 0 (r-x)');
  });

  it('finds boot_params in RSI, with the memory map, the command line and the initrd', async () => {
    const initrd = { path: 'initrd', bytes: new Uint8Array(5000).fill(7) };
    using session = await openBoot(await vmlinuxOf(demos[0]!), { cmdline: 'console=ttyS0', initrd });
    const { memory, registers } = session;
    const page = Number(registers.rsi);
    expect(memory.u32(page + 0x202)).toBe(0x53726448);
    expect(memory.u8(page + 0x210)).toBe(0xff);
    expect(memory.u8(page + 0x1e8)).toBe(6);
    expect(new TextDecoder().decode(memory.read(memory.u32(page + 0x228), 14))).toBe('console=ttyS0\0');
    expect(memory.u32(page + 0x21c)).toBe(5000);
    expect(memory.u8(memory.u32(page + 0x218) + 4999)).toBe(7);
    expect(await session.run()).toMatchObject({ reason: 'ended', phase: 'kernel', stopped: null });
  });

  it('is refused where it cannot work, with the reason', async () => {
    const [wide, narrow] = [await vmlinuxOf(demos[0]!), await vmlinuxOf(demos[1]!)];
    await expect(openBoot(wide, { entry: 'prot32' })).rejects.toThrow(
      'cannot be entered by prot32, only by long64',
    );
    await expect(openBoot(narrow, { entry: 'real16' })).rejects.toThrow('cannot be entered by real16');
    await expect(openBoot(wide, { loadAddress: 0x200000 })).rejects.toThrow(
      'a vmlinux goes where its segments say',
    );
    const cut = readKernelImage('cut', wide.bytes.subarray(0, 0x2000)).then((image) => openBoot(image));
    await expect(cut).rejects.toThrow(/is cut/);
  });
});
