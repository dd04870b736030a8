import { expect, it } from 'vitest';
import { BootscopeError } from '../error.ts';
import { blockDecoder } from './block-decoder.ts';
import { type Cpu, REGISTER_NAMES } from './cpu.ts';
import { describeEachEngine } from './each-engine.ts';
import { enterProtectedMode, enterRealMode } from './enter-mode.ts';
import { runsMachineCode } from './host-machine-code.ts';

const MIB = 0x10_0000;
const CODE = 0x1000;
const EVERYWHERE = 0xffff_ffff_ffff_ffffn;
const HLT = 0xf4;

const fail = (what: string) => (): never => {
  throw new BootscopeError('guest-error', what);
};

/** Of 32-bit code. */
const decoder = (cpu: Cpu) => blockDecoder(cpu.memory, () => 32);

const stepsAreNoted = (cpu: Cpu): boolean => cpu.engine === 'wasm' || runsMachineCode();

describeEachEngine('a CPU', (open, engine) => {
  /** Opens a CPU with RAM, runs `test`, and closes it. */
  async function withCpu(test: (cpu: Cpu, ram: Uint8Array) => void, size = 16 * MIB): Promise<void> {
    const cpu = await open();
    try {
      cpu.mapRam(0, size);
      test(cpu, cpu.ram(0));
    } finally {
      cpu.close();
    }
  }

  /** WASM knows RIP in the middle of a block only where a code hook covers it. */
  function makeExceptionsExact(cpu: Cpu): void {
    if (engine === 'wasm') cpu.hookCode(0n, EVERYWHERE, () => {});
  }

  function real(cpu: Cpu, ram: Uint8Array, code: readonly number[], flags = 0x202): void {
    ram.set(code, 0x90200);
    enterRealMode(cpu, { cs: 0x9020, ip: 0, ss: 0x9000, sp: 0xfff0, ds: 0x9000, es: 0x9000, flags });
  }

  function protectedMode(cpu: Cpu, ram: Uint8Array, code: readonly number[]): void {
    ram.set(code, MIB);
    enterProtectedMode(cpu, { eip: MIB, gdtAddress: 0x8000, rsp: 0x7000n });
  }

  it('runs 64-bit code to its HLT and leaves RIP behind it', () =>
    withCpu((cpu, ram) => {
      // mov rax, 0x0807060504030201; mov [0x200000], rax; hlt
      ram.set([0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8], CODE);
      ram.set([0x48, 0x89, 0x04, 0x25, 0, 0, 0x20, 0, HLT], CODE + 10);
      cpu.writeRegister('rip', BigInt(CODE));
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(cpu.readRegister('rip')).toBe(BigInt(CODE + 19));
      expect(cpu.readRegister('rax')).toBe(0x0807060504030201n);
      expect([...cpu.ram(0).subarray(0x200000, 0x200008)]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    }));

  it('goes on behind a HLT when it is run again', () =>
    withCpu((cpu, ram) => {
      ram.set([HLT, 0x48, 0xff, 0xc0, HLT], CODE); // hlt; inc rax; hlt
      cpu.writeRegister('rip', BigInt(CODE));
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(cpu.readRegister('rax')).toBe(0n);
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(cpu.readRegister('rax')).toBe(1n);
    }));

  it('calls a hook once that adds another, also where its slice is over by then', () =>
    withCpu((cpu, ram) => {
      protectedMode(cpu, ram, [0x40, 0x40, 0x40, HLT]); // inc eax three times
      const called: string[] = [];
      cpu.hookCode(BigInt(MIB + 1), BigInt(MIB + 1), () => {
        called.push('first');
        for (const end = performance.now() + 3; performance.now() < end; );
        cpu.hookCode(BigInt(MIB + 2), BigInt(MIB + 2), () => called.push('second'));
      });
      while (cpu.run({ sliceMilliseconds: 1 }).kind === 'slice');
      expect(called).toEqual(['first', 'second']);
      expect(cpu.readRegister('rax')).toBe(3n);
    }));

  it('reads in one call what it reads one by one, EFER and selectors too', () =>
    withCpu((cpu, ram) => {
      real(cpu, ram, [HLT]);
      const values = new BigUint64Array(REGISTER_NAMES.length);
      cpu.readRegisters(REGISTER_NAMES, values);
      expect([...values]).toEqual(REGISTER_NAMES.map((name) => cpu.readRegister(name)));
      expect(cpu.readRegister('ss')).toBe(0x9000n);
    }));

  it('reads lists of names that are made anew for each call', () =>
    withCpu((cpu) => {
      const values = new BigUint64Array(3);
      cpu.writeRegister('rbx', 7n);
      for (let call = 0; call < 5000; call++) cpu.readRegisters(['rax', 'rbx', 'rip'], values);
      expect([...values]).toEqual([0n, 7n, 0n]);
    }));

  it('gives a code hook the linear address, and RIP as the offset in CS', () =>
    withCpu((cpu, ram) => {
      real(cpu, ram, [0x40, 0x43, HLT]); // inc ax; inc bx; hlt
      const seen: unknown[] = [];
      const values = new BigUint64Array(2);
      const names = ['rip', 'rax'] as const;
      cpu.hookCode(0n, EVERYWHERE, (address, size) => {
        cpu.readRegisters(names, values);
        seen.push([address, size, cpu.readRegister('rip'), values[0], values[1]]);
      });
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(seen).toEqual([
        [0x90200n, 1, 0n, 0n, 0n],
        [0x90201n, 1, 1n, 1n, 1n],
        [0x90202n, 1, 2n, 2n, 1n],
      ]);
      expect(cpu.readRegister('rip')).toBe(3n);
    }));

  it('knows the hidden base of CS between setting CR0.PE and the far jump', () =>
    withCpu((cpu, ram) => {
      // mov eax, cr0; or al, 1; mov cr0, eax; nop; hlt
      real(cpu, ram, [0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0, 0x90, HLT], 2);
      const seen: bigint[] = [];
      cpu.hookCode(0x90208n, 0x90208n, () => {
        seen.push(cpu.readRegister('rip'), cpu.readRegister('cr0') & 1n);
        cpu.stop();
      });
      expect(cpu.run()).toEqual({ kind: 'stopped' });
      expect(seen).toEqual([8n, 1n]);
      expect(cpu.readRegister('rip')).toBe(8n);
    }));

  it('stops before the hooked instruction and calls the hook again when it goes on', () =>
    withCpu((cpu, ram) => {
      real(cpu, ram, [0x40, 0x43, 0x41, HLT]); // inc ax; inc bx; inc cx; hlt
      let calls = 0;
      const unhook = cpu.hookCode(0x90201n, 0x90201n, () => {
        calls++;
        if (calls < 3) cpu.stop();
      });
      expect(cpu.run()).toEqual({ kind: 'stopped' });
      expect([cpu.readRegister('rip'), cpu.readRegister('rax'), cpu.readRegister('rbx')]).toEqual([
        1n,
        1n,
        0n,
      ]);
      expect(cpu.run()).toEqual({ kind: 'stopped' });
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(calls).toBe(3);
      expect([cpu.readRegister('rbx'), cpu.readRegister('rcx')]).toEqual([1n, 1n]);
      unhook();
    }));

  it.each(['hookCode', 'hookBlock'] as const)('goes on where a %s hook has put RIP', (kind) =>
    withCpu((cpu, ram) => {
      // 0: jmp 4; 2: inc bx; 3: hlt; 4: inc ax; 5: hlt
      real(cpu, ram, [0xeb, 0x02, 0x43, HLT, 0x40, HLT]);
      let rip = -1n;
      cpu[kind](0x90204n, 0x90204n, () => {
        cpu.writeRegister('rip', 2n);
        rip = cpu.readRegister('rip');
      });
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(rip).toBe(2n);
      expect([cpu.readRegister('rax'), cpu.readRegister('rbx'), cpu.readRegister('rip')]).toEqual([
        0n,
        1n,
        4n,
      ]);
    }),
  );

  it('stops when a hook both moves RIP and asks for a stop', () =>
    withCpu((cpu, ram) => {
      real(cpu, ram, [0xeb, 0x02, 0x43, HLT, 0x40, HLT]);
      cpu.hookBlock(0x90204n, 0x90204n, () => {
        cpu.writeRegister('rip', 2n);
        cpu.stop();
      });
      expect(cpu.run()).toEqual({ kind: 'stopped' });
      expect([cpu.readRegister('rip'), cpu.readRegister('rbx')]).toEqual([2n, 0n]);
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(cpu.readRegister('rbx')).toBe(1n);
    }));

  it('calls a block hook where a REP instruction repeats itself', () =>
    withCpu((cpu, ram) => {
      // mov cx, 5; rep stosb; hlt
      real(cpu, ram, [0xb9, 5, 0, 0xf3, 0xaa, HLT]);
      const counts: bigint[] = [];
      cpu.hookBlock(0x90203n, 0x90203n, () => {
        counts.push(cpu.readRegister('rcx'));
      });
      cpu.run();
      expect(counts).toEqual(expect.arrayContaining([4n, 3n, 2n, 1n]));
    }));

  it('reports INT n with RIP behind it, and goes on with the registers the hook left', () =>
    withCpu((cpu, ram) => {
      real(cpu, ram, [0xb4, 0x0e, 0xcd, 0x10, 0x40, HLT]); // mov ah, 0eh; int 10h; inc ax; hlt
      const seen: unknown[] = [];
      cpu.hookInterrupt((vector, exception) => {
        seen.push(vector, exception, cpu.readRegister('rip'), cpu.readRegister('rax'));
        cpu.writeRegister('rax', 0x1234n);
        cpu.writeRegister('rflags', cpu.readRegister('rflags') | 1n);
      });
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(seen).toEqual([0x10, null, 4n, 0x0e00n]);
      expect(cpu.readRegister('rax')).toBe(0x1235n);
      expect(cpu.readRegister('rflags') & 1n).toBe(1n);
    }));

  it('goes on where an interrupt hook has put RIP, and stops where it says so', () =>
    withCpu((cpu, ram) => {
      real(cpu, ram, [0xcd, 0x10, 0x40, HLT, 0xcd, 0x11, 0x43, HLT]); // int 10h; inc ax; hlt; int 11h; inc bx; hlt
      cpu.hookInterrupt((vector) => {
        if (vector === 0x10) cpu.writeRegister('rip', 4n);
        else cpu.stop();
      });
      expect(cpu.run()).toEqual({ kind: 'stopped' });
      expect(cpu.readRegister('rip')).toBe(6n);
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect([cpu.readRegister('rax'), cpu.readRegister('rbx')]).toEqual([0n, 1n]);
    }));

  it('tells an exception from the INT of the same number, with the faulting instruction in RIP', () =>
    withCpu((cpu, ram) => {
      real(cpu, ram, [0xcd, 0x00, 0x31, 0xc9, 0xf7, 0xf1, HLT]); // int 0; xor cx, cx; div cx; hlt
      makeExceptionsExact(cpu);
      const seen: unknown[] = [];
      cpu.hookInterrupt((vector, exception) => {
        seen.push([vector, exception, cpu.readRegister('rip')]);
        if (exception !== null) cpu.writeRegister('rip', 6n);
      });
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(seen).toEqual([
        [0, null, 2n],
        [0, { errorCode: 0 }, 4n],
      ]);
    }));

  it('reports each of many faults as itself, not as a double fault', () =>
    withCpu((cpu, ram) => {
      // mov ds, ax with a selector beyond the GDT, three times; hlt
      protectedMode(cpu, ram, [0xb8, 0x48, 0, 0, 0, 0x8e, 0xd8, 0x8e, 0xd8, 0x8e, 0xd8, HLT]);
      makeExceptionsExact(cpu);
      const seen: unknown[] = [];
      cpu.hookInterrupt((vector, exception) => {
        seen.push([vector, exception?.errorCode]);
        cpu.writeRegister('rip', cpu.readRegister('rip') + 2n);
      });
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(seen).toEqual([
        [13, 0x48],
        [13, 0x48],
        [13, 0x48],
      ]);
    }));

  it('reports an undefined instruction as exception 6', () =>
    withCpu((cpu, ram) => {
      protectedMode(cpu, ram, [0x0f, 0x0b, 0x40, HLT]); // ud2; inc eax; hlt
      cpu.hookInterrupt((vector, exception) => {
        expect([vector, exception]).toEqual([6, { errorCode: 0 }]);
        cpu.writeRegister('rip', cpu.readRegister('rip') + 2n);
      });
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(cpu.readRegister('rax')).toBe(1n);
    }));

  it('ends the run at an undefined instruction that nobody handles', () =>
    withCpu((cpu, ram) => {
      protectedMode(cpu, ram, [0x0f, 0x0b, 0x40, HLT]);
      expect(cpu.run()).toMatchObject({ kind: 'error' });
      cpu.hookInterrupt(() => {});
      cpu.writeRegister('rip', BigInt(MIB));
      expect(cpu.run()).toMatchObject({ kind: 'error' });
      expect(cpu.readRegister('rip')).toBe(BigInt(MIB));
    }));

  it('serves IN and OUT of each size', () =>
    withCpu((cpu, ram) => {
      protectedMode(cpu, ram, [
        ...[0x66, 0xba, 0xf8, 0x03], // mov dx, 0x3f8
        ...[0xec, 0xee], // in al, dx; out dx, al
        ...[0x66, 0xed, 0x66, 0xef], // in ax, dx; out dx, ax
        ...[0xed, 0xef], // in eax, dx; out dx, eax
        ...[0xe6, 0x80, HLT], // out 0x80, al; hlt
      ]);
      const written: unknown[] = [];
      cpu.hookIn((port, size) => ({ 1: 0xa1, 2: 0xb1b2, 4: 0xc1c2c3c4 })[size] + (port - 0x3f8));
      cpu.hookOut((port, size, value) => written.push([port, size, value]));
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(written).toEqual([
        [0x3f8, 1, 0xa1],
        [0x3f8, 2, 0xb1b2],
        [0x3f8, 4, 0xc1c2c3c4],
        [0x80, 1, 0xc4],
      ]);
    }));

  it('knows RIP in IN and OUT hooks while every instruction is hooked', () =>
    withCpu((cpu, ram) => {
      real(cpu, ram, [0x90, 0xe6, 0x80, 0xe4, 0x80, HLT]); // nop; out 80h, al; in al, 80h; hlt
      cpu.hookCode(0n, EVERYWHERE, () => {});
      const seen: bigint[] = [];
      cpu.hookOut(() => seen.push(cpu.readRegister('rip')));
      cpu.hookIn(() => seen.push(cpu.readRegister('rip')));
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(seen).toEqual([1n, 3n]);
    }));

  it('replaces CPUID', () =>
    withCpu((cpu, ram) => {
      protectedMode(cpu, ram, [0xb8, 7, 0, 0, 0, 0xb9, 1, 0, 0, 0, 0x0f, 0xa2, HLT]); // eax=7, ecx=1, cpuid
      cpu.hookCpuid((leaf, subleaf) => [leaf + 0x100, subleaf + 0x200, 0xffff_ffff, 4]);
      expect(cpu.run()).toEqual({ kind: 'halted' });
      const values = (['rax', 'rbx', 'rcx', 'rdx'] as const).map((name) => cpu.readRegister(name));
      expect(values).toEqual([0x107n, 0x201n, 0xffff_ffffn, 4n]);
    }));

  it('tells of guest writes into a range before they happen', () =>
    withCpu((cpu, ram) => {
      // mov dword [0x200000], 0x11223344; mov byte [0x200010], 0x55; hlt
      protectedMode(cpu, ram, [
        ...[0xc7, 0x05, 0, 0, 0x20, 0, 0x44, 0x33, 0x22, 0x11],
        ...[0xc6, 0x05, 0x10, 0, 0x20, 0, 0x55, HLT],
      ]);
      const seen: unknown[] = [];
      cpu.hookMemoryWrite(0x200000n, 0x20000fn, (address, size, value) => {
        seen.push([address, size, value, cpu.ram(0)[0x200000]]);
      });
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(seen).toEqual([[0x200000n, 4, 0x11223344n, 0]]);
    }));

  it('tells of a write that begins before the range and reaches into it', () =>
    withCpu((cpu, ram) => {
      // mov dword [0x200000], 0x11223344; mov byte [0x200000], 0x55; hlt
      protectedMode(cpu, ram, [
        ...[0xc7, 0x05, 0, 0, 0x20, 0, 0x44, 0x33, 0x22, 0x11],
        ...[0xc6, 0x05, 0, 0, 0x20, 0, 0x55, HLT],
      ]);
      const seen: unknown[] = [];
      cpu.hookMemoryWrite(0x200003n, 0x200003n, (address, size) => seen.push([address, size]));
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(seen).toEqual([[0x200000n, 4]]);
    }));

  it('knows in a write hook which instruction writes, in real mode too', () =>
    withCpu((cpu, ram) => {
      real(cpu, ram, [0x90, 0xa2, 0x00, 0x50, 0x90, 0x50, HLT]); // nop; mov [5000h], al; nop; push ax; hlt
      const seen: bigint[] = [];
      const names = ['rsp', 'rip'] as const;
      const values = new BigUint64Array(2);
      cpu.hookMemoryWrite(0x90000n, 0x9ffffn, () => {
        cpu.readRegisters(names, values);
        seen.push(cpu.readRegister('rip'), values[1]!);
      });
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(seen).toEqual([1n, 1n, 5n, 5n]);
    }));

  it('knows in a read hook which instruction reads, in real mode too', () =>
    withCpu((cpu, ram) => {
      // nop; mov al, [5000h]; nop; pop ax; nop; ret
      real(cpu, ram, [0x90, 0xa0, 0x00, 0x50, 0x90, 0x58, 0x90, 0xc3]);
      const seen: bigint[] = [];
      cpu.hookMemoryRead(0x90000n, 0x9ffffn, () => {
        seen.push(cpu.readRegister('rip'));
        if (seen.length === 3) cpu.stop();
      });
      cpu.run();
      expect(seen).toEqual([1n, 5n, 7n]);
    }));

  it('runs far returns of real mode rightly while reads are hooked, and calls other hooks on them first', () =>
    withCpu((cpu, ram) => {
      // At 0x90300: far pointers, and what comes after them.
      ram.set([0x10, 0, 0x20, 0x90, 0x20, 0, 0, 0, 0x10, 0x90, 0, 0, 0x30, 0, 0x20, 0x90], 0x90300);
      ram.set([0xee, 0xee, 0xee, 0xee, 0x77, 0x77], 0x90310);
      real(cpu, ram, [0xbc, 0x00, 0x03, 0xcb]); // mov sp, 300h; retf
      ram.set([0x40, 0x66, 0xcb], 0x90210); // inc ax; retf with 32-bit operands, to 9010:0020
      ram.set([0x90, 0xca, 0x04, 0x00], 0x90120); // nop; retf 4, to 9020:0030
      ram.set([0x5b, HLT], 0x90230); // pop bx; hlt
      cpu.countInstructions(blockDecoder(cpu.memory, () => 16));
      const reads: unknown[] = [];
      cpu.hookMemoryRead(0x90302n, 0x9ffffn, (address, size) => {
        reads.push([address, size, cpu.readRegister('rip'), cpu.instructions]);
      });
      const called: unknown[] = [];
      const note = (address: bigint): unknown => called.push([address, cpu.instructions]);
      cpu.hookCode(0x90203n, 0x90203n, note);
      cpu.hookCode(0x90211n, 0x90211n, (address) => {
        note(address);
        // It comes when that instruction has its hook.
        if (called.length === 2) cpu.hookCode(0x90211n, 0x90211n, note);
      });
      expect(cpu.run()).toEqual({ kind: 'halted' });
      const names = ['cs', 'rip', 'rsp', 'rax', 'rbx'] as const;
      expect(names.map((name) => cpu.readRegister(name))).toEqual([0x9020n, 0x32n, 0x316n, 1n, 0x7777n]);
      expect(reads).toEqual([
        [0x90302n, 2, 3n, 1],
        [0x90304n, 4, 0x11n, 3],
        [0x90308n, 4, 0x11n, 3],
        [0x9030cn, 2, 0x21n, 5],
        [0x9030en, 2, 0x21n, 5],
        [0x90314n, 2, 0x30n, 6],
      ]);
      expect(called).toEqual([
        [0x90203n, 1],
        [0x90211n, 3],
        [0x90211n, 3],
      ]);
      expect(cpu.instructions).toBe(8);
    }));

  it('tells of guest reads of a range, and not of others', () =>
    withCpu((cpu, ram) => {
      // mov eax, [0x200000]; mov al, [0x200010]; hlt
      protectedMode(cpu, ram, [0xa1, 0, 0, 0x20, 0, 0xa0, 0x10, 0, 0x20, 0, HLT]);
      const seen: unknown[] = [];
      cpu.hookMemoryRead(0x200000n, 0x20000fn, (address, size) => {
        seen.push([address, size, cpu.readRegister('rip')]);
      });
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(seen).toEqual([[0x200000n, 4, BigInt(MIB)]]);
    }));

  it('tells of an access to nothing, and ends the run when that is not healed', () =>
    withCpu((cpu, ram) => {
      protectedMode(cpu, ram, [0xa1, 0, 0, 0, 0xf0, HLT]); // mov eax, [0xf0000000]; hlt
      const seen: unknown[] = [];
      cpu.hookInvalidAccess((access) => {
        seen.push(access);
        return false;
      });
      expect(cpu.run()).toMatchObject({ kind: 'error', error: expect.stringMatching(/unmapped/i) });
      expect(seen).toEqual([{ type: 'read', reason: 'unmapped', address: 0xf0000000n, size: 4 }]);
    }));

  it('tells of an access at the end of the address space as it is', () =>
    withCpu((cpu, ram) => {
      ram.set([0x48, 0x8b, 0x04, 0x25, 0xf8, 0xff, 0xff, 0xff, HLT], MIB); // mov rax, [-8]; hlt
      cpu.writeRegister('rip', BigInt(MIB));
      const seen: bigint[] = [];
      cpu.hookInvalidAccess(({ address }) => {
        seen.push(address);
        return false;
      });
      expect(cpu.run().kind).toBe('error');
      // Linear, or the physical address, which has 52 bits.
      expect(seen.map((address) => BigInt.asUintN(52, address))).toEqual([0xf_ffff_ffff_fff8n]);
      expect(seen[0]).toBeGreaterThan(0n);
    }));

  it('throws from run what a hook of any kind has thrown, and can run on', () =>
    withCpu((cpu, ram) => {
      const code = [
        ...[0xe6, 0x80, 0xe4, 0x80], // out 80h, al; in al, 80h
        ...[0x0f, 0xa2, 0xcd, 0x10], // cpuid; int 10h
        ...[0xa3, 0, 0, 0x20, 0, 0xa1, 0, 0, 0x30, 0], // mov [0x200000], eax; mov eax, [0x300000]
        ...[0xa1, 0, 0, 0, 0x70, HLT], // mov eax, [0x70000000]; hlt
      ];
      protectedMode(cpu, ram, code);
      const hooks = [
        ['code', () => cpu.hookCode(BigInt(MIB + 2), BigInt(MIB + 2), fail('code'))],
        ['block', () => cpu.hookBlock(BigInt(MIB), BigInt(MIB), fail('block'))],
        ['out', () => cpu.hookOut(fail('out'))],
        ['in', () => cpu.hookIn(fail('in'))],
        ['cpuid', () => cpu.hookCpuid(fail('cpuid'))],
        ['interrupt', () => cpu.hookInterrupt(fail('interrupt'))],
        ['write', () => cpu.hookMemoryWrite(0x200000n, 0x200003n, fail('write'))],
        ['read', () => cpu.hookMemoryRead(0x300000n, 0x300003n, fail('read'))],
        ['invalid access', () => cpu.hookInvalidAccess(fail('invalid access'))],
      ] as const;
      const rest = cpu.hookInterrupt(() => {});
      for (const [name, add] of hooks) {
        const remove = add();
        cpu.writeRegister('rip', BigInt(MIB));
        expect(() => cpu.run(), name).toThrow(new BootscopeError('guest-error', name));
        remove();
        cpu.writeRegister('rip', BigInt(MIB));
        if (name === 'invalid access') cpu.mapRam(0x7000_0000, 0x1000);
        expect(cpu.run().kind, `after ${name}`).toBe(name === 'invalid access' ? 'halted' : 'error');
      }
      rest();
    }));

  it.each([
    ['decoder', (cpu: Cpu) => cpu.countInstructions(fail('decoder'))],
    ['time stamp', (cpu: Cpu) => cpu.hookRdtsc(fail('time stamp'))],
    ['instruction', (cpu: Cpu) => cpu.hookInstruction('rdrand', fail('instruction'))],
    ['empty code', (cpu: Cpu) => cpu.hookEmptyCode(fail('empty code'))],
    ['new code', (cpu: Cpu) => cpu.hookNewCode(fail('new code'))],
    ['step', (cpu: Cpu) => cpu.hookSteps(['rax'], fail('step'), () => {}) ?? expect.fail('no steps here')],
  ])('throws in run what the hook of a %s throws', (name, add) =>
    withCpu((cpu, ram) => {
      if (name === 'step' && !stepsAreNoted(cpu)) return;
      // rdtsc; rdrand eax; jmp to zeroes
      protectedMode(cpu, ram, [0x0f, 0x31, 0x0f, 0xc7, 0xf0, 0xe9, 0, 0x10, 0, 0]);
      // The WASM engine cannot translate more of them in a row.
      ram[MIB + 10 + 0x1000 + 80] = HLT;
      if (name === 'step') cpu.countInstructions(decoder(cpu));
      add(cpu);
      cpu.hookInterrupt(() => cpu.writeRegister('rip', BigInt(MIB + 5)));
      if (name !== 'decoder' && name !== 'step') cpu.countInstructions(decoder(cpu));
      expect(() => cpu.run()).toThrow(new BootscopeError('guest-error', name));
    }),
  );

  it('keeps EFER.NXE, and shows it to the guest', () =>
    withCpu((cpu, ram) => {
      // mov ecx, 0xc0000080; rdmsr; or eax, 0x800; wrmsr; xor eax, eax; rdmsr; hlt
      const efer = [0xb9, 0x80, 0, 0, 0xc0, 0x0f, 0x32];
      protectedMode(cpu, ram, [...efer, 0x0d, 0, 8, 0, 0, 0x0f, 0x30, 0x31, 0xc0, 0x0f, 0x32, HLT]);
      cpu.countInstructions(decoder(cpu));
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(cpu.readRegister('rax') & 0x800n).toBe(0x800n);
      expect(cpu.readRegister('efer') & 0x800n).toBe(0x800n);
    }));

  it('runs BMI instructions whatever CR4 says, which reads as it was written', () =>
    withCpu((cpu, ram) => {
      // mov eax, 0x20; mov cr4, eax; mov ebx, 3; mov edx, 4; shlx eax, ebx, edx; mov ecx, cr4; hlt
      const code = [0xb8, 0x20, 0, 0, 0, 0x0f, 0x22, 0xe0, 0xbb, 3, 0, 0, 0, 0xba, 4, 0, 0, 0];
      protectedMode(cpu, ram, [...code, 0xc4, 0xe2, 0x69, 0xf7, 0xc3, 0x0f, 0x20, 0xe1, HLT]);
      cpu.countInstructions(decoder(cpu));
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(cpu.readRegister('rax')).toBe(0x30n);
      expect(cpu.readRegister('rcx')).toBe(0x20n);
      expect(cpu.readRegister('cr4')).toBe(0x20n);
      expect(cpu.instructions).toBe(7);
    }));

  it('executes what the host has written over code, once the old code is dropped', () =>
    withCpu((cpu, ram) => {
      protectedMode(cpu, ram, [0xb8, 1, 0, 0, 0, HLT]); // mov eax, 1; hlt
      cpu.run();
      expect(cpu.readRegister('rax')).toBe(1n);
      cpu.ram(0)[MIB + 1] = 2;
      cpu.invalidateCode(MIB + 1, 1);
      cpu.writeRegister('rip', BigInt(MIB));
      cpu.run();
      expect(cpu.readRegister('rax')).toBe(2n);
    }));

  it('executes what the guest itself has written over code', () =>
    withCpu((cpu, ram) => {
      // inc byte [MIB+8] changes the immediate of the mov that follows the jump
      protectedMode(cpu, ram, [0xfe, 0x05, 9, 0, 0x10, 0, 0xeb, 0x00, 0xb8, 1, 0, 0, 0, HLT]);
      cpu.run();
      cpu.writeRegister('rip', BigInt(MIB));
      cpu.run();
      expect(cpu.readRegister('rax')).toBe(3n);
    }));

  it.each(['hookCode', 'hookBlock'] as const)(
    'calls a %s that is added over code that has run, and not one taken away',
    (kind) =>
      withCpu((cpu, ram) => {
        protectedMode(cpu, ram, [0xeb, 0, 0x40, 0xeb, 0, HLT]); // jmp; inc eax; jmp; hlt
        const run = () => {
          cpu.writeRegister('rip', BigInt(MIB));
          expect(cpu.run()).toEqual({ kind: 'halted' });
        };
        run();
        for (const [begin, end] of [
          [BigInt(MIB + 2), BigInt(MIB + 2)],
          [0n, EVERYWHERE],
        ] as const) {
          const seen: bigint[] = [];
          const unhook = cpu[kind](begin, end, (address) => seen.push(address));
          run();
          expect(seen).toContain(BigInt(MIB + 2));
          unhook();
          seen.length = 0;
          run();
          expect(seen).toEqual([]);
        }
        expect(cpu.readRegister('rax')).toBe(5n);
      }),
  );

  it('may be told to forget a hook inside that hook', () =>
    withCpu((cpu, ram) => {
      protectedMode(cpu, ram, [0x40, 0xeb, 0xfd]); // inc eax; jmp back
      let calls = 0;
      const unhook = cpu.hookCode(BigInt(MIB), BigInt(MIB), () => {
        calls++;
        unhook();
      });
      let blocks = 0;
      cpu.hookBlock(BigInt(MIB), BigInt(MIB), () => {
        if (++blocks === 100) cpu.stop();
      });
      expect(cpu.run()).toEqual({ kind: 'stopped' });
      expect(calls).toBe(1);
    }));

  it.each(['hookCode', 'hookBlock'] as const)(
    'takes new hooks from within a %s, for code that has run and for the very instruction, and calls none twice',
    (kind) =>
      withCpu((cpu, ram) => {
        // 0: inc eax; jmp 3; 3: inc ebx; jmp 6; 6: inc ecx; cmp ecx, 3; jb 0; hlt
        protectedMode(cpu, ram, [0x40, 0xeb, 0, 0x43, 0xeb, 0, 0x41, 0x83, 0xf9, 3, 0x72, 0xf4, HLT]);
        const calls: string[] = [];
        const hook = (name: string, offset: number, body = () => {}) =>
          cpu[kind](BigInt(MIB + offset), BigInt(MIB + offset), () => {
            calls.push(`${name}${cpu.readRegister('rcx')}`);
            body();
          });
        hook('early', 3);
        hook('adds', 3, () => {
          if (cpu.readRegister('rcx') !== 1n) return;
          hook('same', 3);
          hook('later', 6);
        });
        hook('late', 3);
        expect(cpu.run()).toEqual({ kind: 'halted' });
        expect([cpu.readRegister('rax'), cpu.readRegister('rbx'), cpu.readRegister('rcx')]).toEqual([
          3n,
          3n,
          3n,
        ]);
        const round = (number: number) => [`early${number}`, `adds${number}`, `late${number}`];
        expect(calls).toEqual([
          ...round(0),
          ...[...round(1), 'same1', 'later1'],
          ...[...round(2), 'same2', 'later2'],
        ]);
      }),
  );

  it.each(['interrupt', 'out'] as const)('takes a new hook from within an %s hook', (kind) =>
    withCpu((cpu, ram) => {
      // 0: int 10h or out 80h, al; jmp 4; 4: inc ecx; cmp ecx, 3; jb 0; hlt
      const first = kind === 'interrupt' ? [0xcd, 0x10] : [0xe6, 0x80];
      protectedMode(cpu, ram, [...first, 0xeb, 0, 0x41, 0x83, 0xf9, 3, 0x72, 0xf6, HLT]);
      const seen: unknown[] = [];
      const add = () => {
        if (cpu.readRegister('rcx') !== 1n) return;
        cpu.hookCode(BigInt(MIB + 4), BigInt(MIB + 4), () => seen.push(cpu.readRegister('rcx')));
      };
      if (kind === 'interrupt') cpu.hookInterrupt(add);
      else cpu.hookOut(add);
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(cpu.readRegister('rcx')).toBe(3n);
      // A stop in an OUT hook takes effect before the next block, which the new hook then is for.
      expect(seen).toEqual([1n, 2n]);
    }),
  );

  it.each(['hookOut', 'hookIn', 'hookInterrupt', 'hookBlock'] as const)(
    'takes hooks of every kind from within a %s hook',
    (kind) =>
      withCpu((cpu, ram) => {
        protectedMode(cpu, ram, [
          ...[0xe6, 0x80, 0xe4, 0x80, 0xcd, 0x10], // 0: out 80h, al; in al, 80h; int 10h
          ...[0xa3, 0, 0, 0x20, 0], // 6: mov [0x200000], eax
          ...[0x0f, 0xa2, 0x41, 0x39, 0xf1, 0x72, 0xee, HLT], // 11: cpuid; inc ecx; cmp ecx, esi; jb 0; hlt
        ]);
        cpu.writeRegister('rsi', 3n);
        const seen = new Set<string>();
        const add = () => {
          if (cpu.readRegister('rcx') !== 1n) return;
          cpu.hookOut(() => seen.add('out'));
          cpu.hookIn(() => seen.add('in').size);
          cpu.hookInterrupt(() => seen.add('interrupt'));
          cpu.hookMemoryWrite(0x200000n, 0x200003n, () => seen.add('write'));
          cpu.hookCpuid((_leaf, count) => [seen.add('cpuid').size, 0, count, 0]);
          cpu.hookCode(BigInt(MIB + 6), BigInt(MIB + 6), () => seen.add('code'));
          cpu.hookBlock(BigInt(MIB), BigInt(MIB), () => seen.add('block'));
          cpu.hookInvalidAccess(() => false);
        };
        cpu.hookInterrupt(() => {});
        // CPUID replaces ECX; this one keeps it.
        cpu.hookCpuid((_leaf, count) => [0, 0, count, 0]);
        if (kind === 'hookOut') cpu.hookOut(add);
        else if (kind === 'hookIn') cpu.hookIn(() => Number(add()));
        else if (kind === 'hookInterrupt') cpu.hookInterrupt(add);
        else cpu.hookBlock(BigInt(MIB), BigInt(MIB), add);
        expect(cpu.run()).toEqual({ kind: 'halted' });
        // Of several IN hooks the first one answers.
        if (kind === 'hookIn') seen.add('in');
        expect([...seen].sort()).toEqual(['block', 'code', 'cpuid', 'in', 'interrupt', 'out', 'write']);
      }),
  );

  it('tells of writes by code that ran before the hook came', () =>
    withCpu((cpu, ram) => {
      protectedMode(cpu, ram, [0xc6, 0x05, 0, 0, 0x20, 0, 0x55, HLT]); // mov byte [0x200000], 55h; hlt
      cpu.run();
      const seen: bigint[] = [];
      const unhook = cpu.hookMemoryWrite(0x200000n, 0x200000n, (address) => seen.push(address));
      for (let round = 0; round < 2; round++) {
        cpu.writeRegister('rip', BigInt(MIB));
        cpu.run();
        unhook();
      }
      expect(seen).toEqual([0x200000n]);
    }));

  it('bears hooks that come and go thousands of times', () =>
    withCpu((cpu, ram) => {
      protectedMode(cpu, ram, [0x40, 0xeb, 0xfd]); // inc eax; jmp back
      for (let round = 0; round < 3000; round++) {
        const unhook = cpu.hookBlock(BigInt(MIB), BigInt(MIB), () => {
          if (cpu.readRegister('rax') > BigInt(round)) cpu.stop();
        });
        expect(cpu.run()).toEqual({ kind: 'stopped' });
        unhook();
      }
      expect(cpu.readRegister('rax')).toBe(3000n);
    }));

  // Three blocks of one page that jump to each other; EBX counts rounds, ECX and EDX must keep step with it.
  const ROUNDS = [
    ...[0x43, 0xeb, 0x02, 0x90, 0x90], // inc ebx; jmp 5
    ...[0x41, 0xeb, 0x02, 0x90, 0x90], // inc ecx; jmp 10
    ...[0x42, 0xeb, 0xf3], // inc edx; jmp 0
  ];

  it.each([
    ['without code hooks', []],
    ['with a code hook elsewhere', [[0x200000n, 0x200000n]]],
    ['with a code hook on one of its instructions', [[BigInt(MIB + 5), BigInt(MIB + 5)]]],
    ['with a code hook on every instruction', [[0n, EVERYWHERE]]],
  ] as const)('ends slices of an endless loop %s and loses no instruction', (_name, ranges) =>
    withCpu((cpu, ram) => {
      protectedMode(cpu, ram, ROUNDS);
      for (const [begin, end] of ranges) cpu.hookCode(begin, end, () => {});
      for (let slice = 0; slice < 5; slice++) {
        expect(cpu.run({ sliceMilliseconds: 5 })).toEqual({ kind: 'slice' });
        const at = Number(cpu.readRegister('rip')) - MIB;
        const [ebx, ecx, edx] = (['rbx', 'rcx', 'rdx'] as const).map((name) => cpu.readRegister(name));
        const behind = { 0: [0n, 0n], 1: [1n, 1n], 5: [1n, 1n], 6: [0n, 1n], 10: [0n, 1n], 11: [0n, 0n] }[at];
        expect([ebx! - ecx!, ebx! - edx!], `at ${at}`).toEqual(behind);
      }
    }),
  );

  it.each([
    ['without code hooks', []],
    ['with a code hook elsewhere', [[0x200000n, 0x200000n]]],
    ['with a code hook on every instruction', [[0n, EVERYWHERE]]],
  ] as const)('goes on rightly after a stop in an OUT hook %s', (_name, ranges) =>
    withCpu((cpu, ram) => {
      // inc ebx; out 80h, al; jmp; inc ecx; jmp; inc edx; jmp back
      protectedMode(cpu, ram, [0x43, 0xe6, 0x80, 0xeb, 0, 0x41, 0xeb, 0, 0x42, 0xeb, 0xf5]);
      for (const [begin, end] of ranges) cpu.hookCode(begin, end, () => {});
      let outs = 0;
      cpu.hookOut(() => {
        if (++outs % 10 === 0) cpu.stop();
      });
      for (let stop = 1; stop <= 20; stop++) {
        expect(cpu.run()).toEqual({ kind: 'stopped' });
        expect(outs).toBe(stop * 10);
      }
      cpu.hookBlock(BigInt(MIB), BigInt(MIB), () => cpu.stop());
      expect(cpu.run()).toEqual({ kind: 'stopped' });
      const counts = (['rbx', 'rcx', 'rdx'] as const).map((name) => cpu.readRegister(name));
      expect(counts).toEqual([200n, 200n, 200n]);
    }),
  );

  it('loads and stores descriptor table registers as the guest does', () =>
    withCpu((cpu, ram) => {
      ram.set([0x27, 0x00, 0x00, 0x80, 0x00, 0x00], 0x6000);
      // lgdt [0x6000]; lidt [0x6000]; hlt
      protectedMode(cpu, ram, [0x0f, 0x01, 0x15, 0, 0x60, 0, 0, 0x0f, 0x01, 0x1d, 0, 0x60, 0, 0, HLT]);
      expect(cpu.readDescriptorTable('gdtr')).toEqual({ base: 0x8000n, limit: 47 });
      cpu.run();
      expect(cpu.readDescriptorTable('gdtr')).toEqual({ base: 0x8000n, limit: 0x27 });
      expect(cpu.readDescriptorTable('idtr')).toEqual({ base: 0x8000n, limit: 0x27 });
      cpu.writeDescriptorTable('idtr', { base: 0x1234n, limit: 0x7ff });
      expect(cpu.readDescriptorTable('idtr')).toEqual({ base: 0x1234n, limit: 0x7ff });
    }));

  it('says that a run cannot begin in a hook', () =>
    withCpu((cpu, ram) => {
      protectedMode(cpu, ram, [0xe6, 0x80, HLT]);
      cpu.hookOut(() => {
        cpu.run();
      });
      expect(() => cpu.run()).toThrow(/called from a hook/);
    }));

  it('refuses RAM that is not made of whole pages', () =>
    withCpu((cpu) => {
      expect(() => cpu.mapRam(64 * MIB, 1000)).toThrow(/1000 bytes is not a whole number/);
    }));

  it('ends a run that comes to linear address 0', () =>
    withCpu((cpu, ram) => {
      protectedMode(cpu, ram, [0x31, 0xc0, 0xff, 0xe0]); // xor eax, eax; jmp eax
      expect(cpu.run()).toEqual({ kind: 'error', error: 'the CPU came to linear address 0' });
    }));
});
