import { expect, it } from 'vitest';
import type { Cpu, RegisterName } from './cpu.ts';
import { describeEachEngine } from './each-engine.ts';
import { enterLongMode, enterProtectedMode, enterRealMode } from './enter-mode.ts';

const MIB = 0x10_0000;
const HLT = 0xf4;
const TABLES = 0x10000;

/** Identity page tables of 2 MiB pages for the first GiB at TABLES. */
function mapFirstGib(ram: Uint8Array): void {
  const view = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
  view.setBigUint64(TABLES, BigInt(TABLES + 0x1003), true);
  view.setBigUint64(TABLES + 0x1000, BigInt(TABLES + 0x2003), true);
  for (let index = 0; index < 512; index++) {
    view.setBigUint64(TABLES + 0x2000 + index * 8, (BigInt(index) << 21n) | 0x83n, true);
  }
}

describeEachEngine('entering a mode', (open) => {
  async function withCpu(test: (cpu: Cpu, ram: Uint8Array) => void): Promise<void> {
    const cpu = await open();
    try {
      cpu.mapRam(0, 16 * MIB);
      test(cpu, cpu.ram(0));
    } finally {
      cpu.close();
    }
  }

  const read = (cpu: Cpu, names: readonly RegisterName[]) => names.map((name) => cpu.readRegister(name));

  it('comes to real mode with every register as asked, having run nothing of the target', () =>
    withCpu((cpu, ram) => {
      ram.set([0x66, 0x40, HLT], 0x90200); // inc eax; hlt
      ram.fill(0x5a, 0x9c000, 0xa0000);
      enterRealMode(cpu, {
        ...{ cs: 0x9020, ip: 0, ss: 0x9000, sp: 0xfff0, ds: 0x1111, es: 0x2222, fs: 0x3333, gs: 0x4444 },
        ...{ rax: 0xffff_ffffn, rbx: 1n, rcx: 2n, rdx: 0x80n, rsi: 3n, rdi: 4n, rbp: 5n, flags: 0x246 },
      });
      expect(read(cpu, ['cs', 'rip', 'ss', 'rsp'])).toEqual([0x9020n, 0n, 0x9000n, 0xfff0n]);
      expect(read(cpu, ['ds', 'es', 'fs', 'gs'])).toEqual([0x1111n, 0x2222n, 0x3333n, 0x4444n]);
      expect(read(cpu, ['rax', 'rbx', 'rcx', 'rdx'])).toEqual([0xffff_ffffn, 1n, 2n, 0x80n]);
      expect(read(cpu, ['rsi', 'rdi', 'rbp', 'rflags'])).toEqual([3n, 4n, 5n, 0x246n]);
      expect(read(cpu, ['cr0', 'cr3', 'cr4', 'efer'])).toEqual([0x10n, 0n, 0n, 0n]);
      expect(cpu.readDescriptorTable('idtr')).toEqual({ base: 0n, limit: 0x3ff });
      expect(ram.subarray(0x9c000, 0xa0000).every((byte) => byte === 0x5a)).toBe(true);
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(cpu.readRegister('rax')).toBe(0n);
    }));

  it('runs 16-bit code with 16-bit addresses over the segments that were asked for', () =>
    withCpu((cpu, ram) => {
      // push 1234h; mov [2], sp; mov es:[4], cs; hlt
      ram.set([0x68, 0x34, 0x12, 0x89, 0x26, 2, 0, 0x26, 0x8c, 0x0e, 4, 0, HLT], 0x7c00);
      enterRealMode(cpu, { cs: 0, ip: 0x7c00, ss: 0x8000, sp: 0x100, ds: 0x2000, es: 0x3000 });
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect([...ram.subarray(0x800fe, 0x80100)]).toEqual([0x34, 0x12]);
      expect([...ram.subarray(0x20002, 0x20004)]).toEqual([0xfe, 0x00]);
      expect([...ram.subarray(0x30004, 0x30006)]).toEqual([0, 0]);
    }));

  it('wraps offsets at 64 KiB in real mode, and reaches behind 1 MiB with A20 on', () =>
    withCpu((cpu, ram) => {
      ram.set([0xa0, 0x10, 0x00, HLT], 0x7c00); // mov al, [0010h]; hlt
      ram[0x10] = 1;
      ram[MIB] = 2;
      enterRealMode(cpu, { cs: 0, ip: 0x7c00, ss: 0, sp: 0x7000, ds: 0xffff, es: 0 });
      cpu.run();
      expect(cpu.readRegister('rax')).toBe(2n);
    }));

  it('comes to 32-bit protected mode as boot.rst demands it', () =>
    withCpu((cpu, ram) => {
      // mov [0x200000], esp; push 0x12345678; pop ecx; hlt
      ram.set([0x89, 0x25, 0, 0, 0x20, 0, 0x68, 0x78, 0x56, 0x34, 0x12, 0x59, HLT], MIB);
      enterProtectedMode(cpu, { eip: MIB, gdtAddress: 0x8000, rsi: 0x90000n, rsp: 0x7000n });
      expect(read(cpu, ['cs', 'ds', 'es', 'ss'])).toEqual([0x10n, 0x18n, 0x18n, 0x18n]);
      expect(read(cpu, ['cr0', 'cr3', 'cr4', 'efer', 'rflags'])).toEqual([0x11n, 0n, 0n, 0n, 2n]);
      expect(read(cpu, ['rip', 'rsi', 'rbx', 'rbp', 'rdi'])).toEqual([BigInt(MIB), 0x90000n, 0n, 0n, 0n]);
      expect(cpu.readDescriptorTable('gdtr')).toEqual({ base: 0x8000n, limit: 47 });
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect([...ram.subarray(0x200000, 0x200004)]).toEqual([0, 0x70, 0, 0]);
      expect(cpu.readRegister('rcx')).toBe(0x12345678n);
    }));

  it('lets 32-bit code reload its segments from the boot GDT', () =>
    withCpu((cpu, ram) => {
      // ljmp 10h:next; mov eax, 18h; mov ss, ax; hlt
      ram.set([0xea, 7, 0, 0x10, 0, 0x10, 0, 0xb8, 0x18, 0, 0, 0, 0x8e, 0xd0, HLT], MIB);
      enterProtectedMode(cpu, { eip: MIB, gdtAddress: 0x8000 });
      expect(cpu.run()).toEqual({ kind: 'halted' });
    }));

  it('comes to 64-bit mode with the page tables that were asked for', () =>
    withCpu((cpu, ram) => {
      mapFirstGib(ram);
      // mov rax, 0x1122334455667788; push rax; pop rcx; hlt
      ram.set([0x48, 0xb8, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x50, 0x59, HLT], MIB + 0x200);
      enterLongMode(cpu, {
        ...{ rip: BigInt(MIB + 0x200), cr3: BigInt(TABLES), cr4: 0xa0n, gdtAddress: 0x8000 },
        ...{ rsi: 0x90000n, rsp: 0x7000n, r15: 15n },
      });
      expect(read(cpu, ['cs', 'ds', 'es', 'ss'])).toEqual([0x10n, 0x18n, 0x18n, 0x18n]);
      expect(read(cpu, ['cr0', 'cr3', 'cr4', 'efer'])).toEqual([0x80000011n, 0x10000n, 0xa0n, 0x500n]);
      expect(read(cpu, ['rip', 'rsi', 'r15', 'rflags'])).toEqual([BigInt(MIB + 0x200), 0x90000n, 15n, 2n]);
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(cpu.readRegister('rcx')).toBe(0x1122334455667788n);
    }));

  it('lets the guest switch from real mode to long mode by itself', () =>
    withCpu((cpu, ram) => {
      mapFirstGib(ram);
      const view = new DataView(ram.buffer, ram.byteOffset);
      view.setBigUint64(0x8010, 0x00af9a000000ffffn, true); // 10h: 64-bit code
      view.setBigUint64(0x8018, 0x00cf92000000ffffn, true); // 18h: data
      ram.set([0x1f, 0, 0, 0x80, 0, 0], 0x8000); // GDTR, in the null descriptor
      ram.set(
        [
          ...[0xfa, 0x66, 0x0f, 0x01, 0x16, 0x00, 0x80], // cli; lgdt [8000h]
          ...[0x66, 0xb8, 0x20, 0, 0, 0, 0x0f, 0x22, 0xe0], // mov cr4, PAE
          ...[0x66, 0xb8, 0, 0, 1, 0, 0x0f, 0x22, 0xd8], // mov cr3, TABLES
          ...[0x66, 0xb9, 0x80, 0, 0, 0xc0, 0x0f, 0x32, 0x0d, 0x00, 0x01, 0x0f, 0x30], // EFER |= LME
          ...[0x0f, 0x20, 0xc0, 0x66, 0x0d, 1, 0, 0, 0x80, 0x0f, 0x22, 0xc0], // CR0 |= PG | PE
          ...[0xea, 0x00, 0x7d, 0x10, 0x00], // jmp 10h:7d00h
        ],
        0x7c00,
      );
      ram.set([0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8, HLT], 0x7d00); // mov rax, imm64; hlt
      enterRealMode(cpu, { cs: 0, ip: 0x7c00, ss: 0, sp: 0x7000, ds: 0, es: 0 });
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(cpu.readRegister('rax')).toBe(0x0807060504030201n);
      expect(cpu.readRegister('efer')).toBe(0x500n);
    }));

  it('refuses a CPU that has left its first state, and a target outside RAM', () =>
    withCpu((cpu, ram) => {
      expect(() => enterProtectedMode(cpu, { eip: 64 * MIB, gdtAddress: 0x8000 })).toThrow(
        'The CPU cannot start at 0x4000000, where RAM ends at 0x1000000',
      );
      ram[0x7c00] = HLT;
      const state = { cs: 0, ip: 0x7c00, ss: 0, sp: 0x7000, ds: 0, es: 0 };
      enterRealMode(cpu, state);
      expect(() => enterRealMode(cpu, state)).toThrow(/not in the state it was opened in/);
    }));
});
