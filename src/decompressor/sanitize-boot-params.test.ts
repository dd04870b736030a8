import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import type { KernelImage } from '../image/kernel-image.ts';
import { sanitizeBootParams } from './sanitize-boot-params.ts';
import { makeStub64 } from './test-stubs.ts';

function imageWith(tail: Buffer): KernelImage {
  const { image } = makeStub64('rmode-output', { payload: gzipSync('x'), text: tail.toString('latin1') });
  return image;
}

function table(...fields: number[]): Buffer {
  const bytes = Buffer.alloc(4 * fields.length);
  for (const [index, value] of fields.entries()) bytes.writeUInt32LE(value, 4 * index);
  return bytes;
}

describe('boot_params with a sentinel', () => {
  it('keep what the stub’s own table lists', () => {
    const image = imageWith(table(0, 0x40, 0x40, 0x14, 0x58, 8, 0x1f1, 0x7b, 0x2d0, 0xa00, 0, 0));
    const params = new Uint8Array(4096).fill(0xaa);
    expect(sanitizeBootParams(image, params)).toBe(true);
    expect([params[0], params[0x54], params[0x5f], params[0x60]]).toEqual([0xaa, 0, 0xaa, 0]);
    expect([params[0x1ef], params[0x1f1], params[0x26c], params[0x2d0], params[0xcd0]]).toEqual([
      0, 0xaa, 0, 0xaa, 0,
    ]);
  });

  it('lose fixed ranges in older stubs that look at it', () => {
    const image = imageWith(Buffer.from('80bbef0100000090', 'hex'));
    const params = new Uint8Array(4096).fill(0xaa);
    expect(sanitizeBootParams(image, params)).toBe(true);
    expect([params[0], params[0xc0], params[0x1bf], params[0x1c0], params[0x1ef], params[0x1f1]]).toEqual([
      0xaa, 0, 0, 0xaa, 0, 0xaa,
    ]);
  });

  it('are left alone by stubs that do not look, and without a sentinel', () => {
    const params = new Uint8Array(4096).fill(0xaa);
    expect(sanitizeBootParams(imageWith(Buffer.from('none')), params)).toBe(false);
    params[0x1ef] = 0;
    expect(sanitizeBootParams(imageWith(table(0, 0x40, 0x40, 0x14, 0x58, 8)), params)).toBe(false);
    expect(params[0xc0]).toBe(0xaa);
  });

  it.each([
    ['cmpb $0, 1efh(%esi)', '80beef010000 00', true],
    ['the same twice, of which the second looks', 'ef010000 0090 80bbef010000 00', true],
    ['cmpw', '66 81bbef010000 00', false],
    ['orb $0', '808bef010000 00', false],
    ['cmpb $1', '80bbef010000 01', false],
    ['cmpb of another field', '80bbf0010000 00', false],
    ['the number alone', '9090ef010000 00', false],
  ])('are looked at by %s: %s', (_, code, looks) => {
    const params = new Uint8Array(4096).fill(0xaa);
    const image = imageWith(Buffer.from(`90${code.replaceAll(' ', '')}90`, 'hex'));
    expect(sanitizeBootParams(image, params)).toBe(looks);
  });
});
