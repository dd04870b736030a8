import { describe, expect, it } from 'vitest';
import { BootscopeError } from '../error.ts';
import { PhysicalMemory } from '../x86/physical-memory.ts';
import { findStub } from './find-stub.ts';
import { chooseRandomLocation, drawLocation, kaslrSeeds } from './kaslr.ts';
import { type EntropySource, listedEntropy, parseKaslrOption, streamEntropy } from './kaslr-entropy.ts';
import { findKaslr, type KaslrGeneration } from './kaslr-generation.ts';
import { bootSeed, mixRandom } from './kaslr-seed.ts';
import { findKaslrSlots, type KaslrInput, physicalSlot } from './kaslr-slots.ts';
import {
  KASLR_BOOT_PARAMS,
  KASLR_BUILD_STRING,
  KASLR_INPUT,
  KASLR_INPUT_LENGTH,
  KASLR_RAM,
  KASLR_SCENARIOS,
  type KaslrScenario,
  writeKaslrMemory,
} from './test-kaslr.ts';
import { makeStub32 } from './test-stubs.ts';

const SINCE_510: KaslrGeneration = {
  kind: 'separate',
  avoids: 'whole',
  optIn: false,
  setsFlag: true,
  maxOffset: null,
  memmap: true,
  mem: true,
  hugePages: true,
  setupIndirect: true,
  efiMap: true,
  softReserve: true,
  acceptsMemory: false,
  i8254Swapped: false,
  reportsEntry: false,
  noRegionWarning: 'Physical KASLR disabled: no suitable memory region!',
  since510: true,
  roundsSize: true,
  buildString: KASLR_BUILD_STRING,
};

function inputOf(scenario: KaslrScenario, generation: Partial<KaslrGeneration> = {}): KaslrInput {
  const ram = new Uint8Array(KASLR_RAM);
  writeKaslrMemory(ram, scenario);
  return {
    bits: scenario.bits,
    generation: {
      ...SINCE_510,
      roundsSize: scenario.bits === 64,
      hugePages: scenario.bits === 64,
      ...generation,
    },
    memory: PhysicalMemory.of(ram),
    bootParams: KASLR_BOOT_PARAMS,
    input: KASLR_INPUT,
    inputLength: KASLR_INPUT_LENGTH,
    output: scenario.output ?? 0x1000000,
    outputSize: scenario.outputSize,
    loadPhysicalAddress: 0x1000000,
    alignment: 0x200000,
  };
}

function counts(values: readonly number[]): { source: EntropySource; used: () => number } {
  let used = 0;
  return {
    source: { rdrand: () => null, rdtsc: () => null, i8254: () => values[used++]! },
    used: () => used,
  };
}

const FIRST = KASLR_SCENARIOS[0]!;

describe('choose_random_location', () => {
  it.each(KASLR_SCENARIOS)('chooses what the guest’s own code chose: $name', (scenario) => {
    const entropy = counts(scenario.i8254);
    const choice = chooseRandomLocation(inputOf(scenario), entropy.source);
    expect([choice.physical.toString(16), choice.virtual.toString(16), entropy.used()]).toEqual([
      scenario.physical.toString(16),
      scenario.virtual.toString(16),
      scenario.counts,
    ]);
  });

  it('sets KASLR_FLAG unless KASLR is off', () => {
    const on = inputOf(FIRST);
    chooseRandomLocation(on, counts([1, 2]).source);
    expect(on.memory.read8(KASLR_BOOT_PARAMS + 0x211)).toBe(0x02);
    const off = inputOf({ ...FIRST, commandLine: 'nokaslr' });
    expect(chooseRandomLocation(off, counts([]).source).slots.disabled).toContain('nokaslr');
    expect(off.memory.read8(KASLR_BOOT_PARAMS + 0x211)).toBe(0);
  });

  it('takes RDRAND and the time stamp counter, and then not the timer', () => {
    const asked: string[] = [];
    const source: EntropySource = {
      rdrand: () => {
        asked.push('rdrand');
        return 1n;
      },
      rdtsc: () => {
        asked.push('rdtsc');
        return 2n;
      },
      i8254: () => {
        asked.push('i8254');
        return 3;
      },
    };
    const choice = chooseRandomLocation(inputOf(FIRST), source);
    expect(asked).toEqual(['rdrand', 'rdtsc', 'rdrand', 'rdtsc']);
    expect(choice.draws[0]?.random).toBe(mixRandom(choice.draws[0]!.seed ^ 1n ^ 2n, 64));
  });

  it('counts what was printed between the draws in the second seed', () => {
    const input = inputOf(FIRST);
    let printed = 0;
    const choice = chooseRandomLocation(input, counts([1, 2]).source, {
      warn: () => {},
      debug: () => {
        input.memory.write8(KASLR_BOOT_PARAMS, ++printed);
      },
    });
    expect(choice.draws[0]!.seed).not.toBe(choice.draws[1]!.seed);
  });

  it('warns as the stub does when no slot is left', () => {
    const choice = chooseRandomLocation(
      inputOf({ ...FIRST, e820: [[0, 0x9fc00, 1]] }),
      counts([1, 2]).source,
    );
    expect(choice.warnings).toEqual([
      'Invalid physical address chosen!\n',
      'Physical KASLR disabled: no suitable memory region!',
    ]);
    expect(choice.physical).toBe(0x1000000);
  });
});

