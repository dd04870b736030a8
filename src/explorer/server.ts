// The explorer's loopback server: its own few files and a socket, for whoever knows the token in the address.

import { randomBytes, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import { sha256Base64 } from '../host/host.ts';
import type { ExplorerFile } from './explorer-files.ts';
import { MAX_REQUEST_LENGTH } from './protocol.ts';

/** One machine for one page. */
export interface MachineConnection {
  send(text: string): void;
  close(): void;
}

export interface ServerOptions {
  /** 0 takes any that is free. */
  readonly port: number;
  /** The page's files by name: `''` is the page. */
  readonly files: ReadonlyMap<string, ExplorerFile>;
  /** A machine for a page that has come; `say` gives the page a message. */
  readonly connect: (say: (text: string) => void) => MachineConnection;
  /** The last page has gone and none has come for a while. */
  readonly onEmpty: () => void;
}

export interface ExplorerServer {
  /** With the token. */
  readonly url: string;
  close(): Promise<void>;
}

const HOST = '127.0.0.1';
const TOKEN_BYTES = 24;
const MAX_PAGES = 4;
/** A page that is loaded anew goes and comes. */
const EMPTY_MILLISECONDS = 3000;
const HEADERS = {
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Cache-Control': 'no-store',
} as const;

/**
 * Serves on the loopback interface alone. What does not come from the page itself is refused: another Host (a name that was
 * bound to this address), another Origin (another page), no token, another method or path.
 *
 * @throws Error of Node's where the port is taken
 */
export async function startExplorerServer(options: ServerOptions): Promise<ExplorerServer> {
  const token = randomBytes(TOKEN_BYTES).toString('base64url');
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: MAX_REQUEST_LENGTH,
    perMessageDeflate: false,
  });
  const pages = new Set<WebSocket>();
  let empty: NodeJS.Timeout | null = null;
  const server = createServer({ maxHeaderSize: 16384, requestTimeout: 10_000 }, (request, response) => {
    answer(request, response);
  });

  function port(): number {
    return (server.address() as AddressInfo).port;
  }

  function hostIsOurs(request: IncomingMessage): boolean {
    return [`${HOST}:${port()}`, `localhost:${port()}`].includes(request.headers.host ?? '');
  }

  /** The file's name behind the token; null for any other path. */
  function fileOf(request: IncomingMessage): string | null {
    const [, given, name, ...more] = (request.url ?? '').split('/');
    if (given === undefined || name === undefined || more.length > 0) return null;
    return sameToken(given, token) ? name : null;
  }

  function answer(request: IncomingMessage, response: ServerResponse): void {
    const name = fileOf(request);
    const file = name === null ? undefined : options.files.get(name);
    let status = 200;
    if (!hostIsOurs(request)) status = 403;
    else if (request.method !== 'GET' && request.method !== 'HEAD') status = 405;
    else if (file === undefined) status = 404;
    if (file === undefined || status !== 200) {
      response.writeHead(status, { ...HEADERS, 'Content-Security-Policy': policyOf(null) }).end();
      return;
    }
    response.writeHead(200, {
      ...{ ...HEADERS, 'Content-Security-Policy': policyOf(file), 'Content-Type': file.type },
    });
    response.end(request.method === 'HEAD' ? undefined : file.body);
  }

  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on('error', () => socket.destroy());
    const refusal = refusalOf(request);
    if (refusal !== null) socket.end(`HTTP/1.1 ${refusal}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
    else sockets.handleUpgrade(request, socket, head, (page) => welcome(page));
  });

  /** Why a page gets no socket; null where it does. */
  function refusalOf(request: IncomingMessage): string | null {
    if (!hostIsOurs(request)) return '403 Forbidden';
    if (request.headers.origin !== `http://${request.headers.host}`) return '403 Forbidden';
    if (fileOf(request) !== 'socket') return '404 Not Found';
    return pages.size >= MAX_PAGES ? '503 Service Unavailable' : null;
  }

  function welcome(page: WebSocket): void {
    pages.add(page);
    if (empty !== null) clearTimeout(empty);
    empty = null;
    const machine = options.connect((text) => {
      if (page.readyState === page.OPEN) page.send(text);
    });
    page.on('message', (data, binary) => {
      if (binary) page.close(1003);
      else machine.send(data.toString());
    });
    // A broken or oversized frame: ws closes the connection, and says so here.
    page.on('error', () => page.terminate());
    page.on('close', () => {
      pages.delete(page);
      machine.close();
      if (pages.size === 0) empty = setTimeout(options.onEmpty, EMPTY_MILLISECONDS);
    });
  }

  await listen(server, options.port);
  return {
    url: `http://${HOST}:${port()}/${token}/`,
    async close() {
      if (empty !== null) clearTimeout(empty);
      for (const page of pages) page.terminate();
      sockets.close();
      server.closeAllConnections();
      await new Promise<void>((done) => server.close(() => done()));
    },
  };
}

/** Runs what the file itself holds and nothing else, and connects to where it came from alone. */
function policyOf(file: ExplorerFile | null): string {
  const only = (texts: readonly string[] = []): string =>
    texts.length === 0 ? "'none'" : texts.map((text) => `'sha256-${sha256Base64(text)}'`).join(' ');
  return (
    `default-src 'none'; script-src ${only(file?.scripts)}; style-src ${only(file?.styles)}; ` +
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
  );
}

function sameToken(given: string, token: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(token)];
  return a.length === b.length && timingSafeEqual(a, b);
}

async function listen(server: Server, port: number): Promise<void> {
  await new Promise<void>((done, fail) => {
    server.once('error', fail);
    server.listen(port, HOST, done);
  });
  server.removeAllListeners('error');
}
