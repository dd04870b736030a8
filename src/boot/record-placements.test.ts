// What lies where as a boot goes on, by the fields of the header and what the stub's own code shows.

import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { findStubDetails } from '../decompressor/find-stub.ts';
import { type KernelImage, readKernelImage } from '../image/kernel-image.ts';
import type { BootTrace, PhaseName } from '../trace/boot-trace.ts';
import { boot } from './boot.ts';
import { type BootOptions, DEFAULT_BOOT_OPTIONS } from './options.ts';

const path = new URL('../../images/demo/demo-gzip.bzImage', import.meta.url).pathname;

describe('what lies where', () => {
  let image: KernelImage;
  beforeAll(async () => {
    image = await readKernelImage(path, readFileSync(path));
  });

  async function traceOf(options: Partial<BootOptions> = {}): Promise<BootTrace> {
    const finished = await boot(image, {
      ...{ ...DEFAULT_BOOT_OPTIONS, memory: 64 << 20, cmdline: 'quiet', hash: false, events: false },
      ...options,
    });
    finished.close();
    return finished.trace;
  }

  function at(trace: BootTrace, phase: PhaseName): ReadonlyMap<string, readonly [number, number]> {
    const { regions } = trace.phases.find(({ name }) => name === phase)!;
    return new Map(regions.map(({ name, start, end }) => [name, [Number(start), Number(end)]]));
  }

  it.each(['real16', 'prot32'] as const)(
    'is the image, then its copy at the end of init_size, by %s',
    async (entry) => {
      const trace = await traceOf({ entry });
      const { header, protectedModeCode, payload } = image;
      const code = protectedModeCode.length;
      const initEnd = header.get('pref_address') + header.get('init_size');
      const started = at(trace, 'startup_32');
      expect(started.get('ZO as loaded')).toEqual([0x100000, 0x100000 + code]);
      const first = 0x100000 + payload!.offset;
      expect(started.get('ZO as loaded payload')![0]).toBe(first);
      expect(started.get('run area')).toEqual([header.get('pref_address'), initEnd]);
      expect(started.has('ZO copy')).toBe(false);
      // CR3 is the stub's own from here on: its tables lie behind its bss, up to the end of the run area.
      const long = at(trace, 'startup_64');
      const cr3 = Number(trace.phases.find(({ name }) => name === 'startup_64')!.registers.cr3);
      expect(long.get('boot page tables')).toEqual([cr3, initEnd]);
      const moved = at(trace, 'relocated');
      const label = Number(trace.phases.find(({ name }) => name === 'relocated')!.address);
      const [start, end] = moved.get('ZO copy')!;
      expect([start, end]).toEqual([start, start + (findStubDetails(image)!.bss?.start ?? code)]);
      expect(label).toBeGreaterThan(start);
      expect(label).toBeLessThan(end);
      expect(moved.get('ZO copy payload')).toEqual([
        start + payload!.offset,
        start + started.get('ZO as loaded payload')![1] - 0x100000,
      ]);
      expect(moved.get('ZO bss')![0]).toBe(end);
      expect(moved.get('boot page tables')).toEqual([cr3, initEnd]);
    },
  );

  it('is the decompressed file, then its segments, of which those that move are written again', async () => {
    const trace = await traceOf({ entry: 'long64' });
    const output = image.header.get('pref_address');
    expect(at(trace, 'decompressed').get('decompressed ELF file')![0]).toBe(output);
    const kernel = at(trace, 'kernel');
    expect(kernel.has('decompressed ELF file')).toBe(false);
    for (const [index, { paddr, memsz, flags }] of trace.kernel!.segments.entries()) {
      expect(kernel.get(`kernel segment ${index} (${flags})`)).toEqual([
        Number(paddr),
        Number(paddr + memsz),
      ]);
    }
    // Nothing that a loader placed lies in the way.
    expect(trace.phases.flatMap(({ overwritten }) => overwritten.map(({ region }) => region))).toEqual([]);
  });

  it('is lost in the phase that writes over it', async () => {
    const bytes = new TextEncoder().encode('070701'.padEnd(0x100, '0'));
    const lost = async (initrdAddress: number): Promise<readonly string[]> => {
      const trace = await traceOf({ entry: 'long64', initrd: { path: 'initrd', bytes }, initrdAddress });
      return trace.phases.flatMap(({ name, overwritten }) =>
        overwritten.filter(({ region }) => region === 'initrd').map(({ by }) => `${name}: ${by}`),
      );
    };
    const trace = await traceOf({ entry: 'long64' });
    const [text, data] = trace.kernel!.segments;
    const decompressed = at(trace, 'decompressed').get('decompressed ELF file')!;
    expect(await lost(Number(text!.paddr))).toEqual(['decompressed: the decompressed kernel']);
    expect(await lost(at(trace, 'relocated').get('ZO copy')![0])).toEqual(['relocated: the copy of ZO']);
    expect(decompressed[1]).toBeGreaterThan(Number(data!.paddr));
    expect(await lost(decompressed[1] + 0x1000)).toEqual([]);
  });
});