describe('what the search for slots says', () => {
  const said = (scenario: KaslrScenario, generation: Partial<KaslrGeneration> = {}): string[] => {
    const texts: string[] = [];
    chooseRandomLocation(inputOf(scenario, generation), counts([1, 2]).source, {
      warn: (text) => texts.push(text),
      debug: (text) => texts.push(text),
    });
    return texts;
  };

  it('is that its hundred areas are full, before the first draw', () => {
    const e820 = Array.from(
      { length: 110 },
      (_, index) => [0x2000000 + index * 0x1800000, 0x1400000, 1] as const,
    );
    const texts = said({ ...FIRST, e820, commandLine: '' });
    expect(texts.slice(0, 2)).toEqual(['Aborted e820 scan (slot_areas full)!\n', 'Physical']);
    expect(findKaslrSlots(inputOf({ ...FIRST, e820, commandLine: '' })).areas).toHaveLength(100);
    expect(said({ ...FIRST, e820: e820.slice(0, 99), commandLine: '' })[0]).toBe('Physical');
  });

  it('is that there are more than four memmap= in one list', () => {
    const commandLine = 'memmap=1M$1G,1M$2G,1M$3G,1M$4G,1M$5G';
    expect(said({ ...FIRST, commandLine })[0]).toBe(
      'Aborted memory entries scan (more than 4 memmap= args)!\n',
    );
  });

  it('is a warning, or with the first kernels a remark, when the one address of 3.14 to 4.7 has no place', () => {
    const old: Partial<KaslrGeneration> = { kind: 'physical', memmap: false, roundsSize: false };
    const e820 = [[0, 0x9fc00, 1]] as const;
    expect(said({ ...FIRST, e820 }, { ...old, avoids: 'parts' })).toEqual([
      'KASLR could not find suitable E820 region...\n',
    ]);
    const noRegionWarning = 'KASLR disabled: could not find suitable E820 region!';
    expect(said({ ...FIRST, e820 }, { ...old, avoids: 'whole', noRegionWarning })).toEqual([noRegionWarning]);
  });
});

describe('an option without its value', () => {
  it('reads what lies at address 0: a mem that is no number ends the reading', () => {
    const input = inputOf({ ...FIRST, commandLine: 'mem memmap=64M' });
    expect(findKaslrSlots(input).limit).toBe(2 ** 46);
    input.memory.view(0, 5).set(Buffer.from('512M\0', 'latin1'));
    expect(findKaslrSlots(input).limit).toBe(64 << 20);
    expect(
      findKaslrSlots({ ...input, memory: inputOf({ ...FIRST, commandLine: 'memmap memmap=64M' }).memory })
        .limit,
    ).toBe(64 << 20);
  });
});

