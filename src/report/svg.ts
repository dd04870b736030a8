// The layout picture as an SVG file of its own: all phases side by side, with addresses, a legend and both themes.

import { withSymbol } from '../hex.ts';
import { addressScale, type ScaleMode } from './address-scale.ts';
import { drawAllPhases, escapeXml } from './layout-picture.ts';
import { kindLabel, REGION_KIND_STYLES } from './region-kinds.ts';
import type { ReportModel } from './report-model.ts';

export interface SvgOptions {
  readonly scale: ScaleMode;
}

const COLUMN_WIDTH = 200;
const PICTURE_HEIGHT = 1100;
const TITLE_HEIGHT = 64;
/** Left and right of everything. */
const MARGIN = 16;
const LEGEND_ITEM = 190;
const LEGEND_ROW = 24;

const THEME = {
  light: {
    back: '#ffffff',
    text: '#1d232c',
    faint: '#66707d',
    line: '#d4d9e0',
    accent: '#b3261e',
    memory: '#f7f8fa',
  },
  dark: {
    back: '#12161c',
    text: '#e6e9ee',
    faint: '#98a2b0',
    line: '#333b47',
    accent: '#ff8a80',
    memory: '#191e26',
  },
} as const;

type Attributes = Readonly<Record<string, string>>;

/** What each class looks like in a theme; a later one wins. The first is for every text. */
function looks(theme: 'light' | 'dark'): readonly (readonly [string, Attributes])[] {
  const colours = THEME[theme];
  const faint = { fill: colours.faint };
  const small = { ...faint, 'font-family': 'ui-monospace, monospace', 'font-size': '11' };
  return [
    ['text', { fill: colours.text, 'font-family': 'system-ui, sans-serif', 'font-size': '12' }],
    ['back', { fill: colours.back }],
    ['faint', faint],
    ['address', small],
    ['column-mode', small],
    ['column-name', { 'font-weight': '600', 'font-size': '14' }],
    ['title', { 'font-weight': '600', 'font-size': '18' }],
    ['inside', { 'font-size': '11' }],
    ['on-hatch', { stroke: colours.memory, 'stroke-width': '3', 'paint-order': 'stroke' }],
    ['memory', { fill: colours.memory, stroke: colours.line }],
    ['tick', { stroke: colours.line, fill: 'none' }],
    ['fold', { stroke: colours.line, fill: 'none' }],
    ...Object.entries(REGION_KIND_STYLES).map(
      ([kind, style]) => [`k-${kind}`, { fill: style[theme] }] as const,
    ),
    ['changed', { stroke: colours.text, 'stroke-width': '1.4' }],
    ['ghost', { fill: 'none', stroke: colours.faint, 'stroke-dasharray': '4 3' }],
    ['hatch-now', { fill: colours.accent }],
    ['hatch-lost', faint],
    ['arrow-head', { fill: colours.text }],
    ['column-back', { fill: 'none' }],
  ];
}

function rules(theme: 'light' | 'dark'): string {
  return looks(theme)
    .map(([name, attributes]) => {
      const declarations = Object.entries(attributes).map(
        ([property, value]) => `${property}:${value}${property === 'font-size' ? 'px' : ''}`,
      );
      return `${name === 'text' ? '' : '.'}${name}{${declarations.join(';')}}`;
    })
    .join('\n');
}

/** The light theme as attributes of each element: for viewers that know no style sheets, which go over attributes in others. */
function withAttributes(svg: string): string {
  const order = looks('light');
  return svg.replace(
    /<(rect|text|path|circle)\b([^>]*?)(\/?)>/g,
    (_, tag: string, rest: string, end: string) => {
      const classes = [tag, ...(/ class="([^"]*)"/.exec(rest)?.[1]?.split(' ') ?? [])];
      const merged = Object.assign(
        {},
        ...order.filter(([name]) => classes.includes(name)).map(([, attributes]) => attributes),
      ) as Attributes;
      const added = Object.entries(merged).filter(([name]) => !rest.includes(` ${name}="`));
      return `<${tag}${rest}${added.map(([name, value]) => ` ${name}="${value}"`).join('')}${end}>`;
    },
  );
}

