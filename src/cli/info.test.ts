import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { Command } from 'commander';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { makeBootImage, makeElf, makePe, noise } from '../image/test-images.ts';
import { SETUP_HEADER_FIELDS } from '../protocol/setup-header.ts';
import { registerInfo } from './info.ts';
import { takePrinted } from './test-output.ts';

vi.mock('./standard-output.ts', async () => import('./test-output.ts'));

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'bootscope-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** What `bootscope info` prints on stdout, and the message it fails with. */
async function info(
  bytes: Uint8Array,
  ...options: string[]
): Promise<{ output: string; error: string | null }> {
  const path = join(folder, 'file');
  writeFileSync(path, bytes);
  takePrinted();
  const program = new Command('bootscope').exitOverride();
  registerInfo(program);
  try {
    await program.parseAsync(['info', path, ...options], { from: 'user' });
    return { output: takePrinted().text, error: null };
  } catch (error) {
    return { output: takePrinted().text, error: error instanceof Error ? error.message : String(error) };
  }
}

const PAYLOAD = gzipSync(makeElf(64, noise(3000)));
const IMAGE = makeBootImage({
  protocol: 0x020f,
  code: Buffer.concat([new Uint8Array(64), PAYLOAD, new Uint8Array(64)]),
  version: '6.1.0-test (builder@host) #1 SMP',
  fields: { payload_offset: 64, payload_length: PAYLOAD.length, xloadflags: 0x3, loadflags: 0x81 },
});

describe('bootscope info', () => {
  it('prints every header field with its offset and its meaning', async () => {
    const { output } = await info(IMAGE);
    for (const { name, offset, meaning } of SETUP_HEADER_FIELDS) {
      expect(output).toMatch(new RegExp(`^ +0x${offset.toString(16)} +${name} .*`, 'm'));
      expect(output).toContain(meaning);
    }
  });

  it('prints version, protocol, sizes, codec and the names of the flags that are set', async () => {
    const { output, error } = await info(IMAGE);
    expect(error).toBeNull();
    expect(output).toContain('an x86 bzImage');
    expect(output).toContain('6.1.0-test (builder@host) #1 SMP');
    expect(output).toMatch(/boot protocol +2\.15/);
    expect(output).toContain('boot sector 512 bytes, setup 2048 bytes, system');
    expect(output).toMatch(/payload +gzip, /);
    for (const flag of ['LOADED_HIGH', 'CAN_USE_HEAP', 'XLF_KERNEL_64', 'XLF_CAN_BE_LOADED_ABOVE_4G']) {
      expect(output).toContain(flag);
    }
    expect(output).not.toContain('KEEP_SEGMENTS');
  });

  it('prints the same as JSON, addresses as hex strings and sizes as numbers', async () => {
    const { output } = await info(IMAGE, '--json');
    expect(JSON.parse(output)).toMatchObject({
      kind: 'x86-boot-image',
      format: 'bzImage',
      isKernel: true,
      bootable: true,
      bootProtocol: '2.15',
      kernelVersion: '6.1.0-test (builder@host) #1 SMP',
      codec: 'gzip',
      payload: { offset: 64, fileOffset: 5 * 512 + 64, length: PAYLOAD.length, source: 'header' },
      sizes: { bootSector: 512, setup: 2048 },
      header: {
        setup_sects: { offset: '0x1f1', size: 1, value: 4 },
        code32_start: { value: '0x100000' },
        loadflags: { value: '0x81', flags: ['LOADED_HIGH', 'CAN_USE_HEAP'] },
      },
    });
  });

  it('leaves the fields out that the protocol does not have', async () => {
    const { output } = await info(makeBootImage({ protocol: 0x0203 }), '--json');
    const { header } = JSON.parse(output) as { header: Record<string, unknown> };
    expect(Object.keys(header)).toContain('initrd_addr_max');
    expect(Object.keys(header)).not.toContain('kernel_alignment');
  });

  it('prints what it can of a cut image, and fails with what is wrong', async () => {
    const { output, error } = await info(IMAGE.subarray(0, 5 * 512 + 100));
    expect(output).toContain('0x1f1');
    expect(error).toContain('is cut in its payload');
  });

  it('fails with one sentence on what is no kernel', async () => {
    const { output, error } = await info(Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'));
    expect(output).toBe('');
    expect(error).toBe(`${join(folder, 'file')} is a PNG picture, not a kernel`);
  });

  it('prints JSON also for what is no kernel', async () => {
    const { output } = await info(Buffer.from('some text\n'), '--json');
    expect(JSON.parse(output)).toMatchObject({ isKernel: false, bootable: false, what: 'a text file' });
  });

  it('goes through the wrappings of an image', async () => {
    const { output, error } = await info(
      gzipSync(makePe({ '.cmdline': Buffer.from('quiet'), '.linux': IMAGE })),
    );
    expect(error).toBeNull();
    expect(output).toContain('a Unified Kernel Image for x86-64, compressed with gzip');
    expect(output).toMatch(/\.cmdline +"quiet"/);
    expect(output).toContain('an x86 bzImage');
  });

  it('prints segments and sections of a vmlinux', async () => {
    const vmlinux = makeElf(64, Buffer.from('Linux version 6.1.0 (a@b) #1 SMP\n\0'));
    const { output } = await info(vmlinux);
    expect(output).toContain('ELF64 x86-64');
    expect(output).toMatch(/SEGMENT +PHYSICAL/);
    expect(output).toMatch(/text +34 bytes/);
    expect(JSON.parse((await info(vmlinux, '--json')).output)).toMatchObject({
      kind: 'vmlinux',
      bits: 64,
      entry: '0x1000000',
      segments: [{ paddr: '0x1000000', flags: 'r-x' }],
      groups: { text: 34 },
    });
  });
});