describe('the one address of 3.14 to 4.7', () => {
  const OLD: Partial<KaslrGeneration> = {
    kind: 'physical',
    avoids: 'parts',
    setsFlag: false,
    memmap: false,
    mem: false,
    hugePages: false,
    since510: false,
    roundsSize: false,
  };

  it('is drawn once, lies above the given one and below 1 GiB, and moves the virtual one with it', () => {
    const entropy = counts([1234]);
    const choice = chooseRandomLocation(inputOf(FIRST, OLD), entropy.source);
    expect(entropy.used()).toBe(1);
    expect(choice.physical).toBe(choice.virtual);
    expect(choice.physical).toBeGreaterThanOrEqual(0x1000000);
    expect(choice.physical + FIRST.outputSize).toBeLessThanOrEqual(0x1ff00000);
    expect(choice.physical % 0x200000).toBe(0);
  });

  it('keeps clear of the end of the input, of heap and stack, and of nothing else of the stub', () => {
    const slots = findKaslrSlots({
      ...inputOf(FIRST, OLD),
      heapAndStack: { start: 0x1c00000, end: 0x1c14000 },
    });
    const unsafe = Math.floor(FIRST.outputSize / 4096) + 32768 + 18;
    expect(slots.avoided.map(({ start, end }) => [start, end])).toEqual([
      [KASLR_INPUT + KASLR_INPUT_LENGTH - unsafe, KASLR_INPUT + KASLR_INPUT_LENGTH],
      [0x99000, 0x99006],
      [0x1c00000, 0x1c14000],
    ]);
  });

  it.each([
    ['in the function that reads the memory map', '0f b6 8a e8010000 3d ffffff0f c3', 0x1000_0000],
    [
      'or in one that it calls',
      '0f b6 8a e8010000 e8 00000000 c7 45 fc 00000030 81 f9 00000010 c3',
      0x1000_0000,
    ],
    ['but nowhere else', '81 f9 00000010 c3', null],
    ['and only where it is one number', '0f b6 8a e8010000 81 f9 00000010 81 f9 00000018 c3', null],
  ])('ends below the limit that the code compares with, %s', (_, code, maxOffset) => {
    const version = '4.4.1 (builder@host) #1 SMP';
    const { image } = makeStub32('stack-rmode-heap-input', {
      payload: new Uint8Array(0x100),
      version,
      // A call of the code behind the return.
      extractKernel: Buffer.from(`e801000000c3${code.replaceAll(' ', '')}`, 'hex'),
      text: `nokaslr\0${version.replace(' #', ' (gcc version 5) #')}`,
    });
    const generation = findKaslr(image, findStub(image)!)!;
    expect(generation).toMatchObject({ kind: 'physical', maxOffset });
    const slots = findKaslrSlots(inputOf(FIRST, { ...OLD, maxOffset: generation.maxOffset }));
    expect(slots.limit).toBe(maxOffset ?? 2 ** 30);
    const last = physicalSlot(slots, slots.physicalSlots - 1);
    expect(last + FIRST.outputSize <= 0x1000_0000).toBe(maxOffset !== null);
  });

  it('leaves the virtual one alone where it is the given one', () => {
    const output = 0x2000000;
    const scenario = { ...FIRST, output, e820: [[output, 0xc00000, 1]] as const };
    const input = { ...inputOf(scenario, OLD), loadPhysicalAddress: 0x1000000 };
    const { physical, virtual, slots } = chooseRandomLocation(input, counts([1]).source);
    expect([slots.physicalSlots, physical, virtual]).toEqual([1, output, 0x1000000]);
    expect(
      drawLocation(slots, { physical: 1n, virtual: 1n } as never, input, listedEntropy([1n, 2n])),
    ).toEqual({ physical: output, virtual: null });
  });

  it('is drawn only with kaslr on the command line where hibernation is built in', () => {
    const input = inputOf(FIRST, { ...OLD, optIn: true });
    expect(findKaslrSlots(input).disabled).toContain('hibernation');
    expect(
      findKaslrSlots(inputOf({ ...FIRST, commandLine: 'kaslr' }, { ...OLD, optIn: true })).disabled,
    ).toBeNull();
  });
});

