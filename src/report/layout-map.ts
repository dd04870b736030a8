// A finished trace as memory maps for a terminal: for each phase its regions as bars over one axis, and what the phase adds,
// moves and overwrites.

import { hex, withSymbol } from '../hex.ts';
import { formatSize } from '../size.ts';
import type {
  BootTrace,
  Hazard,
  MemoryRegion,
  Overwrite,
  Phase,
  PhaseName,
  RegionKind,
} from '../trace/boot-trace.ts';
import { HAZARD_SECTIONS } from '../trace/hazard-sections.ts';
import { endangeredParts, hazardSentence } from '../trace/hazards.ts';
import { compareRegions, type RegionChange } from '../trace/layout-changes.ts';
import type { PageTableWalk } from '../x86/page-tables.ts';
import * as ansi from './ansi.ts';
import { coverage, type MemoryAxis, memoryAxis } from './memory-axis.ts';

/** What a drawn layout shows. */
export interface LayoutMapOptions {
  /** The one phase to show; absent: all. */
  readonly phase?: PhaseName;
  /** Columns of a line. */
  readonly width: number;
  readonly color: boolean;
  /** Show every region: no small sections taken together, nothing unchanged left out. */
  readonly all: boolean;
}

const HAPPENED: Readonly<Record<PhaseName, string>> = {
  'boot-sector': 'the BIOS has read the first sector and jumps to it',
  'stage1.5': 'the boot sector has read the next part of the loader and jumps to it',
  stage2: 'the main part of the loader runs',
  multiboot_entry: 'the loader enters a kernel by the Multiboot Specification',
  efi_program: 'the firmware has loaded the image and jumps to its entry',
  efi_handover_entry: "a boot loader calls the kernel's EFI stub",
  efi_pe_entry: 'the kernel is loaded as an EFI program; its EFI stub begins',
  decompress_kernel: 'the EFI stub has memory for the kernel and decompresses it',
  setup: 'setup begins, in real mode',
  startup_32: 'the stub begins, in protected mode',
  startup_64: 'the stub has switched to long mode',
  relocated: 'the stub has copied itself out of the way and goes on in the copy',
  extract_kernel: 'about to decompress the payload',
  decompressed: 'the payload is decompressed',
  parse_elf: "the kernel's segments are in their places",
  handle_relocations: 'the kernel is adjusted to its address',
  exit_boot_services: "the firmware's boot services are gone, all memory is the kernel's",
  kernel: 'the jump into the kernel',
};

const COLORS: Readonly<Record<RegionKind, readonly number[]>> = {
  firmware: [ansi.GREY],
  reserved: [ansi.GREY],
  video: [ansi.GREY],
  'boot-sector': [ansi.YELLOW],
  loader: [ansi.BRIGHT_BLUE],
  setup: [ansi.YELLOW],
  bss: [ansi.DIM],
  heap: [ansi.DIM],
  stack: [ansi.MAGENTA],
  'boot-params': [ansi.MAGENTA, ansi.BOLD],
  'command-line': [ansi.MAGENTA, ansi.BOLD],
  'descriptor-table': [ansi.MAGENTA],
  'page-table': [ansi.MAGENTA],
  'compressed-kernel': [ansi.CYAN],
  payload: [ansi.CYAN],
  stub: [ansi.BRIGHT_BLUE],
  buffer: [ansi.DIM],
  kernel: [ansi.GREEN],
  relocations: [ansi.YELLOW],
  initrd: [ansi.BRIGHT_MAGENTA, ansi.BOLD],
  'setup-data': [ansi.MAGENTA, ansi.BOLD],
};

/** Room that is kept, in contrast to bytes that mean something. */
const ROOM: ReadonlySet<RegionKind> = new Set(['buffer', 'bss', 'heap', 'stack', 'reserved']);
/** What never changes and interests least: taken together once it has been shown. */
const BACKGROUND: ReadonlySet<RegionKind> = new Set([
  'firmware',
  'reserved',
  'video',
  'setup',
  'boot-sector',
  'bss',
]);

const MARKS: Readonly<Record<RegionChange, string>> = { added: '+', moved: '>', resized: '>', same: ' ' };
/** Sections that are shown whatever their size; others are taken together while they are smaller than this part of the kernel. */
const WELL_KNOWN: ReadonlySet<string> = new Set(
  ['.text', '.rodata', '.data', '.data..percpu', '.init.text', '.init.data', '.bss', '.brk'].map(
    (name) => `kernel ${name}`,
  ),
);
const SMALL_PART = 48n;
const MAX_RANGES = 4;

