// The layout picture as an SVG file of its own: all phases side by side, with addresses, a legend and both themes.

import { addressScale, type ScaleMode } from './address-scale.ts';
import { drawAllPhases, escapeXml } from './layout-picture.ts';
import { kindLabel, kindRules } from './region-kinds.ts';
import type { ReportModel } from './report-model.ts';

export interface SvgOptions {
  readonly scale: ScaleMode;
}

const COLUMN_WIDTH = 200;
const PICTURE_HEIGHT = 1100;
const TITLE_HEIGHT = 64;
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

function rules(theme: 'light' | 'dark'): string {
  const colours = THEME[theme];
  return [
    `.back{fill:${colours.back}}text{fill:${colours.text}}.faint,.column-mode,.address{fill:${colours.faint}}`,
    `.memory{fill:${colours.memory};stroke:${colours.line}}.tick,.fold{stroke:${colours.line};fill:none}`,
    `.changed{stroke:${colours.text};stroke-width:1.4}.ghost{fill:none;stroke:${colours.faint};stroke-dasharray:4 3}`,
    `.hatch-now,.arrow-head{fill:${colours.accent}}.hatch-lost{fill:${colours.faint}}.column-back{fill:none}`,
    kindRules(theme),
  ].join('\n');
}

/** A self-contained SVG document. Colours follow the reader's theme. */
export function formatSvg(model: ReportModel, options: SvgOptions = { scale: 'even' }): string {
  const regions = model.phases.flatMap((phase) => phase.regions);
  const scale = addressScale(options.scale, regions);
  const width = Math.max(900, 100 + model.phases.length * (COLUMN_WIDTH + 10));
  const kinds = [...new Set(regions.map((region) => region.kind))].sort();
  const signs = [
    { fill: 'class="memory changed"', label: 'new, moved or resized' },
    { fill: 'fill="url(#all-now)"', label: 'overwritten since before' },
    { fill: 'fill="url(#all-lost)"', label: 'overwritten earlier' },
    { fill: 'fill="url(#all-danger)"', label: 'in danger' },
    { fill: 'class="ghost"', label: 'where it was before' },
  ];
  const perRow = Math.max(1, Math.floor((width - 32) / LEGEND_ITEM));
  const entries = [...kinds.map((kind) => ({ fill: `class="k-${kind}"`, label: kindLabel(kind) })), ...signs];
  const legend = entries
    .map(({ fill, label }, index) => {
      const x = 16 + (index % perRow) * LEGEND_ITEM;
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
    width,
    height: PICTURE_HEIGHT,
    highlight: null,
  }).replace('<svg ', `<svg x="0" y="${TITLE_HEIGHT}" `);
  const { image, machine } = model;
  const title = image.kernelVersion === null ? image.path : `Linux ${image.kernelVersion.split(' ')[0]}`;
  const facts = [
    image.kind,
    image.bootProtocol === null ? null : `protocol ${image.bootProtocol}`,
    image.codec,
    `${machine.ram / 2 ** 20} MiB RAM`,
    `${machine.entry} entry`,
    `${scale.mode} scale, low addresses at the top`,
  ].filter((fact) => fact !== null);
  return (
    `<?xml version="1.0" encoding="UTF-8"?>\n<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" ` +
    `width="${width}" height="${height}">\n<title>${escapeXml(`Physical memory while ${title} boots`)}</title>\n` +
    `<style>text{font:12px system-ui,sans-serif}.address,.column-mode{font:11px ui-monospace,monospace}` +
    `.column-name,.title{font-weight:600;font-size:14px}.title{font-size:18px}.inside{font-size:11px}\n` +
    `${rules('light')}\n@media (prefers-color-scheme: dark){\n${rules('dark')}\n}</style>\n` +
    `<rect class="back" width="${width}" height="${height}"/>\n` +
    `<text class="title" x="16" y="30">${escapeXml(title)}</text>\n` +
    `<text class="faint" x="16" y="50">${escapeXml(facts.join(' · '))}</text>\n${picture}\n${legend}\n</svg>\n`
  );
}
