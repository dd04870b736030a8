// The examples of the documentation do what they say.

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

describe('docs/examples/session.ts', () => {
  const path = join(ROOT, 'docs/examples/session.ts');

  it('has no more than 25 lines', () => {
    expect(readFileSync(path, 'utf8').trimEnd().split('\n').length).toBeLessThanOrEqual(25);
  });

  it('prints CR3, the page tables, where ten instructions lead, boot_params and the way to the kernel', () => {
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', 'tsx', path], {
      ...{ cwd: ROOT, encoding: 'utf8' },
    });
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^CR3 0x103b000, page tables at 0x103b000\n {2}0x0-0x100000000 to 0x0\n/);
    expect(stdout).toMatch(/\nten instructions on: 0x10021b, #10728\nboot_params 0x91000: 6 e820 entries/);
    expect(stdout).toMatch(/\nphase kernel at 0x1000040 #\d+\nended kernel at 0x1000040 #\d+\n$/);
  });
});
