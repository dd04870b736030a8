// The report of real boots: its JSON against the published schema, and its page in a browser, as a reader uses it.

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hasNativeEngine } from '../src/cpu/native.ts';
import { findWasmEngine } from '../src/cpu/wasm-file.ts';
import { type BootTrace, boot, DEFAULT_BOOT_OPTIONS, readKernelImage, traceToJson } from '../src/index.ts';
import { compareTraces } from '../src/report/difference.ts';
import { formatHtml } from '../src/report/html.ts';
import { reportModel } from '../src/report/report-model.ts';
import { checkTrace } from '../src/report/trace-json.ts';
import { nameAddresses } from '../src/trace/name-addresses.ts';
import { SymbolTable } from '../src/trace/symbols.ts';
import { BROWSER, noBrowser } from './witnesses.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const EVIL = 'quiet </script><img src=http://example.invalid/x onerror="document.title=1">';
const noEngine =
  hasNativeEngine() || findWasmEngine() !== null ? null : 'there is no Unicorn, neither native nor WASM';

/** Demo images, and one real kernel where set-up fetched some. */
function imagePaths(): readonly string[] {
  const demo = join(ROOT, 'images/demo');
  const debian = join(ROOT, 'images/cache/debian');
  const fetched = existsSync(debian) ? readdirSync(debian).filter((name) => name.startsWith('vmlinuz-')) : [];
  return [
    ...['demo-zstd.bzImage', 'demo-i386.bzImage', 'demo.zImage'].map((name) => join(demo, name)),
    ...fetched
      .sort()
      .slice(-1)
      .map((name) => join(debian, name)),
  ];
}

async function bootImage(path: string, cmdline: string): Promise<BootTrace> {
  const image = await readKernelImage(path, readFileSync(path));
  const finished = await boot(image, { ...DEFAULT_BOOT_OPTIONS, cmdline });
  finished.close();
  return finished.trace;
}

const describeBoots = noEngine === null ? describe : describe.skip;

describeBoots(noEngine === null ? 'the JSON of a real boot' : `the JSON of a real boot (${noEngine})`, () => {
  const schema = JSON.parse(readFileSync(join(ROOT, 'docs/trace.schema.json'), 'utf8')) as object;
  const validate = new Ajv2020({ allErrors: true, allowUnionTypes: true }).compile(schema);

  it.each(imagePaths())('fits the published schema and can be compared: %s', async (path) => {
    const trace = await bootImage(path, 'nokaslr');
    const json = traceToJson(trace, { events: true });
    validate(json);
    expect((validate.errors ?? []).slice(0, 5)).toEqual([]);
    const again = traceToJson(await bootImage(path, 'nokaslr'));
    expect(compareTraces(checkTrace('a', json), checkTrace('b', again))).toEqual([]);
    const other = traceToJson(await bootImage(path, 'nokaslr and more'));
    const names = compareTraces(checkTrace('a', json), checkTrace('b', other)).map(({ name }) => name);
    expect(names).toContain('cmdline');
  });
});

const missing = noEngine ?? noBrowser;
const SIZES = [
  { width: 1280, height: 900 },
  { width: 390, height: 844 },
] as const;
const VIEWS = SIZES.flatMap((size) => (['light', 'dark'] as const).map((theme) => ({ ...size, theme })));

const describePage = missing === null ? describe : describe.skip;

