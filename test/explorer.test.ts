// The explorer in a browser, as a person uses it, on each of its hosts: headless Chromium looks and presses keys.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { basename, extname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { hasNativeEngine } from '../src/cpu/native.ts';
import { findWasmEngine } from '../src/cpu/wasm-file.ts';
import { buildCommand } from './command.ts';
import { debianKernel } from './debian-kernels.ts';
import { BROWSER, noBrowser } from './witnesses.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const COMMAND = join(ROOT, 'dist/bootscope.cjs');
const DEBIAN = join(ROOT, 'images/cache/debian');
const DEMO = 'images/demo/demo-gzip.bzImage';
const cloud = existsSync(DEBIAN) ? readdirSync(DEBIAN).find((name) => /cloud/.test(name)) : undefined;
/** It decompresses by itself for longer than a hand needs to the button. */
const XZ_KERNEL = debianKernel('6.1', 'amd64');
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** A boot that a page can be opened on. */
interface Site {
  readonly url: string;
  /** What a person does once the page is there. */
  enter(page: Page): Promise<void>;
}

/** Where the page's machine is. */
interface Host {
  readonly name: string;
  /** Why it is left out; null where it is not. */
  readonly missing: string | null;
  start(): Promise<void>;
  site(image: string, options?: { readonly decompress?: 'emulated' }): Promise<Site>;
  /** Of one test; its servers' processes end. */
  clear(): Promise<void>;
  stop(): void;
}

const servers: ChildProcess[] = [];

