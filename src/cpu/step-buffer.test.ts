import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Cpu, RegisterName, Steps } from './cpu.ts';
import { describeEachEngine } from './each-engine.ts';
import { enterProtectedMode } from './enter-mode.ts';
import { QUIET, REPEATS } from './step-buffer.ts';

const MIB = 0x10_0000;
const CODE = MIB;
const NAMES: readonly RegisterName[] = ['rax', 'rcx'];

describeEachEngine('steps', (open) => {
  let cpu: Cpu;
  beforeEach(async () => {
    cpu = await open();
  });
  afterEach(() => cpu.close());

  /** 32-bit code at CODE, and HLT behind it. */
  function load(code: readonly number[]): Uint8Array {
    cpu.mapRam(0, 8 * MIB);
    const ram = cpu.ram(0);
    ram.set([...code, 0xf4], CODE);
    enterProtectedMode(cpu, { eip: CODE, gdtAddress: 0x8000, rsp: 0x7000n });
    return cpu.ram(0);
  }

  interface Seen {
    /** Offsets in the code of those that were called back for. */
    readonly called: number[];
    /** Offset, EAX and ECX of those that were noted, null for what was not read. */
    readonly noted: (number | null)[][];
  }

  /** Steps to the HLT; remembers each instruction that was called back for, with what `flagsOf` says of its offset. */
  function step(
    lengths: Readonly<Record<number, number>>,
    flagsOf: (offset: number) => number | null,
    afterwards: (steps: Steps) => void = () => {},
    changesOf: (offset: number) => number = () => 3,
  ): Seen | null {
    const seen: Seen = { called: [], noted: [] };
    const handOver = (steps: Steps): void => {
      let at = 0;
      for (let index = 0; index < steps.count; index++) {
        const values = NAMES.map((_, place) => {
          if ((steps.changes[index]! & (1 << place)) === 0) return null;
          at += 2;
          return steps.values[at - 2]!;
        });
        seen.noted.push([steps.addresses[index]! - CODE, ...values]);
      }
      steps.clear();
    };
    const steps: Steps | null = cpu.hookSteps(
      NAMES,
      (address) => {
        handOver(steps!);
        const offset = Number(address) - CODE;
        seen.called.push(offset);
        const flags = flagsOf(offset);
        const length = lengths[offset] ?? 1;
        if (flags !== null)
          steps!.remember(
            Number(address),
            cpu.ram(0).slice(CODE + offset, CODE + offset + length),
            flags,
            changesOf(offset),
          );
        steps!.setLast(Number(address), flags, changesOf(offset));
      },
      () => handOver(steps!),
    );
    if (steps === null) return null;
    expect(cpu.run().kind).toBe('halted');
    afterwards(steps);
    handOver(steps);
    steps.unhook();
    return seen;
  }

  // mov $3000, %ecx; 1: inc %eax; loop 1b; hlt
  const LOOP = [0xb9, 0xb8, 0x0b, 0, 0, 0x40, 0xe2, 0xfd];
  const LENGTHS = { 0: 5, 6: 2 };

  it('are noted with the registers before each, and called back for once', ({ skip }) => {
    load(LOOP);
    const seen = step(LENGTHS, () => 0);
    if (seen === null) skip('this host runs no machine code of ours');
    expect(seen!.called).toEqual([0, 5, 6, 8]);
    expect(seen!.noted).toHaveLength(2 * 2999);
    expect(seen!.noted.slice(0, 3)).toEqual([
      [5, 1, 2999],
      [6, 2, 2999],
      [5, 2, 2998],
    ]);
    expect(seen!.noted.at(-1)).toEqual([6, 3000, 1]);
  });

  it('are noted with what the instruction before may change, and with all that the host has written', ({
    skip,
  }) => {
    load([...LOOP.slice(0, 5), 0x40, 0xe4, 0x60, 0xe2, 0xfb]); // with in $0x60, %al
    let reads = 0;
    cpu.hookIn(() => {
      reads++;
      if (reads === 3) cpu.writeRegister('rcx', 1n);
      return 7;
    });
    const changes: Readonly<Record<number, number>> = { 0: 2, 5: 1, 6: 1, 8: 2, 10: 0 };
    const seen = step(
      { 0: 5, 6: 2, 8: 2 },
      () => 0,
      undefined,
      (offset) => changes[offset]!,
    );
    if (seen === null) skip('this host runs no machine code of ours');
    expect(seen!.noted).toEqual([
      [5, null, 2999],
      [6, 8, null],
      [8, 7, null],
      [5, null, 2998],
      [6, 8, null],
      [8, 7, 1],
    ]);
  });

  it('are called back for while they are not remembered', ({ skip }) => {
    load(LOOP);
    const seen = step(LENGTHS, (offset) => (offset === 6 ? null : 0));
    if (seen === null) skip('this host runs no machine code of ours');
    // The one behind it, too.
    expect(seen!.noted).toEqual([]);
    expect(seen!.called).toHaveLength(1 + 2 * 3000 + 1);
  });

  it('leave out those of no interest but for the first behind others, and iterations', ({ skip }) => {
    // inc %eax; nop; nop; mov $5, %ecx; rep stosb; dec %edx; jne to the first
    const code = [0x40, 0x90, 0x90, 0xb9, 5, 0, 0, 0, 0xf3, 0xaa, 0x4a, 0x75, 0xf3];
    load(code);
    cpu.writeRegister('rdx', 3n);
    cpu.writeRegister('rdi', 0x20_0000n);
    const seen = step({ 3: 5, 8: 2, 11: 2 }, (offset) =>
      offset === 8 ? REPEATS : [1, 2].includes(offset) ? QUIET : 0,
    );
    if (seen === null) skip('this host runs no machine code of ours');
    expect(seen!.called).toEqual([0, 1, 2, 3, 8, 10, 11, 13]);
    const round = [0, 1, 3, 8, 10, 11];
    expect(seen!.noted.map(([offset]) => offset)).toEqual([...round, ...round]);
  });

  it('are noted on where the engine has moved its memory since', ({ skip }) => {
    load(LOOP);
    const seen = step(LENGTHS, (offset) => {
      // More than lies free in a heap that grows.
      if (offset === 6) cpu.mapRam(16 * MIB, 64 * MIB);
      return 0;
    });
    if (seen === null) skip('this host runs no machine code of ours');
    expect(seen!.called).toEqual([0, 5, 6, 8]);
    expect(seen!.noted.at(-1)).toEqual([6, 3000, 1]);
  });

  it('are called back for when other code stands there, or means something else', ({ skip }) => {
    load(LOOP);
    const runs: (() => void)[] = [];
    const seen = step(
      LENGTHS,
      () => 0,
      (steps) => {
        runs.push(() => {
          cpu.ram(0)[CODE + 5] = 0x48; // dec %eax
          cpu.invalidateCode(CODE + 5, 1);
        });
        runs.push(() => steps.setMode(1));
        for (const change of runs) {
          change();
          cpu.writeRegister('rip', BigInt(CODE));
          expect(cpu.run().kind).toBe('halted');
        }
      },
    );
    if (seen === null) skip('this host runs no machine code of ours');
    // The first instruction of a run is always called back for.
    expect(seen!.called).toEqual([...[0, 5, 6, 8], ...[0, 5], ...[0, 5, 6, 8]]);
    expect(cpu.readRegister('rax')).toBe(BigInt.asUintN(32, -3000n));
  });

  it('go on beside other code hooks, with the calls of a hook on all code in their place', async ({
    skip,
  }) => {
    // mov $3, %ecx; rep stosb; inc %eax; cmp $3, %eax; jne to the first
    const code = [0xb9, 3, 0, 0, 0, 0xf3, 0xaa, 0x40, 0x83, 0xf8, 3, 0x75, 0xf3];
    let calls: string[] = [];
    const log = (name: string) =>
      calls.push(`${name} ${cpu.readRegister('rax')} ${cpu.readRegister('rcx')} ${cpu.readRegister('rip')}`);
    const hook = (offset: number, size: number, name: string) =>
      cpu.hookCode(BigInt(CODE + offset), BigInt(CODE + offset + size), () => log(name));
    let late = false;
    const start = () => {
      load(code);
      cpu.writeRegister('rax', 0n);
      cpu.writeRegister('rdi', 0x20_0000n);
      calls = [];
      late = false;
      hook(5, 0, 'before');
    };
    const atStep = (offset: number) => {
      if (offset === 5) log('step');
      if (offset === 7 && !late) {
        late = true;
        hook(5, 2, 'behind');
      }
    };
    start();
    const seen = step({ 0: 5, 5: 2, 8: 3, 11: 2 }, (offset) => {
      atStep(offset);
      return offset === 5 ? REPEATS : 0;
    });
    if (seen === null) skip('this host runs no machine code of ours');
    const called = calls;
    cpu.close();
    cpu = await open();
    start();
    cpu.hookCode(BigInt(CODE), BigInt(CODE + 99), (address) => atStep(Number(address) - CODE));
    expect(cpu.run().kind).toBe('halted');
    expect(called).toEqual(calls);
    expect(called.filter((line) => line.startsWith('behind'))).toHaveLength(2 * 4 + 3);
    // Of what no hook covers, all but the first behind it is noted.
    expect(seen!.noted.map(([offset]) => offset)).toEqual([0, 11, 0, 11]);
  });

  it('leave a hook that was added before them to send the CPU elsewhere', ({ skip }) => {
    load(LOOP);
    cpu.hookCode(BigInt(CODE + 6), BigInt(CODE + 6), () => cpu.writeRegister('rip', BigInt(CODE + 8)));
    const seen = step(LENGTHS, () => 0);
    if (seen === null) skip('this host runs no machine code of ours');
    expect(seen!.called).toEqual([0, 5, 8]);
    expect(cpu.readRegister('rax')).toBe(1n);
  });

  it('give the other code hooks back to the engine when they end, even in the middle of a run', ({
    skip,
  }) => {
    load(LOOP);
    let loops = 0;
    cpu.hookCode(BigInt(CODE + 6), BigInt(CODE + 6), () => loops++);
    let calls = 0;
    const steps = cpu.hookSteps(
      NAMES,
      (address) => {
        steps!.setLast(Number(address), null, 3);
        if (++calls === 100) steps!.unhook();
      },
      () => {},
    );
    if (steps === null) skip('this host runs no machine code of ours');
    expect(cpu.run().kind).toBe('halted');
    expect([calls, loops]).toEqual([100, 3000]);
  });
});
