import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { Command } from 'commander';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { makeBootImage, makeElf, noise } from '../image/test-images.ts';
import { registerExtract } from './extract.ts';
import { takePrinted } from './test-output.ts';

vi.mock('./standard-output.ts', async () => import('./test-output.ts'));

const ELF = makeElf(64, noise(3000));
const RELOCATIONS = noise(404, 9);

function imageOf(content: Uint8Array): Uint8Array {
  const payload = gzipSync(content);
  const code = Buffer.concat([new Uint8Array(64), payload, new Uint8Array(64)]);
  return makeBootImage({
    protocol: 0x020f,
    code,
    fields: { payload_offset: 64, payload_length: payload.length },
  });
}

let folder = '';
let image = '';
let target = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'bootscope-'));
  image = join(folder, 'bzImage');
  target = join(folder, 'vmlinux');
  writeFileSync(image, imageOf(Buffer.concat([ELF, RELOCATIONS])));
  takePrinted();
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

async function extract(...options: string[]): Promise<void> {
  const program = new Command('bootscope').exitOverride();
  registerExtract(program);
  for (const command of program.commands) command.exitOverride();
  await program.parseAsync(['extract', image, ...options], { from: 'user' });
}

describe('bootscope extract', () => {
  it('writes the ELF file without the relocation lists, and says so on stderr', async () => {
    await extract('-o', target);
    expect(readFileSync(target)).toEqual(Buffer.from(ELF));
    const { bytes, errors } = takePrinted();
    expect(errors).toContain(`${ELF.length} bytes, ELF64 x86-64, without 404 bytes of relocation lists`);
    expect(bytes.length).toBe(0);
  });

  it('keeps the relocation lists with --with-relocs', async () => {
    await extract('-o', target, '--with-relocs');
    expect(readFileSync(target)).toEqual(Buffer.concat([ELF, RELOCATIONS]));
  });

  it('does not overwrite a file', async () => {
    writeFileSync(target, 'mine');
    await expect(extract('-o', target)).rejects.toThrow(`${target} exists already, --force overwrites it`);
    expect(readFileSync(target, 'utf8')).toBe('mine');
  });

  it('overwrites a file with --force, also a longer one', async () => {
    writeFileSync(target, new Uint8Array(100000));
    await extract('-o', target, '--force');
    expect(readFileSync(target)).toEqual(Buffer.from(ELF));
  });

  it('writes to standard output for -', async () => {
    await extract('-o', '-');
    expect(takePrinted().bytes).toEqual(Buffer.from(ELF));
  });

  it('says that it cannot write, in one sentence', async () => {
    await expect(extract('-o', join(folder, 'no', 'folder'))).rejects.toThrow(
      /cannot be written: there is no such folder/,
    );
  });

  it('leaves no file behind when there is nothing to extract', async () => {
    writeFileSync(image, 'a text\n');
    await expect(extract('-o', target)).rejects.toThrow(/is a text file/);
    expect(existsSync(target)).toBe(false);
  });

  it('says of a vmlinux that it is one already', async () => {
    writeFileSync(image, makeElf(64, Buffer.from('Linux version 6.1.0 (a@b) #1\n\0')));
    await expect(extract('-o', target)).rejects.toThrow(
      /is already a vmlinux, the bare ELF64 kernel for x86-64: there is nothing to extract/,
    );
  });

  it('wants to know where to write', async () => {
    await expect(extract()).rejects.toThrow(/required option/);
  });

  it('writes a flat binary whole, with a notice', async () => {
    writeFileSync(image, imageOf(noise(2000)));
    await extract('-o', target);
    expect(readFileSync(target)).toEqual(Buffer.from(noise(2000)));
    expect(takePrinted().errors).toContain('no ELF file but a flat binary');
  });
});
