// Carries the bytes of gdb's remote protocol: from a socket on this host alone, one debugger after the other, or from standard
// input and output.

import { createServer, type Server, type Socket } from 'node:net';
import { GdbConnection, type GdbFarewell } from '../debug/gdb/connection.ts';
import type { GdbTarget } from '../debug/gdb/target.ts';
import { BootscopeError } from '../error.ts';

const LOOPBACK = '127.0.0.1';

export interface ListeningGdb {
  readonly port: number;
  /** Resolves when a debugger has said `kill`, or `close` was called. */
  readonly ended: Promise<void>;
  close(): void;
}

/**
 * Serves one debugger at a time; the next may come when one has gone.
 *
 * @param port - 0 for any that is free
 * @param onGone - called when a debugger has gone
 * @throws BootscopeError `cli-port` where the port cannot be listened on
 */
export async function listenForGdb(
  target: GdbTarget,
  port: number,
  onGone: (how: GdbFarewell) => void = () => {},
): Promise<ListeningGdb> {
  let current: Socket | null = null;
  let finish: () => void = () => {};
  const ended = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const server = createServer((socket) => {
    if (current !== null) {
      socket.destroy();
      return;
    }
    current = socket;
    socket.setNoDelay(true);
    const stream = { send: (bytes: Uint8Array) => socket.write(bytes), end: () => socket.end() };
    const connection = new GdbConnection(target, stream, (how) => {
      current = null;
      onGone(how);
      if (how === 'killed') close();
    });
    socket.on('data', (bytes) => connection.receive(bytes));
    // A debugger that was killed resets its connection.
    socket.on('error', () => connection.closed());
    socket.on('close', () => connection.closed());
  });
  const close = (): void => {
    server.close();
    current?.destroy();
    finish();
  };
  await listen(server, port);
  const address = server.address();
  return { port: typeof address === 'object' && address !== null ? address.port : port, ended, close };
}

async function listen(server: Server, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why = error.code === 'EADDRINUSE' ? 'something listens there already' : error.message;
      reject(new BootscopeError('cli-port', `port ${port} of ${LOOPBACK} cannot be used: ${why}`));
    });
    server.listen(port, LOOPBACK, resolve);
  });
}

/** Serves the debugger at the other end of standard input and output, until it has gone. */
export async function serveStandardInput(target: GdbTarget): Promise<void> {
  const { stdin, stdout } = process;
  await new Promise<void>((resolve) => {
    const stream = { send: (bytes: Uint8Array) => stdout.write(bytes), end: () => stdin.destroy() };
    const connection = new GdbConnection(target, stream, () => resolve());
    stdin.on('data', (bytes: Uint8Array) => connection.receive(bytes));
    for (const event of ['end', 'close', 'error']) stdin.on(event, () => connection.closed());
  });
}
