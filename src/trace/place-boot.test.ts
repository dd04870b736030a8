import { describe, expect, it } from 'vitest';
import {
  endLoaderPrograms,
  endSetup,
  placeBootParams,
  placeBootSector,
  placeDecompressed,
  placeFirmware,
  placeGap,
  placeKernel,
  placeLoaderProgram,
  placeRunArea,
  placeRunningZo,
  placeSetup,
  placeZo,
} from './place-boot.ts';
import { type LayoutRegisters, layoutAt, Placements } from './placements.ts';
import { FACTS, REGISTERS } from './test-facts.ts';

/** A boot by its phases, each with what is placed before it begins. */
class Boot {
  #phases = 0;
  readonly to = new Placements(() => ({ phases: this.#phases, instructions: this.#phases * 100 }));

  phase(): void {
    this.#phases++;
  }

  at(phase: number, registers: LayoutRegisters = REGISTERS) {
    return layoutAt(this.to, phase, registers, { tops: [0x9e000, 0x1b6_4000], ram: FACTS.ram });
  }

  names(phase: number, registers: LayoutRegisters = REGISTERS): string[] {
    return this.at(phase, registers).map(({ name }) => name);
  }

  find(phase: number, name: string, registers: LayoutRegisters = REGISTERS) {
    return this.at(phase, registers).find((region) => region.name === name);
  }
}

const SETUP = FACTS.setup!;
const [LOADED, COPY] = [FACTS.loaded!, FACTS.copy!];
const [IN_SETUP, STARTED, RELOCATED, DECOMPRESSED, PARSED] = [0, 1, 2, 3, 4];

/** The whole boot that the facts tell of, up to parse_elf. */
function wholeBoot(): Boot {
  const boot = new Boot();
  const { to } = boot;
  placeFirmware(to, FACTS.ebda, FACTS.reserved);
  placeSetup(to, SETUP, FACTS.setupMemory, FACTS.setupStackEnd);
  placeZo(to, 'loaded', LOADED, FACTS.zo);
  boot.phase();
  endSetup(to);
  placeBootParams(to, FACTS.bootParams, 'setup');
  placeRunArea(to, FACTS.runArea, true);
  boot.phase();
  placeZo(to, 'copy', COPY, FACTS.zo);
  placeRunningZo(to, COPY.start, FACTS.zo);
  placeGap(to, { start: 0x100_0000, end: 0x1b2_0000 }, { start: 0x1a4_0300, end: 0x1b4_0300 });
  boot.phase();
  placeDecompressed(to, FACTS.decompressed, FACTS.relocations);
  boot.phase();
  placeKernel(to, FACTS.kernelParts, 'extract_kernel');
  boot.phase();
  return boot;
}

describe('the placements of a boot', () => {
  it('have the memory map of a PC in every phase', () => {
    const boot = wholeBoot();
    for (let phase = IN_SETUP; phase <= PARSED; phase++) {
      expect(boot.names(phase)).toEqual(
        expect.arrayContaining(['IVT', 'BDA', 'EBDA', 'VGA memory', 'BIOS ROM', 'E820 reserved']),
      );
    }
  });

  it('give each region of a phase a name of its own, sorted by start, the larger one first', () => {
    const boot = wholeBoot();
    for (let phase = IN_SETUP; phase <= PARSED; phase++) {
      const regions = boot.at(phase);
      expect(new Set(regions.map(({ name }) => name)).size).toBe(regions.length);
      for (const [index, region] of regions.slice(1).entries()) {
        const before = regions[index]!;
        expect(before.start <= region.start).toBe(true);
        if (before.start === region.start) expect(before.end >= region.end).toBe(true);
      }
    }
  });

  it('say what a region is, who put it there and since when', () => {
    const boot = wholeBoot();
    expect(boot.find(RELOCATED, 'ZO copy payload')).toMatchObject({
      ...{ role: 'payload', zo: 'copy', by: 'stub', since: 200, parent: 'ZO copy' },
      ...{ start: 0x1a4_0300n, end: 0x1b4_0300n },
    });
    expect(boot.find(STARTED, 'setup')).toMatchObject({ role: 'setup', by: 'loader', since: 0 });
    expect(boot.find(PARSED, 'kernel .text')).toMatchObject({ role: 'kernel-section', segment: 0 });
    expect(boot.find(RELOCATED, 'GDT in force')).toMatchObject({ role: 'gdt', by: 'cpu' });
  });

  it("show setup's heap and stack only while setup runs", () => {
    const boot = wholeBoot();
    expect(boot.names(IN_SETUP)).toEqual(expect.arrayContaining(['setup heap', 'setup stack', 'setup bss']));
    expect(boot.names(STARTED)).not.toContain('setup heap');
    expect(boot.names(STARTED)).toContain('setup bss');
  });

  it("say that heap and stack of an unknown setup's are deduced", () => {
    const boot = new Boot();
    placeSetup(boot.to, SETUP, null, FACTS.setupStackEnd);
    expect(boot.find(0, 'setup heap and stack')).toMatchObject({
      start: 0x94000n,
      end: 0x9e000n,
      inferred: true,
    });
  });

  it('show the copy of ZO, and what it has set up, from when it was made on', () => {
    const boot = wholeBoot();
    expect(boot.names(STARTED)).not.toContain('ZO copy');
    expect(boot.find(RELOCATED, 'ZO bss')).toMatchObject({ start: 0x1b6_0000n, kind: 'bss', role: 'zo-bss' });
    expect(boot.find(RELOCATED, 'boot stack')).toMatchObject({ parent: 'ZO bss', inferred: true });
    expect(boot.names(RELOCATED)).toContain('ZO as loaded');
  });

  it('do not repeat page tables that were built before the copy', () => {
    const boot = new Boot();
    placeRunningZo(
      boot.to,
      COPY.start,
      FACTS.zo.filter(({ name }) => name === 'page tables'),
    );
    placeRunningZo(boot.to, COPY.start, FACTS.zo);
    expect(boot.names(0).filter((name) => name.startsWith('boot page tables'))).toHaveLength(1);
  });

  it('show the gap that keeps the writer behind the reader only where the kernel is decompressed in place', () => {
    expect(wholeBoot().find(RELOCATED, 'in-place gap')).toMatchObject({
      start: 0x1b2_0000n,
      end: 0x1b4_0300n,
    });
    expect(wholeBoot().names(PARSED)).not.toContain('in-place gap');
    const boot = new Boot();
    placeGap(boot.to, { start: 0x800_0000, end: 0x8b2_0000 }, { start: 0x1a4_0300, end: 0x1b4_0300 });
    expect(boot.names(0)).not.toContain('in-place gap');
  });

  it('show a zImage where setup has moved it', () => {
    const boot = new Boot();
    placeZo(boot.to, 'loaded', { start: 0x10000, end: 0x20000 }, FACTS.zo);
    boot.phase();
    placeZo(boot.to, 'moved', { start: 0x1000, end: 0x11000 }, FACTS.zo);
    expect(boot.find(0, 'ZO as loaded')).toMatchObject({ start: 0x10000n, zo: 'loaded' });
    expect(boot.find(1, 'ZO moved down')).toMatchObject({ start: 0x1000n, zo: 'moved' });
    expect(boot.names(1).filter((name) => name.startsWith('ZO as loaded'))).toEqual([]);
  });

  it('show the ELF file until its segments are placed, and then segments with their sections', () => {
    const boot = wholeBoot();
    expect(boot.names(DECOMPRESSED)).toContain('decompressed ELF file');
    expect(boot.names(DECOMPRESSED)).not.toContain('kernel .text');
    expect(boot.names(PARSED)).not.toContain('decompressed ELF file');
    expect(boot.find(PARSED, 'kernel .text')?.parent).toBe('kernel segment 0 (r-x)');
  });

  it('have nothing that is empty, and say of deduced parts that they are', () => {
    const boot = new Boot();
    boot.to.add({ start: 0x5000, end: 0x5000 }, { name: 'empty' } as never);
    boot.to.add({ start: 0x5000, end: 0x4000 }, { name: 'negative' } as never);
    boot.to.add(null, { name: 'unknown' } as never);
    expect(boot.to.present).toEqual([]);
    const parts = FACTS.zo.map((part) => ({ ...part, inferred: part.name === 'head' }));
    placeZo(boot.to, 'loaded', LOADED, parts);
    expect(boot.find(0, 'ZO as loaded head')).toMatchObject({ inferred: true });
    expect(boot.find(0, 'ZO as loaded payload')).not.toHaveProperty('inferred');
    expect(boot.find(0, 'ZO as loaded')).not.toHaveProperty('parent');
  });

  it('have in the bss of ZO only what lies in it', () => {
    const boot = new Boot();
    placeRunningZo(boot.to, COPY.start, FACTS.zo);
    expect(boot.find(0, 'boot stack')).toMatchObject({ parent: 'ZO bss' });
    expect(boot.find(0, 'ZO bss')).not.toHaveProperty('parent');
    expect(boot.find(0, 'boot page tables')).not.toHaveProperty('parent');
    const across = new Boot();
    const base = { inFile: false, source: 'code', inferred: false };
    placeRunningZo(across.to, 0, [
      { ...base, name: 'bss', start: 0x1000, end: 0x2000 },
      { ...base, name: 'stack', start: 0x800, end: 0x1800 },
      { ...base, name: 'heap', start: 0x1800, end: 0x2800 },
    ]);
    expect(across.find(0, 'boot stack')).not.toHaveProperty('parent');
    expect(across.find(0, 'boot heap')).not.toHaveProperty('parent');
    const none = new Boot();
    placeRunningZo(
      none.to,
      COPY.start,
      FACTS.zo.filter(({ name }) => name === 'stack'),
    );
    expect(none.find(0, 'boot stack')).not.toHaveProperty('parent');
  });

  it('have no gap where output or payload is not known', () => {
    const boot = new Boot();
    placeGap(boot.to, null, LOADED);
    placeGap(boot.to, LOADED, null);
    expect(boot.to.present).toEqual([]);
  });

  it('end the programs of a boot loader, and nothing else, when they are of no use any more', () => {
    const boot = new Boot();
    placeBootSector(boot.to, { start: 0x7c00, end: 0x7e00 });
    placeLoaderProgram(boot.to, { start: 0x8000, end: 0x9000 }, 'ldlinux', 'file');
    boot.phase();
    endLoaderPrograms(boot.to);
    expect([boot.names(0), boot.names(1)].map((names) => names.includes('ldlinux'))).toEqual([true, false]);
    expect(boot.names(1)).toContain('boot sector');
  });

  it("call the area at the default address the stub's buffer once KASLR has chosen another", () => {
    const boot = new Boot();
    placeRunArea(boot.to, FACTS.runArea, true);
    boot.phase();
    placeRunArea(boot.to, FACTS.runArea, false);
    expect(boot.names(0)).toContain('run area');
    expect(boot.names(1)).toEqual(expect.arrayContaining(['buffer of the stub']));
    expect(boot.names(1)).not.toContain('run area');
  });
});

describe('what the registers name', () => {
  const boot = new Boot();

  it('joins tables that follow each other to one region', () => {
    const tables = [0x1b8_0000n, 0x1b8_1000n, 0x1b8_4000n].map((address) => ({
      address,
      size: 4096,
      level: 4,
    }));
    const regions = boot.at(0, { ...REGISTERS, tables });
    expect(regions.filter(({ role }) => role === 'page-tables')).toMatchObject([
      { start: 0x1b8_0000n, end: 0x1b8_2000n },
      { name: 'page tables in force 2', start: 0x1b8_4000n, end: 0x1b8_5000n },
    ]);
  });

  it('takes the stack in use from the stack pointer up to where the stack began', () => {
    expect(boot.find(0, 'stack in use')).toMatchObject({ start: 0x1b6_3ff8n, end: 0x1b6_4000n });
    expect(boot.find(0, 'stack in use', { ...REGISTERS, rsp: 0x1b6_4000n })).toBeUndefined();
  });

  it('knows no stack where the pointer is a little above where one began, and guesses a page elsewhere', () => {
    const at = (rsp: bigint) => boot.find(0, 'stack in use', { ...REGISTERS, rsp });
    for (const popped of [0n, 8n, 64n]) expect(at(0x1b6_4000n + popped)).toBeUndefined();
    expect(at(0x1b6_4041n)).toMatchObject({ start: 0x1b6_4041n, end: 0x1b6_5000n, inferred: true });
    expect(at(0x1b6_4041n)?.source).toBe('from the stack pointer to the end of its page');
    expect(at(0x1b6_3ff8n)).not.toHaveProperty('inferred');
    expect(at(0x1b6_3ff8n)?.source).toBe('from the stack pointer to where it began');
    expect(at(0x1b5_4000n)).toMatchObject({ start: 0x1b5_4000n, end: 0x1b6_4000n });
    expect(at(0x1b5_3fffn)).toMatchObject({ start: 0x1b5_3fffn, end: 0x1b5_4000n, inferred: true });
    expect(at(BigInt(FACTS.ram))).toBeUndefined();
  });

  it('adds the base that real mode left in SS while no descriptor has been loaded', () => {
    const registers = { ...REGISTERS, mode: 'prot32', ss: 0x9000n, rsp: 0xdff0n };
    expect(boot.find(0, 'stack in use', registers)).toMatchObject({ start: 0x9dff0n });
  });

  it('has descriptor tables in protected mode only', () => {
    expect(boot.names(0)).toContain('GDT in force');
    const real = boot.names(0, { ...REGISTERS, mode: 'real16', ss: 0x9000n, rsp: 0xe000n });
    expect(real).not.toContain('GDT in force');
    expect(boot.names(0)).not.toContain('IDT in force');
    const idtr = { base: 0x5000n, limit: 0xff };
    expect(boot.find(0, 'IDT in force', { ...REGISTERS, idtr })).toMatchObject({
      ...{ start: 0x5000n, end: 0x5100n, role: 'idt', source: 'IDTR' },
    });
  });
});