/** Columns of a row besides the bar: mark, addresses, size, name. */
const START_COLUMNS = 11;
const END_COLUMNS = 12;
const SIZE_COLUMNS = 10;
const NAME_COLUMNS = 25;
const MIN_BAR = 18;
/** Columns that a tick of the scale needs, with the space behind it. */
const TICK_COLUMNS = 7;

/** Physical memory, drawn phase by phase in lines of text. */
export function formatLayout(trace: BootTrace, options: LayoutMapOptions): string {
  const paint = ansi.painter(options.color);
  const barColumns = Math.max(
    MIN_BAR,
    options.width - 2 - START_COLUMNS - END_COLUMNS - SIZE_COLUMNS - NAME_COLUMNS - 3,
  );
  const axis = memoryAxis(
    trace.phases.flatMap(({ regions }) => regions).filter(({ kind, end }) => inPicture(kind, end, trace)),
    barColumns,
  );
  const lost: Overwrite[] = [];
  let text = wrap(heading(trace), options.width, '  ', (line) => line);
  let before: Phase | null = null;
  for (const phase of trace.phases) {
    lost.push(...phase.overwritten);
    if (options.phase === undefined || options.phase === phase.name) {
      text += `\n${new PhaseMap(trace, before, phase, lost, axis, options, paint).format()}`;
    }
    before = phase;
  }
  if (trace.hazards.length > 0) text += `\n${formatHazards(trace.hazards, options.color, options.width)}`;
  if (trace.stopped !== null) {
    const line = `The kernel was not reached: ${trace.stopped}.`;
    text += `\n${wrap(line, options.width, '  ', (each) => each)}`;
  }
  return text;
}

/**
 * Each hazard with its bytes and what would be safe; each sentence is one line unless a width is given.
 *
 * @param sections - with where the rule stands
 */
export function formatHazards(
  hazards: readonly Hazard[],
  color: boolean,
  width = Number.POSITIVE_INFINITY,
  sections = false,
): string {
  const paint = ansi.painter(color);
  return hazards
    .map(
      ({ code, text, advice, start, end }) =>
        // Some have no bytes of physical memory.
        `${paint(code, ansi.RED, ansi.BOLD)}${start < end ? ` ${hex(start)}..${hex(end)}` : ''}\n` +
        wrap(`  ${hazardSentence(text)}`, width, '    ', (line) => line) +
        wrap(`  ${hazardSentence(advice)}`, width, '    ', (line) => paint(line, ansi.GREEN)) +
        (sections && HAZARD_SECTIONS[code] !== null
          ? wrap(`  ${HAZARD_SECTIONS[code]}`, width, '    ', (line) => line)
          : ''),
    )
    .join('');
}

/** Lines of at most `width` columns, broken between words; those behind the first begin with `indent`. */
function wrap(text: string, width: number, indent: string, paint: (line: string) => string): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(/(?<=\S) /)) {
    if (line === '') line = word;
    else if (line.length + 1 + word.length <= width) line += ` ${word}`;
    else {
      lines.push(line);
      line = `${indent}${word}`;
    }
  }
  return [...lines, line].map((each) => `${paint(each)}\n`).join('');
}

/** The ROM below 4 GiB and the like would only stretch the picture. */
function inPicture(kind: RegionKind, end: bigint, trace: BootTrace): boolean {
  return kind !== 'reserved' || Number(end) <= trace.machine.ram;
}

function heading(trace: BootTrace): string {
  const { image, machine } = trace;
  const version = image.kernelVersion?.split(' ')[0];
  return (
    `${image.path}: ${image.kind}${version === undefined ? '' : ` of Linux ${version}`}, ` +
    `${machine.entry} entry, ${machine.ram / 2 ** 20} MiB of RAM`
  );
}

/** A line of the map: one region, or several small ones together. */
interface Row {
  readonly name: string;
  readonly depth: number;
  readonly region: Pick<MemoryRegion, 'start' | 'end' | 'kind'>;
  readonly mark: string;
  readonly inferred: boolean;
  /** Names of the regions it stands for. */
  readonly members: readonly string[];
}

