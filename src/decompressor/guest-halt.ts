// Where the stub gives up: its error() with the kernel's own message, and the payload that its decompressor cannot read.

import type { CodecName } from '../codecs/codec.ts';
import { codecByName } from '../codecs/registry.ts';
import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import { equalBytes } from '../host/host.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import type { ExtractionContext } from './extraction.ts';
import type { PayloadAhead } from './payload-ahead.ts';
import type { StubMessages } from './stub-messages.ts';
import { stubHasText } from './stub-text.ts';

/** What the kernel's decompressors print for a stream they cannot read, by codec; the first that the stub has is quoted. */
const CORRUPT: Readonly<Record<CodecName, readonly string[]>> = {
  gzip: ['uncompression error', 'invalid compressed format (err=1)', 'crc error'],
  bzip2: ['Data integrity error when decompressing.', 'Compressed file ends unexpectedly', 'bunzip error'],
  lzma: ['LZMA data is corrupt', 'decoder error', 'unexpected EOF'],
  xz: ['XZ-compressed data is corrupt'],
  lzo: ['Compressed data violation', 'file corrupted', 'invalid header'],
  lz4: ['Decoding failed', 'data corrupted', 'invalid header'],
  zstd: ['ZSTD-compressed data is corrupt'],
};

/** The stub's own error() in TypeScript: prints the kernel's message and gives up. */
export class GuestHalt {
  readonly #image: KernelImage;
  readonly #messages: StubMessages;

  readonly #ahead: PayloadAhead | null;

  constructor({ image, ahead }: ExtractionContext, messages: StubMessages) {
    this.#image = image;
    this.#messages = messages;
    this.#ahead = ahead ?? null;
  }

  /** lzop's checksums are never looked at, gzip's only by the inflate.c of kernels before 2.6.30. */
  #checks(codec: CodecName): boolean {
    return codec === 'gzip' ? stubHasText(this.#image, 'crc error') : codec !== 'lzo';
  }

  /**
   * @param variants - the kernel's texts for this in all generations; the one that the stub has is quoted
   * @throws BootscopeError `guest-error`, always
   */
  stop(variants: readonly string[], detail: string): never {
    const text = variants.find((variant) => stubHasText(this.#image, variant)) ?? variants[0]!;
    this.#messages.halt(text);
    throw new BootscopeError('guest-error', `the stub stops with "${text}": ${detail}`);
  }

  /**
   * Decompresses the payload into `output`; a stream that cannot be read stops the guest, and a damaged kernel that the guest
   * would take for a sound one stops here (BootscopeError `payload-damaged`).
   *
   * @param inputAddress - where the payload lies in the guest, for the message
   * @returns bytes written
   */
  async decompress(input: Uint8Array, output: Uint8Array, inputAddress: number): Promise<number> {
    const ahead = this.#ahead;
    const ready = (await ahead?.take(input)) ?? null;
    if (ahead !== null && ready !== null) {
      ahead.moveTo(ready, output.subarray(0, ready.length));
      return ready.length;
    }
    const { codec: name } = this.#image.payload!;
    const codec = await codecByName(name);
    try {
      return (await codec.decompress(input, output)).bytesWritten;
    } catch (error) {
      if (error instanceof BootscopeError && error.code === 'codec-checksum' && !this.#checks(name)) {
        throw new BootscopeError(
          'payload-damaged',
          `${error.message} (${name} payload of ${input.length} bytes at ${hex(inputAddress)}); ` +
            'this stub does not look at the checksum and would go on, as it does where the guest decompresses by itself',
        );
      }
      if (error instanceof BootscopeError && error.code.startsWith('codec-')) {
        this.stop(
          CORRUPT[name],
          `${error.message} (${name} payload of ${input.length} bytes at ${hex(inputAddress)})`,
        );
      }
      throw error;
    }
  }

  /**
   * The same, for a caller that has to look at what comes out before it has a place.
   *
   * @param room - bytes at most
   */
  async decompressed(input: Uint8Array, room: number, inputAddress: number): Promise<Uint8Array> {
    const ready = await this.#ahead?.take(input);
    if (ready != null) return ready;
    const buffer = new Uint8Array(room);
    return buffer.subarray(0, await this.decompress(input, buffer, inputAddress));
  }
}

/** The payload as it lies in guest memory: the image's own bytes while they are equal, so that nothing need be copied. */
export function payloadBytes(
  context: Pick<ExtractionContext, 'image' | 'memory'>,
  inputAddress: number,
): Uint8Array {
  const { image, memory } = context;
  const payload = image.payload!;
  const original = image.protectedModeCode.subarray(payload.offset, payload.offset + payload.length);
  const inGuest = memory.viewUpTo(inputAddress, payload.length);
  return equalBytes(original, inGuest) ? original : inGuest.slice();
}
