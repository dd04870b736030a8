// Bundles the script and the style of the report page into two strings.

import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

/** @returns {Promise<{ script: string, style: string }>} */
export async function bundlePage() {
  const page = fileURLToPath(new URL('../src/report/page/', import.meta.url));
  const { outputFiles } = await build({
    entryPoints: [`${page}main.ts`, `${page}page.css`],
    outdir: page,
    bundle: true,
    minify: true,
    format: 'iife',
    // Browsers that know light-dark().
    target: ['chrome123', 'firefox120', 'safari17.5'],
    charset: 'ascii',
    legalComments: 'none',
    logLevel: 'warning',
    write: false,
  });
  const text = (extension) => outputFiles.find(({ path }) => path.endsWith(extension)).text.trim();
  return {
    // Neither may end the element that it stands in.
    script: text('.js')
      .replace(/<\/(script)/gi, '<\\/$1')
      .replace(/<!--/g, '<\\!--'),
    style: text('.css'),
  };
}
