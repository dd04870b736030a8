import { describe, expect, it } from 'vitest';
import { findHazards, merge, type PlacementRules, runArea } from './hazards.ts';
import type { LayoutFacts } from './layout-facts.ts';
import { FACTS } from './test-facts.ts';

const RULES: PlacementRules = {
  initrdAddressMax: 0x7fff_ffff,
  relocatable: true,
  alignment: 0x20_0000,
  preferredAddress: 0x100_0000,
  initSize: 0xba_0000,
  loadAddress: 0x10_0000,
  linkedAddress: null,
  high: true,
};

function codes(facts: Partial<LayoutFacts>, rules: Partial<PlacementRules> = {}): string[] {
  return findHazards({ ...FACTS, ...facts }, { ...RULES, ...rules }).map(({ code }) => code);
}

describe('runArea', () => {
  it('starts at pref_address when loaded below, at the aligned load address when above', () => {
    expect(runArea(RULES)).toEqual({ start: 0x100_0000, end: 0x1ba_0000 });
    expect(runArea({ ...RULES, loadAddress: 0x210_0000 })?.start).toBe(0x220_0000);
  });

  it('starts at pref_address wherever a kernel that is not relocatable was loaded', () => {
    expect(runArea({ ...RULES, relocatable: false, loadAddress: 0x210_0000 })?.start).toBe(0x100_0000);
  });

  it('is not known without init_size', () => {
    expect(runArea({ ...RULES, initSize: null })).toBeNull();
  });
});