/** A self-contained SVG document. Colours follow the reader's theme; viewers that know none show the light one. */
export function formatSvg(model: ReportModel, options: SvgOptions = { scale: 'even' }): string {
  const regions = model.phases.flatMap((phase) => phase.regions);
  const scale = addressScale(options.scale, regions);
  const pictureWidth = Math.max(900, 100 + model.phases.length * (COLUMN_WIDTH + 10));
  const width = pictureWidth + MARGIN;
  const kinds = [...new Set(regions.map((region) => region.kind))].sort();
  const signs = [
    { fill: 'class="memory changed"', label: 'new, moved or resized' },
    { fill: 'fill="url(#all-now)"', label: 'overwritten since before' },
    { fill: 'fill="url(#all-lost)"', label: 'overwritten earlier' },
    { fill: 'fill="url(#all-danger)"', label: 'in danger' },
    { fill: 'class="ghost"', label: 'where it was before' },
  ];
  const perRow = Math.max(1, Math.floor((width - 2 * MARGIN) / LEGEND_ITEM));
  const entries = [...kinds.map((kind) => ({ fill: `class="k-${kind}"`, label: kindLabel(kind) })), ...signs];
  const legend = entries
    .map(({ fill, label }, index) => {
      const x = MARGIN + (index % perRow) * LEGEND_ITEM;
      const y = TITLE_HEIGHT + PICTURE_HEIGHT + 16 + Math.floor(index / perRow) * LEGEND_ROW;
      return (
        `<rect ${fill} x="${x}" y="${y}" width="16" height="14" rx="2"/>` +
        `<text x="${x + 23}" y="${y + 11}">${escapeXml(label)}</text>`
      );
    })
    .join('');
  const height = TITLE_HEIGHT + PICTURE_HEIGHT + 24 + Math.ceil(entries.length / perRow) * LEGEND_ROW;
  const picture = drawAllPhases(model, null, {
    scale,
    view: { from: 0, to: scale.initialEnd },
    width: pictureWidth,
    height: PICTURE_HEIGHT,
    highlight: null,
  })
    .replace(/^<svg [^>]*>/, `<g transform="translate(0 ${TITLE_HEIGHT})">`)
    .replace(/<\/svg>$/, '</g>');
  const { image, machine } = model;
  const title = image.kernelVersion === null ? image.path : `Linux ${image.kernelVersion.split(' ')[0]}`;
  const facts = [
    image.kind,
    image.bootProtocol === null ? null : `protocol ${image.bootProtocol}`,
    image.codec,
    `${machine.ram / 2 ** 20} MiB RAM`,
    `${machine.entry} entry`,
    model.kernel === null ? null : `kernel entry ${withSymbol(model.kernel.entry, model.kernel.entrySymbol)}`,
    `${scale.mode} scale, low addresses at the top`,
  ].filter((fact) => fact !== null);
  return (
    `<?xml version="1.0" encoding="UTF-8"?>\n<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" ` +
    `width="${width}" height="${height}">\n<title>${escapeXml(`Physical memory while ${title} boots`)}</title>\n` +
    `<style>${rules('light')}\n@media (prefers-color-scheme: dark){\n${rules('dark')}\n}</style>\n` +
    withAttributes(
      `<rect class="back" width="${width}" height="${height}"/>\n` +
        `<text class="title" x="${MARGIN}" y="30">${escapeXml(title)}</text>\n` +
        `<text class="faint" x="${MARGIN}" y="50">${escapeXml(facts.join(' · '))}</text>\n${picture}\n${legend}\n`,
    ) +
    '</svg>\n'
  );
}
