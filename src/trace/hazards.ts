// What goes wrong in practice when a loader places things: each overlap or misplacement by name, with the addresses and
// what would be safe.

import type { Hazard } from './boot-trace.ts';
import type { Extent, LayoutFacts } from './regions.ts';

/** What the header says about where things may be. */
export interface PlacementRules {
  /** Highest address an initrd may occupy; null before protocol 2.00. */
  readonly initrdAddressMax: number | null;
  readonly relocatable: boolean;
  readonly alignment: number;
  readonly preferredAddress: number;
  readonly initSize: number | null;
  /** Where the loader put the protected-mode code. */
  readonly loadAddress: number;
  /** Whether it is loaded at or above 1 MiB. */
  readonly high: boolean;
}

const PAGE = 0x1000;

/**
 * Where the kernel will run from without KASLR (boot.rst, "init_size").
 *
 * @returns null where the header does not tell: before protocol 2.10
 */
export function runArea(rules: PlacementRules): Extent | null {
  if (rules.initSize === null || rules.initSize === 0) return null;
  let start = rules.preferredAddress;
  if (rules.relocatable) {
    start = Math.max(rules.loadAddress, rules.preferredAddress);
    if (rules.alignment > 0) start = Math.ceil(start / rules.alignment) * rules.alignment;
  }
  return { start, end: start + rules.initSize };
}