class PhaseMap {
  readonly #trace: BootTrace;
  readonly #phase: Phase;
  readonly #lost: readonly Overwrite[];
  readonly #axis: MemoryAxis;
  readonly #options: LayoutMapOptions;
  readonly #paint: ansi.Paint;
  readonly #changes: ReadonlyMap<string, RegionChange>;
  readonly #removed: readonly MemoryRegion[];
  readonly #first: boolean;
  readonly #kernelSize: bigint;

  constructor(
    trace: BootTrace,
    before: Phase | null,
    phase: Phase,
    lost: readonly Overwrite[],
    axis: MemoryAxis,
    options: LayoutMapOptions,
    paint: ansi.Paint,
  ) {
    this.#trace = trace;
    this.#phase = phase;
    this.#lost = lost;
    this.#axis = axis;
    this.#options = options;
    this.#paint = paint;
    const { changes, removed } = compareRegions(before?.regions ?? [], phase.regions);
    this.#changes = changes;
    this.#removed = removed;
    this.#first = before === null;
    this.#kernelSize = phase.regions
      .filter(({ role, segment }) => role === 'kernel-segment' && segment !== undefined)
      .reduce((sum, { start, end }) => sum + end - start, 0n);
  }

  format(): string {
    const phase = this.#phase;
    const paint = this.#paint;
    const facts = `${withSymbol(hex(phase.address), phase.symbol)}  ${phase.mode}`;
    const room = this.#options.width - `${phase.name}  ${facts}  `.length;
    const happened = HAPPENED[phase.name];
    let text = `${paint(phase.name, ansi.BOLD)}  ${facts}`;
    // What happened goes below where a narrow terminal has no room for it behind the rest.
    text += `${happened.length <= room ? '  ' : '\n  '}${paint(happened, ansi.DIM)}\n`;
    text += `  ${this.#scale()}\n`;
    const { rows, left } = this.#rows();
    for (const row of rows) text += `${this.#row(row)}\n`;
    if (phase.name === 'kernel') text += this.#segmentStarts();
    if (left.length > 0) text += this.#wrap(`unchanged: ${left.join(', ')}`, ansi.GREY);
    const gone = this.#removed.filter(({ role, parent }) => role !== 'stack' && parent === undefined);
    if (gone.length > 0) text += this.#wrap(`gone: ${gone.map(({ name }) => name).join(', ')}`, ansi.GREY);
    for (const piece of phase.overwritten) text += this.#overwrite(piece);
    if (phase.pageTables !== null) text += this.#wrap(describePaging(phase.pageTables), ansi.GREY);
    return text;
  }