const loopback: Host = {
  name: 'the explorer',
  missing: hasNativeEngine() ? noBrowser : 'there is no native Unicorn',
  async start() {
    buildCommand();
  },
  async site(image, { decompress } = {}) {
    const options = decompress === undefined ? [] : ['--decompress', decompress];
    const server = spawn(process.execPath, [COMMAND, 'explore', image, ...options, '--no-open'], {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    servers.push(server);
    let output = '';
    server.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    await expect.poll(() => output, { timeout: 60_000 }).toMatch(/^http:.*\n/);
    return { url: output.trim(), enter: async () => {} };
  },
  async clear() {
    for (const server of servers.splice(0)) {
      if (server.exitCode !== null) continue;
      server.kill('SIGINT');
      await once(server, 'close');
    }
  },
  stop: () => {},
};

const WEB = join(ROOT, 'dist/web');
const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.txt': 'text/plain',
};
let files: Server | null = null;

const staticPage: Host = {
  name: 'the explorer as a static page',
  missing:
    findWasmEngine() === null
      ? 'left out: neither BOOTSCOPE_UNICORN_JS nor @alexaltea/unicorn-js is there'
      : noBrowser,
  async start() {
    const built = spawnSync(process.execPath, ['--import', 'tsx', 'scripts/build-web.mjs'], {
      cwd: ROOT,
      encoding: 'utf8',
    });
    if (built.status !== 0) throw new Error(`the page was not built: ${built.stderr}`);
    files = createServer((request, response) => {
      const name = request.url === '/' ? 'index.html' : basename(request.url ?? '');
      const known = existsSync(join(WEB, name));
      response.writeHead(known ? 200 : 404, { 'Content-Type': TYPES[extname(name)] ?? 'text/plain' });
      response.end(known ? readFileSync(join(WEB, name)) : '');
    });
    files.listen(0, '127.0.0.1');
    await once(files, 'listening');
  },
  async site(image, { decompress } = {}) {
    const url = `http://127.0.0.1:${(files!.address() as AddressInfo).port}/`;
    if (image === DEMO) return { url, enter: async () => {} };
    return {
      url: `${url}#image=${basename(image)}`,
      async enter(page) {
        await page.locator('#asked').waitFor();
        if (decompress !== undefined) await page.locator('#decompress').selectOption(decompress);
        await page.locator('#kernel-file').setInputFiles(image);
      },
    };
  },
  async clear() {},
  stop: () => files?.close(),
};

for (const host of [loopback, staticPage]) {
  const { name, missing } = host;
  const describeHost = missing === null ? describe : describe.skip;
  describeHost(missing === null ? name : `${name} (${missing})`, () => suite(host));
}

function suite(host: Host): void {
  let browser: Browser;

  beforeAll(async () => {
    await host.start();
    browser = await chromium.launch({
      executablePath: BROWSER,
      args: [
        '--no-sandbox',
        '--disable-gpu',
        '--disable-background-networking',
        '--disable-component-update',
      ],
    });
  });
  afterEach(async () => {
    for (const context of browser.contexts()) await context.close();
    await host.clear();
  });
  afterAll(async () => {
    await browser.close();
    host.stop();
  });

  async function open(
    site: Site,
    size = { width: 1280, height: 900 },
    theme: 'light' | 'dark' = 'light',
  ): Promise<Page> {
    const context = await browser.newContext({ viewport: size, colorScheme: theme });
    const page = await context.newPage();
    page.on('pageerror', (error) => {
      throw error;
    });
    await page.goto(site.url);
    await site.enter(page);
    await page.locator('#position').waitFor({ timeout: 60_000 });
    return page;
  }

  async function closeTour(page: Page): Promise<void> {
    for (let left = 3; left > 0; left--) await page.locator('#tour-next').click();
    await page.locator('dialog').waitFor({ state: 'detached' });
  }

  const instructions = async (page: Page): Promise<number> =>
    Number((await page.locator('#instructions').innerText()).replaceAll(',', ''));
  const held = async (page: Page): Promise<void> => {
    await page.locator('#status[aria-busy=false]').waitFor({ timeout: 60_000 });
    await page.locator('#position').waitFor();
  };
  async function press(page: Page, key: string): Promise<void> {
    await page.keyboard.press(key);
    await held(page);
  }

  /** All that says where the boot is held, but for what marks a change. */
  const momentOf = (page: Page): Promise<string[]> =>
    Promise.all(['#registers', '#code', '.hexdump'].map((part) => page.locator(part).innerText()));

  for (const [name, image] of [
    ['a demo image', DEMO],
    ...(cloud === undefined ? [] : [['a distribution’s kernel', join(DEBIAN, cloud)]]),
  ] as [string, string][]) {
    it(`goes to a phase, steps, steps back, and leads back by a link: ${name}`, async () => {
      const site = await host.site(image);
      const page = await open(site);
      await closeTour(page);
      expect(await instructions(page)).toBe(0);
      await page.locator('.step', { hasText: 'startup_64' }).click({ timeout: 60_000 });
      await expect
        .poll(() => page.locator('#phase-name').innerText(), { timeout: 60_000 })
        .toBe('startup_64');
      await held(page);
      const [before, at] = [await momentOf(page), await instructions(page)];
      expect(before[0]).toContain('LME LMA');
      await page.locator('.chip', { hasText: 'gdt' }).first().click();
      await expect.poll(() => page.locator('.fields').innerText(), { timeout: 60_000 }).toContain('code');
      await press(page, 's');
      expect(await instructions(page)).toBe(at + 1);
      await press(page, 's');
      const later = await momentOf(page);
      expect(later[1]).not.toBe(before[1]);
      await press(page, 'Shift+S');
      await press(page, 'Shift+S');
      expect([await momentOf(page), await instructions(page)]).toEqual([before, at]);
      const again = await open({ ...site, url: page.url() });
      await expect
        .poll(() => again.locator('#phase-name').innerText(), { timeout: 60_000 })
        .toBe('startup_64');
      await held(again);
      expect([await momentOf(again), await instructions(again)]).toEqual([before, at]);
      await press(page, 'c');
      await expect.poll(() => page.locator('#phase-name').innerText(), { timeout: 60_000 }).toBe('kernel');
    });
  }

  it('stops where something writes, and where a code line was marked', async () => {
    const page = await open(await host.site(DEMO));
    await closeTour(page);
    await page.locator('#stops input').fill('write 0x90000..0x9fc00');
    await page.locator('#stops button', { hasText: 'Set' }).click();
    await press(page, 'c');
    await expect
      .poll(() => page.locator('#status').innerText(), { timeout: 60_000 })
      .toContain('Stopped on a write');
    expect(await page.locator('#phase-name').innerText()).toBe('setup');
    const wrote = await instructions(page);
    expect(wrote).toBeGreaterThan(0);
    await page.locator('#bytes input').fill('0x90000');
    await page.locator('#bytes button', { hasText: 'Look' }).click();
    await page.locator('.byte').first().click();
    await expect
      .poll(() => page.locator('#who').innerText(), { timeout: 60_000 })
      .toMatch(/0x90000\.\.0x90001[\s\S]*loader/);
    await page.locator('#stops .tool').click();
    const target = await page.locator('.code-address').nth(3).innerText();
    await page.locator('.code-stop').nth(3).click();
    await press(page, 'c');
    await expect.poll(() => page.locator('#status').innerText()).toContain(`Stopped at ${target}`);
    expect(await page.locator('#position').innerText()).toBe(target);
  });

  it('stops before each event of a kind, and finds what has a name', async () => {
    const page = await open(await host.site(DEMO));
    await closeTour(page);
    await page.locator('#stops .chip', { hasText: 'port access' }).click();
    const status = (): Promise<string> => page.locator('#status').innerText();
    const seen: number[] = [];
    for (let times = 0; times < 2; times++) {
      await press(page, 'c');
      await expect.poll(status, { timeout: 60_000 }).toContain('Stopped before an event');
      seen.push(await instructions(page));
    }
    expect(seen[1]).toBeGreaterThan(seen[0]!);
    await page.locator('#stops .chip', { hasText: 'port access' }).click();
    await press(page, 'Shift+C');
    for (const stop of ['bios=0x15/0xE820', 'port=0xa1']) {
      await page.locator('#stops input').fill(stop);
      await page.locator('#stops button', { hasText: 'Set' }).click();
    }
    expect(await page.locator('.stops').innerText()).toMatch(/each bios=0x15\/0xe820\s[\s\S]*each port=0xa1/);
    await press(page, 'c');
    expect(await status()).toContain('INT 15h E820');
    await page.locator('#stops .tool').first().click();
    await press(page, 'c');
    expect(await status()).toContain('PIC: 2 out (ports 0x21, 0xa1)');
    await page.keyboard.press('/');
    await page.keyboard.type('ivt');
    await page.keyboard.press('Enter');
    await expect
      .poll(() => page.locator('.found').innerText(), { timeout: 60_000 })
      .toContain('region at 0x0');
    await page.locator('.found button').first().click();
    await expect.poll(() => page.locator('.hexdump th').first().innerText()).toBe('0x0');
    await page.locator('#find input').fill('startup_32');
    await page.keyboard.press('Enter');
    await page.locator('.found button', { hasText: /^startup_32$/ }).click({ timeout: 60_000 });
    await expect.poll(() => page.locator('#phase-name').innerText(), { timeout: 60_000 }).toBe('startup_32');
  });

  it('says what is no place, in a sentence, and goes on', async () => {
    const page = await open(await host.site(DEMO));
    await closeTour(page);
    await page.keyboard.press('g');
    await page.keyboard.type('nowhere');
    await page.keyboard.press('Enter');
    await expect
      .poll(() => page.locator('[role=alert]').innerText())
      .toContain('"nowhere" is no place in a boot');
    await page.locator('.place input').press('Escape');
    await press(page, 's');
    expect(await instructions(page)).toBe(1);
  });

  it.skipIf(!existsSync(XZ_KERNEL))('cancels a long run where it stands', async () => {
    const page = await open(await host.site(XZ_KERNEL, { decompress: 'emulated' }));
    await closeTour(page);
    await page.keyboard.press('c');
    await expect
      .poll(() => page.locator('#status').innerText(), { timeout: 60_000 })
      .toContain('in extract_kernel');
    await page.locator('#cancel').click();
    await held(page);
    expect(await page.locator('#status').innerText()).toContain('Cancelled');
    const at = await instructions(page);
    await press(page, 's');
    expect(await instructions(page)).toBe(at + 1);
  });

  it.each([
    [1280, 'light'],
    [1280, 'dark'],
    [390, 'light'],
    [390, 'dark'],
  ] as const)(
    'is usable at %i pixels in the %s theme, also for assistive technology',
    async (width, theme) => {
      const page = await open(await host.site(DEMO), { width, height: 844 }, theme);
      await closeTour(page);
      await page.locator('#event-list').waitFor({ timeout: 60_000 });
      await press(page, 'p');
      expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(width);
      await page.addScriptTag({ content: AXE }).catch(() => page.evaluate(AXE));
      const found = (await page.evaluate('axe.run()')) as {
        violations: { id: string; impact: string; nodes: { html: string }[] }[];
      };
      const serious = found.violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
      expect(serious.map(({ id, nodes }) => `${id}: ${nodes[0]?.html}`)).toEqual([]);
    },
  );

  // Not skips, which would have to be expected: what follows is of one host.
  if (host === loopback)
    it('shows several pages, each with a boot of its own, and ends when the last has gone', async () => {
      const site = await host.site(DEMO);
      const [page, other] = [await open(site), await open(site)];
      const server = servers.at(-1)!;
      const ended = once(server, 'close');
      await closeTour(other);
      await press(other, 's');
      expect([await instructions(page), await instructions(other)]).toEqual([0, 1]);
      await other.reload();
      for (const each of [page, other]) await each.locator('.step').first().waitFor({ timeout: 60_000 });
      await page.close();
      await other.close();
      expect((await ended)[0]).toBe(0);
    });

  if (host !== staticPage) return;

  it('lets nothing leave the browser', async () => {
    const site = await host.site(DEMO);
    const context = await browser.newContext();
    const page = await context.newPage();
    const asked: string[] = [];
    page.on('request', (request) => asked.push(`${request.method()} ${request.url()}`));
    await page.goto(site.url);
    await page.locator('#event-list').waitFor({ timeout: 60_000 });
    expect(
      asked.filter((each) => !/^GET (http:\/\/127\.0\.0\.1:\d+\/[a-z.]*|blob:.*|data:.*)$/.test(each)),
    ).toEqual([]);
    const other = createServer((_, response) => response.end('heard'));
    other.listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    expect(
      await page.evaluate(`fetch('http://127.0.0.1:${port}/').then(() => 'heard', () => 'refused')`),
    ).toBe('refused');
    other.close();
  });

  it('boots from one file on the disk', async () => {
    const page = await open({
      url: pathToFileURL(join(WEB, 'bootscope-explorer.html')).href,
      enter: async () => {},
    });
    await closeTour(page);
    await page.locator('.step', { hasText: 'startup_64' }).click({ timeout: 60_000 });
    await expect.poll(() => page.locator('#phase-name').innerText(), { timeout: 60_000 }).toBe('startup_64');
  });

  it('says in a sentence what cannot be booted', async () => {
    const page = await open(await host.site(DEMO));
    await closeTour(page);
    await page.locator('#kernel-file').setInputFiles(join(ROOT, 'README.md'));
    await expect
      .poll(() => page.locator('[role=alert]').innerText(), { timeout: 60_000 })
      .toContain('README.md is ');
  });
}
