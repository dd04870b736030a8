// Decompresses the payload on another thread while the guest still runs towards extract_kernel.

import { codecByName } from '../codecs/registry.ts';
import { BootscopeError } from '../error.ts';
import { allocatePages, freePages, movePages, processors } from '../host/host.ts';
import type { KernelImage } from '../image/kernel-image.ts';

/** Of more than this, touching a second copy of the kernel takes longer than the guest on its way to extract_kernel. */
const LARGEST = 16 * 2 ** 20;

export class PayloadAhead {
  readonly #input: Uint8Array;
  readonly #output: Promise<Uint8Array | null>;
  /** To be given back. */
  #pages: Uint8Array<ArrayBuffer> | null;
  #isMoved = false;

  private constructor(
    input: Uint8Array,
    output: Promise<Uint8Array | null>,
    pages: Uint8Array<ArrayBuffer> | null = null,
  ) {
    this.#input = input;
    this.#output = output;
    this.#pages = pages;
  }

  /**
   * Begins with the payload of the image file.
   *
   * @returns null where more than 16 MiB come out, this host has no native code for the codec or no second processor, or nobody knows how much comes out
   */
  static async begin(image: KernelImage): Promise<PayloadAhead | null> {
    const { payload } = image;
    if (payload === null || payload.outputLength === null || payload.outputLength > LARGEST) return null;
    if (processors() < 2) return null;
    const decode = await (await codecByName(payload.codec)).background();
    if (decode === null) return null;
    const input = image.protectedModeCode.subarray(payload.offset, payload.offset + payload.length);
    const pages = allocatePages(payload.outputLength);
    const output = pages?.subarray(0, payload.outputLength) ?? new Uint8Array(payload.outputLength);
    const decoded = decode(input, output).then(
      (result) => result && output.subarray(0, result.bytesWritten),
      // Whoever decompresses again learns why.
      () => null,
    );
    return new PayloadAhead(input, decoded, pages);
  }

  /**
   * Decompresses it on this thread, for boots of the same image that follow.
   *
   * @returns null where it cannot be decompressed; whoever decompresses it in the boot learns why
   */
  static async now(image: KernelImage): Promise<PayloadAhead | null> {
    const { payload } = image;
    if (payload === null || payload.outputLength === null) return null;
    const input = image.protectedModeCode.subarray(payload.offset, payload.offset + payload.length);
    const output = new Uint8Array(payload.outputLength);
    try {
      const { bytesWritten } = await (await codecByName(payload.codec)).decompress(input, output);
      return new PayloadAhead(input, Promise.resolve(output.subarray(0, bytesWritten)));
    } catch (error) {
      if (!(error instanceof BootscopeError)) throw error;
      return null;
    }
  }

  /**
   * What the stream `input` holds, once it is decompressed; null for another stream than the image's, such as one that the
   * guest has changed, for a damaged one, and once it was moved. Not to be used after `close`.
   */
  async take(input: Uint8Array): Promise<Uint8Array | null> {
    const own = this.#input;
    const same =
      input.buffer === own.buffer && input.byteOffset === own.byteOffset && input.length === own.length;
    const output = same ? await this.#output : null;
    return this.#isMoved ? null : output;
  }

  /** Puts what `take` has given to `place`, which is as long, and is lost here where the host hands over its pages. */
  moveTo(taken: Uint8Array, place: Uint8Array): void {
    if (movePages(taken, place)) this.#isMoved = true;
    else place.set(taken);
  }

  /** Whether nothing can be taken any more. */
  get isMoved(): boolean {
    return this.#isMoved;
  }

  /** Gives the memory back, for the next boot of the process. */
  async close(): Promise<void> {
    const pages = this.#pages;
    this.#pages = null;
    this.#isMoved = true;
    await this.#output;
    if (pages !== null) freePages(pages);
  }
}