  /** What the kernel's segments start with, where symbols name it. */
  #segmentStarts(): string {
    const starts = (this.#trace.kernel?.segments ?? []).flatMap(({ paddr, symbol }) =>
      symbol === undefined ? [] : [withSymbol(hex(paddr), symbol)],
    );
    return starts.length === 0 ? '' : this.#wrap(`segments start with: ${starts.join(', ')}`, ansi.GREY);
  }

  /** Where the pieces of the axis begin, and round addresses within them; a tick that has no room is left out. */
  #scale(): string {
    const { columns } = this.#axis;
    let line = '';
    const put = (address: number, column: number, step = 2 ** 17): void => {
      const label = formatAddress(address, step);
      const room = line.length === 0 || line.length < column;
      if (room && column + label.length <= columns) line = `${line.padEnd(column)}${label}`;
    };
    for (const { start, end, column, columns: width } of this.#axis.pieces) {
      put(start, column);
      const bytes = (end - start) / width;
      const step = 2 ** Math.ceil(Math.log2(bytes * TICK_COLUMNS));
      for (let tick = (Math.floor(start / step) + 1) * step; tick < end; tick += step) {
        put(tick, column + Math.floor((tick - start) / bytes), step);
      }
    }
    const head = `${'START'.padStart(START_COLUMNS)}${'END'.padStart(END_COLUMNS)}${'SIZE'.padStart(SIZE_COLUMNS + 1)}`;
    return this.#paint(`${line.padEnd(columns)}${head}`, ansi.GREY);
  }

  /** The rows to show, and the names of the unchanged background that is left out. */
  #rows(): { rows: Row[]; left: string[] } {
    const { regions } = this.#phase;
    const changed = (name: string): boolean => this.#changes.get(name) !== 'same' || this.#lostNow(name);
    const alone = this.#options.phase !== undefined || this.#options.all;
    const left: string[] = [];
    const rows: Row[] = [];
    const children = new Map<string, MemoryRegion[]>();
    for (const region of regions) {
      if (region.parent !== undefined)
        children.set(region.parent, [...(children.get(region.parent) ?? []), region]);
    }
    for (const region of regions) {
      if (region.parent !== undefined && regions.some(({ name }) => name === region.parent)) continue;
      const parts = children.get(region.name) ?? [];
      const partChanged = parts.some(({ name }) => changed(name));
      if (!alone && !this.#first && BACKGROUND.has(region.kind) && !changed(region.name) && !partChanged) {
        left.push(region.name);
        continue;
      }
      rows.push(this.#rowOf(region, 0));
      if (alone || this.#first || partChanged) rows.push(...this.#parts(parts));
    }
    return { rows, left };
  }

  #lostNow(name: string): boolean {
    return this.#phase.overwritten.some(({ region }) => region === name);
  }

  #rowOf(region: MemoryRegion, depth: number): Row {
    const change = this.#changes.get(region.name) ?? 'same';
    const quiet = this.#first || (region.role === 'stack' && change !== 'added');
    return {
      name: shortName(region),
      depth,
      region,
      mark: this.#lostNow(region.name) ? '!' : quiet ? ' ' : MARKS[change],
      inferred: region.inferred === true,
      members: [region.name],
    };
  }

  /** The parts of a region, neighbouring small ones taken together. */
  #parts(parts: readonly MemoryRegion[]): Row[] {
    const rows: Row[] = [];
    let small: MemoryRegion[] = [];
    const flush = (): void => {
      if (small.length > 1) {
        const last = small.at(-1)!.end;
        const row = this.#rowOf(small[0]!, 1);
        rows.push({
          ...row,
          name: `… ${small.length} smaller sections`,
          region: { start: small[0]!.start, end: last, kind: small[0]!.kind },
          members: small.map(({ name }) => name),
        });
      } else rows.push(...small.map((region) => this.#rowOf(region, 1)));
      small = [];
    };
    for (const part of parts) {
      const isSmall =
        part.source.startsWith('ELF section') &&
        !WELL_KNOWN.has(part.name) &&
        (part.end - part.start) * SMALL_PART < this.#kernelSize;
      if (isSmall && !this.#options.all) small.push(part);
      else {
        flush();
        rows.push(this.#rowOf(part, 1));
      }
    }
    flush();
    return rows;
  }

  #row(row: Row): string {
    const { region, mark } = row;
    const paint = this.#paint;
    const codes = COLORS[region.kind];
    const name = cut(`${'  '.repeat(row.depth)}${row.name}`, NAME_COLUMNS - 2) + (row.inferred ? ' ~' : '');
    const start = hex(region.start).padStart(START_COLUMNS);
    const end = hex(region.end).padStart(END_COLUMNS);
    const size = formatSize(region.end - region.start).padStart(SIZE_COLUMNS);
    const markCodes = mark === '!' ? [ansi.RED, ansi.BOLD] : mark === ' ' ? [] : [ansi.GREEN, ansi.BOLD];
    return (
      `${paint(mark, ...markCodes)} ${this.#bar(row)}${start}${end} ${paint(size, ansi.DIM)}  ` +
      paint(name, ...codes)
    );
  }

  #bar(row: Row): string {
    const { start, end, kind } = row.region;
    const axis = this.#axis;
    const cover = coverage(axis, Number(start), Number(end));
    const most = Math.max(...cover);
    const lost = new Array<number>(axis.columns).fill(0);
    for (const piece of this.#lost) {
      if (!row.members.includes(piece.region) && !this.#isPartOf(piece.region, row.members)) continue;
      for (const [index, part] of coverage(axis, Number(piece.start), Number(piece.end)).entries()) {
        lost[index] = Math.max(lost[index]!, part);
      }
    }
    const mostLost = Math.max(...lost);
    const danger = new Array<number>(axis.columns).fill(0);
    for (const { start: from, end: to } of endangeredParts(row.region, this.#trace.hazards)) {
      for (const [index, part] of coverage(axis, Number(from), Number(to)).entries()) {
        danger[index] = Math.max(danger[index]!, part);
      }
    }
    let bar = '';
    let run = '';
    let runCodes: readonly number[] = [];
    const put = (character: string, codes: readonly number[]): void => {
      if (codes !== runCodes) {
        bar += this.#paint(run, ...runCodes);
        run = '';
        runCodes = codes;
      }
      run += character;
    };
    for (let index = 0; index < axis.columns; index++) {
      const part = cover[index]!;
      const taken = part >= 0.5 || (part > 0 && part === most);
      const overwritten = lost[index]! > 0 && (lost[index]! >= 0.5 || lost[index] === mostLost);
      if (part < 0) put('┊', FOLD);
      else if (overwritten) put('×', LOST);
      else if (!taken) put(' ', NOTHING);
      else if (danger[index]! > 0) put('▓', LOST);
      else if (ROOM.has(kind)) put(part >= 0.5 ? '░' : '▏', COLORS[kind]);
      else put(part >= 0.5 ? '█' : '▏', COLORS[kind]);
    }
    return bar + this.#paint(run, ...runCodes);
  }

  #isPartOf(name: string, parents: readonly string[]): boolean {
    const parent = this.#phase.regions.find((region) => region.name === name)?.parent;
    return parent !== undefined && parents.includes(parent);
  }

  #overwrite({ region, by, start, end }: Overwrite): string {
    const whole = this.#trace.phases
      .flatMap(({ regions }) => regions)
      .find(({ name, start: from, end: to }) => name === region && from <= start && to >= end);
    const size = formatSize(end - start);
    const part =
      whole === undefined || (whole.start === start && whole.end === end)
        ? `all ${size}`
        : `${size} of ${formatSize(whole.end - whole.start)}`;
    return wrap(
      `! ${region}: ${hex(start)}..${hex(end)} (${part}) overwritten by ${by}`,
      this.#options.width,
      '  ',
      (line) => this.#paint(line, ansi.RED),
    );
  }

  #wrap(text: string, ...codes: readonly number[]): string {
    return wrap(`  ${text}`, this.#options.width, '    ', (line) => this.#paint(line, ...codes));
  }
}

