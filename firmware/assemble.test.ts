import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { assemble } from './assemble.ts';
import { ENTER_LONG_MODE } from './enter-long-mode.ts';
import { ENTER_PROTECTED_MODE } from './enter-protected-mode.ts';
import { ENTER_REAL_MODE } from './enter-real-mode.ts';

function hasNasm(): boolean {
  try {
    execFileSync('nasm', ['-v'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

const nasm = hasNasm();

describe(nasm ? 'the firmware' : 'the firmware (left out: nasm is not installed)', () => {
  it.skipIf(!nasm).each([
    ['enter-real-mode', ENTER_REAL_MODE],
    ['enter-protected-mode', ENTER_PROTECTED_MODE],
    ['enter-long-mode', ENTER_LONG_MODE],
  ] as const)('%s.ts holds what nasm makes of its source', (name, hex) => {
    expect(Buffer.from(assemble(name)).toString('hex')).toBe(hex);
  });
});
