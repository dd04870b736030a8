// The codecs on the payloads of real kernels: those in images/cache, against the native tools' output.

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { CodecName } from './codec.ts';
import { codecByName, detectCodec } from './registry.ts';
import { hasTool } from './test-streams.ts';

const CACHE = fileURLToPath(new URL('../../images/cache/debian', import.meta.url));
const kernels = existsSync(CACHE)
  ? readdirSync(CACHE)
      .filter((file) => file.startsWith('vmlinuz-'))
      .sort()
  : [];

/** What each format's own tool is called with to decompress a stream with nothing behind it. */
const TOOLS: Readonly<Record<CodecName, readonly [string, ...string[]]>> = {
  gzip: ['gzip', '-dc'],
  bzip2: ['bzip2', '-dc'],
  lzma: ['xz', '-dc', '--format=lzma'],
  xz: ['xz', '-dc'],
  lzo: ['lzop', '-dc'],
  lz4: ['lz4', '-dc'],
  zstd: ['zstd', '-dc'],
};

/** boot.rst, "payload_offset" and "payload_length", at 0x248 and 0x24c; setup_sects at 0x1f1. */
function payloadOf(image: Uint8Array): Uint8Array {
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  const start = (view.getUint8(0x1f1) + 1) * 512 + view.getUint32(0x248, true);
  return image.subarray(start, start + view.getUint32(0x24c, true));
}

describe('the payload of a kernel', () => {
  if (kernels.length === 0)
    it.skip('is compared: images/cache/debian holds none (scripts/setup --test)', () => {});

  for (const kernel of kernels) {
    const payload = payloadOf(readFileSync(join(CACHE, kernel)));
    const name = detectCodec(payload)!;
    const [tool, ...parameters] = TOOLS[name];
    it.skipIf(!hasTool(tool))(`is what ${tool} makes of it: ${basename(kernel)}`, async () => {
      const stream = name === 'gzip' ? payload : payload.subarray(0, -4);
      const expected = spawnSync(tool, parameters, { input: stream, maxBuffer: 2 ** 29 }).stdout;
      const codec = await codecByName(name);
      for (const portable of [false, true]) {
        const output = new Uint8Array(expected.length);
        const result = await codec.decompress(payload, output, { portable });
        expect(result).toEqual({ bytesRead: stream.length, bytesWritten: expected.length });
        expect(Buffer.compare(output, expected)).toBe(0);
      }
    });
  }
});
