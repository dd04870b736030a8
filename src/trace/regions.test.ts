import { describe, expect, it } from 'vitest';
import type { PhaseName } from './boot-trace.ts';
import { type LayoutFacts, regionsAt } from './regions.ts';
import { FACTS, REGISTERS } from './test-facts.ts';

function namesAt(phase: PhaseName, facts: LayoutFacts = FACTS): string[] {
  return regionsAt(phase, facts, REGISTERS).map(({ name }) => name);
}

function regionAt(phase: PhaseName, name: string, facts: LayoutFacts = FACTS, registers = REGISTERS) {
  return regionsAt(phase, facts, registers).find((region) => region.name === name);
}

describe('regionsAt', () => {
  it('has the memory map of a PC in every phase', () => {
    for (const phase of ['setup', 'startup_32', 'kernel'] as const) {
      const names = namesAt(phase);
      expect(names).toEqual(
        expect.arrayContaining(['IVT', 'BDA', 'EBDA', 'VGA memory', 'BIOS ROM', 'E820 reserved']),
      );
    }
  });

  it('gives each region of a phase a name of its own', () => {
    for (const phase of ['setup', 'relocated', 'decompressed', 'kernel'] as const) {
      const names = namesAt(phase);
      expect(new Set(names).size).toBe(names.length);
    }
  });

  it('sorts by start, the larger one first', () => {
    const regions = regionsAt('decompressed', FACTS, REGISTERS);
    for (const [index, region] of regions.slice(1).entries()) {
      const before = regions[index]!;
      expect(before.start <= region.start).toBe(true);
      if (before.start === region.start) expect(before.end >= region.end).toBe(true);
    }
  });

  it("shows setup's heap and stack only while setup runs", () => {
    expect(namesAt('setup')).toEqual(expect.arrayContaining(['setup heap', 'setup stack', 'setup bss']));
    expect(namesAt('startup_32')).not.toContain('setup heap');
  });

  it("says that heap and stack of an unknown setup's are deduced", () => {
    const region = regionAt('setup', 'setup heap and stack', { ...FACTS, setupMemory: null });
    expect(region).toMatchObject({ start: 0x94000n, end: 0x9e000n, inferred: true });
  });

  it('shows boot_params that setup makes from startup_32 on, those of a loader from the start', () => {
    expect(namesAt('setup')).not.toContain('boot_params');
    expect(namesAt('startup_32')).toContain('boot_params');
    expect(namesAt('setup', { ...FACTS, bootParamsByLoader: true })).toContain('boot_params');
  });

  it('shows the copy of ZO with its parts from relocated on, at the copy address', () => {
    expect(namesAt('startup_64')).not.toContain('ZO copy');
    expect(regionAt('relocated', 'ZO copy payload')).toMatchObject({
      start: 0x1a4_0300n,
      end: 0x1b4_0300n,
      parent: 'ZO copy',
    });
    expect(regionAt('relocated', 'ZO bss')).toMatchObject({ start: 0x1b6_0000n, kind: 'bss' });
    expect(regionAt('relocated', 'boot stack')).toMatchObject({ parent: 'ZO bss', inferred: true });
  });

  it('shows the page tables that startup_32 has built for the copy as soon as they are in force', () => {
    expect(namesAt('startup_64')).not.toContain('boot page tables');
    const registers = { ...REGISTERS, tables: [{ address: 0x1b8_0000n, size: 4096, level: 4 }] };
    expect(regionAt('startup_64', 'boot page tables', FACTS, registers)).toMatchObject({
      start: 0x1b8_0000n,
    });
  });

  it('joins tables that follow each other to one region', () => {
    const tables = [0x1b8_0000n, 0x1b8_1000n, 0x1b8_4000n].map((address) => ({
      address,
      size: 4096,
      level: 4,
    }));
    const regions = regionsAt('startup_64', FACTS, { ...REGISTERS, tables });
    expect(regions.filter(({ name }) => name.startsWith('page tables in force'))).toMatchObject([
      { start: 0x1b8_0000n, end: 0x1b8_2000n },
      { name: 'page tables in force 2', start: 0x1b8_4000n, end: 0x1b8_5000n },
    ]);
  });

  it('shows the gap that keeps the writer behind the reader while the payload is decompressed in place', () => {
    expect(regionAt('relocated', 'in-place gap')).toMatchObject({ start: 0x1b2_0000n, end: 0x1b4_0300n });
    expect(namesAt('relocated', { ...FACTS, output: 0x800_0000 })).not.toContain('in-place gap');
  });

  it('shows a zImage where setup has moved it', () => {
    const facts = {
      ...FACTS,
      copy: null,
      loaded: { start: 0x10000, end: 0x20000 },
      started: { start: 0x1000, end: 0x11000 },
    };
    expect(regionAt('setup', 'ZO as loaded', facts)).toMatchObject({ start: 0x10000n });
    expect(regionAt('startup_32', 'ZO moved down', facts)).toMatchObject({ start: 0x1000n });
    expect(namesAt('startup_32', facts)).not.toContain('ZO as loaded');
  });

  it('shows the ELF file until its segments are placed, and then segments with their sections', () => {
    expect(namesAt('decompressed')).toContain('decompressed ELF file');
    expect(namesAt('parse_elf')).not.toContain('decompressed ELF file');
    expect(regionAt('parse_elf', 'kernel .text')?.parent).toBe('kernel segment 0 (r-x)');
    expect(namesAt('decompressed')).not.toContain('kernel .text');
  });

  it("calls the area at the default address the stub's buffer where KASLR has chosen another", () => {
    const moved = { ...FACTS, output: 0x800_0000 };
    expect(namesAt('relocated', moved)).toContain('run area');
    expect(namesAt('decompressed', moved)).toContain('buffer of the stub');
  });

  it('takes the stack in use from the stack pointer up to where the stack began', () => {
    expect(regionAt('extract_kernel', 'stack in use')).toMatchObject({
      start: 0x1b6_3ff8n,
      end: 0x1b6_4000n,
    });
    const empty = { ...REGISTERS, rsp: 0x1b6_4000n };
    expect(regionAt('extract_kernel', 'stack in use', FACTS, empty)).toBeUndefined();
  });

  it('adds the base that real mode left in SS while no descriptor has been loaded', () => {
    const registers = { ...REGISTERS, mode: 'prot32', ss: 0x9000n, rsp: 0xdff0n };
    expect(regionAt('startup_32', 'stack in use', FACTS, registers)).toMatchObject({ start: 0x9dff0n });
  });

  it('names descriptor tables in protected mode only', () => {
    expect(namesAt('relocated')).toContain('GDT in force');
    const real = regionsAt('setup', FACTS, { ...REGISTERS, mode: 'real16', ss: 0x9000n, rsp: 0xe000n });
    expect(real.map(({ name }) => name)).not.toContain('GDT in force');
  });
});
