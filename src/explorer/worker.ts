// The explorer's machine in a browser: a worker with one boot on the WASM engine. The page that starts it says what to boot, and
// then talks to it as to a server.

import type * as Iced from 'iced-x86';
import { openBoot } from '../boot/session.ts';
import { createUnicorn } from '../cpu/unicorn.ts';
import { type EmscriptenFactory, openWasm, type WasmEngine } from '../cpu/wasm.ts';
import { BootscopeError } from '../error.ts';
import { provideIced } from '../host/browser.ts';
import { readKernelImage } from '../image/kernel-image.ts';
import { ExplorerHost } from './explorer-host.ts';
import type { WorkerBoot } from './worker-boot.ts';

/** What the build puts beside the core. */
export interface WorkerParts {
  /** What the script of Unicorn.js exports. */
  readonly unicorn: EmscriptenFactory;
  readonly iced: typeof Iced;
}

/** Of a worker's global object, what TypeScript has in its DOM library alone. */
interface WorkerScope {
  onmessage: ((event: { readonly data: WorkerBoot | string }) => void) | null;
  postMessage(text: string): void;
  onunhandledrejection: ((event: { readonly reason: unknown }) => void) | null;
}

export function startWorker({ unicorn, iced }: WorkerParts): void {
  provideIced(iced);
  const scope = globalThis as unknown as WorkerScope;
  const engine: WasmEngine = { name: 'Unicorn.js', factory: unicorn, module: null };
  /** Texts that come while the image is read follow it. */
  let host: Promise<ExplorerHost | null> = Promise.resolve(null);
  scope.onunhandledrejection = ({ reason }) => {
    scope.postMessage(JSON.stringify({ lost: reason instanceof Error ? reason.message : String(reason) }));
  };
  scope.onmessage = ({ data }) => {
    if (typeof data !== 'string') host = open(data);
    else void host.then((ready) => ready?.receive(data));
  };

  async function open({ name, bytes, ...options }: WorkerBoot): Promise<ExplorerHost | null> {
    try {
      const image = await readKernelImage(name, bytes);
      const session = () =>
        openBoot(image, {
          engine: async () => createUnicorn(await openWasm(engine)),
          ...options,
          hash: false,
        });
      return new ExplorerHost({ image, open: session, survey: session }, (message) => {
        scope.postMessage(JSON.stringify(message));
      });
    } catch (error) {
      if (!(error instanceof BootscopeError)) throw error;
      scope.postMessage(JSON.stringify({ lost: error.message }));
      return null;
    }
  }
}
