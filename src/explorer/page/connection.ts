// The page's end of the line to its machine: requests with answers, whatever carries the texts.

import type { Answers, Command, Message, Request } from '../protocol.ts';
import type { WorkerBoot } from '../worker-boot.ts';

/** A socket, or a worker. */
export interface Line {
  send(text: string): void;
  set onText(listener: ((text: string) => void) | null);
  set onClose(listener: (() => void) | null);
}

/** What the machine could not do, in one sentence. */
export class RequestError extends Error {
  readonly code: string;

  constructor(code: string, sentence: string) {
    super(sentence);
    this.code = code;
  }
}

export class Connection {
  readonly #line: Line;
  readonly #waiting = new Map<
    number,
    { readonly done: (result: Answers[keyof Answers]) => void; readonly fail: (error: Error) => void }
  >();
  #next = 1;
  onProgress: ((progress: { phase: string | null; instructions: number | null }) => void) | null = null;
  onLost: ((why: string) => void) | null = null;

  constructor(line: Line) {
    this.#line = line;
    line.onText = (text) => this.#receive(JSON.parse(text) as Message);
    line.onClose = () => this.#lose('the connection to the machine has ended');
  }

  /** @throws RequestError */
  request<D extends Command['do']>(command: Extract<Command, { readonly do: D }>): Promise<Answers[D]> {
    const id = this.#next++;
    return new Promise((done, fail) => {
      this.#waiting.set(id, { done: done as (result: Answers[keyof Answers]) => void, fail });
      this.#line.send(JSON.stringify({ id, command }));
    });
  }

  #receive(message: Message): void {
    if ('progress' in message) {
      this.onProgress?.(message.progress);
    } else if ('lost' in message) {
      this.#lose(message.lost);
    } else {
      const waiting = this.#waiting.get(message.id);
      this.#waiting.delete(message.id);
      if ('error' in message) waiting?.fail(new RequestError(message.error.code, message.error.sentence));
      else waiting?.done(message.result);
    }
  }

  #lose(why: string): void {
    for (const { fail } of this.#waiting.values()) fail(new RequestError('explorer-lost', why));
    this.#waiting.clear();
    this.onLost?.(why);
  }
}

/** The socket beside the page, open; what comes before somebody listens waits. */
export async function socketLine(): Promise<Line> {
  const address = new URL('socket', location.href.replace(/#.*/, ''));
  address.protocol = 'ws:';
  const socket = new WebSocket(address);
  const line = new SocketLine(socket);
  await new Promise<void>((done, fail) => {
    socket.addEventListener('open', () => done());
    socket.addEventListener('error', () =>
      fail(new RequestError('explorer-lost', 'the server does not answer')),
    );
  });
  return line;
}

class SocketLine implements Line {
  readonly #socket: WebSocket;
  readonly #early: string[] = [];
  #onText: Line['onText'] = null;
  #onClose: Line['onClose'] = null;

  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.addEventListener('message', ({ data }) => {
      if (this.#onText === null) this.#early.push(String(data));
      else this.#onText(String(data));
    });
    socket.addEventListener('close', () => this.#onClose?.());
  }

  send(text: string): void {
    this.#socket.send(text);
  }

  set onText(listener: Line['onText']) {
    this.#onText = listener;
    for (const text of this.#early.splice(0)) listener?.(text);
  }

  set onClose(listener: Line['onClose']) {
    this.#onClose = listener;
    if (this.#socket.readyState > WebSocket.OPEN) listener?.();
  }
}

/**
 * A worker of its own for each machine: one for the boot that is held, another while the whole boot is surveyed.
 * @param source - the worker's script; it may go where the page's own policy lets it go
 */
export function workerLine(source: string, boot: WorkerBoot): Line & { close(): void } {
  const workers = new Set<Worker>();
  const line = {
    send: (text: string) => {
      if ((JSON.parse(text) as Request).command.do === 'survey') start(true).postMessage(text);
      else held.postMessage(text);
    },
    close: () => {
      for (const worker of workers) worker.terminate();
    },
    onText: null as Line['onText'],
    onClose: null as Line['onClose'],
  };
  const held = start(false);
  return line;

  function start(once: boolean): Worker {
    const address = URL.createObjectURL(new Blob([source], { type: 'text/javascript' }));
    const worker = new Worker(address);
    URL.revokeObjectURL(address);
    workers.add(worker);
    worker.addEventListener('message', (event) => {
      line.onText?.(String(event.data));
      if (once) worker.terminate();
    });
    worker.addEventListener('error', (event) => {
      line.onText?.(JSON.stringify({ lost: event.message || 'the browser could not start it' }));
    });
    worker.postMessage(boot);
    return worker;
  }
}