describe('findHazards', () => {
  it('finds nothing in a sound placement', () => {
    expect(codes({})).toEqual([]);
    expect(codes({ initrd: { start: 0x800_0000, end: 0x900_0000 } })).toEqual([]);
  });

  it('names an initrd in the run area with the bytes in the way and the addresses that are safe', () => {
    const initrd = { start: 0x134_3000, end: 0x144_3000 };
    const [hazard, ...others] = findHazards({ ...FACTS, initrd }, RULES);
    expect(others).toEqual([]);
    expect(hazard).toMatchObject({ code: 'run-area-overlap', start: 0x134_3000n, end: 0x144_3000n });
    expect(hazard?.text).toContain('0x1000000..0x1ba0000');
    expect(hazard?.text).toContain('0x1343000..0x1443000');
    expect(hazard?.advice).toContain('from 0x1ba0000 to 0xfee0000');
  });

  it('gives no hazard where the initrd begins with the byte behind the run area', () => {
    expect(codes({ initrd: { start: 0x1ba_0000, end: 0x1bb_0000 } })).toEqual([]);
    expect(codes({ initrd: { start: 0x1b9_ffff, end: 0x1bb_0000 } })).toEqual(['run-area-overlap']);
  });

  it('names command line and boot_params of a loader in the run area', () => {
    expect(codes({ commandLine: { start: 0x110_0000, end: 0x110_0010 } })).toEqual(['run-area-overlap']);
    const bootParams = { start: 0x120_0000, end: 0x120_1000 };
    expect(codes({ bootParams, bootParamsByLoader: true })).toEqual(['run-area-overlap']);
  });

  it('names setup_data in the run area', () => {
    expect(codes({ setupData: [{ start: 0x110_0000, end: 0x110_0020 }] })).toEqual(['run-area-overlap']);
  });

  it('counts what KASLR chose, and the copy of the stub that is made all the same', () => {
    const moved = { output: 0x800_0000, decompressed: [], kernelParts: [] };
    const chosen = [{ name: 'decompressed ELF file', start: 0x800_0000, end: 0x8b2_0000 }];
    const initrd = { start: 0x110_0000, end: 0x120_0000 };
    expect(codes({ ...moved, decompressed: chosen, initrd })).toEqual([]);
    expect(codes({ ...moved, decompressed: chosen, initrd: { start: 0x1b5_0000, end: 0x1b6_0000 } })).toEqual(
      ['stub-copy-overlap'],
    );
    expect(codes({ ...moved, decompressed: chosen, initrd: { start: 0x810_0000, end: 0x820_0000 } })).toEqual(
      ['run-area-overlap'],
    );
  });

  it('names a run area in reserved memory and beyond the end of RAM', () => {
    const hole = { start: 0x180_0000, end: 0x190_0000, type: 2 };
    const usable = [
      { start: 0, end: 0x9fc00 },
      { start: 0x10_0000, end: 0x180_0000 },
      { start: 0x190_0000, end: 0xffe_0000 },
    ];
    expect(codes({ usable, reserved: [...FACTS.reserved, hole] })).toEqual(['run-area-reserved']);
    const small = {
      ram: 0x180_0000,
      usable: [
        { start: 0, end: 0x9fc00 },
        { start: 0x10_0000, end: 0x180_0000 },
      ],
      reserved: FACTS.reserved.slice(0, 2),
    };
    const [hazard] = findHazards({ ...FACTS, ...small }, RULES);
    expect(hazard).toMatchObject({ code: 'run-area-beyond-ram', start: 0x180_0000n, end: 0x1ba_0000n });
  });

  it('names a hole of the memory map in the run area', () => {
    const usable = [
      { start: 0, end: 0x9fc00 },
      { start: 0x10_0000, end: 0x180_0000 },
      { start: 0x181_0000, end: 0xffe_0000 },
    ];
    expect(codes({ usable })).toEqual(['run-area-beyond-ram']);
  });

  it('names none of what was loaded with no bytes', () => {
    const loaded = { start: 0x7000_0000, end: 0x7000_0000 };
    expect(codes({ loaded, initrd: loaded }, { linkedAddress: 0x10_0000, initSize: null })).toEqual([]);
  });

  it('names an initrd above initrd_addr_max, and one beyond RAM', () => {
    const initrd = { start: 0x800_0000, end: 0x900_0000 };
    expect(codes({ initrd }, { initrdAddressMax: 0x8ff_fffe })).toEqual(['initrd-above-max']);
    expect(codes({ initrd }, { initrdAddressMax: 0x8ff_ffff })).toEqual([]);
    expect(codes({ initrd: { start: 0xffd_0000, end: 0x1001_0000 } })).toEqual([
      'not-usable-ram',
      'beyond-ram',
    ]);
  });

  it('names what a loader put over each other', () => {
    const initrd = { start: 0x21_0000, end: 0x31_0000 };
    const [hazard] = findHazards({ ...FACTS, initrd }, RULES);
    expect(hazard).toMatchObject({ code: 'placement-overlap', start: 0x21_0000n, end: 0x22_0000n });
    expect(codes({ commandLine: { start: 0x95000, end: 0x95010 } })).toEqual(['placement-overlap']);
  });

  it("names setup's stack over its own code, and in the EBDA", () => {
    const memory = FACTS.setupMemory!;
    const low = { ...memory, stack: { start: 0x94c00, end: 0x95000 } };
    expect(codes({ setupMemory: low, setupStackEnd: 0x95000 })).toEqual(['setup-heap-over-setup']);
    expect(codes({ setupStackEnd: 0x9fd00, commandLine: null })).toEqual(['setup-heap-over-ebda']);
  });

  it('names a memory map that has no RAM where setup lies', () => {
    const low = { start: 0, end: 0x9_0000 };
    const usable = [low, FACTS.usable[1]!];
    const found = findHazards({ ...FACTS, usable, commandLine: null }, RULES);
    expect(found).toMatchObject([{ code: 'beyond-ram', start: 0x90000n, end: 0x9e000n }]);
    const reserved = [{ start: 0x9_0000, end: 0x9_fc00, type: 2 }, ...FACTS.reserved];
    expect(codes({ usable, reserved, commandLine: null })).toEqual(['not-usable-ram']);
  });

  it('names an init_size that is too small, by how much and for what', () => {
    const initSizeNeeds = [
      { bytes: 0xb9_0000, what: 'the stub has' },
      { bytes: 0xba_1234, what: 'the kernel takes' },
    ];
    const [hazard, ...others] = findHazards({ ...FACTS, initSizeNeeds }, RULES);
    expect(others).toEqual([]);
    expect(hazard).toMatchObject({ code: 'init-size-too-small', start: 0x1ba_0000n, end: 0x1ba_1234n });
    expect(hazard?.text).toBe('init_size is 0xba0000, 0x1234 bytes less than the kernel takes (0xba1234)');
    expect(hazard?.advice).toContain('0xba2000 or more');
    expect(codes({ initSizeNeeds }, { initSize: 0xba_1234 })).toEqual([]);
    expect(codes({ initSizeNeeds }, { initSize: null })).toEqual([]);
  });

  it('names what the stub writes outside itself, and what it hits there', () => {
    const strayVariables = [{ start: 0x60_0000, end: 0x60_000c }];
    const text = (facts: Partial<LayoutFacts>): string | undefined =>
      findHazards({ ...FACTS, strayVariables, ...facts }, RULES)[0]?.text;
    expect(codes({ strayVariables })).toEqual(['stray-variables']);
    expect(text({})).toContain('it writes 0xc bytes there, where no loader placed anything');
    expect(text({ initrd: { start: 0x50_0000, end: 0x60_0004 } })).toContain('over the initrd');
    expect(text({ loaded: { start: 0x10_0000, end: 0x60_0004 } })).toContain('over the image as loaded');
  });

  it('names a load address only for a stub that runs at another address and nowhere else', () => {
    const loaded = { start: 0x200_0000, end: 0x212_0000 };
    const moved = { loaded, started: loaded };
    expect(codes(moved, { loadAddress: 0x200_0000 })).toEqual([]);
    expect(codes(moved, { loadAddress: 0x200_0000, relocatable: false })).toEqual([]);
    expect(codes(moved, { loadAddress: 0x200_0000, linkedAddress: 0x10_0000 })).toEqual(['load-address']);
  });

  it('advises the highest free RAM, below what the memory map and the size of RAM allow', () => {
    const initrd = { start: 0x134_3000, end: 0x144_3000 };
    const advice = (facts: Partial<LayoutFacts>) =>
      findHazards({ ...FACTS, initrd, ...facts }, RULES).find(({ code }) => code === 'run-area-overlap')
        ?.advice;
    expect(advice({ ram: 0x800_0000 })).toContain('to 0x7f00000');
    // By the order of addresses, not of the map.
    const parts = [
      { start: 0x400_0000, end: 0xffe_0000 },
      { start: 0x10_0000, end: 0x300_0000 },
    ];
    expect(advice({ usable: parts })).toContain('from 0x4000000');
    expect(advice({ usable: parts.toReversed() })).toBe(advice({ usable: parts }));
    const large = { start: 0x134_3000, end: 0x234_3000 };
    expect(advice({ ram: 0x1c0_0000, usable: [{ start: 0x10_0000, end: 0x1c0_0000 }], initrd: large })).toBe(
      'no free RAM of 0x1000000 bytes is left for the initrd in 28 MiB; give the guest more',
    );
    // What else was placed is not free.
    const setupData = [{ start: 0xfe0_0000, end: 0xfe0_1000 }];
    expect(advice({ setupData })).toContain('from 0xfe01000');
    expect(advice({ commandLine: setupData[0]! })).toContain('from 0xfe01000');
  });

  it('advises for a command line of setup a place below 640 KiB', () => {
    const commandLine = { start: 0x110_0000, end: 0x110_0010 };
    const [hazard] = findHazards({ ...FACTS, commandLine }, RULES);
    expect(hazard?.advice).toMatch(/from 0x1000 to 0x8f[0-9a-f]{3}$/);
    const [without] = findHazards({ ...FACTS, commandLine, setup: null, setupStackEnd: null }, RULES);
    expect(without?.advice).toContain('from 0x1ba0000');
  });

  it('finds where the kernel goes by its segments, and by what was decompressed beside them, where KASLR decides', () => {
    const kaslr = { output: 0x400_0000, runArea: { start: 0x100_0000, end: 0x1ba_0000 } };
    const kernelParts = FACTS.kernelParts.map((part) => ({
      ...part,
      start: part.start + 0x300_0000,
      end: part.end + 0x300_0000,
    }));
    const decompressed = [{ name: 'decompressed ELF file', start: 0x500_0000, end: 0x510_0000 }];
    const texts = (initrd: { start: number; end: number }) =>
      findHazards({ ...FACTS, ...kaslr, kernelParts, decompressed, copy: null, initrd }, RULES).map(
        ({ text }) => text,
      );
    expect(texts({ start: 0x420_0000, end: 0x430_0000 }).join()).toContain('its segments');
    expect(texts({ start: 0x508_0000, end: 0x50a_0000 }).join()).toContain('the decompressed ELF file');
    expect(texts({ start: 0x600_0000, end: 0x610_0000 })).toEqual([]);
    // A piece inside of a segment is told of as that.
    const inside = [{ name: 'decompressed ELF file', start: 0x400_0000, end: 0x410_0000 }];
    const found = findHazards(
      {
        ...FACTS,
        ...kaslr,
        kernelParts,
        decompressed: inside,
        copy: null,
        initrd: { start: 0x408_0000, end: 0x409_0000 },
      },
      RULES,
    );
    expect(found.map(({ text }) => text).join()).not.toContain('decompressed ELF file');
    expect(found).toHaveLength(1);
  });

  it('knows nothing of a setup whose place or stack is not known', () => {
    const low = { usable: [FACTS.usable[1]!], commandLine: null };
    expect(codes({ ...low, setupStackEnd: null })).toEqual([]);
    expect(codes({ ...low, setup: null })).toEqual([]);
  });

  it('names a load where the memory map has nothing', () => {
    const loaded = { start: 0xff0_0000, end: 0x1020_0000 };
    const reserved = FACTS.reserved.slice(0, 2);
    const usable = [FACTS.usable[0]!, { start: 0x10_0000, end: 0xff8_0000 }];
    const found = findHazards({ ...FACTS, loaded, started: null, reserved, usable }, RULES).filter(
      ({ code }) => code === 'load-address',
    );
    expect(found.map(({ text, advice }) => [text, advice])).toEqual([
      [
        'the protected-mode code was loaded at 0xff00000..0x10200000, where 0xff80000..0x10200000 is no RAM',
        'load it below 0xff80000, or give the guest more RAM',
      ],
    ]);
  });
});

describe('merge', () => {
  it('joins what overlaps, touches, or lies less than the gap apart', () => {
    const extents = [
      { start: 30, end: 40 },
      { start: 0, end: 10 },
      { start: 10, end: 12 },
      { start: 2, end: 5 },
    ];
    expect(merge(extents)).toEqual([
      { start: 0, end: 12 },
      { start: 30, end: 40 },
    ]);
    expect(merge(extents, 18)).toHaveLength(2);
    expect(merge(extents, 19)).toEqual([{ start: 0, end: 40 }]);
    expect(merge([])).toEqual([]);
  });
});
