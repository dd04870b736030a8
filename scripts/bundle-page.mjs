// Bundles the script and the style of the report's page, and of the explorer's, into two strings each.

import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

/** @returns {Promise<{ script: string, style: string }>} */
export async function bundlePage() {
  const { script, style } = await bundle('../src/report/page/', 'main.ts', 'page.css');
  return { script: insideElement(script), style };
}

/** @returns {Promise<{ early: string, script: string, style: string }>} `early` goes before all else */
export async function bundleExplorer() {
  const folder = '../src/explorer/page/';
  const [early, page] = await Promise.all([
    bundle(folder, 'early.ts', 'explorer.css'),
    bundle(folder, 'served.ts', 'explorer.css'),
  ]);
  return { early: insideElement(early.script), script: insideElement(page.script), style: page.style };
}

/** A script that cannot end the element that it stands in. */
function insideElement(script) {
  return script.replace(/<\/(script)/gi, '<\\/$1').replace(/<!--/g, '<\\!--');
}

/** The explorer's page for a host of plain files. @returns {Promise<{ script: string, style: string }>} */
export function bundleStaticExplorer() {
  return bundle('../src/explorer/page/', 'static.ts', 'explorer.css', 'esm');
}

async function bundle(folder, script, style, format = 'iife') {
  const page = fileURLToPath(new URL(folder, import.meta.url));
  const { outputFiles } = await build({
    entryPoints: [`${page}${script}`, `${page}${style}`],
    outdir: page,
    jsx: 'automatic',
    jsxImportSource: 'preact',
    bundle: true,
    minify: true,
    format,
    // Browsers that know light-dark().
    target: ['chrome123', 'firefox120', 'safari17.5'],
    charset: 'ascii',
    legalComments: 'none',
    logLevel: 'warning',
    write: false,
  });
  const text = (extension) => outputFiles.find(({ path }) => path.endsWith(extension)).text.trim();
  return { script: text('.js'), style: text('.css') };
}