describe('the slots', () => {
  it('are counted and numbered through all areas, lowest first', () => {
    const slots = findKaslrSlots(inputOf(FIRST));
    expect(slots.physicalSlots).toBe(slots.areas.reduce((sum, { count }) => sum + count, 0));
    const addresses = Array.from({ length: slots.physicalSlots }, (_, slot) => physicalSlot(slots, slot));
    expect(addresses).toEqual(addresses.toSorted((a, b) => a - b));
    expect(new Set(addresses).size).toBe(addresses.length);
    expect(() => physicalSlot(slots, slots.physicalSlots)).toThrow(BootscopeError);
  });

  it('touch nothing that is avoided, and say why it is', () => {
    const slots = findKaslrSlots(inputOf(KASLR_SCENARIOS[2]!));
    expect(slots.avoided.map(({ reason }) => reason)).toContain('initrd');
    for (let slot = 0; slot < slots.physicalSlots; slot++) {
      const start = physicalSlot(slots, slot);
      for (const range of slots.avoided) {
        expect(range.start >= start + slots.imageSize || range.end <= start).toBe(true);
      }
    }
  });

  it('include a gap of exactly the image’s size since 5.10 only', () => {
    const scenario: KaslrScenario = {
      ...FIRST,
      e820: [[0x2000000, 0x4000000, 1]],
      initrd: [0x2c00000, 0x3400000],
      outputSize: 0xc00000,
    };
    expect(findKaslrSlots(inputOf(scenario)).physicalSlots).toBe(1);
    expect(findKaslrSlots(inputOf(scenario, { since510: false })).physicalSlots).toBe(0);
  });

  it('lose whole pages of 1 GiB to hugepages=, before 5.10 the last one of a region only if something follows', () => {
    const scenario: KaslrScenario = {
      ...FIRST,
      e820: [[0x40000000, 0x40000000, 1]],
      commandLine: 'hugepagesz=1G hugepages=1',
    };
    expect(findKaslrSlots(inputOf(scenario)).physicalSlots).toBe(0);
    expect(findKaslrSlots(inputOf(scenario, { since510: false })).physicalSlots).toBeGreaterThan(0);
  });

  it('lose several pages of 1 GiB in one region before 5.10, too', () => {
    const GIB = 2 ** 30;
    const e820 = [[GIB, 3.5 * GIB, 1]] as const;
    const commandLine = 'hugepagesz=1G hugepages=2';
    const input = inputOf({ ...FIRST, e820, commandLine }, { since510: false });
    expect(findKaslrSlots(input).areas.map(({ start }) => start)).toEqual([3 * GIB]);
  });

  it('are off without a command line, of which the stub takes a -1 for a yes', () => {
    const input = inputOf(FIRST);
    input.memory.write32(KASLR_BOOT_PARAMS + 0x228, 0);
    expect(findKaslrSlots(input).disabled).toBe('cmd_line_ptr is 0, which the stub takes for nokaslr');
    expect(findKaslrSlots(inputOf({ ...FIRST, commandLine: 'nokaslr' })).disabled).toBe(
      'nokaslr is on the command line',
    );
  });

  it('are as large as the kernel, rounded up to 2 MiB where the stub does that', () => {
    const scenario = { ...FIRST, outputSize: 0xb47998 };
    expect(findKaslrSlots(inputOf(scenario)).imageSize).toBe(0xc00000);
    expect(findKaslrSlots(inputOf(scenario, { roundsSize: false })).imageSize).toBe(0xb47998);
  });

  it('stop at a list of setup_data that never ends', () => {
    const input = inputOf({ ...FIRST, setupData: [[0x3000000, 1, 8]] });
    input.memory.write64(0x3000000, 0x3000000n);
    expect(() => findKaslrSlots(input)).toThrow(BootscopeError);
  });
});

