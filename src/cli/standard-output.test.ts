import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, existsSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { writeFully } from './standard-output.ts';

const folder = mkdtempSync(join(tmpdir(), 'bootscope-output-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe.skipIf(process.platform === 'win32')('writeFully', () => {
  let pipe = '';
  let count = 0;
  beforeEach(() => {
    pipe = join(folder, `pipe-${++count}`);
    execFileSync('mkfifo', [pipe]);
  });

  it('waits for a slow reader of a non-blocking pipe, and writes every byte once', async () => {
    const length = 3_000_000;
    const reader = spawn('sh', ['-c', `exec <"$0"; sleep 0.2; md5sum`, pipe]);
    let sum = '';
    reader.stdout.on('data', (text) => {
      sum += String(text);
    });
    // Waits until the reader has opened its end.
    closeSync(openSync(pipe, 'w'));
    const fd = openSync(pipe, constants.O_WRONLY | constants.O_NONBLOCK);
    const bytes = new Uint8Array(length).map((_, index) => index % 251);
    expect(writeFully(fd, bytes)).toBe(true);
    closeSync(fd);
    await once(reader, 'close');
    expect(sum.split(' ')[0]).toBe(execFileSync('md5sum', { input: bytes }).toString().split(' ')[0]);
  });

  it('says that the reader has gone', () => {
    const reading = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK);
    const fd = openSync(pipe, 'w');
    closeSync(reading);
    expect(writeFully(fd, new Uint8Array(10))).toBe(false);
    closeSync(fd);
  });

  it.skipIf(!existsSync('/dev/full'))('throws where a disk is full', () => {
    const fd = openSync('/dev/full', 'w');
    expect(() => writeFully(fd, new Uint8Array(10))).toThrow(/ENOSPC/);
    closeSync(fd);
  });
});
