// The few packets of the GDB Remote Serial Protocol that it takes to run QEMU up to an address.

import type { Socket } from 'node:net';

/** One connection to a gdbstub; packets are sent one at a time, each answered before the next. */
export class GdbRemote {
  readonly #socket: Socket;
  #received = '';
  #waiting: { resolve(packet: string): void; reject(error: Error): void } | null = null;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.setEncoding('latin1');
    socket.on('data', (text: string) => {
      this.#received += text;
      this.#deliver();
    });
    const end = () => this.#waiting?.reject(new Error('the gdbstub closed the connection'));
    socket.on('error', end);
    socket.on('close', end);
  }

  /** Sends a packet and resolves to the reply's payload, `''` for a packet that the stub does not know. */
  request(payload: string): Promise<string> {
    let sum = 0;
    for (const character of payload) sum = (sum + character.charCodeAt(0)) & 0xff;
    const reply = new Promise<string>((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
    this.#socket.write(`$${payload}#${sum.toString(16).padStart(2, '0')}`, 'latin1');
    return reply;
  }

  /** Like `request`, for packets that answer `OK`. */
  async demand(payload: string): Promise<void> {
    const reply = await this.request(payload);
    if (reply !== 'OK') throw new Error(`the gdbstub answered "${reply}" to ${payload}`);
  }

  close(): void {
    this.#waiting = null;
    this.#socket.destroy();
  }

  #deliver(): void {
    const start = this.#received.indexOf('$');
    const end = this.#received.indexOf('#', start);
    if (start < 0 || end < 0 || this.#received.length < end + 3 || this.#waiting === null) return;
    const packet = this.#received.slice(start + 1, end);
    this.#received = this.#received.slice(end + 3);
    this.#socket.write('+');
    const { resolve } = this.#waiting;
    this.#waiting = null;
    resolve(packet);
  }
}
