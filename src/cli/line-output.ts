// Writes many lines to a file or a pipe in big pieces, synchronously: while the guest runs, no stream of Node's is served.

import { closeSync, openSync } from 'node:fs';
import { BootscopeError } from '../error.ts';
import { STDOUT, writeFully } from './standard-output.ts';

const BUFFER_SIZE = 1 << 18;
/** Longest line that fits without a look at the space left; longer ones go through `text`. */
const LINE_ROOM = 4096;

export class LineOutput {
  /** Bytes of `buffer` that are taken; whoever appends by hand moves it on. */
  position = 0;
  readonly buffer = Buffer.allocUnsafe(BUFFER_SIZE);
  readonly #fd: number;
  readonly #path: string;
  #closed = false;

  /**
   * @param path - `-` for standard output
   * @throws BootscopeError `cli-output` where the file cannot be written, or is there and `force` is false
   */
  constructor(path: string, force: boolean) {
    this.#path = path;
    try {
      this.#fd = path === '-' ? STDOUT : openSync(path, force ? 'w' : 'wx');
    } catch (error) {
      throw this.#failure(error);
    }
  }

  /** Whether the reader has gone, as `head` does; nothing is written any more then. */
  get closed(): boolean {
    return this.#closed;
  }

  /** To be called before a line is appended by hand to `buffer`: makes room for `LINE_ROOM` bytes. */
  makeRoom(): void {
    if (this.position > BUFFER_SIZE - LINE_ROOM) this.flush();
  }

  /** Appends any text. */
  text(text: string): void {
    const bytes = Buffer.from(text);
    if (bytes.length > BUFFER_SIZE - this.position) this.flush();
    if (bytes.length > BUFFER_SIZE) this.#write(bytes);
    else this.position += bytes.copy(this.buffer, this.position);
  }

  flush(): void {
    const { position } = this;
    this.position = 0;
    this.#write(this.buffer.subarray(0, position));
  }

  end(): void {
    this.flush();
    if (this.#fd !== STDOUT) closeSync(this.#fd);
  }

  #write(bytes: Uint8Array): void {
    if (this.#closed) return;
    try {
      this.#closed = !writeFully(this.#fd, bytes);
    } catch (error) {
      throw this.#failure(error);
    }
  }

  #failure(error: unknown): BootscopeError {
    const { code, message } = error as NodeJS.ErrnoException;
    const text =
      code === 'EEXIST'
        ? `${this.#path} exists already, --force overwrites it`
        : `${this.#path} cannot be written: ${message}`;
    return new BootscopeError('cli-output', text, { cause: error });
  }
}