describe('the memory map of EFI', () => {
  type Descriptor = readonly [type: number, start: number, pages: number, attributes?: bigint];
  const [CONVENTIONAL, LOADER_DATA, UNACCEPTED] = [7, 2, 15];
  const [MORE_RELIABLE, SPECIFIC_PURPOSE] = [0x10000n, 0x40000n];
  const MAP = 0x80000;

  function withMap(
    descriptors: readonly Descriptor[],
    {
      generation = {},
      scenario = {},
      signature = 'EL64',
    }: {
      readonly generation?: Partial<KaslrGeneration>;
      readonly scenario?: Partial<KaslrScenario>;
      readonly signature?: string;
    } = {},
  ): KaslrInput {
    const input = inputOf({ ...FIRST, ...scenario }, generation);
    const view = input.memory.dataView(0, KASLR_RAM);
    input.memory.view(KASLR_BOOT_PARAMS + 0x1c0, 4).set(Buffer.from(signature, 'latin1'));
    view.setUint32(KASLR_BOOT_PARAMS + 0x1c8, 48, true);
    view.setUint32(KASLR_BOOT_PARAMS + 0x1d0, MAP, true);
    view.setUint32(KASLR_BOOT_PARAMS + 0x1d4, 48 * descriptors.length, true);
    for (const [index, [type, start, pages, attributes = 0xfn]] of descriptors.entries()) {
      const at = MAP + 48 * index;
      view.setUint32(at, type, true);
      view.setBigUint64(at + 8, BigInt(start), true);
      view.setBigUint64(at + 24, BigInt(pages), true);
      view.setBigUint64(at + 32, attributes, true);
    }
    return input;
  }

  const starts = (input: KaslrInput): string[] =>
    findKaslrSlots(input).areas.map(({ start }) => start.toString(16));
  const PIECE = 0x4000;

  it('has descriptors of 40 bytes at least', () => {
    const input = withMap([[CONVENTIONAL, 0x4000000, PIECE]]);
    const of = (size: number): string[] => {
      input.memory.write32(KASLR_BOOT_PARAMS + 0x1c8, size);
      return starts(input);
    };
    expect([of(48), of(40), of(39)]).toEqual([['4000000'], ['4000000'], []]);
  });

  it('offers conventional memory alone, whatever E820 calls usable', () => {
    const input = withMap([
      [CONVENTIONAL, 0x4000000, PIECE],
      [LOADER_DATA, 0x8000000, PIECE],
      [CONVENTIONAL, 0x1_0000_0000, PIECE],
    ]);
    expect(starts(input)).toEqual(['4000000', '100000000']);
    expect(findKaslrSlots(input).memoryMap).toBe('EFI');
  });

  it('is looked at only by stubs that do, and only with the signature of EFI', () => {
    const map: Descriptor[] = [[CONVENTIONAL, 0x4000000, PIECE]];
    expect(findKaslrSlots(withMap(map, { generation: { efiMap: false } })).memoryMap).toBe('e820');
    expect(findKaslrSlots(withMap(map, { signature: 'XX64' })).memoryMap).toBe('e820');
    expect(findKaslrSlots(withMap(map, { signature: 'EL32' })).memoryMap).toBe('EFI');
  });

  it('offers mirrored memory alone where there is some', () => {
    const map: Descriptor[] = [
      [CONVENTIONAL, 0x4000000, PIECE],
      [CONVENTIONAL, 0x8000000, PIECE, MORE_RELIABLE],
    ];
    expect(starts(withMap(map))).toEqual(['8000000']);
    // Mirrored memory that is in use counts as well.
    expect(starts(withMap([map[0]!, [LOADER_DATA, 0x8000000, PIECE, MORE_RELIABLE]]))).toEqual([]);
  });

  it('keeps specific-purpose memory back unless the command line gives it free, or the stub knows none', () => {
    const map: Descriptor[] = [[CONVENTIONAL, 0x4000000, PIECE, SPECIFIC_PURPOSE]];
    const free = ['4000000'];
    expect(starts(withMap(map))).toEqual([]);
    expect(starts(withMap(map, { scenario: { commandLine: 'efi=debug,nosoftreserve' } }))).toEqual(free);
    expect(starts(withMap(map, { generation: { softReserve: false } }))).toEqual(free);
  });

  it('offers memory that must be accepted first to stubs that can', () => {
    const map: Descriptor[] = [[UNACCEPTED, 0x4000000, PIECE]];
    expect(starts(withMap(map))).toEqual([]);
    expect(starts(withMap(map, { generation: { acceptsMemory: true } }))).toEqual(['4000000']);
  });

  it('is out of reach above 4 GiB for an i386 stub, which warns and takes E820’s', () => {
    const scenario = KASLR_SCENARIOS.find(({ bits }) => bits === 32)!;
    const input = withMap([[CONVENTIONAL, 0x4000000, PIECE]], { scenario, signature: 'EL32' });
    expect(findKaslrSlots(input).memoryMap).toBe('EFI');
    input.memory.write32(KASLR_BOOT_PARAMS + 0x1dc, 1);
    const slots = findKaslrSlots(input);
    expect(slots.memoryMap).toBe('e820');
    expect(slots.warnings).toEqual([
      "EFI memmap is above 4GB, can't be handled now on x86_32. EFI should be disabled.\n",
    ]);
  });

  it('is looked for at its whole address', () => {
    const input = withMap([[CONVENTIONAL, 0x4000000, PIECE]]);
    input.memory.write32(KASLR_BOOT_PARAMS + 0x1dc, 1);
    expect(findKaslrSlots(input).areas).toEqual([]);
    expect(findKaslrSlots(input).memoryMap).toBe('EFI');
  });

  it('says that its areas are full by its own name', () => {
    const map = Array.from(
      { length: 110 },
      (_, index): Descriptor => [CONVENTIONAL, 0x2000000 + index * 0x1800000, 0x1400],
    );
    const texts: string[] = [];
    chooseRandomLocation(withMap(map), counts([1, 2]).source, {
      warn: () => {},
      debug: (text) => texts.push(text),
    });
    expect(texts[0]).toBe('Aborted EFI scan (slot_areas full)!\n');
  });
});

