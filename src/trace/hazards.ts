// What goes wrong in practice when a loader places things: each overlap or misplacement by name, with the addresses and
// what would be safe.

import { hex } from '../hex.ts';
import type { Hazard, MemoryRegion, RegionKind } from './boot-trace.ts';
import type { LayoutFacts } from './layout-facts.ts';
import { maximum, minimum } from './overwrites.ts';
import type { Extent } from './placements.ts';

/** What the header and the loader say about where things may be. */
export interface PlacementRules {
  /** Highest address an initrd may occupy; null before protocol 2.00. */
  readonly initrdAddressMax: number | null;
  readonly relocatable: boolean;
  readonly alignment: number;
  readonly preferredAddress: number;
  readonly initSize: number | null;
  /** Where the loader put the protected-mode code. */
  readonly loadAddress: number;
  /** The only address the stub's code runs at; null for a stub that finds out where it is. */
  readonly linkedAddress: number | null;
  /** Whether it is loaded at or above 1 MiB. */
  readonly high: boolean;
}

const PAGE = 0x1000;
const MIB = 2 ** 20;
const FOUR_GIB = 2 ** 32;
const LOW_MEMORY_END = 0xa0000;
const COMMAND_LINE = 'the command line';
/** What firmware keeps at the end of RAM. */
const FIRMWARE_RESERVE = 0x20000;

/**
 * Where the kernel runs from without KASLR, with the memory that it needs until it has read its memory map (boot.rst,
 * "init_size").
 *
 * @returns null where the header does not tell: before protocol 2.10
 */
export function runArea(rules: PlacementRules): Extent | null {
  if (rules.initSize === null || rules.initSize === 0) return null;
  let start = rules.preferredAddress;
  if (rules.relocatable) {
    start = rules.loadAddress;
    if (rules.alignment > 0) start = Math.ceil(start / rules.alignment) * rules.alignment;
    start = Math.max(start, rules.preferredAddress);
  }
  return { start, end: start + rules.initSize };
}

/** What a loader places in memory that the kernel may take for itself. */
const VICTIMS: ReadonlySet<RegionKind> = new Set(['initrd', 'command-line', 'boot-params', 'setup-data']);

/** The parts [start, end) of a region that hazards name, each with the hazard's code; none for what no loader placed. */
export function endangeredParts(
  region: Pick<MemoryRegion, 'kind' | 'start' | 'end'>,
  hazards: readonly Hazard[],
): readonly Pick<Hazard, 'code' | 'start' | 'end'>[] {
  if (!VICTIMS.has(region.kind)) return [];
  return hazards
    .map(({ code, start, end }) => ({
      code,
      start: maximum(start, region.start),
      end: minimum(end, region.end),
    }))
    .filter(({ start, end }) => start < end);
}

