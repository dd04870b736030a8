// What goes wrong by what a loader passes on, wherever it lies: memory that the command line takes away, ranges that KASLR does not
// keep clear of, an initrd that is none (Documentation/admin-guide/kernel-parameters.txt, "mem=" and "memmap="; the kernel's
// arch/x86/kernel/e820.c).

import { hasOption, memparse, splitArguments } from '../decompressor/command-line.ts';
import type { KaslrGeneration } from '../decompressor/kaslr-generation.ts';
import { hex } from '../hex.ts';
import { initrdProblem } from '../image/initrd-content.ts';
import type { Hazard } from '../trace/boot-trace.ts';
import { merge } from '../trace/hazards.ts';
import type { LayoutFacts } from '../trace/layout-facts.ts';
import type { Extent } from '../trace/placements.ts';

const END_OF_MEMORY = 2 ** 52;
/** Ranges that KASLR notes (MAX_MEMMAP_REGIONS). */
const MOST_AVOIDED = 4;
const SEGMENT_GAP = 2 ** 21;

/** Memory that an option takes from the kernel. */
interface TakenAway extends Extent {
  readonly option: string;
  /** Place of its `memmap=` among those of the command line, and its own in there. */
  readonly list: number;
  readonly place: number;
}

/** What `mem=` and `memmap=` take away, in their order. `size@start` gives, `exactmap` begins anew: nothing is known of it then. */
function takenAway(commandLine: string): readonly TakenAway[] {
  const found: TakenAway[] = [];
  let list = 0;
  for (const { param, value } of splitArguments(commandLine)) {
    if (value === null && param === '--') break;
    if (value === null || value === 'nopentium') continue;
    if (param === 'mem') {
      const { value: size, end } = memparse(value);
      if (end > 0 && size > 0n) {
        found.push({ start: Number(size), end: END_OF_MEMORY, option: `mem=${value}`, list: -1, place: 0 });
      }
    } else if (param === 'memmap') {
      for (const [place, text] of value.split(',').entries()) {
        const size = memparse(text);
        const separator = text[size.end];
        const option = `memmap=${text}`;
        if (size.end === 0) continue;
        if (separator === '$' || separator === '#' || separator === '!') {
          const start = Number(memparse(text, size.end + 1).value);
          found.push({ start, end: start + Number(size.value), option, list, place });
        } else if (separator === undefined) {
          found.push({ start: Number(size.value), end: END_OF_MEMORY, option, list, place });
        }
      }
      list++;
    }
  }
  return found;
}

function range({ start, end }: Extent): string {
  return end === END_OF_MEMORY ? `from ${hex(start)} on` : `${hex(start)}..${hex(end)}`;
}

/**
 * @param kaslr - how the kernel draws addresses; null for one that does not
 */
export function commandLineHazards(
  facts: LayoutFacts,
  commandLine: string,
  kaslr: KaslrGeneration | null,
): readonly Hazard[] {
  const taken = takenAway(commandLine);
  const segments = facts.kernelParts.filter(({ parent }) => parent === undefined);
  const kernel = segments.length > 0 ? merge(segments, SEGMENT_GAP) : [facts.runArea];
  const things: readonly (readonly [string, Extent | null, string])[] = [
    ...kernel.map(
      (extent) => ['the kernel', extent, 'load it elsewhere, or take other memory away'] as const,
    ),
    ['the initrd', facts.initrd, 'put it elsewhere, or take other memory away'],
  ];
  const hazards: Hazard[] = [];
  for (const each of taken) {
    for (const [what, extent, advice] of things) {
      if (extent === null || extent.start >= extent.end) continue;
      const [start, end] = [Math.max(each.start, extent.start), Math.min(each.end, extent.end)];
      if (start >= end) continue;
      hazards.push({
        code: 'memory-taken-away',
        text:
          `the command line's ${each.option} takes the memory ${range(each)} away, and ${what} lies at ${range(extent)}: ${hex(end - start)} bytes of it ` +
          'are in there',
        advice,
        ...{ start: BigInt(start), end: BigInt(end) },
      });
    }
  }
  const draws =
    kaslr?.memmap === true && hasOption(commandLine, kaslr.optIn ? 'kaslr' : 'nokaslr') === kaslr.optIn;
  return draws ? [...hazards, ...notAvoided(facts, taken)] : hazards;
}

/** What of `memmap=` KASLR does not see: it notes four ranges, and gives up where one option lists more. */
function notAvoided(facts: LayoutFacts, taken: readonly TakenAway[]): readonly Hazard[] {
  const ranges = taken.filter(({ list, end }) => list >= 0 && end !== END_OF_MEMORY);
  const [fifth] = ranges.slice(MOST_AVOIDED);
  if (fifth === undefined) return [];
  const isOneList = ranges[MOST_AVOIDED - 1]!.list === fifth.list;
  const area = facts.runArea ?? fifth;
  if (isOneList) {
    return [
      {
        code: 'kaslr-no-slot',
        text:
          `one memmap= goes on behind the ${MOST_AVOIDED} ranges that KASLR can note, with ${fifth.option}: it then does not look at the ` +
          'memory map, finds 0 physical slots, and the kernel stays where it is loaded',
        advice: `list at most ${MOST_AVOIDED} ranges, or say nokaslr`,
        ...{ start: BigInt(area.start), end: BigInt(area.end) },
      },
    ];
  }
  return ranges.slice(MOST_AVOIDED).map((each) => ({
    code: 'memmap-not-avoided',
    text:
      `KASLR keeps clear of the first ${MOST_AVOIDED} ranges of memmap=; of ${each.option}, ${range(each)}, it knows nothing, and may put ` +
      'the kernel there',
    advice: `list at most ${MOST_AVOIDED} ranges, join some, or say nokaslr`,
    ...{ start: BigInt(each.start), end: BigInt(each.end) },
  }));
}

/** An initrd that the kernel finds nothing in. */
export function initrdHazards(bytes: Uint8Array, address: number): readonly Hazard[] {
  const problem = bytes.length === 0 ? null : initrdProblem(bytes);
  if (problem === null) return [];
  return [
    {
      code: 'initrd-content',
      text: `the initrd ${problem}`,
      advice: 'give it an initramfs as the distribution, dracut or cpio -H newc make it',
      ...{ start: BigInt(address), end: BigInt(address + bytes.length) },
    },
  ];
}
