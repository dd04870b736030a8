// The explorer's page as the files that a host serves. The build puts them into the bundle as text; a checkout that runs from
// its sources bundles them when they are first needed.

import { escapeXml } from '../report/layout-picture.ts';
import { kindStyles } from '../report/region-kinds.ts';

export interface ExplorerFile {
  readonly type: string;
  readonly body: string;
  /** The texts of its `script` and `style` elements, exactly: what a policy lets it run. */
  readonly scripts?: readonly string[];
  readonly styles?: readonly string[];
}

interface ExplorerAssets {
  /** What the head runs. */
  readonly early: string;
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

/** One file: script and style stand in the page, which saves two requests before anything is seen. */
export async function explorerFiles(): Promise<ReadonlyMap<string, ExplorerFile>> {
  const { early, script, ...assets } = await explorerAssets();
  const style = assets.style + kindStyles();
  const body = page('Bootscope explorer', early, script, style);
  return new Map([
    ['', { type: 'text/html; charset=utf-8', body, scripts: [early, script], styles: [style] }],
  ]);
}

function page(title: string, early: string, script: string, style: string): string {
  return (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n' +
    `<script>${early}</script>\n<meta name="viewport" content="width=device-width, initial-scale=1">\n` +
    `<title>${escapeXml(title)}</title>\n<style>${style}</style>\n<link rel="icon" href="data:,">\n</head>\n<body>\n` +
    `<noscript>The explorer needs JavaScript.</noscript>\n<script>${script}</script>\n</body>\n</html>\n`
  );
}
