// What a page says first to the worker that it has started; every later message is a text of `protocol.ts`.

import type { DecompressMode } from '../trace/boot-trace.ts';

export interface WorkerBoot {
  /** Names the image in messages. */
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly cmdline: string;
  readonly decompress: DecompressMode;
}
