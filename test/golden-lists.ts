// The golden lists: what every demo image does through every entry, hooked and emulated, as text that a change can be reviewed by.
// A boot has one block each of phases, regions, overwrites and events; a block that another boot of the image has already is named, not repeated.

import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import {
  type BootOptions,
  BootscopeError,
  type BootTrace,
  boot,
  compareRegions,
  DEFAULT_BOOT_OPTIONS,
  type MemoryRegion,
  readKernelImage,
} from '../src/index.ts';

type Variant = Pick<BootOptions, 'entry' | 'decompress' | 'kaslr'>;

const ENTRIES = ['real16', 'prot32', 'long64', 'boot-sector'] as const;
const KASLR: readonly BootOptions['kaslr'][] = [{ kind: 'off' }, { kind: 'seed', seed: 1n }];
const COLUMNS = 150;

const VARIANTS: readonly Variant[] = ENTRIES.flatMap((entry) =>
  (['hooked', 'emulated'] as const).flatMap((decompress) =>
    KASLR.map((kaslr) => ({ entry, decompress, kaslr })),
  ),
);

function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}

function regionLine({ name, start, end, kind, inferred, parent }: MemoryRegion): string {
  return `${hex(start)}-${hex(end)} ${name} [${kind}${inferred ? '~' : ''}]${parent === undefined ? '' : ` in ${parent}`}`;
}

function regionBlock(trace: BootTrace): string[] {
  let before: readonly MemoryRegion[] = [];
  const lines: string[] = [];
  for (const { name, regions } of trace.phases) {
    const known = new Set(before.map(regionLine));
    const { removed } = compareRegions(before, regions);
    lines.push(`${name}:`);
    lines.push(...removed.map((region) => ` - ${region.name}`));
    for (const region of regions) if (!known.has(regionLine(region))) lines.push(` + ${regionLine(region)}`);
    before = regions;
  }
  return lines;
}

/** Neighbours that differ in the count of instructions alone as one line, with the first count, the last, and how many they are. */
function folded(events: BootTrace['events']): string[] {
  const runs: { readonly at: string; readonly first: number | null; last: number | null; count: number }[] =
    [];
  for (const { kind, phase, address, instructions, text } of events) {
    const at = `${phase} ${hex(address)} ${kind}: ${text}`;
    const run = runs.at(-1);
    if (run?.at === at) {
      run.last = instructions;
      run.count++;
    } else runs.push({ at, first: instructions, last: instructions, count: 1 });
  }
  return runs.map(({ at, first, last, count }) =>
    count === 1 ? `#${first} ${at}` : `#${first}..${last} ${at} x${count}`,
  );
}

/** The blocks of a finished boot, by name. */
function blocksOf(trace: BootTrace): Readonly<Record<string, readonly string[]>> {
  const { kernel } = trace;
  return {
    phases: [
      ...trace.phases.map(
        ({ name, address, mode, instructions, summary }) =>
          `${name} at ${hex(address)} ${mode} #${instructions}${summary === '' ? '' : `: ${summary}`}`,
      ),
      kernel === null
        ? `stopped: ${trace.stopped}`
        : `entry ${hex(kernel.entry)}, base ${hex(kernel.physicalBase)}/${hex(kernel.virtualBase)}, boot_params ${hex(kernel.bootParams)}`,
      ...(kernel?.segments ?? []).map(
        ({ paddr, vaddr, filesz, memsz, flags, sha256 }) =>
          `segment ${hex(paddr)} ${hex(vaddr)} ${hex(filesz)} ${hex(memsz)} ${flags} ${sha256?.slice(0, 16)}`,
      ),
      ...trace.hazards.map(({ code, start, end }) => `hazard ${code} ${hex(start)}-${hex(end)}`),
      ...trace.notices.map((text) => `notice: ${text}`),
    ],
    regions: regionBlock(trace),
    overwritten: trace.phases.flatMap(({ name, overwritten }) =>
      overwritten.map(
        ({ region, by, start, end }) => `${name}: ${hex(start)}-${hex(end)} of ${region} by ${by}`,
      ),
    ),
    events: folded(trace.events),
  };
}

function titleOf({ entry, decompress, kaslr }: Variant): string {
  return `${entry} ${decompress} ${kaslr.kind === 'seed' ? `seed:${kaslr.seed}` : kaslr.kind}`;
}

/** The lists of one image, on the native engine. */
export async function goldenLists(path: string): Promise<string> {
  const image = await readKernelImage(basename(path), readFileSync(path));
  const seen = new Map<string, string>();
  let text = `${basename(path)}\n`;
  for (const variant of VARIANTS) {
    const title = titleOf(variant);
    text += `\n== ${title}\n`;
    let trace: BootTrace;
    try {
      const finished = await boot(image, { ...DEFAULT_BOOT_OPTIONS, ...variant, engine: 'native' });
      finished.close();
      ({ trace } = finished);
    } catch (error) {
      if (!(error instanceof BootscopeError)) throw error;
      text += `${error.code}: ${error.message}\n`;
      continue;
    }
    for (const [name, lines] of Object.entries(blocksOf(trace))) {
      if (lines.length === 0) continue;
      const block = lines.map((line) => `  ${line.slice(0, COLUMNS)}\n`).join('');
      const same = seen.get(block);
      if (same === undefined) seen.set(block, title);
      text += same === undefined ? `-- ${name}\n${block}` : `-- ${name} as ${same}\n`;
    }
  }
  return text;
}