describe('where no slot is left, the reason', () => {
  const MISSING = { ...FIRST, outputSize: 0xa00000 } as const;
  const reason = (scenario: Partial<KaslrScenario>, generation: Partial<KaslrGeneration> = {}): string =>
    findKaslrSlots(inputOf({ ...MISSING, ...scenario }, generation)).notices.join('; ');

  it('is how much memory in one piece is missing, and at which alignment', () => {
    expect(reason({ e820: [[0x2100000, 0x700000, 1]], commandLine: '' })).toBe(
      'physical KASLR finds no slot and the kernel stays where it is: the kernel needs 0xa00000 bytes in one piece at a ' +
        'multiple of 0x200000 between 0x1000000 and 0x400000000000; the largest piece of the e820 map that is free there has ' +
        '0x600000 bytes, 0x400000 too few',
    );
  });

  it('counts the pieces between what is avoided', () => {
    const e820 = [[0x2000000, 0x1300000, 1]] as const;
    // Nine mebibytes on either side of what the command line takes away.
    const commandLine = 'memmap=1M$41M';
    expect(reason({ e820, commandLine })).toContain('has 0x900000 bytes, 0x100000 too few');
    const old: Partial<KaslrGeneration> = { kind: 'physical', memmap: true, maxOffset: 2 ** 30 };
    expect(reason({ e820, commandLine }, { ...old, since510: false })).toContain(
      'has 0x900000 bytes, 0x100000 too few',
    );
  });

  it('is a limit below the least address, or a list of memmap= that is too long', () => {
    expect(reason({ commandLine: 'mem=20M' })).toContain(
      'from 0x1000000 on, and the limit is 0x1400000: 0x600000 bytes are missing',
    );
    expect(reason({ commandLine: 'quiet memmap=1M$1G,1M$2G,1M$3G,1M$4G,1M$5G' })).toContain(
      'more than the 4 regions that the stub can avoid (memmap=1M$1G,1M$2G,1M$3G,1M$4G,1M$5G)',
    );
  });

  it('counts what pages of 1 GiB leave', () => {
    const e820 = [[0x40000000, 0x40400000, 1]] as const;
    const commandLine = 'hugepagesz=1G hugepages=1';
    expect(reason({ e820, commandLine })).toContain('has 0x400000 bytes, 0x600000 too few');
  });

  it('is none for a region of just the size', () => {
    const exactly = findKaslrSlots(
      inputOf({ ...MISSING, e820: [[0x2000000, 0xa00000, 1]], commandLine: '' }),
    );
    expect(exactly.areas).toEqual([{ start: 0x2000000, count: 1 }]);
  });

  it('is not given where there is a slot, or where KASLR is off', () => {
    expect(reason({})).toBe('');
    expect(reason({ e820: [], commandLine: 'nokaslr' })).toBe('');
  });
});

describe('an initrd without a size', () => {
  it('cuts the memory it lies in all the same', () => {
    const slots = (initrd?: readonly [number, number]) =>
      findKaslrSlots(inputOf({ ...FIRST, commandLine: '', ...(initrd === undefined ? {} : { initrd }) }))
        .physicalSlots;
    expect(slots([0x8000000, 0])).toBeLessThan(slots());
    expect(slots([0, 0x1000])).toBe(slots());
  });
});

