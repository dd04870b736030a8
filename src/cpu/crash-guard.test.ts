import { createRequire } from 'node:module';
import { describe, expect, it } from 'vitest';
import { installCrashGuard } from './crash-guard.ts';
import { describeEachEngine } from './each-engine.ts';

const PAGE = 4096;
const isSupported = process.platform === 'linux' && process.arch === 'x64';

describe.skipIf(!isSupported)('a guarded call (x86-64 Linux only)', () => {
  const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
  const libc = koffi.load(null);

  /** Guards the C function of this name, which is called with the given first argument. */
  function guard(name: string) {
    const mmap = libc.func('mmap', 'intptr_t', ['uintptr_t', 'size_t', 'int', 'int', 'int', 'int64_t']);
    const mprotect = libc.func('mprotect', 'int', ['uintptr_t', 'size_t', 'int']);
    const pages: number = mmap(0, 2 * PAGE, 3, 0x22, -1, 0);
    const seal = () => mprotect(pages, PAGE, 5) === 0;
    const installed = installCrashGuard(koffi, koffi.address(libc.symbol(name)), pages, seal)!;
    const shape = koffi.proto('int', ['uintptr_t', 'uint64_t', 'uint64_t', 'uint64_t', 'size_t']);
    return {
      ...installed,
      call: (first: number): number => koffi.call(installed.start, shape, first, 0n, 0n, 0n, 0),
    };
  }

  it('comes back from an abort, as often as there is one', () => {
    const { call, reasonOf } = guard('abort');
    for (let times = 0; times < 3; times++) expect(reasonOf(call(0))).toBe('SIGABRT');
  });

  it('comes back from a fault', () => {
    const { call, reasonOf } = guard('strlen');
    expect(reasonOf(call(8))).toBe('SIGSEGV');
  });

  it('keeps what C printed before it, without printing it', () => {
    // As uc_emu_start is called: the first argument is what perror prints.
    const text = Buffer.from('all is lost\0');
    const { call, reasonOf } = guard('perror');
    const pointer = koffi.address(text);
    expect(call(Number(pointer))).toBeTypeOf('number');
    expect(reasonOf(-6)).toMatch(/^all is lost: .+ \(SIGABRT\)$/);
    expect(reasonOf(-6)).toBe('SIGABRT');
  });

  it('gives the result of a call that returns', () => {
    const { call, reasonOf } = guard('labs');
    expect(call(22)).toBe(22);
    expect(reasonOf(22)).toBeNull();
  });
});

describeEachEngine('an engine that breaks down', (open) => {
  // lcall *%ax: no instruction, and too much for the translator of 2.0.1, which aborts.
  const FAR_CALL_OF_REGISTER = [0xff, 0xd8];

  it('ends the run, and leaves the process and the next engine as they were', async () => {
    for (let times = 0; times < 2; times++) {
      const cpu = await open();
      cpu.mapRam(0, 0x10_0000);
      cpu.ram(0).set(FAR_CALL_OF_REGISTER, 0x1000);
      cpu.writeRegister('rip', 0x1000n);
      cpu.hookInterrupt(() => cpu.stop());
      const end = cpu.run();
      // Versions that know better report an undefined instruction.
      if (end.kind !== 'stopped') {
        expect(end).toMatchObject({ kind: 'error', error: expect.stringContaining('broke down') });
        expect(cpu.run()).toEqual(end);
      }
      expect(cpu.readRegister('rip')).toBe(0x1000n);
      cpu.close();
    }
  });
});
