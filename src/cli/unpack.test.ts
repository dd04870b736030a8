import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { makePe } from '../image/test-images.ts';
import { readSetupHeader } from '../protocol/setup-header.ts';
import { registerPack } from './pack.ts';
import { takePrinted } from './test-output.ts';
import { registerUnpack } from './unpack.ts';

vi.mock('./standard-output.ts', async () => import('./test-output.ts'));

const DEMO = new URL('../../images/demo/demo-gzip.bzImage', import.meta.url).pathname;

let folder = '';
let parts = '';
let image = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'bootscope-'));
  parts = join(folder, 'parts');
  image = join(folder, 'image');
  takePrinted();
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

async function run(...words: string[]): Promise<string> {
  const program = new Command('bootscope').exitOverride().configureOutput({ writeErr: () => undefined });
  registerUnpack(program);
  registerPack(program);
  for (const command of program.commands)
    command.exitOverride().configureOutput({ writeErr: () => undefined });
  await program.parseAsync(words, { from: 'user' });
  const { text, errors } = takePrinted();
  return text + errors;
}

describe('bootscope unpack and pack', () => {
  it('write parts under the names of the build, with a list, and the same image of them', async () => {
    const text = await run('unpack', DEMO, '-o', parts, '--explain');
    expect(readdirSync(parts).sort()).toEqual([
      'head.bin',
      'manifest.json',
      'setup.bin',
      'stub.bin',
      'vmlinux',
      'vmlinux.bin.gz',
    ]);
    expect(text).toMatch(/Boot sector 512 bytes\.\n +Setup is 2048 bytes\.\n +System is 11 kB/);
    expect(await run('pack', parts, '-o', image)).toContain('the image as it was, byte for byte');
    expect(Buffer.compare(readFileSync(image), readFileSync(DEMO))).toBe(0);
  });

  it('write sections into the folder alone, whatever they are called, and no control characters to the terminal', async () => {
    const uki = makePe({
      '.linux': readFileSync(DEMO),
      '/../../x': Buffer.from('out'),
      '.\u001b[2J': Buffer.from('clear'),
      '..': Buffer.from('up'),
    });
    const path = join(folder, 'uki.efi');
    writeFileSync(path, uki);
    const text = await run('unpack', path, '-o', parts, '--explain');
    expect(text).not.toContain('\u001b');
    expect(readdirSync(folder).sort()).toEqual(['parts', 'uki.efi']);
    expect(readdirSync(parts).sort()).toEqual([
      ...[
        'linux',
        'manifest.json',
        'padding.bin',
        'pe-headers.bin',
        'section._',
        'section.__2J',
        'section_.__.__x',
      ],
    ]);
    await run('pack', parts, '-o', image);
    expect(Buffer.compare(readFileSync(image), uki)).toBe(0);
  });

  it('set fields of the header by name, values and flags by theirs', async () => {
    await run('unpack', DEMO, '-o', parts);
    await run(
      'pack',
      parts,
      '-o',
      image,
      '--set',
      'vid_mode=ask',
      '--set',
      'loadflags=LOADED_HIGH|QUIET_FLAG',
    );
    const header = readSetupHeader(readFileSync(image));
    expect(header.get('vid_mode')).toBe(0xfffd);
    expect(header.get('loadflags')).toBe(0x21);
    await expect(run('pack', parts, '-o', join(folder, 'other'), '--set', 'vid_mode=blue')).rejects.toThrow(
      /blue is no value of vid_mode/,
    );
  });

  it('write one part alone', async () => {
    await run('unpack', DEMO, '--only', 'setup.bin', '-o', image);
    expect(Buffer.compare(readFileSync(image), readFileSync(DEMO).subarray(0, 2560))).toBe(0);
    await expect(run('unpack', DEMO, '--only', 'piggy', '-o', `${image}2`)).rejects.toThrow(
      /has no part piggy; it has setup.bin/,
    );
  });

  it('write over nothing', async () => {
    await run('unpack', DEMO, '-o', parts);
    await expect(run('unpack', DEMO, '-o', parts)).rejects.toThrow(/is not empty, --force/);
    writeFileSync(image, 'mine');
    await expect(run('pack', parts, '-o', image)).rejects.toThrow(/exists already, --force/);
    expect(readFileSync(image, 'utf8')).toBe('mine');
  });

  it('say what is wrong with a folder', async () => {
    await expect(run('pack', folder, '-o', image)).rejects.toThrow(/manifest.json does not exist/);
    writeFileSync(join(folder, 'manifest.json'), '{}');
    await expect(run('pack', folder, '-o', image)).rejects.toThrow(/is no list of an image's parts/);
    expect(existsSync(image)).toBe(false);
  });
});
