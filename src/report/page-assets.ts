// The script and the style of the report page. The build puts them into the bundle as text; a checkout that runs from its
// sources bundles them when they are first needed.

export interface PageAssets {
  readonly script: string;
  readonly style: string;
}

/** Put in place by scripts/build.mjs. */
declare const BOOTSCOPE_PAGE_ASSETS: PageAssets | undefined;

export async function pageAssets(): Promise<PageAssets> {
  if (typeof BOOTSCOPE_PAGE_ASSETS !== 'undefined') return BOOTSCOPE_PAGE_ASSETS;
  const bundler = (await import(new URL('../../scripts/bundle-page.mjs', import.meta.url).href)) as {
    readonly bundlePage: () => Promise<PageAssets>;
  };
  return bundler.bundlePage();
}