describePage(missing === null ? 'the report page' : `the report page (${missing})`, () => {
  const folder = mkdtempSync(join(tmpdir(), 'bootscope-report-'));
  const file = join(folder, 'report.html');
  let browser: Browser;
  let trace: BootTrace;

  beforeAll(async () => {
    const path = imagePaths().at(-1)!;
    trace = await bootImage(path, EVIL);
    writeFileSync(file, await formatHtml(reportModel(trace)));
    browser = await chromium.launch({
      executablePath: BROWSER,
      args: [
        '--headless',
        '--no-sandbox',
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
      ],
    });
  });
  afterAll(async () => {
    await browser?.close();
    rmSync(folder, { recursive: true });
  });

  /** Opens the page; `problems` fills with errors and with requests for anything but the page. */
  async function open(
    view: (typeof VIEWS)[number],
    path = file,
  ): Promise<{ page: Page; problems: string[] }> {
    const { width, height, theme } = view;
    const page = await browser.newPage({ viewport: { width, height }, colorScheme: theme });
    const problems: string[] = [];
    const url = pathToFileURL(path).href;
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') problems.push(message.text());
    });
    page.on('pageerror', (error) => problems.push(error.message));
    await page.route('**/*', (route) => {
      if (route.request().url() === url) return route.continue();
      problems.push(`request for ${route.request().url()}`);
      return route.abort();
    });
    await page.goto(url);
    return { page, problems };
  }

  /** Pairs of labels that touch, and what stands out of the page. */
  function clashes(page: Page): Promise<readonly string[]> {
    return page.evaluate(() => {
      interface Rect {
        readonly left: number;
        readonly right: number;
        readonly top: number;
        readonly bottom: number;
        readonly width: number;
      }
      interface Box {
        readonly textContent: string | null;
        getBoundingClientRect(): Rect;
      }
      const { document } = globalThis as unknown as {
        document: {
          querySelectorAll(selector: string): Iterable<Box>;
          documentElement: { scrollWidth: number; clientWidth: number };
        };
      };
      const found: string[] = [];
      const groups = [
        '#picture .label-name, #picture .label-range, #picture .label-mark, #picture .address',
        '.step',
        '.card',
        '.toolbar button',
        'h1, .facts-line, .cmdline, .top-tools button',
        '.region-row > .region-name, .region-row > .region-range, .region-row > .region-size, .region-row > .region-mark',
        '.register',
        '.event',
        '.sheet svg .label-name, .sheet svg .label-range',
      ];
      for (const selector of groups) {
        const boxes = [...document.querySelectorAll(selector)]
          .map((element) => ({ text: element.textContent ?? '', box: element.getBoundingClientRect() }))
          .filter(({ box }) => box.width > 0);
        for (const [index, a] of boxes.entries()) {
          for (const b of boxes.slice(index + 1)) {
            const across = Math.min(a.box.right, b.box.right) - Math.max(a.box.left, b.box.left);
            const down = Math.min(a.box.bottom, b.box.bottom) - Math.max(a.box.top, b.box.top);
            if (across > 1 && down > 2)
              found.push(`${selector}: ${a.text.slice(0, 40)} / ${b.text.slice(0, 40)}`);
          }
        }
      }
      const { scrollWidth, clientWidth } = document.documentElement;
      if (scrollWidth > clientWidth) found.push(`the page is ${scrollWidth} wide, the window ${clientWidth}`);
      return found.slice(0, 8);
    });
  }

  it.each(VIEWS)(
    'shows each phase without errors, requests or overlaps at $width pixels, $theme',
    async (view) => {
      const { page, problems } = await open(view);
      const steps = page.locator('.step');
      expect(await steps.count()).toBe(trace.phases.length);
      for (const [index, phase] of trace.phases.entries()) {
        await steps.nth(index).click();
        expect(await page.locator('#phase-title').textContent()).toBe(phase.name);
        expect(await steps.nth(index).getAttribute('aria-current')).toBe('step');
        expect(await page.locator('#picture .region').count()).toBeGreaterThan(0);
        if (phase.instructions !== null) {
          const text = `${phase.instructions.toLocaleString('en')} before it`;
          expect(await page.locator('#phase .facts').textContent()).toContain(text);
        }
        expect(await clashes(page)).toEqual([]);
      }
      for (const scale of ['even', 'log', 'linear', 'folded']) {
        await page.locator(`[data-scale="${scale}"]`).click();
        expect(await clashes(page)).toEqual([]);
      }
      await page.locator('[data-view="all"]').click();
      expect(await page.locator('#picture .column').count()).toBe(trace.phases.length);
      expect(await clashes(page)).toEqual([]);
      expect(await page.title()).not.toBe('1');
      expect(await page.locator('.cmdline').textContent()).toBe(EVIL);
      expect(problems).toEqual([]);
      await page.close();
    },
  );

  it('finds events by search and by kind, and goes to the phase of one', async () => {
    const { page, problems } = await open(VIEWS[0]!);
    const rows = page.locator('.event');
    const wanted = trace.events.find((event) => event.kind === 'copy') ?? trace.events[0]!;
    await page.keyboard.press('/');
    await page.keyboard.type(wanted.text);
    // What was found stands below the phases, and not below the window.
    const top = (await page.locator('#events').boundingBox())!.y;
    const timeline = (await page.locator('.timeline').boundingBox())!;
    expect(top).toBeGreaterThanOrEqual(timeline.y + timeline.height);
    expect(top).toBeLessThan(300);
    const found = await rows.count();
    expect(found).toBeGreaterThan(0);
    expect(found).toBeLessThanOrEqual(trace.events.filter((event) => event.text === wanted.text).length);
    expect(await rows.first().textContent()).toContain(wanted.text);
    expect(await rows.first().locator('.event-instructions').allTextContents()).toEqual(
      wanted.instructions === null ? [] : [wanted.instructions.toLocaleString('en')],
    );
    await rows.first().locator('.event-phase').click();
    expect(await page.locator('#phase-title').textContent()).toBe(wanted.phase);
    await page.locator(`.chip[data-kind="${wanted.kind}"]`).click();
    expect(await rows.count()).toBe(0);
    await page.locator('#event-search').fill('no such event at all');
    expect(await page.locator('#event-count').textContent()).toContain('0 of');
    expect(problems).toEqual([]);
    await page.close();
  });

  it('shows the names of addresses, finds events by them, and stays as wide as the window', async () => {
    const stub = new SymbolTable([
      { address: 0n, name: 'a_rather_long_name_of_a_function_in_the_boot_stub' },
    ]);
    const named = nameAddresses(trace, { stub, kernel: (physical) => `symbol_at_${physical.toString(16)}` });
    const path = join(folder, 'named.html');
    writeFileSync(path, await formatHtml(reportModel(named)));
    const entry = trace.kernel!.entry.toString(16);
    for (const view of VIEWS) {
      const { page, problems } = await open(view, path);
      expect(await page.locator('#kernel .hint').textContent()).toContain(
        `entry 0x${entry} <symbol_at_${entry}> (`,
      );
      expect(await page.locator('#kernel td:nth-child(2)').allTextContents()).toEqual(
        trace.kernel!.segments.map(({ paddr }) => `symbol_at_${paddr.toString(16)}`),
      );
      expect(await page.locator('.facts-line').textContent()).toContain(`<symbol_at_${entry}>`);
      await page.keyboard.press('End');
      expect(await page.locator('#phase .facts').textContent()).toContain(`<symbol_at_${entry}>`);
      await page.keyboard.press('/');
      await page.keyboard.type('a_rather_long_name');
      const inStub = named.events.filter(({ symbol }) => symbol !== undefined);
      expect(inStub.length).toBeGreaterThan(5);
      expect(await page.locator('.event').count()).toBe(Math.min(200, inStub.length));
      expect(await page.locator('.event-symbol').first().textContent()).toContain(`<${inStub[0]!.symbol}>`);
      for (const element of ['html', '#events', '.event:first-child']) {
        const wide = await page
          .locator(element)
          .first()
          .evaluate((each) => each.scrollWidth - each.clientWidth);
        expect([element, wide]).toEqual([element, 0]);
      }
      expect(problems).toEqual([]);
      await page.close();
    }
  });

  it('lists thousands of events a part at a time, and says what it leaves out', async () => {
    const many = Array.from({ length: 20_000 }, (_, index) => ({
      ...trace.events[index % trace.events.length]!,
      text: `event ${index} ${'of many '.repeat(8)}`,
    }));
    const path = join(folder, 'many.html');
    writeFileSync(path, await formatHtml(reportModel({ ...trace, events: many })));
    expect(statSync(path).size).toBeLessThan(2_000_000);
    const { page, problems } = await open(VIEWS[0]!, path);
    const rows = page.locator('.event');
    expect(await rows.count()).toBe(200);
    const count = (await page.locator('#event-count').textContent()) ?? '';
    const [, listed, left] = /^(\d+) events; (\d+) more are left out here; their details/.exec(count) ?? [];
    expect(Number(listed) + Number(left)).toBe(20_000);
    await page.locator('#more-events').click();
    expect(await rows.count()).toBe(1200);
    await page.locator('#event-search').fill('event 4242 ');
    expect(await rows.count()).toBe(1);
    await page.keyboard.press('Escape');
    await page.keyboard.press('Home');
    expect(await page.locator('#phase-title').textContent()).toBe(trace.phases[0]!.name);
    expect(problems).toEqual([]);
    await page.close();
  });

  it('is used by keys: phases, scale, zoom, theme, help', async () => {
    const { page, problems } = await open(VIEWS[0]!);
    const title = page.locator('#phase-title');
    // It opens where the boot begins.
    expect(await title.textContent()).toBe(trace.phases[0]!.name);
    await page.keyboard.press('w');
    expect(await page.locator('#words').textContent()).toContain('run area');
    await page.keyboard.press('Escape');
    await page.keyboard.press('End');
    await page.keyboard.press('Home');
    expect(await title.textContent()).toBe(trace.phases[0]!.name);
    await page.keyboard.press('ArrowRight');
    expect(await title.textContent()).toBe(trace.phases[1]!.name);
    await page.keyboard.press('ArrowLeft');
    expect(await title.textContent()).toBe(trace.phases[0]!.name);
    await page.keyboard.press('End');
    expect(await title.textContent()).toBe(trace.phases.at(-1)!.name);
    await page.keyboard.press('s');
    expect(await page.locator('[data-scale="even"]').getAttribute('aria-pressed')).toBe('true');
    await page.keyboard.press('+');
    expect(await page.locator('.zoom-text').textContent()).toBe('2×');
    await page.keyboard.press('0');
    expect(await page.locator('.zoom-text').textContent()).toBe('1×');
    await page.keyboard.press('t');
    expect(await page.locator('html').getAttribute('data-theme')).toBe('dark');
    await page.keyboard.press('?');
    expect(await page.locator('#help').isVisible()).toBe(true);
    await page.keyboard.press('Escape');
    expect(await page.locator('#help').isVisible()).toBe(false);
    expect(problems).toEqual([]);
    await page.close();
  });

  it('puts every phase on paper, black on white, inside the margins and without controls', async () => {
    const { page, problems } = await open(VIEWS[1]!);
    await page.emulateMedia({ media: 'print', colorScheme: 'dark' });
    // A4 less the margins of the style, 12 mm on either side.
    await page.setViewportSize({ width: 703, height: 1000 });
    await page.evaluate("dispatchEvent(new Event('beforeprint'))");
    const sheets = page.locator('.sheet');
    expect(await sheets.count()).toBe(1 + trace.phases.length);
    for (const [index, phase] of trace.phases.entries()) {
      const sheet = sheets.nth(index + 1);
      expect(await sheet.locator('h2').first().textContent()).toBe(phase.name);
      expect(await sheet.locator('svg').isVisible()).toBe(true);
      expect(await sheet.locator('.register').count()).toBe(
        await page.locator('#registers .register').count(),
      );
      expect(await sheet.locator('.region-row').count()).toBeGreaterThan(0);
    }
    expect(await page.locator('.event').count()).toBe(trace.events.length);
    expect(await page.locator('.toolbar, .top-tools, .event-tools, #more-events, #map').all()).not.toEqual(
      [],
    );
    for (const control of await page
      .locator('.toolbar, .top-tools, .event-tools, #more-events, #map')
      .all()) {
      expect(await control.isVisible()).toBe(false);
    }
    expect(await clashes(page)).toEqual([]);
    const colours = '((style) => [style.color, style.backgroundColor])(getComputedStyle(document.body))';
    expect(await page.evaluate(colours)).toEqual(['rgb(0, 0, 0)', 'rgb(255, 255, 255)']);
    await page.evaluate("dispatchEvent(new Event('afterprint'))");
    expect(await sheets.count()).toBe(0);
    // The browser sends both events when it prints.
    const pdf = (await page.pdf({ format: 'A4' })).toString('latin1');
    expect(pdf.match(/\/Type \/Page\b/g)!.length).toBeGreaterThan(trace.phases.length);
    expect(await sheets.count()).toBe(0);
    expect(problems).toEqual([]);
    await page.close();
  });

  it.each(VIEWS.slice(1, 3))(
    'tells of a region that is chosen in the list, zooms to it and lets it go, at $width pixels',
    async (view) => {
      const { page, problems } = await open(view);
      await page.keyboard.press('End');
      const name = trace.phases.at(-1)!.regions.find((region) => region.parent === undefined)!.name;
      await page.locator(`.region-row[data-region="${name}"]`).click();
      expect(await page.locator('#chosen h3').textContent()).toBe(name);
      const inView = async (selector: string): Promise<boolean> => {
        const timeline = (await page.locator('.timeline').boundingBox())!;
        const { y } = (await page.locator(selector).boundingBox())!;
        return y >= timeline.y + timeline.height && y < view.height;
      };
      expect(await inView('#chosen')).toBe(true);
      await page.locator('#chosen button', { hasText: 'Zoom to it' }).click();
      expect(await page.locator('#picture rect.region.highlight').count()).toBe(1);
      expect(await inView('#map')).toBe(true);
      expect(await clashes(page)).toEqual([]);
      await page.keyboard.press('Escape');
      expect(await page.locator('#chosen').count()).toBe(0);
      expect(problems).toEqual([]);
      await page.close();
    },
  );
});
