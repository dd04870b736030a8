// The report as one HTML page that needs nothing else: model, script and style are in it, and its policy forbids it the network.

import { sha256Base64 } from '../host/host.ts';
import type { ScaleMode } from './address-scale.ts';
import { escapeXml } from './layout-picture.ts';
import { pageAssets } from './page-assets.ts';
import { kindStyles } from './region-kinds.ts';
import { fitModel, type ReportModel } from './report-model.ts';

export interface HtmlOptions {
  /** The scale that the page begins with. */
  readonly scale: ScaleMode;
}

/** A page stays below this, in bytes, whatever the guest did. */
const MAX_PAGE_BYTES = 1_900_000;

/** The report as one page that needs nothing else. */
export async function formatHtml(
  model: ReportModel,
  options: HtmlOptions = { scale: 'folded' },
): Promise<string> {
  const assets = await pageAssets();
  const style = assets.style + kindStyles();
  const room = MAX_PAGE_BYTES - assets.script.length - style.length - 4096;
  const fitted = fitModel(model, room, (value) => new TextEncoder().encode(embedJson(value)).length);
  const data = embedJson({ model: fitted, scale: options.scale });
  const policy = [
    "default-src 'none'",
    `script-src '${hashSource(assets.script)}'`,
    `style-src '${hashSource(style)}'`,
    "base-uri 'none'",
    "form-action 'none'",
  ].join('; ');
  const title = model.image.kernelVersion?.split(' ')[0] ?? model.image.path;
  return (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n' +
    `<meta http-equiv="Content-Security-Policy" content="${policy}">\n` +
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n' +
    '<meta name="referrer" content="no-referrer">\n' +
    `<title>${escapeXml(`${title} – boot report`)}</title>\n<style>${style}</style>\n</head>\n<body>\n` +
    '<noscript>This page draws itself by a script that it carries; without it, see the SVG, JSON or text reports.</noscript>\n' +
    `<script type="application/json" id="data">${data}</script>\n<script>${assets.script}</script>\n</body>\n</html>\n`
  );
}

/** JSON that no HTML parser takes for the end of its script element. */
function embedJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[<\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

function hashSource(text: string): string {
  return `sha256-${sha256Base64(text)}`;
}