/** All hazards of a placement, the worst kind first. Empty: nothing is known to go wrong. */
export function findHazards(facts: LayoutFacts, rules: PlacementRules): Hazard[] {
  const hazards: Hazard[] = [];
  const observed =
    facts.output !== null && rules.initSize !== null
      ? { start: facts.output, end: facts.output + rules.initSize }
      : null;
  const area = observed ?? runArea(rules);
  const things: readonly (readonly [string, string, Extent | null])[] = [
    ['the initrd', '--initrd-address', facts.initrd],
    ['the command line', '--cmdline-address', facts.commandLine],
    ['boot_params', '--boot-params-address', facts.bootParams],
    ...facts.setupData.map((node) => ['a setup_data node', 'the loader', node] as const),
  ];
  if (area !== null) addRunArea(hazards, facts, area, things);
  addLoaded(hazards, facts, area, things);
  addInitrd(hazards, facts, rules);
  addSetup(hazards, facts);
  if (rules.high && rules.alignment > 0 && rules.relocatable && rules.loadAddress % rules.alignment !== 0) {
    // A relocatable kernel aligns itself upward; only a load address other than the customary one is a choice.
    if (rules.loadAddress !== 0x100000) {
      hazards.push({
        code: 'load-address',
        text: `the load address ${hex(rules.loadAddress)} is not a multiple of kernel_alignment ${hex(rules.alignment)}`,
        advice: `load it at ${hex(Math.ceil(rules.loadAddress / rules.alignment) * rules.alignment)}`,
        start: BigInt(rules.loadAddress),
        end: BigInt(rules.loadAddress) + 1n,
      });
    }
  }
  return hazards;
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

function range(extent: Extent): string {
  return `${hex(extent.start)}..${hex(extent.end)}`;
}

function overlap(a: Extent, b: Extent | null): Extent | null {
  if (b === null) return null;
  const start = Math.max(a.start, b.start);
  const end = Math.min(a.end, b.end);
  return start < end ? { start, end } : null;
}

function addRunArea(
  hazards: Hazard[],
  facts: LayoutFacts,
  area: Extent,
  things: readonly (readonly [string, string, Extent | null])[],
): void {
  for (const [what, option, extent] of things) {
    const common = overlap(area, extent);
    if (common === null) continue;
    hazards.push({
      code: 'run-area-overlap',
      text:
        `the kernel decompresses itself into ${range(area)} (init_size ${hex(area.end - area.start)}) over ${what} at ` +
        `${range(extent!)}: ${hex(common.end - common.start)} bytes are overwritten`,
      advice: safePlace(what, option, facts, area, extent!),
      start: BigInt(common.start),
      end: BigInt(common.end),
    });
  }
  for (const entry of facts.reserved) {
    const common = overlap(area, entry);
    if (common === null) continue;
    hazards.push({
      code: 'run-area-reserved',
      text: `the kernel's run area ${range(area)} reaches into the E820 entry ${range(entry)} of type ${entry.type}`,
      advice: `load a relocatable kernel where ${hex(area.end - area.start)} bytes of usable RAM are free in one piece`,
      start: BigInt(common.start),
      end: BigInt(common.end),
    });
  }
  if (area.end > facts.ram) {
    hazards.push({
      code: 'run-area-beyond-ram',
      text: `the kernel's run area ${range(area)} ends ${hex(area.end - facts.ram)} bytes beyond the end of RAM at ${hex(facts.ram)}`,
      advice: `give the guest at least ${Math.ceil(area.end / 2 ** 20)} MiB of RAM`,
      start: BigInt(Math.max(area.start, facts.ram)),
      end: BigInt(area.end),
    });
  }
}

function safePlace(what: string, option: string, facts: LayoutFacts, area: Extent, extent: Extent): string {
  const size = extent.end - extent.start;
  const above = Math.ceil(area.end / PAGE) * PAGE;
  if (above + size <= facts.ram) return `${what} is safe at ${hex(above)} or above (${option})`;
  return `${what} has no room above ${hex(above)} in ${facts.ram / 2 ** 20} MiB of RAM; give the guest more`;
}

/** The code as loaded lies in memory until it has copied itself: what overlaps it is overwritten by the loader itself. */
function addLoaded(
  hazards: Hazard[],
  facts: LayoutFacts,
  area: Extent | null,
  things: readonly (readonly [string, string, Extent | null])[],
): void {
  if (facts.loaded === null) return;
  for (const [what, option, extent] of things) {
    const common = overlap(facts.loaded, extent);
    if (common === null || (area !== null && overlap(area, extent) !== null)) continue;
    hazards.push({
      code: 'loaded-overlap',
      text: `${what} at ${range(extent!)} lies over the protected-mode code as loaded at ${range(facts.loaded)}`,
      advice: safePlace(what, option, facts, facts.loaded, extent!),
      start: BigInt(common.start),
      end: BigInt(common.end),
    });
  }
}

function addInitrd(hazards: Hazard[], facts: LayoutFacts, rules: PlacementRules): void {
  const { initrd } = facts;
  if (initrd === null) return;
  if (rules.initrdAddressMax !== null && initrd.end - 1 > rules.initrdAddressMax) {
    const safe = Math.floor((rules.initrdAddressMax + 1 - (initrd.end - initrd.start)) / PAGE) * PAGE;
    hazards.push({
      code: 'initrd-above-max',
      text: `the initrd at ${range(initrd)} ends above initrd_addr_max ${hex(rules.initrdAddressMax)}`,
      advice: `put it at ${hex(safe)} or below`,
      start: BigInt(Math.max(initrd.start, rules.initrdAddressMax + 1)),
      end: BigInt(initrd.end),
    });
  }
  if (initrd.end > facts.ram) {
    hazards.push({
      code: 'initrd-beyond-ram',
      text: `the initrd at ${range(initrd)} ends beyond the end of RAM at ${hex(facts.ram)}`,
      advice: 'give the guest more RAM, or put the initrd lower',
      start: BigInt(facts.ram),
      end: BigInt(initrd.end),
    });
  }
  for (const entry of facts.reserved) {
    const common = overlap(initrd, entry);
    if (common === null) continue;
    hazards.push({
      code: 'initrd-reserved',
      text: `the initrd at ${range(initrd)} lies in the E820 entry ${range(entry)} of type ${entry.type}`,
      advice: 'put it into usable RAM',
      start: BigInt(common.start),
      end: BigInt(common.end),
    });
  }
}

function addSetup(hazards: Hazard[], facts: LayoutFacts): void {
  const { setup, setupStackEnd } = facts;
  if (setup === null || setupStackEnd === null) return;
  if (setupStackEnd <= setup.end) {
    hazards.push({
      code: 'setup-heap-over-setup',
      text: `setup's heap and stack end at ${hex(setupStackEnd)}, over its own code at ${range(setup)}`,
      advice: `heap_end_ptr must lie above ${hex(setup.end)}`,
      start: BigInt(setup.start),
      end: BigInt(setup.end),
    });
  }
  if (setupStackEnd > facts.ebda.start) {
    hazards.push({
      code: 'setup-heap-over-ebda',
      text: `setup's stack begins at ${hex(setupStackEnd)}, in the EBDA at ${range(facts.ebda)}`,
      advice: `heap_end_ptr must keep it below ${hex(facts.ebda.start)}`,
      start: BigInt(facts.ebda.start),
      end: BigInt(setupStackEnd),
    });
  }
}
