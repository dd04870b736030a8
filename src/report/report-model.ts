// What the page and the pictures are drawn from: a finished trace in plain numbers and hex strings, with the changes from
// phase to phase worked out. It travels as JSON inside the page, so that the page needs nothing but to draw.

import { hex } from '../hex.ts';
import { formatSize } from '../size.ts';
import type {
  BootEvent,
  BootParamsAtJump,
  BootTrace,
  CpuMode,
  EfiMapEntry,
  Hazard,
  MemoryRegion,
  Overwrite,
  Phase,
  RegionKind,
} from '../trace/boot-trace.ts';
import { endangeredParts, hazardSentence } from '../trace/hazards.ts';
import { compareRegions } from '../trace/layout-changes.ts';
import type { PageTableWalk } from '../x86/page-tables.ts';

/** What became of a region since the phase before. */
export type RegionChange = 'first' | 'same' | 'new' | 'moved' | 'resized';

/** Physical [start, end). Physical addresses have at most 52 bits, which a double holds exactly. */
export interface ModelRange {
  readonly start: number;
  readonly end: number;
}

export interface ModelRegion extends ModelRange {
  readonly name: string;
  readonly kind: RegionKind;
  readonly source: string;
  readonly inferred: boolean;
  readonly parent: string | null;
  readonly change: RegionChange;
  /** Where it lay in the phase before, for one that moved or was resized. */
  readonly before: ModelRange | null;
}

export interface ModelOverwrite extends ModelRange {
  readonly region: string;
  readonly by: string;
}

/** Bytes of a region that a hazard names and that nothing has overwritten yet. */
export interface ModelDanger extends ModelRange {
  readonly region: string;
  readonly code: string;
}

export interface ModelRegister {
  readonly name: string;
  /** Hex. */
  readonly value: string;
  /** Value in the phase before, where it was another. */
  readonly before: string | null;
}

export interface ModelMapping {
  /** Linear [start, end) and the physical start, in hex: linear addresses use all 64 bits. */
  readonly start: string;
  readonly end: string;
  readonly physical: string;
  readonly identity: boolean;
  /** `rwx`, `r-x`, with `u` behind it for pages of user mode. */
  readonly rights: string;
  readonly pageSize: number;
}

export interface ModelPageTables {
  readonly mode: string;
  readonly root: string;
  readonly levels: number;
  readonly identity: boolean;
  readonly truncated: boolean;
  readonly tables: number;
  readonly ranges: readonly ModelMapping[];
}

export interface ModelPhase {
  readonly name: string;
  readonly address: string;
  /** Name of the address, where symbols were read that name it. */
  readonly symbol: string | null;
  readonly mode: CpuMode;
  readonly instructions: number | null;
  readonly summary: string;
  readonly registers: readonly ModelRegister[];
  readonly regions: readonly ModelRegion[];
  /** Regions of the phase before that are no more. */
  readonly gone: readonly { readonly name: string; readonly start: number; readonly end: number }[];
  /** What was overwritten since the phase before began. */
  readonly overwritten: readonly ModelOverwrite[];
  /** What was overwritten earlier, of regions that are still listed. */
  readonly lost: readonly ModelOverwrite[];
  readonly endangered: readonly ModelDanger[];
  readonly pageTables: ModelPageTables | null;
}

export interface ModelEvent {
  readonly kind: string;
  /** Index into `phases`; -1 where the phase is none of them. */
  readonly phase: number;
  readonly address: string;
  readonly symbol: string | null;
  readonly instructions: number | null;
  readonly text: string;
  readonly details: BootEvent['details'] | null;
}

export interface ModelHazard extends ModelRange {
  readonly code: string;
  /** Whole sentences, with capital letter and full stop. */
  readonly text: string;
  readonly advice: string;
}

export interface ModelSegment extends ModelRange {
  readonly virtual: string;
  readonly filesz: string;
  readonly flags: string;
  readonly sha256: string | null;
  /** What it starts with. */
  readonly symbol: string | null;
}

