// Writes many lines to a file or a pipe in big pieces, synchronously: while the guest runs, no stream of Node's is served.

import { cannotBeWritten, openOutput, type PendingFile } from './output-file.ts';
import { STDOUT, writeFully } from './standard-output.ts';

/** Longest line that fits without a look at the space left; longer ones go through `text`. */
export const LINE_ROOM = 4096;

export class LineOutput {
  /** Bytes of `buffer` that are taken; whoever appends by hand moves it on. */
  position = 0;
  readonly buffer: Buffer;
  readonly #fd: number;
  readonly #file: PendingFile | null;
  readonly #path: string;
  #closed = false;

  /**
   * @param path - `-` for standard output
   * @param buffer - what lines are put together in
   * @throws BootscopeError `cli-output` where the file cannot be written, or is there and `force` is false
   */
  constructor(path: string, force: boolean, buffer: Buffer) {
    this.#path = path;
    this.buffer = buffer;
    this.#file = path === '-' ? null : openOutput(path, force);
    this.#fd = this.#file?.fd ?? STDOUT;
  }

  /** Whether the reader has gone, as `head` does; nothing is written any more then. */
  get closed(): boolean {
    return this.#closed;
  }

  /** To be called before a line is appended by hand to `buffer`: makes room for `LINE_ROOM` bytes. */
  makeRoom(): void {
    if (this.position > this.buffer.length - LINE_ROOM) this.flush();
  }

  /** Appends any text. */
  text(text: string): void {
    const bytes = Buffer.from(text);
    if (bytes.length > this.buffer.length - this.position) this.flush();
    if (bytes.length > this.buffer.length) this.#write(bytes);
    else this.position += bytes.copy(this.buffer, this.position);
  }

  flush(): void {
    const { position } = this;
    this.position = 0;
    this.#write(this.buffer.subarray(0, position));
  }

  end(): void {
    this.flush();
    this.#file?.finish();
  }

  #write(bytes: Uint8Array): void {
    if (this.#closed) return;
    try {
      this.#closed = !writeFully(this.#fd, bytes);
    } catch (error) {
      this.#file?.discard();
      throw cannotBeWritten(this.#path, error);
    }
  }
}
