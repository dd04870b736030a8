import { expect, it } from 'vitest';
import type { Cpu } from './cpu.ts';
import { deliverProtectedInterrupt, deliverRealModeInterrupt } from './deliver-interrupt.ts';
import { describeEachEngine } from './each-engine.ts';
import { enterLongMode, enterProtectedMode, enterRealMode } from './enter-mode.ts';

const MIB = 0x10_0000;
const HLT = 0xf4;
const IDT = 0x9000;
const TABLES = 0x10000;
const HANDLER = 0x60000;
const ROM_IRET = 0xfc000;

describeEachEngine('delivering an interrupt', (open, engine) => {
  async function withCpu(test: (cpu: Cpu, ram: Uint8Array, view: DataView) => void): Promise<void> {
    const cpu = await open();
    try {
      cpu.mapRam(0, 16 * MIB);
      const ram = cpu.ram(0);
      test(cpu, ram, new DataView(ram.buffer, ram.byteOffset, ram.byteLength));
    } finally {
      cpu.close();
    }
  }

  it.each([0x9020, 0x0000, 0xffff, 0x1000])('calls a real-mode handler from CS %# and comes back', (cs) =>
    withCpu((cpu, ram, view) => {
      ram[ROM_IRET] = 0xcf;
      const ip = cs === 0 ? 0x7c00 : cs === 0xffff ? 0x1000 : 0;
      // mov ax, 5; int 21h; inc ax; hlt
      ram.set([0xb8, 5, 0, 0xcd, 0x21, 0x40, HLT], cs * 16 + ip);
      // Handler at 4000:0010: pushf; pop bx; mov cx, cs; add ax, 100h; stc; iret
      ram.set([0x9c, 0x5b, 0x8c, 0xc9, 0x05, 0x00, 0x01, 0xf9, 0xcf], 0x40010);
      view.setUint32(0x21 * 4, 0x4000_0010, true);
      enterRealMode(cpu, { cs, ip, ss: 0x8000, sp: 0x100, ds: 0, es: 0, flags: 0x246 });
      const vectors: number[] = [];
      cpu.hookInterrupt((vector) => {
        vectors.push(vector);
        deliverRealModeInterrupt(cpu, vector);
      });
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(vectors).toEqual([0x21]);
      expect(cpu.readRegister('rax')).toBe(0x106n);
      expect(cpu.readRegister('rcx')).toBe(0x4000n);
      // The handler runs with interrupts off; its own change of CF is lost at IRET.
      expect(cpu.readRegister('rbx')).toBe(0x0046n);
      expect(cpu.readRegister('rflags') & 0x201n).toBe(0x200n);
      expect([cpu.readRegister('cs'), cpu.readRegister('rsp')]).toEqual([BigInt(cs), 0x100n]);
      // The frame that the handler saw: IP, CS, FLAGS.
      expect([view.getUint16(0x800fa, true), view.getUint16(0x800fc, true)]).toEqual([ip + 5, cs]);
    }),
  );

  it('delivers in real mode while every instruction is hooked', () =>
    withCpu((cpu, ram, view) => {
      ram[ROM_IRET] = 0xcf;
      ram.set([0xcd, 0x21, HLT], 0x90200);
      ram.set([0x40, 0xcf], 0x40010); // inc ax; iret
      view.setUint32(0x21 * 4, 0x4000_0010, true);
      enterRealMode(cpu, { cs: 0x9020, ip: 0, ss: 0x8000, sp: 0x100, ds: 0, es: 0 });
      cpu.hookInterrupt((vector) => deliverRealModeInterrupt(cpu, vector));
      const seen: bigint[] = [];
      let resumed = false;
      cpu.hookCode(0n, 0xffff_ffff_ffff_ffffn, (address) => {
        if (address === BigInt(ROM_IRET) && !resumed) {
          resumed = true;
          cpu.stop(); // even here the run can be taken up again
          return;
        }
        seen.push(address);
      });
      expect(cpu.run()).toEqual({ kind: 'stopped' });
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(seen).toEqual([0x90200n, BigInt(ROM_IRET), 0x40010n, 0x40011n, 0x90202n]);
    }));

  function setGate(view: DataView, vector: number, offset: number, long: boolean, type = 0x8e): void {
    const at = IDT + vector * (long ? 16 : 8);
    view.setUint32(at, (0x10 << 16) | (offset & 0xffff), true);
    view.setUint32(at + 4, ((offset & 0xffff0000) | (type << 8)) >>> 0, true);
  }

  function deliverAll(cpu: Cpu, vectors: unknown[]): void {
    cpu.hookInterrupt((vector, exception) => {
      vectors.push(vector);
      const interrupt =
        exception === null
          ? ({ kind: 'software', errorCode: null } as const)
          : ({ kind: 'exception', errorCode: exception.errorCode } as const);
      if (!deliverProtectedInterrupt(cpu, vector, interrupt)) {
        vectors.push('undelivered');
        cpu.stop();
      }
    });
  }

  it('calls a 32-bit handler through the IDT and comes back', () =>
    withCpu((cpu, ram, view) => {
      // mov eax, 5; int 80h; inc eax; hlt
      ram.set([0xb8, 5, 0, 0, 0, 0xcd, 0x80, 0x40, HLT], MIB);
      // pushfd; pop ebx; add eax, 256; iretd
      ram.set([0x9c, 0x5b, 0x05, 0, 1, 0, 0, 0xcf], HANDLER);
      setGate(view, 0x80, HANDLER, false);
      enterProtectedMode(cpu, { eip: MIB, gdtAddress: 0x8000, rsp: 0x7000n, flags: 0x202 });
      cpu.writeDescriptorTable('idtr', { base: BigInt(IDT), limit: 0x7ff });
      const vectors: unknown[] = [];
      deliverAll(cpu, vectors);
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(vectors).toEqual([0x80]);
      expect([cpu.readRegister('rax'), cpu.readRegister('rsp')]).toEqual([0x106n, 0x7000n]);
      expect(cpu.readRegister('rbx') & 0x200n).toBe(0n);
      expect(cpu.readRegister('rflags') & 0x200n).toBe(0x200n);
    }));

  it('pushes the error code of a 32-bit exception, and leaves IF alone at a trap gate', () =>
    withCpu((cpu, ram, view) => {
      // mov eax, 48h; mov ds, ax (beyond the GDT); hlt
      ram.set([0xb8, 0x48, 0, 0, 0, 0x8e, 0xd8, HLT], MIB);
      // pop edx; pushfd; pop ebx; add dword [esp], 2; iretd
      ram.set([0x5a, 0x9c, 0x5b, 0x83, 0x04, 0x24, 0x02, 0xcf], HANDLER);
      setGate(view, 13, HANDLER, false, 0x8f);
      enterProtectedMode(cpu, { eip: MIB, gdtAddress: 0x8000, rsp: 0x7000n, flags: 0x202 });
      cpu.writeDescriptorTable('idtr', { base: BigInt(IDT), limit: 0x7ff });
      const vectors: unknown[] = [];
      deliverAll(cpu, vectors);
      if (engine === 'wasm') cpu.hookCode(0n, 0xffff_ffff_ffff_ffffn, () => {}); // see cpu.ts, hookInterrupt
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect([cpu.readRegister('rdx'), cpu.readRegister('rsp')]).toEqual([0x48n, 0x7000n]);
      expect(cpu.readRegister('rbx') & 0x200n).toBe(0x200n);
    }));

  it('says so where there is no gate, and changes nothing', () =>
    withCpu((cpu, ram) => {
      ram.set([0xcd, 0x80, HLT], MIB);
      enterProtectedMode(cpu, { eip: MIB, gdtAddress: 0x8000, rsp: 0x7000n });
      const vectors: unknown[] = [];
      deliverAll(cpu, vectors);
      expect(cpu.run()).toEqual({ kind: 'stopped' });
      expect(vectors).toEqual([0x80, 'undelivered']);
      expect([cpu.readRegister('rip'), cpu.readRegister('rsp')]).toEqual([BigInt(MIB + 2), 0x7000n]);
    }));

  /** Identity maps the first 2 MiB and [4 MiB, 16 MiB) with 2 MiB pages; [2 MiB, 4 MiB) is left out. */
  function enterLong(cpu: Cpu, view: DataView): void {
    view.setBigUint64(TABLES, BigInt(TABLES + 0x1003), true);
    view.setBigUint64(TABLES + 0x1000, BigInt(TABLES + 0x2003), true);
    for (const index of [0, 2, 3, 4, 5, 6, 7]) {
      view.setBigUint64(TABLES + 0x2000 + index * 8, (BigInt(index) << 21n) | 0x83n, true);
    }
    enterLongMode(cpu, {
      ...{ rip: BigInt(MIB), cr3: BigInt(TABLES), gdtAddress: 0x8000, rsp: 0x7008n, flags: 0x202 },
    });
    cpu.writeDescriptorTable('idtr', { base: BigInt(IDT), limit: 0xfff });
  }

  /** A #PF handler: r8 = cr2, r9 = error code, r10 counts; maps [2 MiB, 4 MiB) and returns to the instruction. */
  const MAP_AND_RETRY = [
    ...[0x41, 0x59], // pop r9
    ...[0x41, 0x0f, 0x20, 0xd0], // mov r8, cr2
    ...[0x49, 0xff, 0xc2], // inc r10
    ...[0x48, 0xc7, 0x04, 0x25, 0x08, 0x20, 0x01, 0x00, 0x83, 0x00, 0x20, 0x00], // mov qword [0x12008], 0x200083
    ...[0x48, 0xcf], // iretq
  ];

  it('brings a page fault of a read to the guest, which maps the page and goes on', () =>
    withCpu((cpu, ram, view) => {
      ram.set([0x11, 0x22, 0x33, 0x44], 0x234567);
      // jmp $+2; mov eax, [0x234567]; inc rbx; hlt
      ram.set([0xeb, 0, 0x8b, 0x04, 0x25, 0x67, 0x45, 0x23, 0, 0x48, 0xff, 0xc3, HLT], MIB);
      ram.set(MAP_AND_RETRY, HANDLER);
      setGate(view, 14, HANDLER, true);
      enterLong(cpu, view);
      const vectors: unknown[] = [];
      deliverAll(cpu, vectors);
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(vectors).toEqual([14]);
      const names = ['r8', 'r9', 'r10', 'rax', 'rbx', 'rsp'] as const;
      expect(names.map((name) => cpu.readRegister(name))).toEqual([
        ...[0x234567n, 0n, 1n, 0x44332211n, 1n, 0x7008n],
      ]);
      expect(cpu.readRegister('rflags') & 0x200n).toBe(0x200n);
    }));

  it.skipIf(engine === 'wasm')(
    'retries exactly the faulting instruction in the middle of a block, and nothing before it twice',
    () =>
      withCpu((cpu, ram, view) => {
        // inc rbx; inc qword [0x5000]; mov [0x234568], rbx; inc rbx; hlt
        ram.set([0x48, 0xff, 0xc3, 0x48, 0xff, 0x04, 0x25, 0, 0x50, 0, 0], MIB);
        ram.set([0x48, 0x89, 0x1c, 0x25, 0x68, 0x45, 0x23, 0, 0x48, 0xff, 0xc3, HLT], MIB + 11);
        ram.set(MAP_AND_RETRY, HANDLER);
        setGate(view, 14, HANDLER, true);
        enterLong(cpu, view);
        const vectors: unknown[] = [];
        deliverAll(cpu, vectors);
        expect(cpu.run()).toEqual({ kind: 'halted' });
        expect(vectors).toEqual([14]);
        expect([cpu.readRegister('r9'), cpu.readRegister('rbx')]).toEqual([2n, 2n]);
        expect([ram[0x5000], ram[0x234568]]).toEqual([1, 1]);
      }),
  );

  it('brings a page fault of an instruction fetch to the guest', () =>
    withCpu((cpu, ram, view) => {
      // mov eax, 0x300000; jmp rax
      ram.set([0xb8, 0, 0, 0x30, 0, 0xff, 0xe0], MIB);
      ram.set([0x48, 0xff, 0xc3, HLT], 0x300000); // inc rbx; hlt
      ram.set(MAP_AND_RETRY, HANDLER);
      setGate(view, 14, HANDLER, true);
      enterLong(cpu, view);
      const vectors: unknown[] = [];
      deliverAll(cpu, vectors);
      const blocks: bigint[] = [];
      cpu.hookBlock(0x300000n, 0x300000n, (address) => blocks.push(address));
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(vectors).toEqual([14]);
      expect([cpu.readRegister('r8'), cpu.readRegister('rbx')]).toEqual([0x300000n, 1n]);
      expect(blocks).toEqual([0x300000n]);
    }));

  it('brings many page faults one after the other', () =>
    withCpu((cpu, ram, view) => {
      // Unmaps the page again each time: 0: mov eax, [0x234567]; mov qword [0x12008], 0; mov rax, cr3;
      // mov cr3, rax; dec rcx; jnz 0; hlt
      const body = [
        ...[0x8b, 0x04, 0x25, 0x67, 0x45, 0x23, 0],
        ...[0x48, 0xc7, 0x04, 0x25, 0x08, 0x20, 0x01, 0, 0, 0, 0, 0],
        ...[0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8, 0x48, 0xff, 0xc9],
      ];
      ram.set([0xeb, 0, ...body, 0x75, 0xfe - body.length, HLT], MIB);
      ram.set(MAP_AND_RETRY, HANDLER);
      setGate(view, 14, HANDLER, true);
      enterLong(cpu, view);
      cpu.writeRegister('rcx', 5n);
      const vectors: unknown[] = [];
      deliverAll(cpu, vectors);
      expect(cpu.run()).toEqual({ kind: 'halted' });
      expect(vectors).toEqual([14, 14, 14, 14, 14]);
    }));
});
