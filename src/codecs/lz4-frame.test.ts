import { describe, expect, it } from 'vitest';
import { BootscopeError } from '../error.ts';
import { decompressLz4Frame } from './lz4-frame.ts';
import { matchesLz4Frame } from './magic.ts';
import { CONTENTS, filter, hasTool } from './test-streams.ts';

async function decompress(stream: Uint8Array, limit: number): Promise<Uint8Array> {
  const output = new Uint8Array(limit);
  const { bytesRead, bytesWritten } = await decompressLz4Frame(stream, output);
  expect(bytesRead).toBe(stream.length);
  return output.subarray(0, bytesWritten);
}

describe.skipIf(!hasTool('lz4'))('an lz4 frame by lz4 (needs the tool)', () => {
  for (const options of [['-9'], ['-1', '-B4', '-BD'], ['-BX', '--content-size'], ['--no-frame-crc']]) {
    for (const name of ['one byte', 'noise', 'calls']) {
      const content = CONTENTS.get(name)!;
      it(`with ${options.join(' ')} gives ${name} back`, async () => {
        const stream = filter('lz4', ['-c', ...options], content);
        expect(matchesLz4Frame(stream)).toBe(true);
        const plain = await decompress(Uint8Array.from([...stream]), content.length);
        expect(Buffer.compare(plain, content)).toBe(0);
      });
    }
  }

  it('is told damaged, cut or too large, and never decoded wrongly in silence', async () => {
    const content = CONTENTS.get('text')!;
    const stream = Uint8Array.from(filter('lz4', ['-c', '-9'], content));
    for (let at = 4; at < stream.length; at++) {
      const damaged = Uint8Array.from(stream);
      damaged[at]! ^= 0x11;
      await expect(decompress(damaged, content.length)).rejects.toThrow(BootscopeError);
      await expect(decompress(stream.subarray(0, at), content.length)).rejects.toThrow(BootscopeError);
    }
    await expect(decompress(stream, content.length - 1)).rejects.toMatchObject({
      code: 'codec-output-limit',
    });
  });
});
