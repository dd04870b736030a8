import { afterEach, expect, it } from 'vitest';
import { blockDecoder } from '../cpu/block-decoder.ts';
import type { Cpu } from '../cpu/cpu.ts';
import { describeEachEngine } from '../cpu/each-engine.ts';
import { enterRealMode } from '../cpu/enter-mode.ts';
import { Machine, MINIMUM_MEMORY } from './machine.ts';

const CODE = 0x8000;
const CLI = 0xfa;
const HLT = 0xf4;

describeEachEngine('a guest that', (open) => {
  let cpu: Cpu | null = null;
  afterEach(() => {
    cpu?.close();
    cpu = null;
  });

  /** Runs 16-bit code at 0000:8000, interrupts on, until it halts (null) or the machine stops it (the reason). */
  async function run(code: readonly number[]): Promise<string | null> {
    cpu = await open();
    const machine = new Machine(cpu, { memory: MINIMUM_MEMORY });
    machine.ram.set(code, CODE);
    enterRealMode(cpu, {
      ...{ cs: 0, ip: CODE, ss: 0, sp: 0x7000, ds: 0, es: 0, flags: 0x202 },
    });
    cpu.countInstructions(blockDecoder(machine.memory, () => 16));
    let end = machine.run();
    while (end.kind === 'slice') end = machine.run();
    if (end.kind === 'halted') return null;
    if (end.kind === 'error') return end.error;
    expect(end.kind).toBe('stopped');
    return machine.stopReason;
  }

  it.each([
    // 1: jmp 1b
    [
      'jumps to itself',
      [CLI, 0xeb, 0xfe],
      'at 0x8001 for ever: nothing changes in it (1 instruction a round, 2000000 rounds and more)',
    ],
    // 1: nop; push ax; pop ax; mov [0x600], ax; jmp 1b
    [
      'writes the same again and again',
      [CLI, 0x90, 0x50, 0x58, 0xa3, 0, 6, 0xeb, 0xf8],
      'from 0x8001 to 0x8007 for ever: nothing changes in it (5 instructions a round, 400000 rounds',
    ],
    // 1: inc eax; jmp 1b
    [
      'only counts in a register',
      [CLI, 0x66, 0x40, 0xeb, 0xfc],
      'has changed nothing but registers in 64 million instructions (2 instructions a round, 32000000 rounds',
    ],
    // 1: inc dword [0x600]; jmp 1b
    [
      'counts in memory',
      [CLI, 0x66, 0xff, 0x06, 0, 6, 0xeb, 0xf9],
      'from 0x8001 to 0x8006 that has changed nothing but registers and 4 bytes from 0x600 to 0x603 in 10 million instructions (2 instructions a round, 5000000 rounds',
    ],
    // 1: in al, 0x64; test al, 1; jz 1b
    [
      'waits for a key',
      [CLI, 0xe4, 0x64, 0xa8, 0x01, 0x74, 0xfa],
      'waits for a device in a loop from 0x8001 to 0x8005',
    ],
    // 1: jmp 1b, with interrupts on
    ['jumps to itself, and no tick can end it', [0xeb, 0xfe], 'at 0x8000 for ever: nothing changes in it'],
    // 1: inc dword [0x600]; jmp 1b, with interrupts on
    [
      'counts, and no tick can end it',
      [0x66, 0xff, 0x06, 0, 6, 0xeb, 0xf9],
      'from 0x8000 to 0x8005 that has changed nothing but registers and 4 bytes from 0x600 to 0x603',
    ],
    // 1: test byte [0x500 - 1], 1; jz 1b: ticks could end it, as far as can be told
    [
      'waits for what the timer does not bring',
      [0xf6, 0x06, 0xff, 4, 1, 0x74, 0xf9],
      'waits in a loop from 0x8000 to 0x8005, and a minute of timer interrupts did not end it',
    ],
  ])('%s is stopped', async (_, code, reason) => {
    expect(await run(code)).toContain(reason);
  });

  it('prints the same line for ever is stopped, with the line', async () => {
    const text = [...Buffer.from('no kernel here\r\n\0')];
    // 1: mov si, text; 2: lodsb; or al, al; jz 1b; mov ah, 14; int 10h; jmp 2b
    const code = [0xbe, 0x20, 0x80, 0xac, 0x08, 0xc0, 0x74, 0xf8, 0xb4, 0x0e, 0xcd, 0x10, 0xeb, 0xf5];
    code.push(...new Array<number>(0x20 - code.length).fill(0x90), ...text);
    expect(await run(code)).toMatch(
      /^the guest prints the same text over and over \(\d+ times in a row\): "no kernel here\\n"$/,
    );
  });

  it('runs into zeroes is stopped before the first of them', async () => {
    // jmp 0x9000
    expect(await run([0xe9, 0xfd, 0x0f])).toBe('the CPU runs through empty memory from 0x9000 on');
    expect(cpu!.instructions).toBe(1);
  });

  it('executes what is no instruction is stopped, and told which', async () => {
    // jmp to lcall *%ax: some versions break down over it.
    expect(await run([0xeb, 0, 0xff, 0xd8])).toMatch(/ff d8 \(a far call .*no instruction\)( at 0x8002)?$/);
  });

  it('works for long is left alone', async () => {
    // mov ecx, 3,000,000; 1: inc dword [0x600]; dec ecx; jnz 1b; hlt
    const ecx = [0x66, 0xb9, 0xc0, 0xc6, 0x2d, 0x00];
    const code = [CLI, ...ecx, 0x66, 0xff, 0x06, 0, 6, 0x66, 0x49, 0x75, 0xf7, HLT];
    expect(await run(code)).toBeNull();
    expect(cpu!.instructions).toBe(3 + 3 * 3_000_000);
  });

  it('reads or writes one place after the other for long is left alone', async () => {
    // mov ecx, 4,000,000; 1: mov [bx+si], 0; inc si; dec ecx; jnz 1b; hlt
    const ecx = [0x66, 0xb9, 0x00, 0x09, 0x3d, 0x00];
    const base = [0xbb, 0x00, 0x90];
    // and si, 0xfff keeps it off the code
    const next = [0x46, 0x81, 0xe6, 0xff, 0x0f, 0x66, 0x49, 0x75, 0xf4, HLT];
    // mov byte [bx+si], 0, and mov al, [bx+si]; nop
    for (const access of [
      [0xc6, 0, 0],
      [0x8a, 0, 0x90],
    ]) {
      expect(await run([CLI, ...ecx, ...base, ...access, ...next])).toBeNull();
    }
  });

  it('waits for timer ticks in a loop gets them', async () => {
    // mov bx, [0x46c]; add bx, 100; 1: cmp [0x46c], bx; jne 1b; hlt
    expect(
      await run([0x8b, 0x1e, 0x6c, 4, 0x83, 0xc3, 100, 0x39, 0x1e, 0x6c, 4, 0x75, 0xfa, HLT]),
    ).toBeNull();
  });
});
