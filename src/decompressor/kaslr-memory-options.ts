// What the command line says about memory, as KASLR's handle_mem_options reads it: mem=, memmap=, and pages of 1 GiB.

import { memparse, simpleStrtoull, splitArguments } from './command-line.ts';
import type { KaslrGeneration } from './kaslr-generation.ts';

const GIB = 2 ** 30;
const MAX_MEMMAP_REGIONS = 4;

/** Memory that no slot may touch, and why. */
export interface AvoidedRange {
  readonly start: number;
  readonly end: number;
  readonly reason: string;
}

/** What the memory options of the command line ask for. */
export interface MemoryOptions {
  readonly limit: number;
  readonly memmap: readonly AvoidedRange[];
  readonly tooManyMemmaps: boolean;
  readonly gigabytePages: number;
  readonly warnings: readonly string[];
}

/**
 * handle_mem_options (handle_mem_memmap): mem=, memmap=, hugepagesz=1G hugepages=.
 *
 * @param atNull - the string at address 0, which the stub reads for an option that has no value
 */
export function readMemoryOptions(
  commandLine: string,
  generation: KaslrGeneration,
  maximum: number,
  bits: 32 | 64,
  atNull: string,
): MemoryOptions {
  let limit = maximum;
  const memmap: AvoidedRange[] = [];
  let tooMany = false;
  let gigabytePages = 0;
  let gigabyteSize = false;
  const warnings: string[] = [];
  const parses = ['memmap=', 'mem=', 'hugepages'].some((text) => commandLine.includes(text));
  const lower = (size: number): void => {
    limit = generation.since510 ? Math.min(limit, size) : size;
  };
  const parseMemmap = (list: string): void => {
    if (memmap.length >= MAX_MEMMAP_REGIONS) {
      return;
    }
    const parts = list.split(',');
    while (parts.length > 0 && memmap.length < MAX_MEMMAP_REGIONS) {
      const text = parts.shift()!;
      const size = memparse(text);
      if (text.startsWith('exactmap') || size.end === 0) {
        // The rest of a list with a part that says nothing about sizes is not looked at.
        return;
      }
      const separator = text[size.end];
      const reserves = separator === '#' || separator === '$' || separator === '!';
      const start = reserves ? Number(memparse(text, size.end + 1).value) : 0;
      const length = separator === '@' ? 0 : Number(size.value);
      if (start === 0) {
        if (length > 0) {
          lower(length);
        }
        continue;
      }
      memmap.push({ start, end: start + length, reason: `memmap=${text}` });
    }
    tooMany ||= memmap.length >= MAX_MEMMAP_REGIONS && parts.length > 0;
  };
  for (const { param, value: given } of generation.memmap && parses ? splitArguments(commandLine) : []) {
    if (given === null && param === '--') {
      if (!generation.since510) {
        warnings.push("Only '--' specified in cmdline");
      }
      break;
    }
    if (given === null && param === 'memmap') continue;
    const value = given ?? atNull;
    if (param === 'memmap') {
      parseMemmap(value);
    } else if (generation.hugePages && bits === 64 && param.includes('hugepages')) {
      if (param === 'hugepagesz') {
        const isGigabyte = Number(memparse(value).value) === GIB;
        if (isGigabyte && gigabyteSize) {
          warnings.push('Repeatedly set hugeTLB page size of 1G!\n');
        }
        gigabyteSize = isGigabyte;
      } else if (param === 'hugepages' && gigabyteSize) {
        gigabytePages = Number(simpleStrtoull(value).value);
      }
    } else if (generation.mem && param === 'mem' && value !== 'nopentium') {
      const size = Number(memparse(value).value);
      if (size === 0) {
        break;
      }
      lower(size);
    }
  }
  return { limit, memmap, tooManyMemmaps: tooMany, gigabytePages, warnings };
}
