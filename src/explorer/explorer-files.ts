// The explorer's page as the files that a host serves. The build puts them into the bundle as text; a checkout that runs from
// its sources bundles them when they are first needed.

import { escapeXml } from '../report/layout-picture.ts';
import { kindStyles } from '../report/region-kinds.ts';

export interface ExplorerFile {
  readonly type: string;
  readonly body: string;
}

interface ExplorerAssets {
  readonly script: string;
  readonly style: string;
}

/** Put in place by scripts/build.mjs. */
declare const BOOTSCOPE_EXPLORER_ASSETS: ExplorerAssets | undefined;

async function explorerAssets(): Promise<ExplorerAssets> {
  if (typeof BOOTSCOPE_EXPLORER_ASSETS !== 'undefined') return BOOTSCOPE_EXPLORER_ASSETS;
  const bundler = (await import(new URL('../../scripts/bundle-page.mjs', import.meta.url).href)) as {
    readonly bundleExplorer: () => Promise<ExplorerAssets>;
  };
  return bundler.bundleExplorer();
}

export async function explorerFiles(): Promise<ReadonlyMap<string, ExplorerFile>> {
  const { script, style } = await explorerAssets();
  return new Map([
    ['', { type: 'text/html; charset=utf-8', body: page('Bootscope explorer') }],
    ['explorer.js', { type: 'text/javascript; charset=utf-8', body: script }],
    ['explorer.css', { type: 'text/css; charset=utf-8', body: style + kindStyles() }],
  ]);
}

function page(title: string): string {
  return (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n' +
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n' +
    `<title>${escapeXml(title)}</title>\n<link rel="stylesheet" href="explorer.css">\n<link rel="icon" href="data:,">\n</head>\n<body>\n` +
    '<noscript>The explorer needs JavaScript.</noscript>\n<script type="module" src="explorer.js"></script>\n</body>\n</html>\n'
  );
}
