// Keys by name and as text, and what the BIOS gives a guest that asks for them.

import { describe, expect, it } from 'vitest';
import { openCpu } from '../cpu/open.ts';
import { parseKeys } from './keys.ts';
import { call, runProgram } from './real-mode-program.ts';

describe('parseKeys', () => {
  it('takes names and texts', () => {
    expect(
      parseKeys('down,e,Enter,lx').map(({ bios, scanCode, character }) => [bios, scanCode, character]),
    ).toEqual([
      [0x5000, 2, 0],
      [0x65, 0, 0x65],
      [0x1c0d, 0, 0x0d],
      [0x6c, 0, 0x6c],
      [0x78, 0, 0x78],
    ]);
  });

  it('refuses what is no key', () => {
    expect(() => parseKeys('up,\u00e9')).toThrow(
      '"\u00e9" is no key: letters are ASCII, others are enter, esc',
    );
  });
});

describe('keys that are given to a machine', () => {
  it('come one by one, as the guest asks', async () => {
    const cpu = await openCpu();
    const ask = call(0x16, { eax: 0x0000 });
    const { eax } = await runProgram(cpu, [...ask, ...ask, 0xf4], { keys: parseKeys('down,a') });
    expect(eax & 0xffff).toBe(0x61);
    cpu.close();
  });

  it('are not asked for without end', async () => {
    const cpu = await openCpu();
    // mov $1, %ah; int $0x16; jmp
    const { machine } = await runProgram(cpu, [0xb4, 1, 0xcd, 0x16, 0xeb, 0xfa]);
    expect(machine.stopReason).toBe(
      'the guest asks for a key again and again, and nobody has pressed one for 30 minutes of its time',
    );
    cpu.close();
  });
});