const FOLD: readonly number[] = [ansi.GREY];
const LOST: readonly number[] = [ansi.BRIGHT_RED];
const NOTHING: readonly number[] = [];

function cut(text: string, columns: number): string {
  return text.length <= columns ? text : `${text.slice(0, columns - 1)}…`;
}

/** A part's name without its parent's, a section's without `kernel`. */
function shortName({ name, parent }: MemoryRegion): string {
  if (parent === undefined) return name;
  for (const prefix of [`${parent} `, 'kernel ']) {
    if (name.startsWith(prefix)) return name.slice(prefix.length);
  }
  return name;
}

/** An address as a tick: `0`, `640K`, `16M`, with as many digits as ticks `step` bytes apart need. */
function formatAddress(address: number, step: number): string {
  if (address === 0) return '0';
  if (address % 2 ** 20 === 0) return `${address / 2 ** 20}M`;
  if (address % 2 ** 10 === 0 && address < 2 ** 20) return `${address / 2 ** 10}K`;
  return `${(address / 2 ** 20).toFixed(step < 2 ** 14 ? 3 : step < 2 ** 17 ? 2 : 1)}M`;
}

function describePaging(walk: PageTableWalk): string {
  if (walk.mode === 'off') return 'paging off';
  const tables = `${walk.tables.length} table${walk.tables.length === 1 ? '' : 's'} from ${hex(walk.root)}`;
  const shown = walk.ranges.slice(0, MAX_RANGES).map((range) => {
    const rights = `r${range.writable ? 'w' : '-'}${range.executable ? 'x' : '-'}${range.user ? ' for users too' : ''}`;
    const target = range.start === range.physical ? 'to itself' : `to ${hex(range.physical)}`;
    return `${hex(range.start)}..${hex(range.end)} ${target} (${formatSize(range.pageSize)} pages, ${rights})`;
  });
  const more = walk.ranges.length - shown.length;
  const rest = more > 0 ? ` and ${more} more ranges` : '';
  return `paging: ${walk.mode}, ${tables}, maps ${shown.length === 0 ? 'nothing' : shown.join(', ')}${rest}`;
}
