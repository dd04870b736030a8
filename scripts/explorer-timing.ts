// How long the explorer takes for a person: from asking for its page to the frame that shows where the boot stands, and from a
// key to the frame that shows the moment before. Milliseconds of wall-clock time in a headless Chromium.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { type Browser, chromium, type Page } from 'playwright-core';

const BROWSER = process.env.BOOTSCOPE_CHROMIUM ?? '/usr/bin/chromium';
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-background-networking',
  '--disable-component-update',
];

/** Why nothing can be measured here; null where it can. */
export const noChromium: string | null = existsSync(BROWSER)
  ? null
  : `${BROWSER} is missing; BOOTSCOPE_CHROMIUM names another`;

export interface ExplorerTiming {
  /** The page is asked for as soon as the command has printed its address. */
  readonly opening: number;
  /** Of the same browser: a page that says one word. */
  readonly emptyPage: number;
  readonly stepsBack: number[];
}

/** Runs in the page before anything else there: notes the first frame that shows an element. */
function noteFirst(selector: string): void {
  const seen = globalThis as unknown as { shownAt?: number };
  const page = globalThis as unknown as {
    document: { querySelector(text: string): unknown };
    MutationObserver: new (
      look: () => void,
    ) => { observe(node: unknown, what: object): void; disconnect(): void };
    requestAnimationFrame(action: () => void): void;
    MessageChannel: new () => {
      port1: { onmessage: () => void; close(): void };
      port2: { postMessage(value: null): void };
    };
  };
  const observer = new page.MutationObserver(() => {
    if (page.document.querySelector(selector) === null) return;
    observer.disconnect();
    // A task behind the frame's own: it has been handed to be drawn. A timer would come after what the page does next.
    page.requestAnimationFrame(() => {
      const { port1, port2 } = new page.MessageChannel();
      port1.onmessage = () => {
        seen.shownAt = performance.now();
        port1.close();
      };
      port2.postMessage(null);
    });
  });
  observer.observe(page.document, { childList: true, subtree: true });
}

/** The page's policy forbids what Playwright's own waiting would evaluate. */
async function until(page: Page, condition: string): Promise<void> {
  while (!(await page.evaluate<boolean>(condition))) await new Promise((done) => setTimeout(done, 20));
}

async function timeOpening(page: Page, url: string, selector: string): Promise<number> {
  await page.addInitScript(noteFirst, selector);
  await page.goto(url);
  await until(page, 'globalThis.shownAt !== undefined');
  return page.evaluate<number>('globalThis.shownAt');
}

async function timeStepBack(page: Page): Promise<number> {
  // The key may come before what is evaluated later.
  await page.evaluate(`void (globalThis.stepBack = new Promise((done) => {
    const count = document.querySelector('#instructions');
    let pressed = 0;
    addEventListener('keydown', () => { pressed = performance.now(); }, { capture: true, once: true });
    const before = count.textContent;
    const observer = new MutationObserver(() => {
      if (document.querySelector('#instructions')?.textContent === before) return;
      observer.disconnect();
      requestAnimationFrame(() => {
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = () => done(performance.now() - pressed);
        port2.postMessage(null);
      });
    });
    observer.observe(document.querySelector('#status'), { childList: true, subtree: true, characterData: true });
  }))`);
  await page.keyboard.press('Shift+S');
  return page.evaluate<number>('globalThis.stepBack');
}

/**
 * @param command - `bootscope`'s file
 * @param environment - of the command
 * @param steps - steps back from the kernel's entry
 */
export async function timeExplorer(
  command: string,
  image: string,
  cmdline: string,
  environment: NodeJS.ProcessEnv,
  steps: number,
): Promise<ExplorerTiming> {
  const browser = await chromium.launch({ executablePath: BROWSER, args: FLAGS });
  try {
    const newPage = async (of: Browser): Promise<Page> =>
      (await of.newContext({ viewport: { width: 1280, height: 900 } })).newPage();
    const emptyPage = await timeOpening(await newPage(browser), 'data:text/html,<p>empty', 'p');
    const page = await newPage(browser);
    const server = spawn(process.execPath, [command, 'explore', image, '--cmdline', cmdline, '--no-open'], {
      stdio: ['ignore', 'pipe', 'ignore'],
      env: environment,
    });
    try {
      const [url] = (await once(createInterface({ input: server.stdout }), 'line')) as [string];
      const opening = await timeOpening(page, url, '#position');
      while ((await page.locator('dialog').count()) > 0) await page.locator('#tour-next').click();
      await page.locator('.step', { hasText: 'kernel' }).last().click();
      await until(page, "document.querySelector('#phase-name')?.textContent === 'kernel'");
      const stepsBack: number[] = [];
      for (let step = 0; step < steps; step++) {
        await page.locator('#status[aria-busy=false]').waitFor();
        stepsBack.push(await timeStepBack(page));
      }
      return { opening, emptyPage, stepsBack };
    } finally {
      server.kill('SIGINT');
      await once(server, 'close');
    }
  } finally {
    await browser.close();
  }
}