describe('many draws', () => {
  it('take the seeds that a boot has after it has printed, and leave boot_params alone', () => {
    const input = inputOf(FIRST);
    const before = input.memory.copyOut(KASLR_BOOT_PARAMS, 4096);
    const output = {
      warn: () => {},
      debug: () => {
        input.memory.write8(KASLR_BOOT_PARAMS, input.memory.read8(KASLR_BOOT_PARAMS) + 1);
      },
    };
    const seeds = kaslrSeeds(input, counts([1, 2]).source, output);
    expect(seeds.physical).not.toBe(seeds.virtual);
    expect(input.memory.copyOut(KASLR_BOOT_PARAMS, 4096)).toEqual(before);
    const { draws } = chooseRandomLocation(input, counts([7, 8]).source, output);
    expect(draws.map(({ seed }) => seed)).toEqual([seeds.physical, seeds.virtual]);
  });

  it('give the same addresses as one boot each', () => {
    const input = inputOf(FIRST);
    const slots = findKaslrSlots(input);
    const seeds = kaslrSeeds(input, counts([1, 2]).source);
    for (const values of [
      [1, 2],
      [500, 60000],
    ]) {
      const choice = chooseRandomLocation(inputOf(FIRST), counts(values).source);
      expect(drawLocation(slots, seeds, input, counts(values).source)).toEqual({
        physical: choice.physical,
        virtual: choice.virtual,
      });
    }
  });

  it('reach every slot', () => {
    const input = inputOf(FIRST);
    const slots = findKaslrSlots(input);
    const seeds = kaslrSeeds(input, counts([1, 2]).source);
    let state = 1n;
    const source = streamEntropy(
      () => {
        state = BigInt.asUintN(64, state * 6364136223846793005n + 1442695040888963407n);
        return state ^ (state >> 31n);
      },
      { rdrand: false, tsc: true },
    );
    const seen = new Set(
      Array.from(
        { length: 20 * slots.physicalSlots },
        () => drawLocation(slots, seeds, input, source).physical,
      ),
    );
    expect(seen.size).toBe(slots.physicalSlots);
  });
});

describe('seeds and mixing', () => {
  it('fold whole words only, rotating right by 7 before each', () => {
    const params = new Uint8Array(16);
    params[0] = 0x80;
    expect(bootSeed('', params, 64)).toBe(1n);
    expect(bootSeed('1234567', new Uint8Array(0), 64)).toBe(0x0037363534333231n);
    expect(bootSeed('12345678', new Uint8Array(0), 64)).toBe(0x3837363534333231n);
    expect(bootSeed('123', new Uint8Array(0), 32)).toBe(0x00333231n);
  });

  it('add both halves of the product', () => {
    expect(mixRandom(1n, 64)).toBe(0x5d6008cbf3848dd3n);
    expect(mixRandom(2n ** 64n - 1n, 64)).toBe(2n ** 64n - 1n);
    expect(mixRandom(1n, 32)).toBe(0x3f39e593n);
  });
});

describe('--kaslr', () => {
  it.each([
    ['off', { kind: 'off' }],
    ['seed:42', { kind: 'seed', seed: 42n }],
    ['entropy:0x10,17', { kind: 'entropy', rdtsc: [16n, 17n] }],
    ['phys:0x2000000', { kind: 'forced', physical: 0x2000000, virtual: null }],
    ['phys:0x2000000,virt:0xffffffff9a000000', { kind: 'forced', physical: 0x2000000, virtual: 0x1a000000 }],
    ['virt:0x1a000000', { kind: 'forced', physical: null, virtual: 0x1a000000 }],
  ])('understands %s', (text, option) => {
    expect(parseKaslrOption(text)).toEqual(option);
  });

  it.each(['', 'on', 'seed:', 'seed:x', 'entropy:1,,2', 'phys:1,seed:2', 'phys:-1'])('refuses %j', (text) => {
    expect(() => parseKaslrOption(text)).toThrow(BootscopeError);
  });

  it('says when the listed values are used up', () => {
    const source = listedEntropy([1n]);
    expect(source.rdtsc()).toBe(1n);
    expect(() => source.rdtsc()).toThrow('reads the time stamp counter 2 times');
  });
});