/** What was prepared for the kernel, decoded: a card of the page. */
export interface ModelTable {
  readonly id: string;
  readonly title: string;
  /** One sentence on what it is. */
  readonly hint: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** A trace as the page, the picture and the time line show it. */
export interface ReportModel {
  readonly image: BootTrace['image'];
  readonly machine: BootTrace['machine'];
  readonly kernel: {
    readonly entry: string;
    readonly entrySymbol: string | null;
    readonly physicalBase: string;
    readonly virtualBase: string;
    readonly bootParams: string;
    readonly entryMode: string;
    readonly segments: readonly ModelSegment[];
  } | null;
  /** boot_params with its E820 map at the jump, and the firmware's memory maps, as far as there are any. */
  readonly tables: readonly ModelTable[];
  readonly stopped: string | null;
  readonly hazards: readonly ModelHazard[];
  readonly notices: readonly string[];
  readonly console: string;
  readonly phases: readonly ModelPhase[];
  readonly events: readonly ModelEvent[];
  /** Events that the trace has and `events` lacks; see `fitModel`. */
  readonly eventsLeftOut: number;
  /** Whether the events here lack the details that they have in the trace. */
  readonly detailsLeftOut: boolean;
}

/** A trace made ready to be drawn: what the page, the picture and the time line show. */
export function reportModel(trace: BootTrace): ReportModel {
  const phases: ModelPhase[] = [];
  for (const [index, phase] of trace.phases.entries()) {
    phases.push(modelPhase(phase, trace.phases[index - 1] ?? null, phases.at(-1) ?? null, trace.hazards));
  }
  const { kernel } = trace;
  return {
    image: trace.image,
    machine: trace.machine,
    kernel:
      kernel === null
        ? null
        : {
            entry: hex(kernel.entry),
            entrySymbol: kernel.entrySymbol ?? null,
            physicalBase: hex(kernel.physicalBase),
            virtualBase: hex(kernel.virtualBase),
            bootParams: hex(kernel.bootParams),
            entryMode: kernel.entryMode,
            segments: kernel.segments.map((segment) => ({
              start: Number(segment.paddr),
              end: Number(segment.paddr + segment.memsz),
              virtual: hex(segment.vaddr),
              filesz: hex(segment.filesz),
              flags: segment.flags,
              sha256: segment.sha256,
              symbol: segment.symbol ?? null,
            })),
          },
    tables: modelTables(trace),
    stopped: trace.stopped,
    hazards: trace.hazards.map(modelHazard),
    notices: trace.notices,
    console: trace.console,
    phases,
    events: trace.events.map((event) => ({
      kind: event.kind,
      phase: trace.phases.findIndex((phase) => phase.name === event.phase),
      address: hex(event.address),
      symbol: event.symbol ?? null,
      instructions: event.instructions,
      text: event.text,
      details: event.details,
    })),
    eventsLeftOut: 0,
    detailsLeftOut: false,
  };
}

function modelTables({ bootParams, efiMemoryMap }: BootTrace): readonly ModelTable[] {
  const tables: ModelTable[] = [];
  if (bootParams !== null) {
    const { address, memoryMap, fields } = bootParams;
    tables.push(
      {
        id: 'e820',
        title: 'E820 map at the jump',
        hint: `What boot_params at ${hex(address)} tells the kernel of memory.`,
        columns: ['start', 'end', 'size', 'type'],
        rows: memoryMap.map(rangeRow),
      },
      {
        id: 'boot-params',
        title: 'boot_params at the jump',
        hint: `The fields at ${hex(address)} that are not 0; hdr is the setup header.`,
        columns: ['field', 'value'],
        rows: Object.entries(fields).map(([name, value]) => [name, String(value)]),
      },
    );
  }
  for (const [id, when, map] of [
    ['efi-map-entry', 'as the first image was entered', efiMemoryMap?.atEntry],
    ['efi-map-exit', 'as boot services ended', efiMemoryMap?.atExit],
  ] as const) {
    if (map == null) continue;
    tables.push({
      id,
      title: `EFI memory map ${when}`,
      hint: 'What the firmware told of memory, with the attributes of each descriptor.',
      columns: ['start', 'end', 'size', 'type', 'attributes'],
      rows: map.map((entry) => [...rangeRow(entry), hex(entry.attributes)]),
    });
  }
  return tables;
}

function rangeRow({ start, end, type }: EfiMapEntry | BootParamsAtJump['memoryMap'][number]): string[] {
  return [hex(start), hex(end), formatSize(Number(end - start)), type];
}

function modelHazard(hazard: Hazard): ModelHazard {
  const { code, text, advice, start, end } = hazard;
  return {
    code,
    text: hazardSentence(text),
    advice: hazardSentence(advice),
    start: Number(start),
    end: Number(end),
  };
}

function modelPhase(
  phase: Phase,
  previous: Phase | null,
  modelled: ModelPhase | null,
  hazards: readonly Hazard[],
): ModelPhase {
  const { changes, removed } = compareRegions(previous?.regions ?? [], phase.regions);
  const earlier = new Map((previous?.regions ?? []).map((region) => [region.name, region]));
  const names = new Set(phase.regions.map((region) => region.name));
  const overwritten = phase.overwritten.map(modelOverwrite);
  const lost = [...(modelled?.lost ?? []), ...(modelled?.overwritten ?? [])].filter(
    (loss) =>
      names.has(loss.region) &&
      !overwritten.some(
        (now) => now.region === loss.region && now.start <= loss.start && now.end >= loss.end,
      ),
  );
  return {
    name: phase.name,
    address: hex(phase.address),
    symbol: phase.symbol ?? null,
    mode: phase.mode,
    instructions: phase.instructions,
    summary: phase.summary,
    registers: [
      ...Object.entries(phase.registers).map(([name, value]) => {
        const before = previous?.registers[name as keyof Phase['registers']] ?? value;
        return { name, value: hex(value), before: before === value ? null : hex(before) };
      }),
      descriptorTable('gdtr', phase, previous),
      descriptorTable('idtr', phase, previous),
    ],
    regions: phase.regions.map((region) => {
      const change = changes.get(region.name) ?? 'same';
      return modelRegion(region, previous === null ? 'first' : CHANGES[change], earlier.get(region.name));
    }),
    gone: removed.map(({ name, start, end }) => ({ name, start: Number(start), end: Number(end) })),
    overwritten,
    lost,
    endangered: phase.regions.flatMap((region) =>
      endangeredParts(region, hazards)
        .map(({ code, start, end }) => ({
          region: region.name,
          code,
          start: Number(start),
          end: Number(end),
        }))
        .filter((part) => ![...overwritten, ...lost].some((loss) => covers(loss, part))),
    ),
    pageTables: phase.pageTables === null ? null : modelPageTables(phase.pageTables),
  };
}

function descriptorTable(name: 'gdtr' | 'idtr', phase: Phase, previous: Phase | null): ModelRegister {
  const text = (of: Phase): string => `${hex(of[name].base)} limit ${hex(of[name].limit)}`;
  const value = text(phase);
  const before = previous === null ? value : text(previous);
  return { name, value, before: before === value ? null : before };
}

const CHANGES = { added: 'new', moved: 'moved', resized: 'resized', same: 'same' } as const;

function covers(loss: ModelOverwrite, part: ModelDanger): boolean {
  return loss.region === part.region && loss.start <= part.start && loss.end >= part.end;
}

function modelRegion(
  region: MemoryRegion,
  change: RegionChange,
  before: MemoryRegion | undefined,
): ModelRegion {
  const changed = before !== undefined && (change === 'moved' || change === 'resized');
  return {
    name: region.name,
    start: Number(region.start),
    end: Number(region.end),
    kind: region.kind,
    source: region.source,
    inferred: region.inferred === true,
    parent: region.parent ?? null,
    change,
    before: changed ? { start: Number(before.start), end: Number(before.end) } : null,
  };
}

function modelOverwrite(overwrite: Overwrite): ModelOverwrite {
  return { ...overwrite, start: Number(overwrite.start), end: Number(overwrite.end) };
}

function modelPageTables(walk: PageTableWalk): ModelPageTables {
  return {
    mode: walk.mode,
    root: hex(walk.root),
    levels: walk.levels,
    identity: walk.identity,
    truncated: walk.truncated,
    tables: walk.tables.length,
    ranges: walk.ranges.map((range) => ({
      start: hex(range.start),
      end: hex(range.end),
      physical: hex(range.physical),
      identity: range.start === range.physical,
      rights: `r${range.writable ? 'w' : '-'}${range.executable ? 'x' : '-'}${range.user ? 'u' : ''}`,
      pageSize: range.pageSize,
    })),
  };
}

/** Limits of what a page carries besides its events; far above what a boot of a kernel has. */
const MAX_PAGE_REGIONS = 600;
const MAX_PAGE_MAPPINGS = 256;
const MAX_PAGE_CONSOLE = 64 * 1024;

/**
 * The same model in at most about `bytes` of JSON, as `sizeOf` counts them. What is shortened says so: the console and the page tables' ranges are
 * cut, the smallest parts of regions go, then the details of events, then events from the end (`eventsLeftOut`).
 */
export function fitModel(
  model: ReportModel,
  bytes: number,
  sizeOf: (value: unknown) => number = (value) => JSON.stringify(value).length,
): ReportModel {
  const base: ReportModel = {
    ...model,
    console:
      model.console.length <= MAX_PAGE_CONSOLE
        ? model.console
        : `${model.console.slice(0, MAX_PAGE_CONSOLE)}\n… ${model.console.length - MAX_PAGE_CONSOLE} more characters`,
    phases: model.phases.map((phase) => ({
      ...phase,
      regions: largestRegions(phase.regions, MAX_PAGE_REGIONS),
      pageTables:
        phase.pageTables === null || phase.pageTables.ranges.length <= MAX_PAGE_MAPPINGS
          ? phase.pageTables
          : {
              ...phase.pageTables,
              ranges: phase.pageTables.ranges.slice(0, MAX_PAGE_MAPPINGS),
              truncated: true,
            },
    })),
    events: [],
  };
  let left = bytes - sizeOf(base);
  let { events } = model;
  const detailsLeftOut = sizeOf(events) > left;
  if (detailsLeftOut) events = events.map((event) => ({ ...event, details: null }));
  const kept: ModelEvent[] = [];
  for (const event of events) {
    left -= sizeOf(event) + 1;
    if (left < 0) break;
    kept.push(event);
  }
  return {
    ...base,
    events: kept,
    eventsLeftOut: model.eventsLeftOut + model.events.length - kept.length,
    detailsLeftOut,
  };
}

/** Regions that are no part of another stay; of the parts, the largest. */
function largestRegions(regions: readonly ModelRegion[], most: number): readonly ModelRegion[] {
  if (regions.length <= most) return regions;
  const rank = (region: ModelRegion): number =>
    region.parent === null ? Number.POSITIVE_INFINITY : region.end - region.start;
  const kept = new Set([...regions].sort((a, b) => rank(b) - rank(a)).slice(0, most));
  return regions.filter((region) => kept.has(region));
}
