// Kernels that are not where the boot protocol has them: started by another program, in a Unified Kernel Image, or from before it.

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { readKernelImage } from '../image/kernel-image.ts';
import { makeBootImage, makePe } from '../image/test-images.ts';
import { boot } from './boot.ts';

const DEMO = new URL('../../images/demo/', import.meta.url).pathname;
const SETUP = 0x90200;

/**
 * Real-mode code that enters protected mode with the segments of the boot protocol and jumps to a 32-bit address.
 * @param offset - where it lies in setup
 */
function enterProtectedMode(offset: number, target: number): Buffer {
  const code = Buffer.from('fa2e0f01160000b801000f01f066ea000000001000', 'hex');
  const gdtr = offset + code.length;
  code.writeUInt16LE(gdtr, 5);
  code.writeUInt32LE(target, 15);
  const table = Buffer.alloc(6 + 4 * 8);
  table.writeUInt16LE(4 * 8 - 1, 0);
  table.writeUInt32LE(SETUP + gdtr + 6, 2);
  table.write('ffff0000009acf00', 6 + 16, 'hex');
  table.write('ffff00000092cf00', 6 + 24, 'hex');
  return Buffer.concat([code, table]);
}

describe('a kernel from before the boot protocol', () => {
  it('that is not compressed is entered at address 0', async () => {
    const image = Buffer.from(makeBootImage({ protocol: 0, code: new Uint8Array(4096).fill(0x90) }));
    image.set(enterProtectedMode(0, 0), 512);
    const trace = (await boot(await readKernelImage('old', image))).trace;
    expect(trace.stopped).toBeNull();
    expect(trace.phases.map(({ name, address }) => [name, address])).toEqual([
      ['setup', BigInt(SETUP)],
      ['kernel', 0n],
    ]);
    expect(trace.kernel).toMatchObject({ entry: 0n, entryMode: 'prot32' });
    expect(trace.notices[0]).toContain('it is entered where setup moves it, at 0x0');
  });
});

describe('a program that speaks the boot protocol and starts a kernel', () => {
  it('is followed into that kernel', async () => {
    const zImage = await readKernelImage('demo.zImage', readFileSync(`${DEMO}demo.zImage`));
    const kernel = zImage.protectedModeCode;
    const params = Buffer.alloc(4096);
    params.set(zImage.setup.subarray(0x1f1, 0x250), 0x1f1);
    // Kilobytes above 1 MiB, which the stub wants to see.
    params.writeUInt32LE(0x10000, 0x1e0);
    // Data segments, the kernel's code to 0x1000 with its bits inverted, boot_params in ESI, and on.
    const code = Buffer.from(
      '66b818008ed88ec08ed0bc00000900be00000000bf00100000b900000000ac34ffaae2fabe00000000b800100000ffe0',
      'hex',
    );
    const base = 0x100000;
    code.writeUInt32LE(base + code.length, 16);
    code.writeUInt32LE(kernel.length, 26);
    code.writeUInt32LE(base + code.length + kernel.length, 37);
    const image = Buffer.from(
      makeBootImage({
        protocol: 0x0203,
        version: 'LOADER 1.0',
        code: Buffer.concat([code, kernel.map((byte) => byte ^ 0xff), params]),
      }),
    );
    // Behind the header, which the first instruction of setup jumps over.
    image.set(enterProtectedMode(0x70, base), 0x270);
    image.writeUInt8(0x270 - 0x202, 0x201);
    const trace = (await boot(await readKernelImage('loader', image), { timeoutSeconds: 60 })).trace;
    expect(trace.stopped).toBeNull();
    expect(trace.notices[0]).toContain('no kernel but a program that speaks the boot protocol (LOADER 1.0)');
    expect(trace.phases.map(({ name }) => name)).toEqual([
      'setup',
      'startup_32',
      'startup_32',
      'extract_kernel',
      'decompressed',
      'kernel',
    ]);
    expect(trace.kernel?.entry).toBe(0x100000n);
  });
});

describe('the kernel of a Unified Kernel Image', () => {
  const uki = makePe({
    '.cmdline': Buffer.from('quiet nokaslr'),
    '.linux': readFileSync(`${DEMO}demo-gzip.bzImage`),
    '.initrd': Buffer.from('070701'.padEnd(500, '0')),
  });

  it('gets command line and initrd of its sections, as systemd-stub gives them', async () => {
    const trace = (await boot(await readKernelImage('uki', uki), { entry: 'real16' })).trace;
    expect(trace.machine.cmdline).toBe('quiet nokaslr');
    expect(trace.notices).toEqual(
      expect.arrayContaining([
        'the command line is that of section .cmdline: quiet nokaslr',
        'the initial RAM disk is that of section .initrd, 500 bytes',
      ]),
    );
  });

  it('is in danger of losing what lies behind it within init_size, by a stub that starts it in its place', async () => {
    const trace = (await boot(await readKernelImage('uki', uki), { entry: 'real16' })).trace;
    expect(trace.hazards).toEqual([
      expect.objectContaining({
        code: 'uki-section-in-run-area',
        text: expect.stringMatching(/^section \.initrd lies at .* loses 0x1f4 bytes of \.initrd$/),
      }),
    ]);
  });

  it('gets what the caller gives instead, with a notice', async () => {
    const initrd = { path: 'mine', bytes: new Uint8Array(100) };
    const options = { entry: 'real16', cmdline: 'debug', initrd } as const;
    const trace = (await boot(await readKernelImage('uki', uki), options)).trace;
    expect(trace.machine.cmdline).toBe('debug');
    expect(trace.notices).toEqual(
      expect.arrayContaining([
        'section .cmdline is not used, another command line was given: quiet nokaslr',
        'section .initrd is not used, another initial RAM disk was given',
      ]),
    );
  });
});
