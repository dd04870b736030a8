// Draws memory as SVG: one phase with a label for each region, or all phases side by side. A pure function of the model,
// so that the page and the SVG file show the same.

import { hex } from '../hex.ts';
import { formatSize } from '../size.ts';
import { type AddressScale, isSection } from './address-scale.ts';
import { type Box, extentOf, placeLabels, placeRegions, type ScaleView, yOf } from './place-regions.ts';
import type { ModelOverwrite, ModelPhase, ModelRange, ModelRegion, ReportModel } from './report-model.ts';

export interface PictureOptions {
  readonly scale: AddressScale;
  readonly view: ScaleView;
  /** Pixels. */
  readonly width: number;
  readonly height: number;
  /** Name of the region that stands out; null: none. */
  readonly highlight: string | null;
  /** Begins the ids of patterns and arrow heads; absent: pictures of one kind in a document share them. */
  readonly ids?: string;
}

const LABEL_HEIGHT = 17;
/** Widths of a character in pixels, on the safe side of the usual fonts. */
const MONO_WIDTH = 6.7;
const TEXT_WIDTH = 6.6;
const BOLD_WIDTH = 7.4;
const AXIS_WIDTH = 88;
const ARROW_GUTTER = 22;
const FRAME = 5;

export function escapeXml(text: string): string {
  return text
    .replace(/&/g, '&amp;')
    .replace(/</g, '&lt;')
    .replace(/>/g, '&gt;')
    .replace(/"/g, '&quot;')
    .replace(/'/g, '&#39;')
    .replace(/[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/gu, '\u{fffd}');
}

function fixed(value: number): string {
  return String(Math.round(value * 10) / 10);
}

/** As much of a text as fits, with an ellipsis where some is left out. */
function shorten(text: string, width: number, characterWidth: number): string {
  const most = Math.floor(width / characterWidth);
  if (text.length <= most) return text;
  return most < 3 ? '' : `${text.slice(0, most - 1).trimEnd()}…`;
}

/** Patterns and arrow heads that a picture refers to; ids are unique by `prefix`. */
function definitions(prefix: string): string {
  return (
    `<defs><pattern id="${prefix}-now" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">` +
    '<rect class="hatch-now" width="3.2" height="7"/></pattern>' +
    `<pattern id="${prefix}-lost" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">` +
    '<rect class="hatch-lost" width="1.6" height="7"/></pattern>' +
    `<pattern id="${prefix}-danger" width="6" height="6" patternUnits="userSpaceOnUse">` +
    '<circle class="hatch-now" cx="3" cy="3" r="1.5"/></pattern>' +
    `<marker id="${prefix}-head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">` +
    '<path class="arrow-head" d="M0 0 L8 4 L0 8 z"/></marker></defs>'
  );
}

function svg(width: number, height: number, label: string, content: string): string {
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" class="layout" viewBox="0 0 ${fixed(width)} ${fixed(height)}" ` +
    `width="${fixed(width)}" height="${fixed(height)}" role="img" aria-label="${escapeXml(label)}">${content}</svg>`
  );
}

/** One phase: axis, copies as arrows, the regions in lanes, and beside them their labels. */
export function drawPhase(model: ReportModel, index: number, options: PictureOptions): string {
  const phase = model.phases[index];
  if (phase === undefined) return svg(options.width, options.height, 'no phase', '');
  const { scale, view, width, height, ids = 'one' } = options;
  const narrow = width < 520;
  const axis = narrow ? 0 : AXIS_WIDTH;
  const gutter = narrow ? 14 : 30;
  const copies = copiesInto(model, index);
  const arrows = copies.length > 0 ? ARROW_GUTTER : 0;
  const labels = narrow ? width * 0.56 : Math.max(290, Math.min(360, width * 0.42));
  const area: Box = {
    x: axis + arrows + 1,
    y: 8,
    width: width - axis - arrows - gutter - labels - 2,
    height: height - 16,
  };
  let content = definitions(ids);
  content += drawFolds(scale, view, area);
  if (!narrow) content += drawAxis(phase.regions, scale, view, area);
  content += drawColumn(phase, area, options, ids, true);
  content += drawCopies(copies, scale, view, area, ids);
  content += drawLabels(phase, area, area.x + area.width + gutter, labels, options, narrow);
  return svg(width, height, `Physical memory in phase ${phase.name}`, content);
}

/** All phases side by side; what changed since the phase before is outlined. */
export function drawAllPhases(model: ReportModel, selected: number | null, options: PictureOptions): string {
  const { scale, view, width, height, ids = 'all' } = options;
  const header = 46;
  const gap = 10;
  const count = Math.max(1, model.phases.length);
  // The frame of the chosen column stands out a little.
  const columnWidth = (width - FRAME - AXIS_WIDTH - gap * count) / count;
  const area: Box = {
    x: AXIS_WIDTH + gap,
    y: header,
    width: width - FRAME - AXIS_WIDTH - gap,
    height: height - header - 8,
  };
  let content = definitions(ids);
  content += drawFolds(scale, view, area);
  content += drawAxis(
    model.phases.flatMap((phase) => phase.regions),
    scale,
    view,
    area,
  );
  for (const [index, phase] of model.phases.entries()) {
    const x = AXIS_WIDTH + gap + index * (columnWidth + gap);
    const column: Box = { ...area, x, width: columnWidth };
    const chosen = index === selected ? ' selected' : '';
    content +=
      `<g class="column${chosen}" data-phase="${index}">` +
      `<rect class="column-back" x="${fixed(x - FRAME + 1)}" y="2" width="${fixed(columnWidth + 2 * (FRAME - 1))}" height="${fixed(height - 4)}" rx="6"/>` +
      `<text class="column-name" x="${fixed(x)}" y="20">${escapeXml(shorten(phase.name, columnWidth, 7.6))}</text>` +
      `<text class="column-mode" x="${fixed(x)}" y="36">${escapeXml(shorten(`${phase.address} ${phase.mode}`, columnWidth, MONO_WIDTH))}</text>` +
      `${drawColumn(phase, column, options, ids, false)}</g>`;
  }
  return svg(width, height, 'Physical memory in each phase', content);
}

function drawFolds(scale: AddressScale, view: ScaleView, area: Box): string {
  let out = '';
  for (const fold of scale.folds) {
    const extent = extentOf(fold, scale, view, area);
    if (extent === null || extent.height < 4) continue;
    const middle = extent.y + extent.height / 2;
    let path = `M${fixed(area.x)} ${fixed(middle)}`;
    for (let x = area.x; x + 12 <= area.x + area.width; x += 12) path += 'q3 -4 6 0t6 0';
    out += `<path class="fold" d="${path}"><title>${escapeXml(`nothing in ${range(fold)}, ${formatSize(fold.end - fold.start)}`)}</title></path>`;
  }
  return out;
}

function range(of: { readonly start: number; readonly end: number }): string {
  return `${hex(of.start)}–${hex(of.end)}`;
}

/** Addresses where regions begin and end, the largest regions' first, as many as have room. */
function drawAxis(regions: readonly ModelRegion[], scale: AddressScale, view: ScaleView, area: Box): string {
  const ranked = [...regions]
    .filter((region) => !isSection(region))
    .sort(
      (a, b) => Number(a.parent !== null) - Number(b.parent !== null) || b.end - b.start - (a.end - a.start),
    );
  const taken: number[] = [];
  let out = '';
  const tick = (address: number): void => {
    const y = yOf(address, scale, view, area);
    if (y < area.y - 1 || y > area.y + area.height + 1 || taken.some((other) => Math.abs(other - y) < 14))
      return;
    taken.push(y);
    const text = Math.min(Math.max(y + 3.5, area.y + 7), area.y + area.height);
    out +=
      `<path class="tick" d="M${AXIS_WIDTH - 6} ${fixed(y)}H${fixed(area.x + area.width)}"/>` +
      `<text class="address" x="${AXIS_WIDTH - 10}" y="${fixed(text)}" text-anchor="end">${hex(address)}</text>`;
  };
  tick(0);
  for (const region of ranked) {
    tick(region.start);
    tick(region.end);
  }
  // Between far boundaries of a zoomed view, round numbers.
  for (let step = 1; step < 12; step++) {
    const address = scale.fromUnit(view.from + ((view.to - view.from) * step) / 12);
    const grain = 2 ** Math.max(0, Math.floor(Math.log2(Math.max(1, address))) - 7);
    if (taken.every((other) => Math.abs(other - yOf(address, scale, view, area)) > 56)) {
      tick(Math.round(address / grain) * grain);
    }
  }
  return out;
}

function drawColumn(
  phase: ModelPhase,
  area: Box,
  options: PictureOptions,
  prefix: string,
  interactive: boolean,
): string {
  const { scale, view, highlight } = options;
  let out = `<rect class="memory" x="${fixed(area.x)}" y="${fixed(area.y)}" width="${fixed(area.width)}" height="${fixed(area.height)}"/>`;
  for (const ghost of ghosts(phase)) {
    const extent = extentOf(ghost, scale, view, area);
    if (extent === null || extent.height < 3) continue;
    out +=
      `<rect class="ghost" x="${fixed(area.x + 1.5)}" y="${fixed(extent.y)}" width="${fixed(area.width - 3)}" height="${fixed(extent.height)}">` +
      `<title>${escapeXml(`before: ${ghost.name} ${range(ghost)}`)}</title></rect>`;
  }
  const placed = placeRegions(phase.regions, scale, view, area);
  for (const { region, x, y, width, height } of placed) {
    const classes = [`region k-${region.kind}`];
    if (region.change === 'new' || region.change === 'moved' || region.change === 'resized') {
      classes.push('changed');
    }
    if (region.inferred) classes.push('inferred');
    if (region.name === highlight) classes.push('highlight');
    const inset = width > 8 ? 0.75 : 0;
    out +=
      `<rect class="${classes.join(' ')}" data-region="${escapeXml(region.name)}" x="${fixed(x + inset)}" y="${fixed(y)}" ` +
      `width="${fixed(Math.max(1, width - 2 * inset))}" height="${fixed(height)}"${height > 6 ? ' rx="1.5"' : ''}>` +
      `<title>${escapeXml(describeRegion(region))}</title></rect>`;
  }
  const hatch = <T extends ModelRange & { readonly region: string }>(
    parts: readonly T[],
    pattern: string,
    say: (part: T) => string,
  ): void => {
    for (const part of parts) {
      const box = placed.find((candidate) => candidate.region.name === part.region);
      const extent = extentOf(part, scale, view, area);
      if (extent === null) continue;
      const x = box?.x ?? area.x + area.width - 8;
      const width = box?.width ?? 8;
      out +=
        `<rect class="hatched" fill="url(#${prefix}-${pattern})" x="${fixed(x + 0.75)}" y="${fixed(extent.y)}" ` +
        `width="${fixed(Math.max(1, width - 1.5))}" height="${fixed(extent.height)}">` +
        `<title>${escapeXml(`${part.region}: ${range(part)} ${say(part)}`)}</title></rect>`;
    }
  };
  hatch(phase.endangered, 'danger', ({ code }) => `in danger, ${code}`);
  hatch(phase.lost, 'lost', overwrittenBy);
  hatch(phase.overwritten, 'now', overwrittenBy);
  if (!interactive) {
    for (const { region, x, y, width, height } of placed) {
      const text = height < 13 ? '' : shorten(nameInside(region), width - 8, TEXT_WIDTH);
      if (text.length < Math.min(4, nameInside(region).length)) continue;
      const hatched = [...phase.endangered, ...phase.lost, ...phase.overwritten].some(
        (part) => part.region === region.name,
      );
      out += `<text class="inside${hatched ? ' on-hatch' : ''}" x="${fixed(x + 4)}" y="${fixed(Math.min(y + height / 2 + 4, y + 14))}">${escapeXml(text)}</text>`;
    }
  }
  return out;
}

function overwrittenBy({ by }: ModelOverwrite): string {
  return `overwritten by ${by}`;
}

/** A part stands beside its whole, which need not be named again: `payload` of `ZO copy`; so do segments and sections of the kernel. */
function nameInside({ name, parent, kind }: ModelRegion): string {
  for (const whole of [`${parent} `, ...(kind === 'kernel' || parent !== null ? ['kernel '] : [])]) {
    if (name.startsWith(whole)) return name.slice(whole.length);
  }
  return name;
}

interface Ghost {
  readonly name: string;
  readonly start: number;
  readonly end: number;
}

function ghosts(phase: ModelPhase): readonly Ghost[] {
  return [
    ...phase.gone,
    ...phase.regions.flatMap((region) =>
      region.before === null || region.change !== 'moved' ? [] : [{ name: region.name, ...region.before }],
    ),
  ];
}

export function describeRegion(region: ModelRegion): string {
  const size = formatSize(region.end - region.start);
  return `${region.name}\n${range(region)}, ${size}\n${region.inferred ? 'inferred: ' : ''}${region.source}`;
}

interface Copy {
  readonly source: number;
  readonly target: number;
  readonly length: number;
}

/** The large copies that led to the layout of a phase: those the phase before made. */
function copiesInto(model: ReportModel, index: number): readonly Copy[] {
  const copies: Copy[] = [];
  for (const event of model.events) {
    if (event.kind !== 'copy' || event.phase !== index - 1 || event.details === null) continue;
    const { source, target, length } = event.details;
    if (typeof source !== 'number' || typeof target !== 'number' || typeof length !== 'number') continue;
    if (length >= 4096) copies.push({ source, target, length });
  }
  return copies.sort((a, b) => b.length - a.length).slice(0, 3);
}

function drawCopies(
  copies: readonly Copy[],
  scale: AddressScale,
  view: ScaleView,
  area: Box,
  prefix: string,
): string {
  let out = '';
  for (const [index, copy] of copies.entries()) {
    const at = (start: number): number =>
      Math.min(
        Math.max(yOf(start + copy.length / 2, scale, view, area), area.y + 2),
        area.y + area.height - 2,
      );
    const from = at(copy.source);
    const to = at(copy.target);
    const bend = area.x - 8 - (index % 3) * 5;
    out +=
      `<path class="copy" marker-end="url(#${prefix}-head)" d="M${fixed(area.x)} ${fixed(from)}H${fixed(bend)}V${fixed(to)}H${fixed(area.x)}">` +
      `<title>${escapeXml(`${formatSize(copy.length)} copied from ${hex(copy.source)} to ${hex(copy.target)}`)}</title></path>`;
  }
  return out;
}

function drawLabels(
  phase: ModelPhase,
  area: Box,
  x: number,
  width: number,
  options: PictureOptions,
  narrow: boolean,
): string {
  const lost = new Set(phase.overwritten.map((overwrite) => overwrite.region));
  const endangered = new Set(phase.endangered.map((part) => part.region));
  const placed = placeRegions(phase.regions, options.scale, options.view, area);
  const labels = placeLabels(
    placed.map((box) => ({
      item: box,
      y: box.y + box.height / 2,
      rank: labelRank(box.region, box.height, lost),
    })),
    area.y - 4,
    area.y + area.height + 4,
    LABEL_HEIGHT,
  );
  let out = '';
  for (const { item, y } of labels) {
    const { region } = item;
    const middle = item.y + item.height / 2;
    const from = item.x + item.width - Math.min(6, item.width / 2);
    const right = area.x + area.width;
    const mark = lost.has(region.name) ? 'lost' : endangered.has(region.name) ? 'danger' : region.change;
    const chosen = region.name === options.highlight ? ' highlight' : '';
    const numbers = narrow ? hex(region.start) : range(region);
    const sign = markSign(mark);
    const room = width - numbers.length * MONO_WIDTH - 10 - (sign === '' ? 0 : 14);
    out +=
      `<g class="label mark-${mark}${chosen}" data-region="${escapeXml(region.name)}">` +
      `<title>${escapeXml(describeRegion(region))}</title>` +
      `<path class="leader" d="M${fixed(from)} ${fixed(middle)}H${fixed(right + 3)}L${fixed(x - 4)} ${fixed(y)}"/>` +
      `<circle class="leader-dot" cx="${fixed(from)}" cy="${fixed(middle)}" r="1.6"/>` +
      `<rect class="label-back" x="${fixed(x - 3)}" y="${fixed(y - LABEL_HEIGHT / 2)}" width="${fixed(width)}" height="${LABEL_HEIGHT}" rx="3"/>` +
      (sign === '' ? '' : `<text class="label-mark" x="${fixed(x)}" y="${fixed(y + 4)}">${sign}</text>`) +
      `<text class="label-name" x="${fixed(x + (sign === '' ? 0 : 14))}" y="${fixed(y + 4)}">${escapeXml(shorten(region.name, room, sign === '' ? TEXT_WIDTH : BOLD_WIDTH))}</text>` +
      `<text class="label-range" x="${fixed(x + width - 8)}" y="${fixed(y + 4)}" text-anchor="end">${numbers}</text></g>`;
  }
  return out;
}

/** The signs that stand for a change, in picture and lists alike. */
export function markSign(change: string): string {
  switch (change) {
    case 'new':
      return '+';
    case 'moved':
      return '→';
    case 'resized':
      return '↕';
    case 'lost':
      return '✕';
    case 'danger':
      return '!';
    default:
      return '';
  }
}

/** What changed comes first, then what is a part of nothing, then by size as drawn. */
function labelRank(region: ModelRegion, height: number, lost: ReadonlySet<string>): number {
  let rank = Math.min(height, 500) / 1000;
  if (isSection(region)) return rank - 1;
  if (lost.has(region.name)) rank += 8;
  if (region.change === 'new' || region.change === 'moved' || region.change === 'resized') rank += 4;
  if (region.parent === null) rank += 2;
  if (region.kind === 'reserved') rank -= 2;
  return rank;
}