/** A hazard's text or advice with a capital letter, unless it begins with a name of the kernel's, and a full stop. */
export function hazardSentence(text: string): string {
  if (/^\w*_/.test(text)) return `${text}.`;
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

/** Something the loader placed. */
interface Placed {
  readonly what: string;
  readonly extent: Extent;
}

/** All hazards of a placement, those that overwrite something first. Empty: nothing is known to go wrong. */
export function findHazards(facts: LayoutFacts, rules: PlacementRules): Hazard[] {
  const placed = placedThings(facts);
  const areas = kernelAreas(facts);
  const hazards: Hazard[] = [];
  for (const area of areas) addKernelArea(hazards, facts, area, placed);
  addStubCopy(hazards, facts, areas, placed);
  addPlacement(hazards, facts, placed, rules);
  addInitrdMax(hazards, facts, rules);
  addSetup(hazards, facts);
  addLoadAddress(hazards, facts, rules);
  addInitSize(hazards, facts, rules);
  addStrayVariables(hazards, facts, placed);
  return hazards;
}

function placedThings(facts: LayoutFacts): Placed[] {
  const things: readonly (readonly [string, Extent | null])[] = [
    ['the initrd', facts.initrd],
    [COMMAND_LINE, facts.commandLine],
    ['boot_params', facts.bootParamsByLoader ? facts.bootParams : null],
    ...facts.setupData.map((node) => ['a setup_data node', node] as const),
  ];
  return things.flatMap(([what, extent]) =>
    extent === null || extent.end <= extent.start ? [] : [{ what, extent }],
  );
}

interface Area extends Extent {
  /** How to call it, and where its size comes from. */
  readonly what: string;
}

/** The memory the kernel takes: init_size from its run address, or what it was seen to take where KASLR or age decide. */
function kernelAreas(facts: LayoutFacts): Area[] {
  const { runArea: area, output } = facts;
  if (area !== null && (output === null || output === area.start)) {
    return [{ ...area, what: `init_size ${hex(area.end - area.start)}` }];
  }
  const segments = facts.kernelParts.filter(({ parent }) => parent === undefined);
  return [
    // Segments are aligned: what lies between two of them belongs to the kernel.
    ...merge(segments, 2 * MIB).map((extent) => ({ ...extent, what: 'its segments' })),
    ...facts.decompressed
      .filter(
        (piece) => !segments.some((segment) => segment.start <= piece.start && segment.end >= piece.end),
      )
      .map(({ start, end, name }) => ({ start, end, what: `the ${name}` })),
  ];
}

/** Extents as one that overlap, touch, or lie less than `gap` bytes apart; by start. */
export function merge(extents: readonly Extent[], gap = 1): Extent[] {
  const merged: { start: number; end: number }[] = [];
  for (const { start, end } of extents.toSorted((a, b) => a.start - b.start)) {
    const last = merged.at(-1);
    if (last !== undefined && start - last.end < gap) last.end = Math.max(last.end, end);
    else merged.push({ start, end });
  }
  return merged;
}

function range(extent: Extent): string {
  return `${hex(extent.start)}..${hex(extent.end)}`;
}

function common(a: Extent, b: Extent): Extent | null {
  const start = Math.max(a.start, b.start);
  const end = Math.min(a.end, b.end);
  return start < end ? { start, end } : null;
}

function hazard(code: Hazard['code'], bytes: Extent, text: string, advice: string): Hazard {
  return { code, text, advice, start: BigInt(bytes.start), end: BigInt(bytes.end) };
}

function addKernelArea(hazards: Hazard[], facts: LayoutFacts, area: Area, placed: readonly Placed[]): void {
  for (const thing of placed) {
    const shared = common(area, thing.extent);
    if (shared === null) continue;
    hazards.push(
      hazard(
        'run-area-overlap',
        shared,
        `the kernel takes ${range(area)} (${area.what}) to decompress itself and start, and ${thing.what} lies at ` +
          `${range(thing.extent)}: ${hex(shared.end - shared.start)} bytes of it are in the way`,
        safePlace(thing, facts),
      ),
    );
  }
  const elsewhere = `a relocatable kernel may be loaded where ${hex(area.end - area.start)} bytes of usable RAM are in one piece`;
  const advice =
    area.end > ramEnd(facts)
      ? `give the guest at least ${Math.ceil((area.end + FIRMWARE_RESERVE) / MIB)} MiB of RAM`
      : elsewhere;
  for (const entry of facts.reserved) {
    const shared = common(area, entry);
    if (shared === null || shared.start >= facts.ram) continue;
    hazards.push(
      hazard(
        'run-area-reserved',
        shared,
        `the kernel takes ${range(area)} (${area.what}), which reaches into the E820 entry ${range(entry)} of type ${entry.type}`,
        advice,
      ),
    );
  }
  for (const hole of holes(area, facts)) {
    hazards.push(
      hazard(
        'run-area-beyond-ram',
        hole,
        `the kernel takes ${range(area)} (${area.what}), where ${range(hole)} is no RAM`,
        advice,
      ),
    );
  }
}

/** End of the usable RAM below 4 GiB, by the memory map and by what there is. */
function ramEnd(facts: LayoutFacts): number {
  const ends = facts.usable.filter(({ start }) => start < FOUR_GIB).map(({ end }) => end);
  return Math.min(facts.ram, Math.max(0, ...ends));
}

/** The parts of an extent that are neither usable RAM nor in a reserved entry, and those beyond the RAM there is. */
function holes(extent: Extent, facts: LayoutFacts): Extent[] {
  const known = [...facts.usable, ...facts.reserved]
    .map(({ start, end }) => ({ start, end: Math.min(end, facts.ram) }))
    .filter(({ start, end }) => start < end);
  return extent.start < extent.end ? subtract(extent, known) : [];
}

/** What is left of an extent without those others. */
function subtract(extent: Extent, others: readonly Extent[]): Extent[] {
  let left: Extent[] = [extent];
  for (const other of others) {
    left = left.flatMap((piece) => {
      if (common(piece, other) === null) return [piece];
      return [
        { start: piece.start, end: other.start },
        { start: other.end, end: piece.end },
      ].filter(({ start, end }) => start < end);
    });
  }
  return left;
}

/** Usable RAM that nothing is known to take, by start. */
function freeRam(facts: LayoutFacts, except: Extent | null): Extent[] {
  const low = facts.setup ?? { start: 0x90000, end: 0xa0000 };
  const taken: (Extent | null)[] = [
    { start: 0, end: PAGE },
    facts.ebda,
    { start: low.start, end: 0xa0000 },
    { start: 0xa0000, end: MIB },
    facts.loaded,
    facts.started,
    facts.copy,
    facts.loaderMemory,
    ...kernelAreas(facts),
    facts.runArea,
    facts.commandLine === except ? null : facts.commandLine,
    facts.initrd === except ? null : facts.initrd,
    facts.bootParams === except ? null : facts.bootParams,
    ...facts.setupData,
    ...facts.reserved,
  ];
  return facts.usable
    .map(({ start, end }) => ({ start, end: Math.min(end, facts.ram) }))
    .flatMap((ram) =>
      subtract(
        ram,
        taken.filter((each) => each !== null),
      ),
    )
    .map(({ start, end }) => ({
      start: Math.ceil(start / PAGE) * PAGE,
      end: Math.floor(end / PAGE) * PAGE,
    }))
    .filter(({ start, end }) => start < end)
    .sort((a, b) => a.start - b.start);
}

function safePlace(thing: Placed, facts: LayoutFacts, highest = FOUR_GIB): string {
  const { what, extent } = thing;
  // Setup reads the command line through a segment register.
  const limit = what === COMMAND_LINE && facts.setup !== null ? LOW_MEMORY_END : highest;
  const size = extent.end - extent.start;
  const room = freeRam(facts, extent)
    .map(({ start, end }) => ({ start, end: Math.min(end, limit) }))
    .filter(({ start, end }) => end - start >= size)
    .at(-1);
  if (room === undefined) {
    return `no free RAM of ${hex(size)} bytes is left for ${what} in ${facts.ram / MIB} MiB; give the guest more`;
  }
  const last = Math.floor((room.end - size) / PAGE) * PAGE;
  return `${what} is safe from ${hex(room.start)} to ${hex(last)}`;
}

/** With KASLR the stub still moves itself to the end of init_size from the address without it. */
function addStubCopy(
  hazards: Hazard[],
  facts: LayoutFacts,
  areas: readonly Extent[],
  placed: readonly Placed[],
): void {
  const { copy } = facts;
  if (copy === null) return;
  const ends = facts.zo.map(({ end }) => copy.start + end);
  const whole = { start: copy.start, end: Math.max(copy.end, ...ends) };
  for (const thing of placed) {
    const shared = common(whole, thing.extent);
    if (shared === null || areas.some((area) => common(area, thing.extent) !== null)) continue;
    hazards.push(
      hazard(
        'stub-copy-overlap',
        shared,
        `the stub copies itself to ${range(whole)} with its heap, stack and page tables, and ${thing.what} lies at ` +
          `${range(thing.extent)}: ${hex(shared.end - shared.start)} bytes of it are in the way`,
        safePlace(thing, facts),
      ),
    );
  }
}

/** What the loader placed over each other, in reserved memory, or where there is no RAM. */
function addPlacement(
  hazards: Hazard[],
  facts: LayoutFacts,
  placed: readonly Placed[],
  rules: PlacementRules,
): void {
  const fixed: readonly (readonly [string, Extent | null])[] = [
    ['the protected-mode code as loaded', facts.loaded],
    ["setup's code", facts.setup],
    ["setup's bss", facts.setupMemory?.bss ?? null],
    ["setup's heap", facts.setupMemory?.heap ?? null],
    ["setup's stack", facts.setupMemory?.stack ?? null],
    ['the interrupt vectors and BIOS data', { start: 0, end: 0x500 }],
    ['the EBDA', facts.ebda],
    ["the loader's own GDT, stack and page tables", facts.loaderMemory],
  ];
  for (const [index, thing] of placed.entries()) {
    const others = [...fixed, ...placed.slice(index + 1).map(({ what, extent }) => [what, extent] as const)];
    const limit = thing.what === 'the initrd' ? (rules.initrdAddressMax ?? FOUR_GIB) + 1 : FOUR_GIB;
    const advice = safePlace(thing, facts, limit);
    for (const [what, extent] of others) {
      const shared = extent === null ? null : common(thing.extent, extent);
      if (shared === null || extent === null) continue;
      const text = `${thing.what} at ${range(thing.extent)} lies over ${what} at ${range(extent)}`;
      hazards.push(hazard('placement-overlap', shared, text, advice));
    }
    for (const entry of facts.reserved) {
      const shared = common(thing.extent, entry);
      if (shared === null) continue;
      const text = `${thing.what} at ${range(thing.extent)} lies in the E820 entry ${range(entry)} of type ${entry.type}`;
      hazards.push(hazard('not-usable-ram', shared, text, advice));
    }
    for (const hole of holes(thing.extent, facts)) {
      const text = `${thing.what} at ${range(thing.extent)} lies where there is no RAM, at ${range(hole)}`;
      hazards.push(hazard('beyond-ram', hole, text, advice));
    }
  }
}

function addInitrdMax(hazards: Hazard[], facts: LayoutFacts, rules: PlacementRules): void {
  const { initrd } = facts;
  const max = rules.initrdAddressMax;
  if (initrd === null || max === null || initrd.end - 1 <= max) return;
  const thing = { what: 'the initrd', extent: initrd };
  hazards.push(
    hazard(
      'initrd-above-max',
      { start: Math.max(initrd.start, max + 1), end: initrd.end },
      `the initrd at ${range(initrd)} ends above initrd_addr_max ${hex(max)}, the highest address this kernel takes one at`,
      safePlace(thing, facts, max + 1),
    ),
  );
}

function addSetup(hazards: Hazard[], facts: LayoutFacts): void {
  const { setup, setupMemory, setupStackEnd, ebda } = facts;
  if (setup === null || setupStackEnd === null) return;
  const codeEnd = Math.max(setup.end, setupMemory?.bss.end ?? 0);
  const stackStart = setupMemory?.stack.start ?? setupStackEnd;
  if (stackStart < (setupMemory?.bss.end ?? setup.end)) {
    const own = { start: setup.start, end: codeEnd };
    hazards.push(
      hazard(
        'setup-heap-over-setup',
        { start: stackStart, end: Math.max(codeEnd, stackStart + 1) },
        `setup's stack reaches from ${hex(setupStackEnd)} down to ${hex(stackStart)}, over its own code and data at ${range(own)}`,
        `its stack pointer must start at ${hex(codeEnd + (setupStackEnd - stackStart))} or above (heap_end_ptr)`,
      ),
    );
  }
  if (setupStackEnd > ebda.start) {
    hazards.push(
      hazard(
        'setup-heap-over-ebda',
        { start: ebda.start, end: setupStackEnd },
        `setup's stack begins at ${hex(setupStackEnd)}, in the EBDA at ${range(ebda)}`,
        `its stack pointer must start at ${hex(ebda.start)} or below (heap_end_ptr)`,
      ),
    );
  }
  const whole = { start: setup.start, end: setupStackEnd };
  const what = `setup with its heap and stack at ${range(whole)}`;
  const advice = 'the 16-bit protocol needs usable RAM there';
  for (const entry of facts.reserved) {
    const shared = common(whole, entry);
    // The EBDA is told of above.
    if (shared === null || entry.start >= ebda.start) continue;
    const text = `${what} lies in the E820 entry ${range(entry)} of type ${entry.type}`;
    hazards.push(hazard('not-usable-ram', shared, text, advice));
  }
  for (const hole of holes(whole, facts)) {
    hazards.push(hazard('beyond-ram', hole, `${what} lies where there is no RAM, at ${range(hole)}`, advice));
  }
}

/**
 * Stubs of 2.6.22 and later find out where they lie, and align themselves where that matters; older ones run at one address
 * only.
 */
function addLoadAddress(hazards: Hazard[], facts: LayoutFacts, rules: PlacementRules): void {
  const { loaded } = facts;
  // Where nothing was loaded, nothing is in danger.
  if (loaded === null || loaded.start === loaded.end || !rules.high) return;
  const add = (text: string, advice: string): void => {
    hazards.push(hazard('load-address', loaded, text, advice));
  };
  const { loadAddress, linkedAddress } = rules;
  if (linkedAddress !== null && loadAddress !== linkedAddress) {
    add(
      `the kernel was loaded at ${hex(loadAddress)}, but its stub is linked to run at ${hex(linkedAddress)} and nowhere else`,
      `load it at ${hex(linkedAddress)}`,
    );
  } else if (loadAddress < MIB) {
    add(`a bzImage was loaded at ${hex(loadAddress)}, below 1 MiB`, `load it at ${hex(MIB)} or higher`);
  }
  const entry = facts.reserved.find((reserved) => common(loaded, reserved) !== null);
  if (entry !== undefined) {
    add(
      `the protected-mode code was loaded at ${range(loaded)}, into the E820 entry ${range(entry)} of type ${entry.type}`,
      'load it into usable RAM',
    );
  }
  for (const hole of holes(loaded, facts)) {
    add(
      `the protected-mode code was loaded at ${range(loaded)}, where ${range(hole)} is no RAM`,
      `load it below ${hex(ramEnd(facts))}, or give the guest more RAM`,
    );
  }
}

/**
 * init_size is what the stub works with: it copies itself to the end of that, and the kernel unpacks to its start. Too small, the
 * one overwrites the other, or the copy lies below its own place.
 */
function addInitSize(hazards: Hazard[], facts: LayoutFacts, rules: PlacementRules): void {
  const { initSize } = rules;
  const [most] = facts.initSizeNeeds.toSorted((a, b) => b.bytes - a.bytes);
  if (initSize === null || most === undefined || most.bytes <= initSize) return;
  const start = facts.runArea?.start ?? rules.preferredAddress;
  hazards.push(
    hazard(
      'init-size-too-small',
      { start: start + initSize, end: start + most.bytes },
      `init_size is ${hex(initSize)}, ${hex(most.bytes - initSize)} bytes less than ${most.what} (${hex(most.bytes)})`,
      `init_size must be ${hex(Math.ceil(most.bytes / PAGE) * PAGE)} or more; a kernel's own build does not get it wrong`,
    ),
  );
}

/** Memory outside itself that a stub stores variables in, since it is linked to lie there. */
function addStrayVariables(hazards: Hazard[], facts: LayoutFacts, placed: readonly Placed[]): void {
  for (const extent of facts.strayVariables) {
    const others: readonly (readonly [string, Extent | null])[] = [
      ...placed.map(({ what, extent: at }) => [what, at] as const),
      ['the image as loaded, which has been copied by then', facts.loaded],
    ];
    const hit = others.find(([, other]) => other !== null && common(extent, other) !== null)?.[0];
    hazards.push(
      hazard(
        'stray-variables',
        extent,
        `the stub's variables lie at ${range(extent)}, where it is linked to run, whatever address it runs at: it writes ` +
          `${hex(extent.end - extent.start)} bytes there, ${hit === undefined ? 'where no loader placed anything' : `over ${hit}`}`,
        `keep ${range(extent)} free of what the kernel needs`,
      ),
    );
  }
}
