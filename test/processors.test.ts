// What a stub asks a processor of today, and what it does then: as events.

import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { boot, DEFAULT_BOOT_OPTIONS, readKernelImage } from '../src/index.ts';
import { CLOUD_KERNEL } from './debian-kernels.ts';

const why = existsSync(CLOUD_KERNEL) ? '' : ' (left out: images/cache/debian has no cloud kernel)';

async function eventsOf(cpu: string) {
  const image = await readKernelImage(CLOUD_KERNEL, readFileSync(CLOUD_KERNEL));
  const finished = await boot(image, { ...DEFAULT_BOOT_OPTIONS, cpu, cmdline: 'nokaslr', hash: false });
  finished.close();
  const { events, kernel } = finished.trace;
  return { events, entry: kernel?.entry };
}

describe.skipIf(why !== '')(`a stub on a processor of today${why}`, () => {
  it('leaves long mode for five-level paging in a trampoline below 1 MiB, which is told step by step', async () => {
    const { events, entry } = await eventsOf('sapphire-rapids');
    expect(entry).toBe(0x100_0000n);
    const low = events.filter(({ address, phase }) => address < 0xa0000n && phase === 'startup_64');
    expect(low.filter(({ kind }) => kind === 'mode').map(({ text }) => text)).toEqual([
      'long64 to compat32',
      'compat32 to prot32',
      'prot32 to compat32',
      'compat32 to long64',
    ]);
    const registers = low.filter(({ kind }) => kind === 'control-register').map(({ details }) => details);
    expect(registers.map(({ register }) => register)).toEqual(['cr0', 'cr3', 'cr4', 'cr0']);
    expect(registers[2]).toMatchObject({ value: '0x1020' });
    const asked = events.filter(({ kind, phase }) => kind === 'cpuid' && phase !== 'setup');
    expect(asked.map(({ text }) => text).join('\n')).toContain('CPUID 0x7 (five-level paging (LA57): yes)');
  });

  it('asks for encrypted memory where the processor has the leaf, and keeps four levels without LA57', async () => {
    const { events, entry } = await eventsOf('epyc-milan');
    expect(entry).toBe(0x100_0000n);
    const texts = events.filter(({ kind }) => kind === 'cpuid').map(({ text }) => text);
    expect(texts.some((text) => text.startsWith('CPUID 0x8000001f (AMD SEV: no)'))).toBe(true);
    expect(texts.some((text) => text.startsWith('CPUID 0x7 (five-level paging (LA57): no)'))).toBe(true);
    expect(events.filter(({ kind, phase }) => kind === 'mode' && phase === 'startup_64')).toEqual([]);
  });
});
