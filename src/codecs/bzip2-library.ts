// bzip2 by seek-bzip, which wants Node's Buffer: `#bzip2-decoder` everywhere but in a browser.

import { BootscopeError } from '../error.ts';
import type { DecompressResult } from './codec.ts';
import { corrupt, outputLimit, truncated } from './codec-errors.ts';

/** seek-bzip reads and writes through objects, which is where the input's end and the output's limit are watched. */
export async function decodeBzip2(input: Uint8Array, output: Uint8Array): Promise<DecompressResult> {
  const library = await import('seek-bzip');
  // A CommonJS package: what loads it decides whether its exports are the default export or named ones.
  const { decode } = library.default ?? library;
  let bytesRead = 0;
  let bytesWritten = 0;
  const source = {
    readByte() {
      if (bytesRead >= input.length) throw truncated('bzip2', bytesRead + 1, input.length, 'its data');
      return input[bytesRead++]!;
    },
    read(buffer: Uint8Array, offset: number, length: number) {
      for (let i = 0; i < length; i++) buffer[offset + i] = this.readByte();
      return length;
    },
  };
  const target = {
    writeByte(byte: number) {
      if (bytesWritten >= output.length) throw outputLimit('bzip2', output.length);
      output[bytesWritten++] = byte;
    },
  };
  try {
    decode(source, target);
  } catch (error) {
    if (error instanceof BootscopeError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    if (reason.includes('CRC')) {
      throw new BootscopeError(
        'codec-checksum',
        `the bzip2 stream is damaged before offset ${bytesRead}: ${reason}`,
        {
          cause: error,
        },
      );
    }
    throw corrupt('bzip2', bytesRead, `${reason}, after ${bytesWritten} bytes of output`, error);
  }
  return { bytesRead, bytesWritten };
}
